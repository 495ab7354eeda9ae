// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// Runs a closure that may block its thread, as part of the process that the calling task belongs to, and returns its value.
///
/// ```swift
/// let page = try await blocking { try readFile(path) }
/// ```
///
/// The closure runs on a thread for blocking work of the process's executor, near the NUMA node of the worker that it is
/// called on, while workers run others. It is still a job of the same task: task-locals and `Task.isCancelled` are those of
/// the caller, and a trap in it ends the process. Costs two turns in queues and one small object.
///
/// Nothing interrupts the closure. A cancelled one runs to its end, unless it looks at `Task.isCancelled`. When the process
/// is killed meanwhile, its end is not waiting for longer than the shutdown time, as for every job that runs on; the thread
/// is occupied until the closure returns, and the value is lost. A closure whose turn comes only after the process was
/// killed, or failed in another task, is not run.
///
/// - Precondition: The calling task belongs to a process: its own or a child task, not `Task { }`. Elsewhere use the method
///   of the same name of an executor.
/// - Throws: What the closure threw; `CancellationError` if it was not run.
@concurrent
public func blocking<Output: Sendable>(_ body: @Sendable () throws -> Output) async throws -> Output {
    guard let executor = ProcTaskExecutor.current else {
        preconditionFailure("blocking { } was called in a task that belongs to no process; use blocking of an executor")
    }
    return try await executor.blocking(body)
}

extension ProcTaskExecutor {
    /// Runs a closure on a blocking thread, in the calling task, which prefers this executor.
    @concurrent
    package func blocking<Output: Sendable>(_ body: @Sendable () throws -> Output) async throws -> Output {
        proc.blockingBegins()
        defer { proc.blockingEnds(in: incarnation) }
        return try await withTaskExecutorPreference(ProcTaskExecutor(blockingTwinOf: self)) {
            // Its end is decided: what it would do is of no use to it any more.
            guard proc.state.phase == .active, proc.state.incarnation == incarnation else { throw CancellationError() }
            return try body()
        }
    }
}
