// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Synchronization
import TestSupport
import Testing

@testable import Executor
@testable import LightProc

/// The turns of async processes of different priorities, on the only worker of a pool.
@Suite struct AsyncPriorityTests {
    private static func pool() throws -> WorkerPool {
        try .ofOneWorkerWithoutTime()
    }

    /// Keeps the worker busy while `body` makes something ready.
    private func whileBusy(_ pool: WorkerPool, _ body: () -> Void) {
        let (isBusy, goOn) = (BlockingGate(), BlockingGate())
        LightProc.reactive(Doer(), on: pool).tell { _ in
            isBusy.open()
            goOn.blockingWait()
        }
        isBusy.blockingWait()
        body()
        goOn.open()
    }

    private final class Notes: Sendable {
        private let turns = Locked<[ProcPriority]>([])
        var all: [ProcPriority] { turns.withLock { $0 } }
        func add(_ priority: ProcPriority) { turns.withLock { $0.append(priority) } }
    }

    /// Each takes four turns: its start, its first job, and two after it has yielded.
    @Test func turnsGoByPriority() async throws {
        let pool = try Self.pool()
        let notes = Notes()
        let count = 40
        let done = Rendezvous(3 * count)
        var procs: [LightProc] = []
        whileBusy(pool) {
            for priority in [ProcPriority.low, .normal, .high] {
                for _ in 0..<count {
                    let proc = LightProc.async(on: pool) { _ in
                        await Task.yield()
                        notes.add(priority)
                        done.arrive()
                    }
                    proc.priority = priority
                    proc.restart()
                    procs.append(proc)
                }
            }
        }
        done.everybody.blockingWait()
        let turns = notes.all
        // Of 16 turns one or two are for others than the most urgent, and each of the others needs four.
        #expect(turns.prefix(count + 6).count { $0 == .high } == count, "\(turns)")
        #expect(turns.dropLast(count - 4).count { $0 == .low } <= 4, "\(turns)")
        for proc in procs { _ = await exit(of: proc) }
        await pool.shutDownElsewhere()
    }

    private final class Race: Sendable {
        private let missing = Atomic<Int>(2)
        private let rounds = Atomic<Int>(0)
        // ordering: sequentiallyConsistent: tests are not in a hurry.
        func oneIsThrough() { missing.subtract(1, ordering: .sequentiallyConsistent) }
        var count: Int { rounds.load(ordering: .sequentiallyConsistent) }
        var isOver: Bool {
            rounds.add(1, ordering: .sequentiallyConsistent).newValue == 1_000_000
                || missing.load(ordering: .sequentiallyConsistent) == 0
        }
    }

    /// The urgent one is always ready; it gives up after a million rounds.
    @Test(arguments: [ProcPriority.high, .normal])
    func whoIsAlwaysReadyStarvesNobody(_ priority: ProcPriority) async throws {
        let pool = try Self.pool()
        let race = Race()
        let greedy = LightProc.async(on: pool) { _ in
            while !race.isOver { await Task.yield() }
        }
        greedy.priority = priority
        let others = [ProcPriority.low, .normal].map { priority in
            let proc = LightProc.async(on: pool) { _ in
                await Task.yield()
                race.oneIsThrough()
            }
            proc.priority = priority
            return proc
        }
        whileBusy(pool) { for proc in [greedy] + others { proc.restart() } }
        for proc in [greedy] + others { #expect(await exit(of: proc).isNormal) }
        #expect(race.count < 1_000_000)
        await pool.shutDownElsewhere()
    }
}

extension ExitReason {
    fileprivate var isNormal: Bool { if case .normal = self { true } else { false } }
}
