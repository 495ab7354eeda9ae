// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CLightProc
import LightProc

/// Tasks that belong to no process may run on the workers, too.
extension WorkerPool: TaskExecutor {
    /// Queues a job of a task that prefers this executor, as by `Task(executorPreference:)` or
    /// `withTaskExecutorPreference`.
    ///
    /// It shares the workers with processes and counts as one of normal priority. It belongs to none: a trap in it ends the
    /// program. Any thread; never blocks.
    public func enqueue(_ job: consuming ExecutorJob) { enqueue(plain: UnownedJob(job)) }

    func enqueue(plain job: UnownedJob) {
        crt_probeStack()
        queues.add(job: RunItem(plain: job), ProcTag(rawValue: 0))
    }

    /// Queues a job of the program's global executor.
    func enqueue(global job: UnownedJob) {
        crt_probeStack()
        queues.add(job: RunItem(global: job), ProcTag(rawValue: 0))
    }

    var taskExecutor: UnownedTaskExecutor { asUnownedTaskExecutor() }
}
