// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CLightProc
import LightProc

/// Threads for work that blocks: as many as needed up to a bound, ended when they were idle for a while.
///
/// A trap ends the thread and its process as on the workers.
final class BlockingPool: ProcScheduler, TrapOwner {
    private struct Shared {
        var queue = WorkQueue()
        var threads: [Int: WorkerThread] = [:]
        /// Threads that were idle for too long and have left, or are about to.
        var left: [WorkerThread] = []
        /// Traps that the reaper is busy with.
        var pendingTraps = 0
        var nextIndex = 0
        var stacks = WorkerStackPool()
    }
    private final class Sleeper: Sendable {
        let word = FutexWord()
    }

    private let shared = Locked(Shared())
    /// Counts changes that `shutdown` may wait for.
    private let changes = FutexWord()
    private let sleepers = Locked<[Int: Sleeper]>([:])
    private let timers: PoolTimers
    private let maximumThreads: Int
    /// How long a thread without work stays.
    private static let idleTime = Duration.seconds(10)

    init(timers: PoolTimers, maximumThreads: Int) {
        precondition(maximumThreads > 0, "maximumBlockingThreads must be positive, got \(maximumThreads)")
        self.timers = timers
        self.maximumThreads = maximumThreads
    }

    func schedule(_ proc: LightProc) { add(RunItem(proc)) }

    func schedule(_ job: UnownedJob, of executor: ProcTaskExecutor) { add(RunItem(job, executor)) }

    func schedule(after duration: Duration, _ action: @escaping @Sendable () -> Void) -> TimerToken {
        timers.schedule(after: duration, action)
    }

    var now: Duration { MonotonicClock.now }

    /// Takes work again after `shutdown`.
    func start() { shared.withLock { $0.queue.resume() } }

    func shutdown() {
        for index in shared.withLock({ $0.queue.stop() }) { wake(index) }
        while true {
            let seen = changes.value
            let (thread, pendingTraps) = shared.withLock { shared in
                (shared.left.last ?? shared.threads.first?.value, shared.pendingTraps)
            }
            guard let thread else {
                if pendingTraps > 0 {
                    // Ends: the reaper retires every thread that trapped.
                    changes.blockingWait(while: seen)
                    continue
                }
                // What the reaper queued when the last thread was about to leave.
                guard let (index, thread) = shared.withLock({ $0.queue.count > 0 ? hire(&$0) : nil }) else { break }
                thread.assign { [self] in work($0, index) }
                continue
            }
            if thread.blockingWaitUntilEnded() == .returned { dismiss(thread) }
        }
        shared.withLock { $0.stacks.unmapAll() }
    }

    /// Joins a thread that has left, unless somebody else does.
    private func dismiss(_ thread: WorkerThread) {
        let isMine = shared.withLock { shared -> Bool in
            let before = shared.left.count + shared.threads.count
            shared.left.removeAll { $0 === thread }
            shared.threads = shared.threads.filter { $0.value !== thread }
            return shared.left.count + shared.threads.count < before
        }
        guard isMine else { return }
        thread.join()
        shared.withLock { $0.stacks.put(thread.stack, afterTrap: false) }
    }

    private func add(_ item: RunItem) {
        enum Step {
            case wake(Int)
            case start(Int, WorkerThread)
            case nothing
        }
        let (step, left) = shared.withLock { shared -> (Step, [WorkerThread]) in
            if let sleeper = shared.queue.add(item) { return (.wake(sleeper), shared.left) }
            guard shared.threads.count < maximumThreads, !shared.queue.isStopping else {
                return (.nothing, shared.left)
            }
            let (index, thread) = hire(&shared)
            return (.start(index, thread), shared.left)
        }
        switch step {
        case .wake(let index): wake(index)
        case .start(let index, let thread): thread.assign { [self] in work($0, index) }
        case .nothing: break
        }
        for thread in left { dismiss(thread) }
    }

    private func hire(_ shared: inout Shared) -> (Int, WorkerThread) {
        let index = shared.nextIndex
        shared.nextIndex += 1
        let thread = WorkerThread(stack: shared.stacks.take(), owner: self, name: "bastion-blocker")
        shared.threads[index] = thread
        sleepers.withLock { $0[index] = Sleeper() }
        return (index, thread)
    }

    private func wake(_ index: Int) {
        guard let sleeper = sleepers.withLock({ $0[index] }) else { return }
        sleeper.word.set(1)
        sleeper.word.wake()
    }

    private func work(_ thread: WorkerThread, _ index: Int) {
        guard let sleeper = sleepers.withLock({ $0[index] }) else { return }
        while true {
            switch shared.withLock({ $0.queue.next(for: index) }) {
            case .item(let item):
                if thread.run(item) { add(item) }
            case .sleep:
                if sleeper.word.value == 0 { sleeper.word.blockingWait(while: 0, timeout: Self.idleTime) }
                if sleeper.word.exchange(0) == 0 {
                    let left = shared.withLock { shared -> Bool in
                        // Not on the list any more: somebody is about to wake this thread.
                        guard shared.queue.leave(index) else { return false }
                        if let me = shared.threads.removeValue(forKey: index) { shared.left.append(me) }
                        return true
                    }
                    if left {
                        _ = sleepers.withLock { $0.removeValue(forKey: index) }
                        return
                    }
                    while sleeper.word.exchange(0) == 0 { sleeper.word.blockingWait(while: 0) }
                }
            case .stop:
                return
            }
        }
    }

    func replace(_ thread: WorkerThread) {
        // Nobody sits where it sat: the next item starts a thread if it needs one; items that wait get one in `retire`.
        shared.withLock { shared in
            shared.pendingTraps += 1
            if let index = shared.threads.first(where: { $0.value === thread })?.key {
                shared.threads[index] = nil
                _ = sleepers.withLock { $0.removeValue(forKey: index) }
            }
        }
    }

    var taskExecutor: UnownedTaskExecutor {
        preconditionFailure("impossible: jobs that belong to no process are not queued here")
    }

    func inherit(from predecessor: UnsafeMutablePointer<crt_thread>, by heir: WorkerThread) {
        preconditionFailure("impossible: threads of the blocking pool have no heirs")
    }

    func retire(_ thread: WorkerThread) {
        let hired = shared.withLock { shared -> (Int, WorkerThread)? in
            shared.stacks.put(thread.stack, afterTrap: true)
            guard shared.queue.count > 0 else { return nil }
            // Items wait for a thread that nobody started: because the bound was reached, or because the pool is stopping.
            let isWanted =
                shared.queue.isStopping ? shared.threads.isEmpty : shared.threads.count == maximumThreads - 1
            guard isWanted else { return nil }
            return hire(&shared)
        }
        if let (index, thread) = hired { thread.assign { [self] in work($0, index) } }
        shared.withLock { $0.pendingTraps -= 1 }
        changes.increment()
        changes.wake(.max)
    }
}
