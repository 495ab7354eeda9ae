// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Synchronization
import TestSupport
import Testing

@testable import Executor
@testable import LightProc

/// Child tasks of processes that end, on real workers and with real traps.
@Suite(.timeLimit(.minutes(15))) struct ChildTaskPoolTests {
    final class Count: Sendable {
        private let word = Atomic(0)
        // ordering: sequentiallyConsistent: tests are not in a hurry.
        var value: Int { word.load(ordering: .sequentiallyConsistent) }
        @discardableResult
        func add() -> Int { word.add(1, ordering: .sequentiallyConsistent).newValue }
    }

    @Test func theSuspendedSiblingOfAChildThatTrapsMayReturn() async {
        await #expect(processExitsWith: .success) {
            let pool = try WorkerPool(workers: 2)
            let (begun, elsewhere, returned) = (AsyncGate(), AsyncGate(), Count())
            let family = pool.spawn {
                await withTaskGroup(of: Void.self) { group in
                    group.addTask {
                        begun.open()
                        await elsewhere.wait()
                        returned.add()
                    }
                    group.addTask {
                        await begun.wait()
                        Misdeed.index.commit()
                    }
                }
                returned.add()
            }
            let proc = family.handle.proc
            let ended = AsyncGate()
            proc.onExit { _ in ended.open() }
            #expect(await family.handle.exit().trapReport?.process == family.id)
            while proc.state.activations != 1 { await Task.yield() }
            #expect(!proc.state.isSealed)
            elsewhere.open()
            await ended.wait()
            #expect(returned.value == 1, "the sibling, and not who awaits the one that trapped")
            await pool.shutDownElsewhere()
        }
    }

    private enum Fate: CaseIterable {
        case returns, throwsError, traps, isKilled, trapsInNested
    }

    /// Families whose members wait for each other's threads, leave in any order, and of whom one misbehaves. Nobody but who
    /// trapped, and who awaits that one, may be missing. `SCALE=10` runs ten times as many.
    @Test func inAStormEverySiblingReturns() async {
        await #expect(processExitsWith: .success) {
            let pool = try WorkerPool(workers: 2)
            var random = SeededGenerator(seed: RandomRun.seed)
            print("SEED=\(RandomRun.seed)")
            for round in 0..<150 * RandomRun.scale {
                let fate = Fate.allCases.randomElement(using: &random)!
                let size = Int(random.next() % 6) + 1
                let returned = Count()
                let gates = (0..<size).map { _ in AsyncGate() }
                let (begun, everybody) = (Count(), AsyncGate())
                let family = pool.spawn {
                    try await withThrowingTaskGroup(of: Int.self) { group in
                        for (number, gate) in gates.enumerated() {
                            group.addTask {
                                async let inner: Void = {
                                    if begun.add() == size { everybody.open() }
                                    await gate.wait()
                                    returned.add()
                                }()
                                await inner
                                return number
                            }
                        }
                        await everybody.wait()
                        switch fate {
                        case .traps: group.addTask { Misdeed.index.commit() }
                        case .trapsInNested:
                            group.addTask {
                                async let unlucky = Misdeed.unwrapping.commit()
                                async let other = returned.add()
                                _ = await other
                                return await unlucky
                            }
                        case .throwsError: throw Boom()
                        case .returns, .isKilled: break
                        }
                        for try await _ in group {}
                    }
                }
                let proc = family.handle.proc
                let ended = AsyncGate()
                proc.onExit { _ in ended.open() }
                await everybody.wait()
                if fate == .isKilled { family.kill() }
                // By other threads, in the meantime or later.
                for gate in gates.shuffled(using: &random) {
                    if random.next() % 2 == 0 { gate.open() } else { pool.spawn { gate.open() } }
                }
                let reason = await family.handle.exit()
                await ended.wait()
                switch (fate, reason) {
                case (.returns, .normal), (.throwsError, .error), (.isKilled, .killed): break
                case (.traps, .trap(let report)), (.trapsInNested, .trap(let report)):
                    #expect(report.process == family.id)
                default: Issue.record("round \(round), SEED=\(RandomRun.seed): \(fate) ended with \(reason)")
                }
                // The other child of one that trapped below it is free to return, or not to begin.
                let others = fate == .trapsInNested ? returned.value - size : 0
                #expect(returned.value - others == size && (0...1).contains(others), "\(fate), SEED=\(RandomRun.seed)")
            }
            await pool.shutDownElsewhere()
        }
    }
}
