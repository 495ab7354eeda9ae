// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

package import CLightProc
import Glibc
import Synchronization

/// An executor for an actor that several processes share, and that one of them may break.
///
/// ```swift
/// actor Ledger {
///     private let executor: ProcSerialExecutor
///     nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }
///     init(on scheduler: any ProcScheduler) { executor = ProcSerialExecutor(on: scheduler) }
/// }
/// ```
///
/// It runs the actor's jobs on the scheduler's workers, one at a time, first in first out per sending thread, and lets
/// others have their turn when 256 reductions are spent: jobs, and the messages that they send, both count. A job runs in
/// the name of the process that called: a trap ends that process. It also *poisons* the executor, for what the actor holds
/// may be half changed: no job runs on it again. Every process that waits in the actor, or calls it later, ends with
/// ``ExitReason/linked(_:_:)``: ``id``, and the trap. So its supervisor, its askers and its handle learn at once. A
/// poisoned executor stays so; make a new actor with a new one.
///
/// A job of a process whose end is complete is dropped, also when it was queued before: it leaks with its task. A call
/// from a task that belongs to no process (`Task { }`, the main actor) cannot be failed, as there is nothing to end: in a
/// poisoned actor it waits for ever, is counted in ``strandedTasks``, and the first one is told on standard error. A
/// trap in such a task is not contained.
///
/// Costs two objects, and per call a turn in the run queues each way.
public final class ProcSerialExecutor: SerialExecutor, Sendable {
    private let proc: LightProc
    private let stranded = AtomicWord(0)

    /// Creates an executor whose jobs run on the workers of a scheduler.
    ///
    /// - Parameters:
    ///   - scheduler: A worker pool, or the seeded executor.
    ///   - name: A name for logs and reports.
    public init(on scheduler: any ProcScheduler, name: String? = nil) {
        _ = TaskHooks.installed
        proc = LightProc(
            scheduler: SchedulerWords(scheduler),
            isReactive: true,
            isBusy: false,
            isAlive: true,
            step: { try Self.step($0, $1) }
        )
        if let name { proc.prepare(name: name, stack: nil, observer: nil, shutdownTime: .seconds(5)) }
        proc.slot.address.storeBytes(of: Unmanaged.passUnretained(self).toOpaque(), as: UnsafeMutableRawPointer.self)
    }

    /// The identity of the executor among the processes: what the reason of those names that end with it.
    public var id: ProcID { proc.id }

    /// The trap of the process that broke the actor, or nil as long as it is whole.
    public var poison: TrapReport? { proc.lastExit?.trapReport }

    /// How many tasks that belong to no process wait for ever, because the actor was poisoned.
    ///
    /// Jobs that are no tasks, as of an isolated `deinit`, are among them.
    public var strandedTasks: Int {
        // ordering: relaxed: a count that orders nothing.
        Int(stranded.load(ordering: .relaxed))
    }

    /// Queues a job of the actor. Any thread; never blocks.
    public func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        let node = MessageNode.make(job)
        if proc.push(node) { return }
        node.refuse(as: UnownedJob.self)
        // On a worker: the caller may be in the middle of the runtime, and the process that ends has observers.
        LightProc.runOnce(on: proc.scheduler) { [self] in turnAway(job) }
    }

    // MARK: The process behind it

    private static func step(_ proc: LightProc, _ operation: ProcOperation) throws {
        switch operation {
        case .run:
            if let nodes = crt_nodes() { proc.settle(on: nodes) }
            LightProc.beginTurn()
            // Counted here, too: not every thread is a worker.
            var budget = LightProc.reductions
            while budget > 0, LightProc.mayGoOn, let node = proc.mailbox.take() {
                budget -= 1
                LightProc.spendReduction()
                let job = node.open(as: UnownedJob.self).message
                of(proc).run(job)
                if proc.orders.hasSome { return }
            }
        case .handle(let node):
            of(proc).run(node.open(as: UnownedJob.self).message)
        case .discard(let node), .bequeath(let node):
            let job = node.open(as: UnownedJob.self).message
            of(proc).turnAway(job)
        case .describe(let type):
            type.pointee = UnownedJob.self
        case .start, .signal, .destroy, .abandon, .measure, .release:
            break
        }
    }

    /// The executor of a process that has a job in hand.
    private static func of(_ proc: LightProc) -> ProcSerialExecutor {
        // safety: a job that is queued is one of an actor that somebody holds, and the actor holds its executor.
        Unmanaged<ProcSerialExecutor>.fromOpaque(proc.slot.address.load(as: UnsafeMutableRawPointer.self))
            .takeUnretainedValue()
    }

    /// Runs a job in the name of the process that its task belongs to, unless that has ended.
    private func run(_ job: UnownedJob) {
        var visit = crt_visit()
        visit.mayEnter = { visit, executor, task in
            guard let visit, let executor, let task else { return true }
            // safety: the current task holds the executor that it prefers.
            return Unmanaged<ProcTaskExecutor>.fromOpaque(executor)._withUnsafeGuaranteedRef { guest in
                guard guest.proc.transition({ $0.admit(guest.incarnation) }) == .admitted else { return false }
                visit.pointee.guest = Unmanaged.passRetained(guest).toOpaque()
                if let thread = crt_self() {
                    crt_beginJob(thread, task, executor)
                    thread.pointee.guest = visit.pointee.guest
                    thread.pointee.process = Unmanaged.passUnretained(guest.proc).toOpaque()
                }
                return true
            }
        }
        withUnsafeMutablePointer(to: &visit) { visit in
            if TaskHooks.knowsOwners { _ = crt_intercept(job.address, visit) }
            job.runSynchronously(on: asUnownedSerialExecutor())
        }
        guard let guest = visit.guest else { return }
        if let thread = crt_self() {
            crt_endJob(thread)
            thread.pointee.guest = nil
            thread.pointee.process = Unmanaged.passUnretained(proc).toOpaque()
        }
        // safety: retained by `mayEnter`.
        let executor = Unmanaged<ProcTaskExecutor>.fromOpaque(guest).takeRetainedValue()
        executor.proc.jobReturned(executor.incarnation)
    }

    /// Ends the process that a job belongs to, because this executor is poisoned; the job never runs. On a worker.
    private func turnAway(_ job: UnownedJob) {
        var visit = crt_visit()
        visit.host = Unmanaged.passUnretained(self).toOpaque()
        visit.mayEnter = { visit, executor, task in
            guard let host = visit?.pointee.host, let task else { return false }
            // safety: set above; we are in its method.
            Unmanaged<ProcSerialExecutor>.fromOpaque(host)._withUnsafeGuaranteedRef { $0.fail(task, of: executor) }
            return false
        }
        let isTask = withUnsafeMutablePointer(to: &visit) { visit in
            guard TaskHooks.knowsOwners, crt_intercept(job.address, visit) else { return false }
            job.runSynchronously(on: asUnownedSerialExecutor())
            return true
        }
        if !isTask { strand() }
    }

    private func fail(_ task: UnsafeMutableRawPointer, of executor: UnsafeMutableRawPointer?) {
        guard let executor else { return strand() }
        // safety: the current task holds the executor that it prefers.
        let guest = Unmanaged<ProcTaskExecutor>.fromOpaque(executor).takeUnretainedValue()
        guest.fail(task, for: .linked(id, proc.lastExit ?? .killed))
    }

    private func strand() {
        // ordering: relaxed: only a count.
        guard stranded.wrappingAdd(1, ordering: .relaxed).oldValue == 0 else { return }
        let line = "bastion: a task that belongs to no process waits for ever: the actor on \(proc) is poisoned\n"
        _ = line.withCString { write(STDERR_FILENO, $0, strlen($0)) }
    }
}

extension ProcTaskExecutor {
    /// Whose job an actor's process was running on a thread that trapped. By the reaper.
    package static func guest(of thread: UnsafeMutablePointer<crt_thread>) -> ProcTaskExecutor? {
        // safety: retained until `lostGuest`.
        thread.pointee.guest.map { Unmanaged<ProcTaskExecutor>.fromOpaque($0).takeUnretainedValue() }
    }
}

extension LightProc {
    /// A thread trapped while it ran this process. If that is an actor's, it is poisoned; the process that trapped in it
    /// was told. By the reaper, before the thread goes on.
    package func lostGuest(
        of thread: UnsafeMutablePointer<crt_thread>,
        _ report: TrapReport,
        culprit: ProcTaskExecutor?
    ) {
        guard let pointer = thread.pointee.guest else { return }
        thread.pointee.guest = nil
        // safety: retained when the job began.
        let guest = Unmanaged<ProcTaskExecutor>.fromOpaque(pointer).takeRetainedValue()
        if guest !== culprit { guest.proc.jobReturned(guest.incarnation) }
        trapped(report, in: nil, isOwnJob: false)
    }
}
