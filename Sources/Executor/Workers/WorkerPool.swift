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
/// How the queues are served is in `WorkerPool+Queues`, how threads come and go in `WorkerPool+Seats`.
public final class WorkerPool: ProcExecutor, TrapOwner {
    /// Where the workers sit; fixed for the life of the pool.
    public let placement: Placement

    private final class Identity: Sendable {}
    /// By which a worker's thread tells its own pool from others.
    private let identity: Identity
    /// One per seat, then those that stand in for workers that are stuck.
    let workers: [Worker]
    /// One per NUMA node that has workers.
    let nodes: [NodeQueues]
    /// The node of `nodes` by the kernel's number of a processing unit.
    let nodeOfPU: [Int: Int]
    /// The seats' workers by node of `nodes`.
    let workersOfNode: [[Int]]
    /// Where the stacks of a seat's threads lie, and all else that it has.
    let memoryOfSeat: [NodeMemory]
    let idle = IdleWorkers()
    let isStopping = Atomic<Bool>(false)
    /// Whether what is still queued is killed instead of handled.
    let isDropping = Atomic<Bool>(false)
    private let timers = TimerThread()
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
    let stallObservers = Locked(StallObservers())
    /// Counts changes that `shutdown` may wait for.
    let changes = FutexWord()

    /// Starts the workers.
    ///
    /// - Parameters:
    ///   - placement: Where they sit; by default one on every processing unit that the program may use.
    ///   - maximumBlockingThreads: Bound of the pool for blocking work.
    ///   - stallThreshold: How long a worker may take for one turn before another one stands in for it, and who
    ///     observes stalls is told; nil: for ever.
    public convenience init(
        placement: Placement,
        maximumBlockingThreads: Int = 512,
        stallThreshold: Duration? = WorkerPool.defaultStallThreshold
    ) {
        self.init(
            placement: placement,
            maximumBlockingThreads: maximumBlockingThreads,
            stallThreshold: stallThreshold,
            // Where there is one node, or threads move about, all memory is as good.
            placesMemory: placement.pinsWorkers && NodeMemory.hasChoice
        )
    }

    /// - Parameter placesMemory: Whether queues, message nodes and stacks are to lie on the nodes of their workers.
    init(placement: Placement, maximumBlockingThreads: Int = 512, stallThreshold: Duration?, placesMemory: Bool) {
        precondition(stallThreshold ?? .seconds(1) > .zero, "stallThreshold must be positive, or nil for no watch")
        self.placement = placement
        watch = stallThreshold.map { StallWatch(threshold: $0) }
        let identity = Identity()
        self.identity = identity
        let plan = NodePlan(placement)
        let memory = placement.seats.map { NodeMemory(osNode: placesMemory ? $0.memoryNode : nil) }
        memoryOfSeat = memory
        let nodes = (0..<plan.count).map { node in
            NodeQueues(plan.nodeOfSeat.firstIndex(of: node).map { memory[$0] } ?? .anywhere)
        }
        self.nodes = nodes
        nodeOfPU = plan.nodeOfPU
        workersOfNode = (0..<plan.count).map { node in plan.nodeOfSeat.indices.filter { plan.nodeOfSeat[$0] == node } }
        let seatCount = placement.seats.count
        let standIns = seatCount..<(2 * seatCount)
        workers = (0..<(2 * seatCount)).map { index in
            // Who stands in for a worker begins with what the worker of its number among the seats would steal.
            let seat = placement.seats[index % seatCount]
            var tiers = seat.tiers.map { Worker.Tier(distance: StealDistance($0.proximity), workers: $0.workers) }
            if index >= seatCount { tiers.insert(.init(distance: .local, workers: [seat.index]), at: 0) }
            return Worker(
                index: index,
                node: plan.nodeOfSeat[seat.index],
                memory: memory[seat.index],
                queues: nodes[plan.nodeOfSeat[seat.index]],
                pool: ObjectIdentifier(identity),
                tiers: tiers,
                nearest: tiers.flatMap(\.workers) + standIns.filter { $0 != index },
                otherNodes: plan.otherNodes(from: seat)
            )
        }
        blocking = BlockingPool(timers: timers, maximumThreads: maximumBlockingThreads)
        staff = Locked(Staff(standIns: StandIns(count: seatCount)))
        let address = UInt(bitPattern: Unmanaged.passUnretained(self).toOpaque())
        for worker in workers {
            worker.nodes.pointee.home = ProcTag.home(ofWorker: worker.index)
            worker.nodes.pointee.homeMask = ProcTag.homeMask(comparesWorkers: nodes.count > 1)
            worker.nodes.pointee.scheduler = address
            if let node = worker.memory.osNode {
                _ = NodeRegions.use(
                    node,
                    of: NodeMemory.regionCount,
                    for: worker.nodes,
                    place: worker.memory.prefer(for:)
                )
            }
            // safety: called on a worker's thread, with its nodes; pool and worker outlive the thread.
            worker.nodes.pointee.displaced = { nodes, bits in
                guard let nodes, let seat = crt_self()?.pointee.seat,
                    let pool = UnsafeRawPointer(bitPattern: nodes.pointee.scheduler)
                else { preconditionFailure("impossible: only workers have nodes") }
                Unmanaged<Worker>.fromOpaque(seat)._withUnsafeGuaranteedRef { worker in
                    Unmanaged<WorkerPool>.fromOpaque(pool)._withUnsafeGuaranteedRef {
                        $0.push(RunItem(bits: bits), worker)
                    }
                }
            }
        }
        start()
    }

    /// Starts workers on this machine's processing units.
    ///
    /// - Parameters:
    ///   - workers: How many; nil: as many as the program may use (affinity mask, cpuset, CPU quota).
    ///   - stallThreshold: As of ``init(placement:maximumBlockingThreads:stallThreshold:)``.
    /// - Throws: ``TopologyError`` if the number is out of range.
    public convenience init(
        workers: Int? = nil,
        stallThreshold: Duration? = WorkerPool.defaultStallThreshold
    ) throws(TopologyError) {
        try self.init(
            placement: Placement(Topology.current(), options: .init(workerCount: workers)),
            stallThreshold: stallThreshold
        )
    }

    /// Workers that run at the same time; their heirs and the blocking threads are not among them.
    public var workerCount: Int { placement.seats.count }

    /// What a turn may take unless the pool was made with another threshold.
    public static let defaultStallThreshold = Duration.milliseconds(500)

    /// What each worker did so far, by index; also those that stood in for others. Costs some loads a worker; disturbs
    /// nobody.
    public var counters: [WorkerCounters] {
        workers.map(\.counters).filter { $0.worker < placement.seats.count || $0.polls > 0 }
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
        timers.start()
        blocking.start()
        for seat in placement.seats {
            seatThread(on: seat.index)
            provideHeir(for: seat.index)
        }
        watch?.start(self, workers: workers.count)
    }

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
    /// In this order:
    /// 1. The blocking pool takes nothing more, finishes what it has, and its threads are joined.
    /// 2. The timer's thread is joined; timers that are left never fire.
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
        // ordering: sequentiallyConsistent: set before the sleepers are woken; read by each before it sleeps.
        isDropping.store(mode == .drop, ordering: .sequentiallyConsistent)
        blocking.shutdown()
        timers.stop()
        watch?.stop()
        isStopping.store(true, ordering: .sequentiallyConsistent)
        for worker in workers { unpark(worker) }
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

    // MARK: ProcScheduler

    /// Queues a process that became runnable, and wakes a worker if one sleeps. Any thread.
    public func schedule(_ proc: LightProc) { add(RunItem(proc), proc.tag) }

    /// Queues a job of an async process, and wakes a worker if one sleeps. Any thread.
    public func schedule(_ job: UnownedJob, of executor: ProcTaskExecutor) {
        add(RunItem(job, executor), executor.proc.tag)
    }

    /// Calls `action` once on the timer thread, when the duration has passed; never after ``shutdown(_:)``.
    @discardableResult
    public func schedule(after duration: Duration, _ action: @escaping @Sendable () -> Void) -> TimerToken {
        timers.schedule(at: MonotonicClock.now + duration, action)
    }

    /// The machine's monotonic clock: time since some moment before the program started.
    public var now: Duration { MonotonicClock.now }

    /// The pool's threads for blocking work: started on demand, ended after 10 seconds without any.
    public var blockingScheduler: any ProcScheduler { blocking }

    /// The worker that the calling thread is, if it is one of this pool's.
    @inline(__always)
    func withOwnWorker<Result>(_ body: (Worker?) -> Result) -> Result {
        guard let seat = crt_self()?.pointee.seat else { return body(nil) }
        // safety: set by `take(_:for:)` to the worker the thread sits on, which the pool holds.
        return Unmanaged<Worker>.fromOpaque(seat)._withUnsafeGuaranteedRef { worker in
            body(worker.pool == ObjectIdentifier(identity) ? worker : nil)
        }
    }
}

/// The NUMA nodes of a placement that have workers, numbered from 0.
struct NodePlan {
    let count: Int
    /// By seat index.
    let nodeOfSeat: [Int]
    /// By the kernel's number of the processing unit.
    let nodeOfPU: [Int: Int]

    init(_ placement: Placement) {
        // Seats without a node form a node of their own.
        var numbers: [Int?: Int] = [:]
        nodeOfSeat = placement.seats.map { seat in
            if let known = numbers[seat.node] { return known }
            numbers[seat.node] = numbers.count
            return numbers.count - 1
        }
        count = numbers.count
        nodeOfPU = Dictionary(
            zip(placement.seats.map(\.osPU), nodeOfSeat),
            uniquingKeysWith: { first, _ in first }
        )
    }

    /// The nodes but the seat's own, nearest first.
    func otherNodes(from seat: Seat) -> [Int] {
        var seen: Set = [nodeOfSeat[seat.index]]
        return seat.tiers.flatMap(\.workers).map { nodeOfSeat[$0] }.filter { seen.insert($0).inserted }
    }
}
