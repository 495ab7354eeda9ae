// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

public import LightProc

/// Runs processes: the pool of workers, or the seeded single-threaded executor in tests.
public protocol ProcExecutor: ProcScheduler {
    /// Runs processes that block their thread.
    var blockingScheduler: any ProcScheduler { get }
}

extension ProcExecutor {
    /// Starts an async process that computes a value.
    ///
    /// Costs a task; runs on the executor's workers. Dropping the handle detaches.
    @discardableResult
    public func spawn<Output: Sendable>(
        _ stack: ProcStack = ProcStack(),
        _ body: @escaping @Sendable () async throws -> Output
    ) -> RecoverableHandle<Output> {
        let (proc, handle) = LightProc.recoverable(on: self, stack: stack, body)
        proc.restart()
        return handle
    }

    /// Runs a closure that may block on a thread made for that, as a process of its own: it may trap.
    @discardableResult
    public func spawnBlocking<Output: Sendable>(
        _ stack: ProcStack = ProcStack(),
        _ body: @escaping @Sendable () throws -> Output
    ) -> RecoverableHandle<Output> {
        let (proc, handle) = LightProc.recoverableBlocking(on: blockingScheduler, stack: stack, body)
        proc.restart()
        return handle
    }

    /// Runs an async closure as a process and blocks the calling thread until it has ended.
    ///
    /// - Precondition: Not called on a worker, which would then wait for itself. The seeded executor has its own.
    public func run<Output: Sendable>(
        _ stack: ProcStack = ProcStack(),
        _ body: @escaping @Sendable () async throws -> Output
    ) -> RecoverableHandle<Output>.Outcome {
        precondition(
            LightProc.current == nil,
            "run would block the worker it is called on; await spawn(...).outcome() instead"
        )
        let (proc, handle) = LightProc.recoverable(on: self, stack: stack, body)
        let gate = BlockingGate()
        handle.handle.proc.notifyWhenEnded { _ in gate.open() }
        proc.restart()
        gate.blockingWait()
        return handle.knownOutcome
    }
}

/// Something one thread waits for and another opens, once.
package final class BlockingGate: Sendable {
    private let word = FutexWord()
    package init() {}
    package func open() {
        word.set(1)
        word.wake(.max)
    }
    package func blockingWait() {
        while word.value == 0 { word.blockingWait(while: 0) }
    }
}
