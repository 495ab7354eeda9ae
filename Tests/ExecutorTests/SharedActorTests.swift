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

        func visit() -> Int { 7 }
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

    @Test(arguments: Host.allCases)
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
}
