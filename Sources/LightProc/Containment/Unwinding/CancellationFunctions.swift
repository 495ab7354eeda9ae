// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// Finds out which function of the Swift runtime stands on the stack while the lock of a task's status is held.
///
/// Cancellation handlers run under it. `swift_task_cancel` alone does not tell: a task group cancels its children past
/// it, by the same private function that takes the lock. So a task is cancelled, and what stands between
/// `swift_task_cancel` and the handler is learnt. Runs at start-up.
enum CancellationFunctions {
    /// What the function covers that `swift_task_cancel`, which covers `cancel`, calls on the way to a handler.
    static func learn(from cancel: Range<UInt>) -> Range<UInt>? {
        let trace = Locked(CallTrace())
        LocalTask().run {
            await withTaskCancellationHandler {
                withUnsafeCurrentTask { $0?.cancel() }
            } onCancel: {
                var here = CallTrace()
                here.capture()
                let captured = here
                trace.withLock { $0 = captured }
            }
        }
        // From the innermost outwards.
        let functions = trace.withLock { $0.functions }
        guard let index = functions.firstIndex(of: cancel), index > 0 else { return nil }
        return functions[index - 1]
    }
}

/// A task that runs on the calling thread and waits for nobody.
private final class LocalTask: TaskExecutor, @unchecked Sendable {
    // Sendable: all happens on the thread that called `run`.
    private var queue: [UnownedJob] = []

    func run(_ body: @escaping @Sendable () async -> Void) {
        Task.detached(executorPreference: self) { await body() }
        // Ends: the body queues nothing but itself.
        while !queue.isEmpty { queue.removeFirst().runSynchronously(on: asUnownedTaskExecutor()) }
    }

    func enqueue(_ job: consuming ExecutorJob) { queue.append(UnownedJob(job)) }
}
