// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Testing

@testable import Executor
@testable import LightProc

/// Default actors that processes and tasks of no process share: whose turn it is says nothing about whose job runs.
@Suite(.timeLimit(.minutes(1))) struct SharedActorTests {
    fileprivate actor Clerk {
        /// Keeps the actor until the gate opens.
        func hold(_ inside: AsyncGate, until release: BlockingGate) {
            inside.open()
            release.blockingWait()
        }

        func commit(_ misdeed: Misdeed) -> Int { misdeed.commit() }

        func caller() -> ProcID? { LightProc.current?.id }
    }

    /// Starts a process whose call waits in an actor, and returns when it does.
    private static func waiting<Output: Sendable>(
        on pool: WorkerPool,
        _ call: @escaping @Sendable () async -> Output
    ) async -> RecoverableHandle<Output> {
        let asking = AsyncGate()
        let handle = pool.spawn {
            asking.open()
            return await call()
        }
        await asking.wait()
        while handle.handle.proc.state.activations > 0 { await Task.yield() }
        return handle
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
            let culprit = await Self.waiting(on: pool) { await clerk.commit(.unwrapping) }
            release.open()
            #expect(await culprit.handle.exit().trapReport?.process == culprit.id)
            try await held?.outcome().get()
            await task?.value
            #expect(try await pool.spawn { 7 }.outcome().get() == 7)
            #expect(Containment.contained == 1)
            if host != .globalTask { await shutDown(pool) }
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
        let process = await Self.waiting(on: pool) { (await clerk.caller(), LightProc.current?.id) }
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
        await shutDown(pool)
    }

    /// Not our worker's, but the task is the process's.
    @Test func onTheMainActorTheCurrentProcessIsTheTasks() async throws {
        let pool = try WorkerPool(workers: 1)
        let handle = pool.spawn { await MainActor.run { LightProc.current?.id } }
        #expect(try await handle.outcome().get() == handle.id)
        #expect(LightProc.current == nil)
        await shutDown(pool)
    }
}
