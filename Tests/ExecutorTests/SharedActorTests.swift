// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import TestSupport
import Testing

@testable import Executor
@testable import LightProc

/// Default actors that processes and tasks of no process share: whose turn it is says nothing about whose job runs.
@Suite(.timeLimit(.minutes(15))) struct SharedActorTests {
    fileprivate actor Clerk {
        /// Keeps the actor until the gate opens.
        func hold(_ inside: AsyncGate, until release: BlockingGate) {
            inside.open()
            release.blockingWait()
        }

        func commit(_ misdeed: Misdeed) -> Int { misdeed.commit() }

        private var table: [Key: Int] = [:]
        func put(_ key: Key) -> Int {
            table[key] = 1
            return table.count
        }

        func caller() -> ProcID? { LightProc.current?.id }
    }

    /// A key of a dictionary, whose code is its owner's and runs on whatever thread has the turn.
    struct Key: Hashable, Sendable {
        var isHashLive = false
        var isEqualityLive = false

        static func == (first: Key, second: Key) -> Bool {
            (first.isEqualityLive || second.isEqualityLive) && Misdeed.fatal.commit() == 1
        }
        func hash(into hasher: inout Hasher) { if isHashLive { hasher.combine(Misdeed.index.commit()) } }
    }

    /// Who gives the actor its turn, in which a job of a process traps.
    enum Host: CaseIterable, Codable, Sendable {
        case plainTask, globalTask, otherProcess, processThatIsOver
    }

    /// Under ThreadSanitizer not with tasks of the program on the pool: what the blocked worker would run next is then this
    /// test, and the sanitizer holds the signal back by which others get it.
    @Test(arguments: Host.allCases.filter { $0 != .globalTask || !Sanitizer.isThread })
    func aTrapOfAProcessIsContainedWhoeverGivesTheActorItsTurn(host: Host) async {
        await #expect(processExitsWith: .success) { [host] in
            let pool = try WorkerPool(workers: 2)
            if host == .globalTask { try pool.installAsGlobalExecutor() }
            let clerk = Clerk()
            let (inside, release) = (AsyncGate(), BlockingGate())
            var held: RecoverableHandle<Void>?
            var task: Task<Void, Never>?
            switch host {
            case .plainTask: task = Task(executorPreference: pool) { await clerk.hold(inside, until: release) }
            case .globalTask: task = Task { await clerk.hold(inside, until: release) }
            case .otherProcess: held = pool.spawn { await clerk.hold(inside, until: release) }
            case .processThatIsOver:
                let proc = LightProc.async(on: pool) { proc in
                    proc.kill()
                    // In the place of the order to cancel what is left, which is then free for the other worker.
                    _ = pool.spawn {}
                    // Its job runs on until it is over, and calls the actor then.
                    while !proc.isClosed {}
                    await clerk.hold(inside, until: release)
                }
                proc.prepare(name: nil, stack: nil, observer: nil, shutdownTime: .milliseconds(1))
                proc.restart()
            }
            await inside.wait()
            let culprit = await callThatWaits(on: pool) { await clerk.commit(.unwrapping) }
            release.open()
            #expect(await culprit.handle.exit().trapReport?.process == culprit.id)
            try await held?.outcome().get()
            await task?.value
            #expect(try await pool.spawn { 7 }.outcome().get() == 7)
            #expect(Containment.contained == 1)
            if host != .globalTask { await pool.shutDownElsewhere() }
        }
    }

    /// A dictionary in the actor calls `Hashable` code of a process's keys, in a turn that somebody else gives.
    @Test(arguments: [Host.plainTask, .otherProcess], [false, true])
    func aTrapInTheCodeOfAKeyEndsTheProcessThatPutsIt(host: Host, inEquality: Bool) async {
        await #expect(processExitsWith: .success) { [host, inEquality] in
            let pool = try WorkerPool(workers: 2)
            let clerk = Clerk()
            // A key of a third process, which another one is compared with.
            let owner = AsyncGate()
            let third = pool.spawn {
                let count = await clerk.put(Key())
                await owner.wait()
                return count
            }
            while third.handle.proc.state.activations > 0 { await Task.yield() }
            let (inside, release) = (AsyncGate(), BlockingGate())
            let hold: @Sendable () async -> Int = {
                await clerk.hold(inside, until: release)
                return 7
            }
            let task = host == .plainTask ? Task(executorPreference: pool) { await hold() } : nil
            let held = host == .plainTask ? nil : pool.spawn { await hold() }
            await inside.wait()
            let culprit = await callThatWaits(on: pool) {
                await clerk.put(Key(isHashLive: !inEquality, isEqualityLive: inEquality))
            }
            release.open()
            let report = await culprit.handle.exit().trapReport
            #expect(report?.process == culprit.id)
            #expect(report?.kind == (inEquality ? .fatalError : .indexOutOfRange))
            if let task { #expect(await task.value == 7) }
            if let held { #expect(try await held.outcome().get() == 7) }
            owner.open()
            #expect(try await third.outcome().get() == 1)
            #expect(Containment.contained == 1)
            await pool.shutDownElsewhere()
        }
    }

    /// Called by two processes and a task of none, one after the other in one turn of the actor, which the first one gives.
    @Test(arguments: [false, true])
    func theCurrentProcessIsTheOneWhoseJobRuns(plainTaskGivesTheTurn: Bool) async throws {
        let pool = try WorkerPool(workers: 2)
        let clerk = Clerk()
        let (inside, release) = (AsyncGate(), BlockingGate())
        let holder: @Sendable () async -> Void = { await clerk.hold(inside, until: release) }
        let task = plainTaskGivesTheTurn ? Task(executorPreference: pool) { await holder() } : nil
        let handle = plainTaskGivesTheTurn ? nil : pool.spawn { await holder() }
        await inside.wait()
        let process = await callThatWaits(on: pool) { (await clerk.caller(), LightProc.current?.id) }
        let asking = AsyncGate()
        let plain = Task(executorPreference: pool) {
            asking.open()
            return (await clerk.caller(), LightProc.current?.id)
        }
        await asking.wait()
        // On the one worker that is free: when this has run, the task's call waits in the actor.
        try await pool.spawn {}.outcome().get()
        release.open()
        #expect(try await process.outcome().get() == (process.id, process.id))
        #expect(await plain.value == (nil, nil))
        await task?.value
        try await handle?.outcome().get()
        await pool.shutDownElsewhere()
    }

    /// Not our worker's, but the task is the process's.
    @Test func onTheMainActorTheCurrentProcessIsTheTasks() async throws {
        let pool = try WorkerPool(workers: 1)
        let handle = pool.spawn { await MainActor.run { LightProc.current?.id } }
        #expect(try await handle.outcome().get() == handle.id)
        #expect(LightProc.current == nil)
        await pool.shutDownElsewhere()
    }
}
