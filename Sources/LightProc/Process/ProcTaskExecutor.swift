// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CLightProc
import Synchronization

/// The executor that the task of an async process prefers: one object per incarnation, and one for each closure that blocks.
///
/// Child tasks inherit the preference, so every job of the process comes through here, and the current task always says
/// which process it belongs to, also when it runs inside an actor that another process's thread is draining.
public final class ProcTaskExecutor: TaskExecutor, @unchecked Sendable {
    // Sendable: `hasMain` is written when the incarnation's first job is queued, before anything else of it happens.

    /// The process whose jobs come here.
    public let proc: LightProc
    package let incarnation: UInt32
    /// Whether the incarnation's first task has been queued; all others are its children.
    private var hasMain = false
    /// Whether its jobs may block their thread.
    private let blocks: Bool
    /// What may still go on: twice the number of child tasks that are counted, and 1 for the first task until it returns. 0 in
    /// a blocking twin: they are counted once.
    private let tasks: AtomicWord

    init(_ proc: LightProc, incarnation: UInt32) {
        self.proc = proc
        self.incarnation = incarnation
        blocks = false
        tasks = AtomicWord(1)
        _ = TaskHooks.installed
    }

    /// A second one of the same incarnation, whose jobs run on threads for blocking work.
    init(blockingTwinOf executor: ProcTaskExecutor) {
        proc = executor.proc
        incarnation = executor.incarnation
        blocks = true
        tasks = AtomicWord(0)
        hasMain = true
    }

    /// The one that the calling task prefers: nil if the task belongs to no process.
    package static var current: ProcTaskExecutor? {
        // safety: the witness table said what it is, and the current task holds it.
        crt_currentTaskExecutor().map { Unmanaged<ProcTaskExecutor>.fromOpaque($0).takeUnretainedValue() }
    }

    /// For its looks only: nothing is queued on it.
    private init(sample proc: LightProc) {
        self.proc = proc
        incarnation = 0
        blocks = false
        tasks = AtomicWord(0)
    }

    /// Queues a job with the scheduler of the process; a job of an incarnation that is over is dropped, and leaks.
    ///
    /// Not so the turn of a default actor, which comes here too when this process is the next in the actor's queue: others
    /// may wait behind it, and nobody else would give the actor a turn.
    public func enqueue(_ job: consuming ExecutorJob) {
        // Before it is counted, and before a worker is woken for it.
        crt_probeStack()
        let job = UnownedJob(job)
        let incarnation = self.incarnation
        let isChild = hasMain && crt_isCountable(job.address)
        if !hasMain { hasMain = true }
        // A child task is waited for until it completes, also while it is suspended.
        let count: UInt = isChild ? 2 : 1
        guard proc.transition({ $0.admit(incarnation, count) }) == .admitted else {
            // A refused job is dropped: its incarnation is over, the task behind it leaks. An actor's is nobody's.
            if !crt_isOfTask(job.address) { schedule(job) }
            return
        }
        if isChild {
            crt_countChild(job.address)
            // ordering: relaxed: a count for estimates; who reads it comes after the seal.
            tasks.wrappingAdd(2, ordering: .relaxed)
        }
        schedule(job)
    }

    /// As `enqueue` of a process: on a worker of its own scheduler it is the next to run there, unless it yields.
    private func schedule(_ job: UnownedJob) {
        if !blocks, let nodes = proc.ownNodes, !crt_isYield(job.address) {
            // safety: a job begins with the object header of two words, then come the scheduler's two. See `RunItem`.
            job.address.storeBytes(
                of: UInt(bitPattern: Unmanaged.passRetained(self).toOpaque()),
                toByteOffset: 16,
                as: UInt.self
            )
            return LightProc.setNext(UInt(bitPattern: job.address) | 1, nodes)
        }
        let scheduler = proc.scheduler
        (blocks ? scheduler.blockingScheduler : scheduler).schedule(job, of: self)
    }

    /// Runs a job that was scheduled, if its incarnation still may run, or if it is an actor's turn. By a worker.
    public func run(_ job: UnownedJob) {
        guard proc.state.mayRun(incarnation) else {
            if !crt_isOfTask(job.address) { runForOthers(job) }
            return
        }
        if let nodes = crt_nodes() {
            proc.settle(on: nodes)
            NodePool.beginTurn(nodes)
        }
        job.runSynchronously(on: asUnownedTaskExecutor())
        proc.giveSignOfLife()
        proc.jobReturned(incarnation)
    }

    /// Gives an actor its turn, which this incarnation, now over, was to give it: as a job that belongs to no process. A trap
    /// in it is the current task's.
    private func runForOthers(_ job: UnownedJob) {
        LightProc.beginTurn()
        let thread = crt_self()
        let process = thread?.pointee.process
        thread?.pointee.process = nil
        thread?.pointee.runsPlainJob = 1
        job.runSynchronously(on: asUnownedTaskExecutor())
        thread?.pointee.runsPlainJob = 0
        thread?.pointee.process = process
    }

    /// A child task of this incarnation has completed; who awaits it was woken. On the thread that ran its last job.
    func childCompleted() {
        // One that completes after the seal was given up for lost.
        tasks.update { if $0 >= 2 { $0 -= 2 } }
        proc.jobReturned(incarnation)
    }

    /// The first task is done with its body. By that task, while its job counts.
    func mainReturned() { tasks.update { $0 &= ~1 } }

    /// A task will not go on, and so no task that awaits it will. Returns how many counted child tasks and how many tasks in
    /// all this is news about.
    func strand(_ task: UnsafeMutableRawPointer) -> (children: Int, all: Int) {
        let isMain = proc.isMainTask(task)
        let isCounted = isMain || crt_isCounted(task)
        let children = Int(crt_strand(task))
        // A task that blocks prefers the twin of the one that counts it.
        let counting = blocks ? proc.executor(of: incarnation) ?? self : self
        let main = counting.tasks.update { word in
            defer { word = (word - min(word & ~1, UInt(2 * children))) & ~1 }
            return Int(word & 1)
        }
        return (children, children + main + (isCounted ? 0 : 1))
    }

    /// The incarnation is sealed: returns how many tasks have not returned, and never will.
    func loseTasks() -> Int {
        // ordering: relaxed: see `enqueue`.
        if tasks.load(ordering: .relaxed) == 0 { return 0 }
        return tasks.update { word in
            defer { word = 0 }
            return Int(word >> 1 + word & 1)
        }
    }

    /// A task of this incarnation will never go on, because what it needs is gone: that ends the process.
    func fail(_ task: UnsafeMutableRawPointer, for reason: ExitReason) {
        let stranded = strand(task)
        proc.decideEnd(incarnation, reason)
        proc.tasksLost(stranded.all)
        proc.jobReturned(incarnation, count: UInt(stranded.children))
    }

    /// Child tasks that may still complete.
    var childCount: Int {
        // ordering: relaxed: for an estimate of how many jobs there are.
        Int(tasks.load(ordering: .relaxed) >> 1)
    }

    /// How an executor of this kind looks from outside: object and witness table.
    package var identity: (object: UInt, witness: UInt) {
        // safety: an unowned task executor is exactly these two words, in this order (SE-0417, and the runtime's
        // TaskExecutorRef).
        unsafeBitCast(asUnownedTaskExecutor(), to: (UInt, UInt).self)
    }

    /// The witness table by which one is recognised.
    static let witness: UInt = ProcTaskExecutor(sample: LightProc.async(on: Nobody()) { _ in }).identity.witness
}

/// A scheduler for a process that never runs.
private final class Nobody: ProcScheduler {
    func schedule(_ proc: LightProc) {}
    func schedule(_ job: UnownedJob, of executor: ProcTaskExecutor) {}
    func schedule(after duration: Duration, _ action: @escaping @Sendable () -> Void) -> TimerToken { TimerToken {} }
    var now: Duration { .zero }
}
