// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CLightProc
public import LightProc

/// Runs processes: the pool of workers, or the seeded single-threaded executor in tests.
public protocol ProcExecutor: ProcScheduler {}

extension ProcExecutor {
    /// Starts an async process that computes a value.
    ///
    /// Costs a task; runs on the executor's workers. Dropping the handle detaches.
    @inlinable @inline(__always) @discardableResult
    public func spawn<Output: Sendable>(
        _ stack: ProcStack = ProcStack(),
        _ body: nonisolated(nonsending) @escaping @Sendable () async throws -> Output
    ) -> RecoverableHandle<Output> {
        let (proc, handle) = LightProc.recoverable(on: self, stack: stack, body)
        proc.restart()
        return handle
    }

    /// Starts an async process that runs on workers of some processors only: with its child tasks, whoever wakes it.
    ///
    /// - Throws: ``PinningError`` if there are no such workers; then nothing was started.
    @discardableResult
    public func spawn<Output: Sendable>(
        _ stack: ProcStack = ProcStack(),
        pinnedTo cores: CoreSet,
        _ body: nonisolated(nonsending) @escaping @Sendable () async throws -> Output
    ) throws(PinningError) -> RecoverableHandle<Output> {
        let (proc, handle) = LightProc.recoverable(on: self, stack: stack, body)
        do throws(PinningError) {
            try proc.pin(to: cores)
        } catch {
            proc.close()
            throw error
        }
        proc.restart()
        return handle
    }

    /// Runs a closure that may block on a thread made for that, as a process of its own: it may trap.
    ///
    /// Returns at once. What reactive processes use: their handlers are synchronous, and may have the closure tell them its
    /// result. The closure cannot be interrupted: after a `cancel` or `kill` of the handle it runs on to its end, unless
    /// its turn has not come yet.
    @discardableResult
    public func spawnBlocking<Output: Sendable>(
        _ stack: ProcStack = ProcStack(),
        _ body: @escaping @Sendable () throws -> Output
    ) -> RecoverableHandle<Output> {
        let (proc, handle) = LightProc.recoverableBlocking(on: blockingScheduler, stack: stack, body)
        proc.restart()
        return handle
    }

    /// Runs a closure that may block, and waits for what it returns without occupying a worker.
    ///
    /// In a task of a process it is part of that process, and runs on the blocking threads of its executor: see
    /// `blocking(_:)` of `LightProc`. In any other task it is a process of its own, on the blocking threads of this
    /// executor.
    ///
    /// - Throws: What the closure threw. ``ProcFailure`` when it trapped and was a process of its own.
    public func blocking<Output: Sendable>(_ body: @escaping @Sendable () throws -> Output) async throws -> Output {
        if let executor = ProcTaskExecutor.current { return try await executor.blocking(body) }
        switch await spawnBlocking(ProcStack(), body).outcome() {
        case .finished(let output): return output
        case .failed(.error(let error)): throw error
        case .failed(let reason): throw ProcFailure(reason: reason)
        }
    }

    /// Runs an async closure as a process and blocks the calling thread until it has ended.
    ///
    /// - Precondition: Not called on a worker, which would then wait for itself. The seeded executor has its own.
    public func run<Output: Sendable>(
        _ stack: ProcStack = ProcStack(),
        _ body: nonisolated(nonsending) @escaping @Sendable () async throws -> Output
    ) -> RecoverableHandle<Output>.Outcome {
        precondition(
            crt_currentProcess() == nil,
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
