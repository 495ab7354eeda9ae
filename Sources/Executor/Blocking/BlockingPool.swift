// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CLightProc
import LightProc

/// Threads for work that blocks: as many as the waiting jobs need, up to a bound, ended when they were idle for a while.
///
/// When threads are added is decided by ``BlockingGrowth``, who serves what by ``BlockingQueues``; this is the shell around
/// them. A job goes to the NUMA node of who submitted it, and its threads may run on all processing units of that node. The
/// scout, a thread that is started when jobs first have to wait, looks at the queues while they do.
///
/// A trap ends the thread and its process as on the workers.
final class BlockingPool: ProcScheduler, TrapOwner {
    /// What a thread of a node is tied to.
    struct Site: Sendable, Equatable {
        /// The kernel's numbers of its processing units; nil: any.
        var osPUs: [Int]?
        /// The kernel's number of the node to take memory from; nil: any.
        var memoryNode: Int?

        /// Puts the calling thread there. A refused wish leaves it where it is: slower, not wrong.
        func take(_ complaints: PoolWarnings) {
            if let osPUs {
                complaints.place("threads for blocking work are not tied to their node") { () throws(TopologyError) in
                    try ThreadPlacement.restrict(toOSPUs: osPUs)
                }
            }
            if let memoryNode { _ = try? ThreadPlacement.preferMemory(ofOSNode: memoryNode) }
        }
    }

    /// A thread's number, and its place to sleep.
    final class Member: Sendable {
        let index: Int
        let node: Int
        /// 1: woken.
        let word = FutexWord()

        init(index: Int, node: Int) {
            self.index = index
            self.node = node
        }

        func wake() {
            word.set(1)
            word.wake()
        }
    }

    struct Shared {
        var queues: BlockingQueues<RunItem>
        var threads: [Int: Seated] = [:]
        /// Threads that were idle for too long and have left, or are about to.
        var left: [WorkerThread] = []
        /// Traps that the reaper is busy with.
        var pendingTraps = 0
        var nextIndex = 0
        var stacks = WorkerStackPool()
        var isDropping = false
        var scout: PlainThread?
        /// Whether the scout is looking, or about to.
        var isWatching = false
        /// No scout is started any more, and the one that there is ends.
        var isClosed = false

        struct Seated {
            let member: Member
            let thread: WorkerThread
            var hasJob = false
        }
    }

    let shared: Locked<Shared>
    private let tally = BlockingTally()
    /// Counts changes that `shutdown` may wait for.
    let changes = FutexWord()
    /// Counts what the scout is woken for.
    let calls = FutexWord()
    private let timers: PoolTimers
    private let limits: BlockingGrowth.Limits
    let sites: [Site]
    private let nodeOfPU: [Int: Int]
    let complaints: PoolWarnings
    /// By which a worker is known as one of the same pool.
    private let owner: ObjectIdentifier

    init(
        timers: PoolTimers,
        limits: BlockingGrowth.Limits,
        sites: [Site],
        nodeOfPU: [Int: Int],
        complaints: PoolWarnings,
        owner: ObjectIdentifier
    ) {
        precondition(
            limits.maximumThreads > 0,
            "maximumBlockingThreads must be positive, got \(limits.maximumThreads)"
        )
        self.timers = timers
        self.limits = limits
        self.sites = sites
        self.nodeOfPU = nodeOfPU
        self.complaints = complaints
        self.owner = owner
        shared = Locked(Shared(queues: BlockingQueues(nodes: sites.count, limits: limits)))
    }

    // MARK: ProcScheduler

    func schedule(_ proc: LightProc) { add(RunItem(proc), to: submittersNode) }

    func schedule(_ job: UnownedJob, of executor: ProcTaskExecutor) { add(RunItem(job, executor), to: submittersNode) }

    func schedule(after duration: Duration, _ action: @escaping @Sendable () -> Void) -> TimerToken {
        timers.schedule(after: duration, action)
    }

    var now: Duration { MonotonicClock.now }

    /// What the pool is doing. A few loads; any thread.
    var counters: BlockingCounters { tally.counters(at: MonotonicClock.now) }

    /// The node of the thread that submits: of a worker or a blocking thread its own, of others that of the processing unit
    /// that they are on.
    private var submittersNode: Int {
        if sites.count == 1 { return 0 }
        if let record = crt_self() {
            if let seat = record.pointee.seat {
                // safety: set to the worker that the thread sits on, which outlives it.
                let node = Unmanaged<Worker>.fromOpaque(seat)._withUnsafeGuaranteedRef {
                    $0.pool == owner ? $0.node : nil
                }
                if let node { return node }
            } else if let thread = WorkerThread.current, thread.owner === self {
                return thread.seat
            }
        }
        return ThreadPlacement.currentPU().flatMap { nodeOfPU[$0] } ?? 0
    }

    private func add(_ item: RunItem, to node: Int) {
        enum Step {
            case wake(Member)
            case hire
            case call
            case nothing
        }
        let now = MonotonicClock.now
        let step = withShared { shared -> Step in
            switch shared.queues.add(item, to: node, at: now) {
            case .wake(let index): return shared.threads[index].map { .wake($0.member) } ?? .nothing
            case .hire:
                shared.queues.hire(for: node)
                return .hire
            case .watch: return watch(&shared) ? .call : .nothing
            case .nothing: return .nothing
            }
        }
        switch step {
        case .wake(let member): member.wake()
        case .hire: employ(on: node)
        case .call: callScout()
        case .nothing: break
        }
    }

    /// Changes the state, and says what has become of it.
    func withShared<Result>(_ change: (inout Shared) -> Result) -> Result {
        shared.withLock { shared in
            let result = change(&shared)
            tally.update(
                threads: shared.queues.threads,
                idle: shared.queues.threads - shared.queues.running,
                queued: shared.queues.queued,
                oldest: shared.queues.oldest,
                jobs: shared.queues.started,
                peak: shared.queues.peak
            )
            return result
        }
    }

    // MARK: Threads

    /// Makes a thread that was promised with `hire(for:)`.
    func employ(on node: Int) {
        let (stack, member) = shared.withLock { shared in
            shared.nextIndex += 1
            return (shared.stacks.take(), Member(index: shared.nextIndex, node: node))
        }
        let site = sites[node]
        let thread = WorkerThread(stack: stack, owner: self, seat: node, name: "bastion-blocker") {
            [complaints] _ in site.take(complaints)
        }
        shared.withLock { $0.threads[member.index] = .init(member: member, thread: thread) }
        changed()
        thread.assign { [self, member] thread in
            // Unmanaged: a frame that a trap cuts off releases nothing.
            Unmanaged.passUnretained(member)._withUnsafeGuaranteedRef { work(thread, as: $0) }
        }
    }

    func changed() {
        changes.increment()
        changes.wake(.max)
    }

    private func work(_ thread: WorkerThread, as member: Member) {
        var hasJob = false
        // Ends: when the pool stops, or the thread was idle for too long.
        while true {
            let now = MonotonicClock.now
            let (next, isDropping, mustCall) = withShared { shared in
                if hasJob { shared.queues.finish(on: member.node) }
                let next = shared.queues.next(for: member.index, of: member.node, at: now)
                switch next {
                case .job: shared.threads[member.index]?.hasJob = true
                case .sleep: shared.threads[member.index]?.hasJob = false
                case .stop: shared.queues.stopped(on: member.node)
                }
                // Another node's jobs wait, which this thread may have to help with later.
                if case .sleep = next, shared.queues.queued > 0 { return (next, false, watch(&shared)) }
                return (next, shared.isDropping, false)
            }
            hasJob = false
            if mustCall { callScout() }
            switch next {
            case .job(let item):
                if isDropping { item.kill() }
                run(item, on: thread, member.node)
                hasJob = true
            case .sleep:
                if sleep(thread, as: member) == .leave { return }
            case .stop:
                return
            }
        }
    }

    /// Runs an item to its end: its last turn is not to wait behind jobs that take long. After many turns others come first.
    private func run(_ item: RunItem, on thread: WorkerThread, _ node: Int) {
        for _ in 0..<Self.turnsInARow where !thread.run(item) { return }
        add(item, to: node)
    }

    private static let turnsInARow = 16

    private enum AfterSleep {
        case work
        case leave
    }

    private func sleep(_ thread: WorkerThread, as member: Member) -> AfterSleep {
        let end = MonotonicClock.now + limits.idleTime
        // Ends: woken, or the time is up; signals wake it, too.
        while member.word.value == 0 {
            let left = end - MonotonicClock.now
            guard left > .zero else { break }
            member.word.blockingWait(while: 0, timeout: left)
        }
        if member.word.exchange(0) == 1 { return .work }
        let now = MonotonicClock.now
        let leaving = withShared { shared -> (before: [WorkerThread], mustCall: Bool)? in
            // Not on the list any more: somebody is about to wake this thread.
            guard shared.queues.leave(member.index, of: member.node) else { return nil }
            shared.threads[member.index] = nil
            let before = shared.left
            shared.left = [thread]
            // There is room for a thread of another node.
            return (before, shared.queues.isBehind(at: now) && watch(&shared))
        }
        guard let leaving else {
            // Ends: see above.
            while member.word.exchange(0) == 0 { member.word.blockingWait(while: 0) }
            return .work
        }
        // Each sees off who left before it, so that idle threads occupy nothing.
        for thread in leaving.before {
            thread.join()
            thread.stack.unmap()
        }
        if leaving.mustCall { callScout() }
        changed()
        return .leave
    }

    // MARK: TrapOwner

    var taskExecutor: UnownedTaskExecutor {
        preconditionFailure("impossible: jobs that belong to no process are not queued here")
    }

    func inherit(from predecessor: UnsafeMutablePointer<crt_thread>, by heir: WorkerThread) {
        preconditionFailure("impossible: threads of the blocking pool have no heirs")
    }

    func replace(_ thread: WorkerThread) {
        let now = MonotonicClock.now
        let (isNeeded, mustCall) = withShared { shared -> (Bool, Bool) in
            shared.pendingTraps += 1
            if let index = shared.threads.first(where: { $0.value.thread === thread })?.key {
                shared.threads[index] = nil
            }
            let isNeeded = shared.queues.trapped(on: thread.seat, at: now)
            if isNeeded { shared.queues.hire(for: thread.seat) }
            return (isNeeded, shared.queues.isBehind(at: now) && watch(&shared))
        }
        if isNeeded { employ(on: thread.seat) }
        if mustCall { callScout() }
    }

    func retire(_ thread: WorkerThread) {
        shared.withLock { shared in
            shared.stacks.put(thread.stack, afterTrap: true)
            shared.pendingTraps -= 1
        }
        changed()
    }
}
