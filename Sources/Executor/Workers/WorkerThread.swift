// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CLightProc
import Glibc
import LightProc

/// An OS thread with a stack of ours, an alternate signal stack, and a record that the signal handler finds.
///
/// It waits until it is given something to do, or is called as the heir of a thread that trapped; does that, and ends.
/// Traps in processes it runs end it.
final class WorkerThread: @unchecked Sendable {
    // Sendable: `task` is written before the futex is set and read after; the rest is written before the thread starts,
    // or by the reaper after it was joined.

    let record: UnsafeMutablePointer<crt_thread>
    /// Held by who looks into the thread while it runs: one at a time may.
    let sampling = Locked(())
    let stack: WorkerStack
    private var handle = pthread_t()
    /// What to do, retained until the thread has been joined: a frame that a trap cuts off releases nothing.
    private var task: Unmanaged<Task>?
    /// 0: not ended. 1: `work` returned; whoever waits for that joins. 2: trapped; the reaper joins.
    private let ended = FutexWord()
    /// What the thread is running, retained; read by the reaper when the thread is parked.
    private var running: Running?
    /// It was called as an heir in vain. By this thread.
    private var waitsAgain = false
    /// Who takes over when the thread has trapped.
    let owner: any TrapOwner
    let seat: Int
    private let name: String
    private let prepare: (@Sendable (WorkerThread) -> Void)?

    /// - Parameters:
    ///   - seat: The owner's number of the place that the thread is made for.
    ///   - prepare: Called on the thread before it waits to be called.
    init(
        stack: WorkerStack,
        owner: any TrapOwner,
        seat: Int = 0,
        name: String,
        prepare: (@Sendable (WorkerThread) -> Void)? = nil
    ) {
        self.stack = stack
        self.owner = owner
        self.seat = seat
        self.name = name
        self.prepare = prepare
        let memory = stack.memory
        record = memory.allocate(
            byteCount: MemoryLayout<crt_thread>.size,
            alignment: MemoryLayout<crt_thread>.alignment
        ).bindMemory(to: crt_thread.self, capacity: 1)
        // safety: all-zero bytes are a valid record: null pointers, zero counts, atomics at zero.
        memset(record, 0, MemoryLayout<crt_thread>.size)
        record.pointee.guardLow = stack.base
        record.pointee.stackLow = stack.low
        record.pointee.stackHigh = stack.high
        record.pointee.alternateStack = stack.alternate.start
        record.pointee.alternateStackSize = stack.alternate.size
        record.pointee.owner = Unmanaged.passUnretained(self).toOpaque()

        var attributes = pthread_attr_t()
        pthread_attr_init(&attributes)
        pthread_attr_setstack(&attributes, UnsafeMutableRawPointer(bitPattern: stack.low)!, stack.size)
        // The thread keeps itself alive until it is joined.
        let status = pthread_create(
            &handle,
            &attributes,
            { argument in
                let thread = Unmanaged<WorkerThread>.fromOpaque(argument!).takeUnretainedValue()
                _ = crt_runThread(
                    thread.record,
                    { context in
                        Unmanaged<WorkerThread>.fromOpaque(context!).takeUnretainedValue().work()
                    },
                    argument
                )
                return nil
            },
            Unmanaged.passRetained(self).toOpaque()
        )
        pthread_attr_destroy(&attributes)
        precondition(status == 0, "cannot create a worker thread: \(String(cString: strerror(status)))")
    }

    // Not when the thread is joined: the stall watch may be about to look at it.
    deinit { stack.memory.deallocate(record, byteCount: MemoryLayout<crt_thread>.size) }

    private final class Task: Sendable {
        let body: @Sendable (WorkerThread) -> Void
        init(_ body: @escaping @Sendable (WorkerThread) -> Void) { self.body = body }
    }

    /// The thread that the caller runs on, if it is one of these.
    static var current: WorkerThread? {
        // safety: a worker thread keeps itself alive until it is joined. The seeded executor's record has no owner.
        crt_self()?.pointee.owner.map { Unmanaged<WorkerThread>.fromOpaque($0).takeUnretainedValue() }
    }

    /// Gives the thread something to do, once. It ends when that returns.
    func assign(_ body: @escaping @Sendable (WorkerThread) -> Void) {
        task = Unmanaged.passRetained(Task(body))
        crt_callForWork(record)
    }

    /// Lets a thread that was never given anything end.
    func dismiss() { assign { _ in } }

    private func work() {
        crt_nameThread(name)
        // Taken before there is something to do: pinning to another PU than the one it runs on takes tens of microseconds.
        prepare?(self)
        // Ends: every thread is called: for work, as an heir, or to be dismissed.
        repeat {
            waitsAgain = false
            if crt_awaitCall(record) == UInt32(crt_callInherit), let predecessor = record.pointee.predecessor {
                owner.inherit(from: predecessor, by: self)
            } else {
                task?._withUnsafeGuaranteedRef { $0.body(self) }
            }
        } while waitsAgain
        ended.set(1)
        ended.wake(.max)
    }

    /// Has the kernel provide the pages that a signal will need, before there is one.
    func touchAlternateStack() {
        let size = record.pointee.alternateStackSize
        for offset in stride(from: 1, to: min(size, 24 * 1024), by: 4096) {
            // safety: within the mapping, which nobody uses yet.
            record.pointee.alternateStack.storeBytes(of: 0, toByteOffset: size - offset, as: UInt8.self)
        }
    }

    /// Whether another thread waits for this one to trap.
    var hasHeir: Bool { crt_hasHeir(record) }

    func setHeir(_ heir: WorkerThread) { crt_setHeir(record, heir.record) }

    /// Goes back to waiting for a thread that had called it in vain, and is parked still. By this thread, the heir; allocates nothing.
    func waitAgain(for predecessor: UnsafeMutablePointer<crt_thread>) {
        waitsAgain = crt_returnHeir(predecessor, record)
    }

    /// Takes the heir away, unless the thread has called it.
    func takeHeir() -> WorkerThread? {
        // safety: an heir keeps itself alive until it is joined.
        crt_takeHeir(record).map { Unmanaged<WorkerThread>.fromOpaque($0.pointee.owner).takeUnretainedValue() }
    }

    /// Whether the thread is done, or about to be: what it was given has returned.
    var hasReturned: Bool { ended.value == 1 }

    enum End {
        case returned
        case trapped
    }

    /// Waits until the thread has returned, or its successor is in place.
    func blockingWaitUntilEnded() -> End {
        // Ends: a thread returns when its pool stops, or traps, and the reaper says so.
        while true {
            switch ended.value {
            case 0: ended.blockingWait(while: 0)
            case 1: return .returned
            default: return .trapped
            }
        }
    }

    /// By the reaper, once the thread's owner knows.
    func markTrapped() {
        ended.set(2)
        ended.wake(.max)
    }

    /// What a thread was running when it trapped.
    enum Running {
        case proc(Unmanaged<LightProc>)
        case job(Unmanaged<ProcTaskExecutor>)

        func isJob(of executor: ProcTaskExecutor?) -> Bool {
            guard case .job(let own) = self, let executor else { return false }
            return own.toOpaque() == Unmanaged.passUnretained(executor).toOpaque()
        }
    }

    /// Runs an item as its process: from here to the return a trap is contained. True if it must be queued again.
    func run(_ item: RunItem) -> Bool {
        guard let done = turn(item) else { return true }
        if done != 0 { Self.letGo(of: done) }
        return false
    }

    /// As above, by the worker of these nodes, which holds the process that is idle then until its next turn is over: if somebody
    /// sends to it in that turn, the hold is there already.
    @inline(__always)
    func run(_ item: RunItem, keepingOn nodes: UnsafeMutablePointer<crt_nodePool>) -> Bool {
        let done = turn(item)
        let before = crt_keep(nodes, done ?? 0)
        if before != 0 { Self.letGo(of: before) }
        return done == nil
    }

    /// Lets go of the process that is kept. False if there is none. By the worker, while it runs none.
    @inline(__always)
    static func letGo(keptOn nodes: UnsafeMutablePointer<crt_nodePool>) -> Bool {
        let kept = crt_keep(nodes, 0)
        if kept != 0 { letGo(of: kept) }
        return kept != 0
    }

    /// Whoever lets go of a process last ends it.
    @inline(__always)
    static func letGo(of process: UInt) {
        guard let pointer = UnsafeRawPointer(bitPattern: process) else { return }
        Unmanaged<LightProc>.fromOpaque(pointer).release()
    }

    /// Runs an item. Returns the process, still retained, that is idle now, or 0 if the item was none; nil if the item must be queued
    /// again.
    @inline(__always)
    private func turn(_ item: RunItem) -> UInt? {
        switch item.content {
        case .proc(let proc):
            running = .proc(proc)
            record.pointee.process = proc.toOpaque()
            let again = proc._withUnsafeGuaranteedRef { $0.run() }
            record.pointee.process = nil
            running = nil
            return again ? nil : UInt(bitPattern: proc.toOpaque())
        case .job(let job, let executor):
            running = .job(executor)
            executor._withUnsafeGuaranteedRef {
                record.pointee.process = Unmanaged.passUnretained($0.proc).toOpaque()
                crt_beginJob(record, job.address, executor.toOpaque())
                $0.run(job)
            }
            crt_endJob(record)
            record.pointee.process = nil
            running = nil
            executor.release()
            return 0
        case .plain(let job):
            // Belongs to no process: a trap in it is not contained, unless it is an actor's turn and the trap is in a job of
            // one: the handler asks the current task.
            LightProc.beginTurn()
            record.pointee.runsPlainJob = 1
            job.runSynchronously(on: owner.taskExecutor)
            record.pointee.runsPlainJob = 0
            return 0
        case .global(let job):
            LightProc.beginTurn()
            record.pointee.runsPlainJob = 1
            // As the runtime's own global executor does: the task is bound to no executor, and goes on wherever it is queued.
            // Its `Task.yield()` takes one way through the runtime's own threads for that: it hands a job to the current
            // serial executor, to the task's preference, to the current task executor, or else to the default executor,
            // which has no hook (Swift 6.3, `Task.currentExecutor`). With the pool as current task executor it would come
            // here; but then each hop between such a task and an actor would be a turn, as its preference differs from that.
            job.runSynchronously(on: .generic)
            record.pointee.runsPlainJob = 0
            return 0
        }
    }

    /// Takes the locks of standard output and standard error from the thread. By the reaper, of a parked thread.
    func releaseStandardStreams() { crt_releaseStandardStreams(UInt(handle)) }

    /// Takes over what the thread was running, with the hold on it. By the reaper, of a parked thread.
    func takeRunning() -> Running? { running.take() }

    /// Waits for the end of the thread and gives back what it used, except its stack. Once: by the reaper for a thread
    /// that trapped, by the pool for one that returned.
    func join() {
        pthread_join(handle, nil)
        task?.release()
        task = nil
        Unmanaged.passUnretained(self).release()
    }
}

extension UnownedSerialExecutor {
    /// None: what tasks run on that are isolated to no actor.
    fileprivate static var generic: UnownedSerialExecutor {
        // safety: an unowned serial executor is two words, object and witness table; both zero is the generic one
        // (`swift_executor_generic` in the runtime's ExecutorImpl.h).
        unsafeBitCast((UInt(0), UInt(0)), to: UnownedSerialExecutor.self)
    }
}

/// Who owns threads and carries on when one of them trapped.
protocol TrapOwner: AnyObject, Sendable {
    /// On which executor jobs run that belong to no process.
    var taskExecutor: UnownedTaskExecutor { get }
    /// A thread has trapped and called its heir, which decides about it and takes its place. On the heir's thread.
    func inherit(from predecessor: UnsafeMutablePointer<crt_thread>, by heir: WorkerThread)
    /// The thread is parked and its trap will be contained: put another in its place, and forget it. On the reaper's
    /// thread.
    func replace(_ thread: WorkerThread)
    /// The process was told, the thread has ended and was joined; its stack is free. On the reaper's thread.
    func retire(_ thread: WorkerThread)
}
