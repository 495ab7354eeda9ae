// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// The executor that the task of an async process prefers: one object per incarnation.
///
/// Child tasks inherit the preference, so every job of the process comes through here, and the current task always says
/// which process it belongs to, also when it runs inside an actor that another process's thread is draining.
public final class ProcTaskExecutor: TaskExecutor, Sendable {
    /// The process whose jobs come here.
    public let proc: LightProc
    package let incarnation: UInt32

    init(_ proc: LightProc, incarnation: UInt32) {
        self.proc = proc
        self.incarnation = incarnation
    }

    /// Queues a job with the scheduler of the process; a job of an incarnation that is over is dropped, and leaks.
    public func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        let incarnation = self.incarnation
        // A refused job is dropped: its incarnation is over, the task behind it leaks.
        guard proc.transition({ $0.admit(incarnation) }) == .admitted else { return }
        proc.scheduler.schedule(job, of: self)
    }

    /// Runs a job that was scheduled, if its incarnation still may run. By a worker.
    public func run(_ job: UnownedJob) {
        guard proc.state.mayRun(incarnation) else { return }
        job.runSynchronously(on: asUnownedTaskExecutor())
        proc.jobReturned(incarnation)
    }

    /// How an executor of this kind looks from outside: object and witness table.
    package var identity: (object: UInt, witness: UInt) {
        // safety: an unowned task executor is exactly these two words, in this order (SE-0417, and the runtime's
        // TaskExecutorRef).
        unsafeBitCast(asUnownedTaskExecutor(), to: (UInt, UInt).self)
    }
}
