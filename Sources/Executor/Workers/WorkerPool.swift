// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CLightProc
import Glibc
public import LightProc
import Synchronization

/// The executor: one worker thread per processing unit that the program may use, each tied to its own.
///
/// Workers take from queues of their own and of their NUMA node, steal from each other, sleep on futexes when all are empty
/// (at idle the pool uses no CPU), and are replaced when a process traps on them. Blocking work has threads of its own.
/// How the queues are served is in `RunQueues`, how threads come and go in `WorkerPool+Seats`.
public final class WorkerPool: ProcExecutor, TrapOwner {
    /// Where the workers sit; fixed for the life of the pool.
    public let placement: Placement

    let queues: RunQueues
    var workers: [Worker] { queues.workers }
    var nodes: [NodeQueues] { queues.nodes }
    /// Where the stacks of a seat's threads lie, and all else that it has.
    let memoryOfSeat: [NodeMemory]
    let complaints: PoolWarnings
    let isStopping = Atomic<Bool>(false)
    /// Whether what is still queued is killed instead of handled.
    let isDropping = Atomic<Bool>(false)
    let timers: PoolTimers
    private let blocking: BlockingPool
    let staff: Locked<Staff>
    /// Processes that hold the pool; those counted in the workers' `nodes` come to it when these have ended. As long as
    /// the workers may run, more than any number of processes.
    private let holds = Atomic<Int>(0)
    private static let running = 1 << 48
    private let isRunning = Locked(false)

    struct Staff {
        var seated: [Int: WorkerThread] = [:]
        var stacks = WorkerStackPool()
        var isStopping = false
        var unburied = UnburiedThreads()
        var standIns: StandIns
    }
    private let watch: StallWatch?
    /// Whether threads can be looked into while they run.
    var hasWatch: Bool { watch != nil }
    let stallObservers = Locked(StallObservers())
    /// Counts changes that `shutdown` may wait for.
    let changes = FutexWord()

    /// Starts the workers.
    ///
    /// - Parameters:
    ///   - placement: Where they sit; by default one on every processing unit that the program may use.
    ///   - maximumBlockingThreads: Bound of the pool for blocking work.
    ///   - stallThreshold: How long a worker may take for one turn before another one stands in for it, and who
    ///     observes stalls is told; nil: for ever, and without the watch that finds it.
    ///   - writesWarnings: Whether ``warnings`` are told on standard error.
    public convenience init(
        placement: Placement,
        maximumBlockingThreads: Int = 512,
        stallThreshold: Duration? = WorkerPool.defaultStallThreshold,
        writesWarnings: Bool = true
    ) {
        self.init(
            placement: placement,
            blockingLimits: BlockingGrowth.Limits(maximumThreads: maximumBlockingThreads),
            stallThreshold: stallThreshold,
            writesWarnings: writesWarnings
        )
    }

    convenience init(
        placement: Placement,
        blockingLimits: BlockingGrowth.Limits,
        stallThreshold: Duration?,
        writesWarnings: Bool = true
    ) {
        self.init(
            placement: placement,
            blockingLimits: blockingLimits,
            stallThreshold: stallThreshold,
            writesWarnings: writesWarnings,
            // Where there is one node, or threads move about, all memory is as good.
            placesMemory: placement.pinsWorkers && NodeMemory.hasChoice
        )
    }

    /// - Parameters:
    ///   - placesMemory: Whether queues, message nodes and stacks are to lie on the nodes of their workers.
    ///   - clock: By which workers measure their turns; nil: the machine's.
    init(
        placement: Placement,
        blockingLimits: BlockingGrowth.Limits = BlockingGrowth.Limits(maximumThreads: 512),
        stallThreshold: Duration?,
        writesWarnings: Bool = true,
        placesMemory: Bool,
        clock: (@Sendable () -> UInt64)? = nil
    ) {
        precondition(stallThreshold ?? .seconds(1) > .zero, "stallThreshold must be positive, or nil for no watch")
        self.placement = placement
        complaints = PoolWarnings(placement.warnings, isWriting: writesWarnings)
        watch = stallThreshold.map { StallWatch(threshold: $0) }
        let plan = NodePlan(placement)
        let seatCount = placement.seats.count
        let memory = placement.seats.map { NodeMemory(osNode: placesMemory ? $0.memoryNode : nil) }
        memoryOfSeat = memory
        let timers = PoolTimers(workers: 2 * seatCount)
        self.timers = timers
        queues = RunQueues(
            placement,
            plan,
            standInCount: seatCount,
            timers: timers,
            memory: memory,
            clock: clock,
            // Without the watch nobody would find that a turn takes longer than expected.
            sharing: stallThreshold == nil ? .always : .byTime,
            nearNode: { ThreadPlacement.currentPU().flatMap { plan.nodeOfPU[$0] } ?? 0 }
        )
        blocking = BlockingPool(
            timers: timers,
            limits: blockingLimits,
            sites: plan.sites,
            nodeOfPU: plan.nodeOfPU,
            complaints: complaints,
            owner: queues.id
        )
        staff = Locked(Staff(standIns: StandIns(placement.seats)))
        let address = UInt(bitPattern: Unmanaged.passUnretained(self).toOpaque())
        for worker in workers {
            guard let node = worker.memory.osNode else { continue }
            _ = NodeRegions.use(
                node,
                of: NodeMemory.regionCount,
                for: worker.nodes,
                place: worker.memory.prefer(for:)
            )
        }
        // safety: called on a worker's thread, with its nodes; pool and worker outlive the thread.
        queues.serve(address) { nodes, bits in
            guard let nodes, let seat = crt_self()?.pointee.seat,
                let pool = UnsafeRawPointer(bitPattern: nodes.pointee.scheduler)
            else { preconditionFailure("impossible: only workers have nodes") }
            Unmanaged<Worker>.fromOpaque(seat)._withUnsafeGuaranteedRef { worker in
                Unmanaged<WorkerPool>.fromOpaque(pool)._withUnsafeGuaranteedRef {
                    $0.queues.push(RunItem(bits: bits), worker)
                }
            }
        }
        start()
    }

    /// Starts workers on this machine's processing units.
    ///
    /// - Parameters:
    ///   - workers: How many; nil: as many as the program may use (affinity mask, cpuset, CPU quota).
    ///   - maximumBlockingThreads: Bound of the pool for blocking work.
    ///   - stallThreshold: As of ``init(placement:maximumBlockingThreads:stallThreshold:writesWarnings:)``.
    ///   - writesWarnings: Whether ``warnings`` are told on standard error.
    /// - Throws: ``TopologyError`` if the number is out of range.
    public convenience init(
        workers: Int? = nil,
        maximumBlockingThreads: Int = 512,
        stallThreshold: Duration? = WorkerPool.defaultStallThreshold,
        writesWarnings: Bool = true
    ) throws(TopologyError) {
        try self.init(
            placement: Placement(Topology.current(), options: .init(workerCount: workers)),
            maximumBlockingThreads: maximumBlockingThreads,
            stallThreshold: stallThreshold,
            writesWarnings: writesWarnings
        )
    }

    /// What makes the pool slower than it could be, in sentences: what could not be found out about the machine, and which
    /// threads the kernel did not let run where they should. Empty when all is well.
    ///
    /// What is found out about the machine is there at once, the rest when the threads have started. Unless it was told
    /// otherwise the pool writes the first kind to standard error, a line each, when it is made, and then one line about the
    /// first thread. Any thread.
    public var warnings: [String] { complaints.list }

    /// Workers that run at the same time; their heirs and the blocking threads are not among them.
    public var workerCount: Int { placement.seats.count }

    /// What a turn may take unless the pool was made with another threshold.
    public static let defaultStallThreshold = Duration.milliseconds(500)

    /// What each worker did so far, by index; also those that stood in for others. Costs some loads a worker; disturbs
    /// nobody.
    public var counters: [WorkerCounters] {
        workers.map(\.counters).filter { $0.worker < placement.seats.count || $0.polls > 0 }
    }

    /// How many items wait in the queues that the workers of a node share: what other threads made ready, and what is more or
    /// less urgent than the rest. One number for each node that has workers, in the order of their first seats. Costs some
    /// loads; disturbs nobody.
    public var nodeQueueDepths: [Int] { nodes.map(\.count) }

    /// What became of the timers of each worker, by index, and at last of those that other threads set. Costs some loads a
    /// worker; disturbs nobody.
    public var timerCounters: [TimerCounters] {
        timers.counters.filter { ($0.worker ?? 0) < placement.seats.count || $0.fired > 0 || $0.pending > 0 }
    }

    // MARK: Life

    /// Starts the pool again after ``shutdown(_:)``. What processes were given meanwhile is run.
    ///
    /// - Precondition: It was shut down.
    public func start() {
        isRunning.withLock { isRunning in
            precondition(!isRunning, "the pool runs already; start() is for one that was shut down")
            isRunning = true
        }
        TrapReaper.shared.retain()
        // Until the workers have ended and no process is left: see `letGo`.
        // ordering: acquiringAndReleasing: as in `shutdown`.
        if holds.add(Self.running, ordering: .acquiringAndReleasing).oldValue == 0 {
            _ = Unmanaged.passRetained(self)
        }
        // ordering: sequentiallyConsistent: as in `shutdown`.
        isStopping.store(false, ordering: .sequentiallyConsistent)
        isDropping.store(false, ordering: .sequentiallyConsistent)
        staff.withLock { $0.isStopping = false }
        // ordering: relaxed: a hint, and no worker is there yet.
        for worker in workers { worker.isAway.store(worker.index >= placement.seats.count, ordering: .relaxed) }
        timers.start { [self] index in queues.unpark(queues.workers[index]) }
        blocking.start()
        for seat in placement.seats {
            seatThread(on: seat.index)
            provideHeir(for: seat.index)
        }
        watch?.start(self, workers: workers.count)
        GlobalExecutor.shared.open(self)
    }

    /// Calls `body` if the pool runs, and keeps it from being shut down meanwhile.
    func whileRunning(_ body: () -> Void) { isRunning.withLock { if $0 { body() } } }

    /// What becomes of what waits to be run when the pool is shut down.
    public enum ShutdownMode: Sendable {
        /// Everything that is ready is run, and what that makes ready, until nothing is. A process that always makes
        /// itself ready again is never done.
        case drain
        /// Each process whose turn comes is killed instead: a reactive one handles no more messages, an async one is
        /// cancelled. Exit hooks run, and what they own is released.
        case drop
    }

    /// Ends the pool and joins all of its threads. Call it from a thread that is not a worker.
    ///
    /// In this order (of the global executor, tasks of the program go elsewhere first):
    /// 1. The blocking pool finishes what it has, or kills what waits, as `mode` says, and its threads are joined. A closure
    ///    that runs is waited for, whatever the mode. What comes later waits for ``start()``.
    /// 2. The timer's thread is joined; timers that are left do not fire, unless the pool is started again.
    /// 3. The stall watch is joined; who stands in for a stuck worker stays to the end.
    /// 4. The workers finish what is ready, or kill it: as `mode` says.
    /// 5. Each worker that finds nothing ends and is joined, and so are the heirs; those that trap on the way are
    ///    buried first.
    /// 6. The reaper is let go: the last pool of the program joins its threads too.
    /// 7. The memory of the stacks is given back.
    ///
    /// Processes that wait for something stay as they are: ``start()`` lets them go on.
    public func shutdown(_ mode: ShutdownMode = .drain) {
        precondition(
            crt_self() == nil,
            "shutdown() would wait for the worker it is called on; call it from another thread"
        )
        isRunning.withLock { isRunning in
            precondition(isRunning, "the pool was shut down before; call shutdown() once for each start()")
            isRunning = false
        }
        GlobalExecutor.shared.close(self)
        // ordering: sequentiallyConsistent: set before the sleepers are woken; read by each before it sleeps.
        isDropping.store(mode == .drop, ordering: .sequentiallyConsistent)
        blocking.shutdown(dropping: mode == .drop)
        timers.stop()
        watch?.stop()
        isStopping.store(true, ordering: .sequentiallyConsistent)
        for worker in workers { queues.unpark(worker) }
        staff.withLock { $0.isStopping = true }
        joinAll()
        TrapReaper.shared.release()
        staff.withLock { $0.stacks.unmapAll() }
        // The workers' threads are joined: what they counted is still.
        var held = 0
        for worker in workers {
            held += Int(worker.nodes.pointee.held)
            worker.nodes.pointee.held = 0
        }
        // ordering: acquiringAndReleasing: whoever comes to zero frees the pool, after what the others did with it.
        if holds.add(held - Self.running, ordering: .acquiringAndReleasing).newValue == 0 {
            Unmanaged.passUnretained(self).release()
        }
    }

    /// A process was made on a thread that is not one of the pool's workers.
    public func hold() {
        // From zero: the workers have ended, and the caller has a reference of its own.
        // ordering: acquiringAndReleasing: as in `shutdown`.
        if holds.add(1, ordering: .acquiringAndReleasing).oldValue == 0 { _ = Unmanaged.passRetained(self) }
    }

    /// A process is gone, on a thread that is not one of the pool's workers.
    public func letGo() {
        // ordering: acquiringAndReleasing: as in `shutdown`.
        if holds.subtract(1, ordering: .acquiringAndReleasing).newValue == 0 {
            Unmanaged.passUnretained(self).release()
        }
    }

    /// A worker has woken up.
    @inline(__always)
    func stirWatch() { watch?.stir() }

    /// A worker is about to sleep.
    @inline(__always)
    func offerHelp() { watch?.stirHelp() }

    // MARK: ProcScheduler

    /// Queues a process that became runnable, and wakes a worker if one sleeps. Any thread.
    public func schedule(_ proc: LightProc) { queues.add(RunItem(proc), proc.tag) }

    /// Queues a job of an async process, and wakes a worker if one sleeps. Any thread.
    public func schedule(_ job: UnownedJob, of executor: ProcTaskExecutor) {
        queues.add(job, of: executor)
    }

    /// Looks at a set of processors, and remembers it for as long as the pool lives: up to 1024 different ones.
    ///
    /// Where workers are not pinned (``Placement/pinsWorkers``) the processes run on those workers that sit on these processors by the
    /// plan, but the kernel runs them anywhere: ``warnings`` says so. The first use of a set takes a lock.
    /// - Throws: ``PinningError`` if one of the processors, or the node, has no worker.
    public func pinNumber(of cores: CoreSet) throws(PinningError) -> Int? {
        let number = try queues.pinned.number(of: cores, among: workers)
        if !placement.pinsWorkers {
            complaints.add(
                "processes are pinned to workers that are not pinned to processors, and may run on any: \(placement.explanation)"
            )
        }
        return number
    }

    /// How much waits of what is pinned, by set; those of which nothing was ever pinned are not there. Costs some loads; disturbs nobody.
    public var pinnedQueueDepths: [CoreSet: Int] {
        Dictionary(uniqueKeysWithValues: queues.pinned.sets.map { ($0.cores, $0.queues.count) })
    }

    /// Calls `action` once on the timer thread, when the duration has passed; not between ``shutdown(_:)`` and ``start()``.
    ///
    /// Never early; after others with an earlier deadline that the same thread set. Must not block: others wait. A trap in it
    /// is not contained. Setting and cancelling are O(1).
    @discardableResult
    public func schedule(after duration: Duration, _ action: @escaping @Sendable () -> Void) -> TimerToken {
        timers.schedule(after: duration, action)
    }

    /// Calls a short `action` of the runtime's own: set on a worker, that one calls it between two turns, or the timer thread
    /// if the worker is busy for longer than 2 ms; set elsewhere, the timer thread does.
    @discardableResult
    public func wake(after duration: Duration, _ action: @escaping @Sendable () -> Void) -> TimerToken {
        queues.withOwnWorker { own in
            own.map { $0.timers.insert(after: duration, action) } ?? timers.schedule(after: duration, action)
        }
    }

    /// The machine's monotonic clock: time since some moment before the program started.
    public var now: Duration { MonotonicClock.now }

    /// The pool's threads for blocking work: started on demand, ended after 10 seconds without any.
    public var blockingScheduler: any ProcScheduler { blocking }

    /// Whether the threads for blocking work end as soon as they find nothing.
    var isBlockingStopping: Bool { blocking.isStopping }

    /// What the threads for blocking work are doing. Costs some loads; disturbs nobody.
    public var blockingCounters: BlockingCounters { blocking.counters }
}
