// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CLightProc
import Glibc
public import LightProc
import Synchronization

/// The executor: one worker thread per processing unit that the program may use, each tied to its own.
///
/// Workers take from a shared queue, sleep on futexes when it is empty (at idle the pool uses no CPU), and are replaced
/// when a process traps on them. Blocking work has threads of its own.
public final class WorkerPool: ProcExecutor, TrapOwner {
    /// Where the workers sit; fixed for the life of the pool.
    public let placement: Placement

    private final class Identity: Sendable {}
    /// By which a worker's thread tells its own pool from others.
    private let identity: Identity
    private let workers: [Worker]
    private let injection = InjectionQueue()
    private let idle = IdleWorkers()
    private let isStopping = Atomic<Bool>(false)
    private let timers = TimerThread()
    private let blocking: BlockingPool
    private let staff: Locked<Staff>
    /// Processes that hold the pool; those counted in the workers' `nodes` come to it when these have ended. As long as
    /// the workers may run, more than any number of processes.
    private let holds = Atomic<Int>(WorkerPool.running)
    private static let running = 1 << 48

    private struct Staff {
        var seated: [Int: WorkerThread] = [:]
        var stacks = WorkerStackPool()
        var isStopping = false
        var unburied = UnburiedThreads()
    }
    /// Counts changes that `shutdown` may wait for.
    private let changes = FutexWord()

    /// Starts the workers.
    ///
    /// - Parameters:
    ///   - placement: Where they sit; by default one on every processing unit that the program may use.
    ///   - maximumBlockingThreads: Bound of the pool for blocking work.
    public init(placement: Placement, maximumBlockingThreads: Int = 512) {
        self.placement = placement
        let identity = Identity()
        self.identity = identity
        workers = placement.seats.map {
            Worker(index: $0.index, pool: ObjectIdentifier(identity), victims: $0.steal.flatMap { $0 })
        }
        blocking = BlockingPool(timers: timers, maximumThreads: maximumBlockingThreads)
        staff = Locked(Staff())
        TrapReaper.shared.retain()
        // Until the workers have ended and no process is left: see `letGo`.
        _ = Unmanaged.passRetained(self)
        let address = UInt(bitPattern: Unmanaged.passUnretained(self).toOpaque())
        for worker in workers {
            worker.nodes.pointee.scheduler = address
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
        timers.start()
        for seat in placement.seats {
            seatThread(on: seat.index)
            provideHeir(for: seat.index)
        }
    }

    /// Starts workers on this machine's processing units.
    ///
    /// - Parameter workers: How many; nil: as many as the program may use (affinity mask, cpuset, CPU quota).
    /// - Throws: ``TopologyError`` if the number is out of range.
    public convenience init(workers: Int? = nil) throws(TopologyError) {
        try self.init(
            placement: Placement(Topology.current(), options: .init(workerCount: workers))
        )
    }

    /// Workers that run at the same time; their heirs and the blocking threads are not among them.
    public var workerCount: Int { placement.seats.count }

    /// Lets the workers finish what is queued, joins all threads, and gives everything back. Call it once, and not from
    /// a worker.
    public func shutdown() {
        precondition(
            crt_self() == nil,
            "shutdown() would wait for the worker it is called on; call it from another thread"
        )
        blocking.shutdown()
        timers.stop()
        // ordering: sequentiallyConsistent: set before the sleepers are woken; read by each before it sleeps.
        isStopping.store(true, ordering: .sequentiallyConsistent)
        for worker in workers { unpark(worker) }
        staff.withLock { $0.isStopping = true }
        joinAll()
        TrapReaper.shared.release()
        staff.withLock { $0.stacks.unmapAll() }
        // The workers' threads are joined: what they counted is still.
        let held = workers.reduce(0) { $0 + Int($1.nodes.pointee.held) }
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

    /// Joins the threads on the seats, and their successors where some of them trap on the way.
    private func joinAll() {
        while true {
            let seen = changes.value
            let (seat, unburied) = staff.withLock { ($0.seated.first, $0.unburied.count) }
            guard let (index, thread) = seat else {
                if unburied > 0 {
                    // Ends: the reaper retires every thread that trapped.
                    changes.blockingWait(while: seen)
                    continue
                }
                // What the reaper queued after the successor of a thread that trapped had found nothing and left.
                guard hasWork else { return }
                seatThread(on: 0)
                continue
            }
            // A thread that trapped is off its seat by now, and the reaper's.
            guard thread.blockingWaitUntilEnded() == .returned else { continue }
            // It has left, so it calls its heir no more.
            if let heir = thread.takeHeir() { dismiss(heir) }
            thread.join()
            staff.withLock { staff in
                staff.seated[index] = nil
                staff.stacks.put(thread.stack, afterTrap: false)
            }
        }
    }

    // MARK: ProcScheduler

    /// Queues a process that became runnable, and wakes a worker if one sleeps. Any thread.
    public func schedule(_ proc: LightProc) { add(RunItem(proc)) }

    /// Queues a job of an async process, and wakes a worker if one sleeps. Any thread.
    public func schedule(_ job: UnownedJob, of executor: ProcTaskExecutor) {
        add(RunItem(job, executor))
    }

    /// Calls `action` once on the timer thread, when the duration has passed; never after ``shutdown()``.
    @discardableResult
    public func schedule(after duration: Duration, _ action: @escaping @Sendable () -> Void) -> TimerToken {
        timers.schedule(at: MonotonicClock.now + duration, action)
    }

    /// The machine's monotonic clock: time since some moment before the program started.
    public var now: Duration { MonotonicClock.now }

    /// The pool's threads for blocking work: started on demand, ended after 10 seconds without any.
    public var blockingScheduler: any ProcScheduler { blocking }

    /// Queues an item: on a worker of this pool as the next to run there, from elsewhere in the injection queue.
    @inline(__always)
    private func add(_ item: RunItem) {
        guard let seat = crt_self()?.pointee.seat else { return inject(item) }
        // safety: set by `work` to the worker the thread sits on, which the pool holds.
        Unmanaged<Worker>.fromOpaque(seat)._withUnsafeGuaranteedRef { worker in
            guard worker.pool == ObjectIdentifier(identity) else { return inject(item) }
            // What is only next here needs nobody else; what it displaces may be run elsewhere.
            if let displaced = worker.setNext(item) { push(displaced, worker) }
        }
    }

    private func inject(_ item: RunItem) {
        injection.push(item)
        wakeIfNeeded()
    }

    /// Puts an item at the end of the calling worker's ring.
    private func push(_ item: RunItem, _ worker: Worker) {
        // Ends: each round makes room for half a ring, or finds that a thief did.
        while !worker.ring.push(item) {
            if let half = worker.ring.takeHalf() { injection.push(half) }
        }
        wakeIfNeeded()
    }

    @inline(__always)
    private func wakeIfNeeded() {
        if idle.needsWaking { wakeOne() }
    }

    @inline(never)
    private func wakeOne() {
        for worker in workers where unpark(worker) { return }
    }

    /// Wakes a worker if it sleeps; it starts as a searcher.
    @discardableResult
    private func unpark(_ worker: Worker) -> Bool {
        guard worker.parking.compareExchange(1, 2) else { return false }
        idle.endSleep(toSearch: true)
        worker.parking.wake()
        return true
    }

    // MARK: Workers

    /// Puts a new thread on a seat.
    private func seatThread(on index: Int) {
        let thread = makeThread(for: index)
        staff.withLock { $0.seated[index] = thread }
        seat(thread)
    }

    private func seat(_ thread: WorkerThread) {
        thread.assign { [self] thread in
            // Unmanaged: a frame that a trap cuts off releases nothing.
            Unmanaged.passUnretained(workers[thread.seat])._withUnsafeGuaranteedRef { work(thread, as: $0) }
        }
    }

    private func makeThread(for index: Int) -> WorkerThread {
        let stack = staff.withLock { $0.stacks.take() }
        return WorkerThread(stack: stack, owner: self, seat: index, name: "bastion-worker") { [placement] thread in
            thread.touchAlternateStack()
            // A refused pin leaves the worker where the kernel puts it: slower, not wrong.
            if placement.pinsWorkers { _ = try? ThreadPlacement.take(placement.seats[index]) }
        }
    }

    /// Has a thread wait beside a seat for the one on it to trap. On the thread that makes the pool, or the reaper's.
    private func provideHeir(for index: Int) {
        let heir = makeThread(for: index)
        let isNeeded = staff.withLock { staff in
            guard !staff.isStopping, let thread = staff.seated[index], !thread.hasHeir else { return false }
            thread.setHeir(heir)
            return true
        }
        if !isNeeded { dismiss(heir) }
    }

    private func dismiss(_ heir: WorkerThread) {
        heir.dismiss()
        heir.join()
        staff.withLock { $0.stacks.put(heir.stack, afterTrap: false) }
    }

    private func take(_ worker: Worker, for thread: WorkerThread) {
        crt_setNodes(worker.nodes)
        thread.record.pointee.seat = Unmanaged.passUnretained(worker).toOpaque()
    }

    private func work(_ thread: WorkerThread, as worker: Worker) {
        take(worker, for: thread)
        // The predecessor on this seat may have trapped as a searcher only in user code, where nobody searches.
        while let item = worker.take(injection) ?? search(worker) ?? sleep(worker) {
            if thread.run(item) { push(item, worker) }
        }
    }

    /// Looks at the other workers' rings, the nearest first, and the injection queue.
    private func search(_ worker: Worker) -> RunItem? {
        if !worker.local.pointee.isSearching {
            guard idle.beginSearch(of: workers.count) else { return nil }
            worker.local.pointee.isSearching = true
        }
        let item = find(worker)
        worker.local.pointee.isSearching = false
        // The last to stop searching with something in hand passes the search on: there may be more.
        if idle.endSearch(), item != nil { wakeIfNeeded() }
        return item
    }

    private func find(_ worker: Worker) -> RunItem? {
        for _ in 0..<4 {
            if let item = injection.pop() { return item }
            for victim in worker.victims {
                if let item = worker.ring.steal(from: workers[victim].ring) { return item }
            }
            for _ in 0..<16 { crt_pause() }
        }
        return nil
    }

    /// Sleeps until there is something to search for. Returns nil when the pool is stopping and nothing is left.
    private func sleep(_ worker: Worker) -> RunItem? {
        while true {
            worker.parking.set(1)
            idle.beginSleep()
            // Counted as a sleeper first, then the last look: see `IdleWorkers`.
            let stopping = isStopping.load(ordering: .sequentiallyConsistent)
            if stopping || (!idle.hasSearchers && hasWork) {
                // As a searcher: a submitter may have left more than one item to the searchers of a moment ago.
                if worker.parking.compareExchange(1, 2) { idle.endSleep(toSearch: true) }
            }
            // Ends: whoever takes this worker off the list of sleepers changes the word first.
            while worker.parking.value == 1 { worker.parking.blockingWait(while: 1) }
            worker.local.pointee.isSearching = worker.parking.exchange(0) == 2
            if let item = worker.take(injection) {
                if worker.local.pointee.isSearching {
                    worker.local.pointee.isSearching = false
                    if idle.endSearch() { wakeIfNeeded() }
                }
                return item
            }
            if let item = search(worker) { return item }
            if stopping { return nil }
        }
    }

    private var hasWork: Bool { !injection.isEmpty || workers.contains { !$0.ring.isEmpty } }

    // MARK: TrapOwner

    func inherit(from predecessor: UnsafeMutablePointer<crt_thread>, by heir: WorkerThread) {
        guard takeOver(from: predecessor, heir) else { return }
        // From here on as in `seat`: what this frame held would leak if the thread traps in its turn.
        Unmanaged.passUnretained(workers[heir.seat])._withUnsafeGuaranteedRef { worker in
            // The hooks, the supervisor's decision, the next start: before time is spent on the dead thread. Should one
            // of them trap, the reaper is called for that and finds both.
            for _ in 0..<Self.itemsBeforeBurial {
                guard let item = worker.take(injection) else { break }
                if heir.run(item) { push(item, worker) }
            }
            crt_wakeReaper()
            work(heir, as: worker)
        }
    }

    /// Decides about the trap, takes the seat, and tells the process. False when the trap is not contained: then the
    /// program ends, or, should the former handler have survived it, the seat stays empty.
    @inline(never)
    private func takeOver(from predecessor: UnsafeMutablePointer<crt_thread>, _ heir: WorkerThread) -> Bool {
        guard let trap = TrapReaper.shared.examine(predecessor) else { return false }
        staff.withLock { staff in
            staff.unburied.trapped(on: heir.seat)
            staff.seated[heir.seat] = heir
            // A second heir may have been provided meanwhile: it stays with the seat.
            if let next = trap.thread.takeHeir() { heir.setHeir(next) }
        }
        // On the seat first: what the end of the process makes ready runs here, next.
        take(workers[heir.seat], for: heir)
        trap.tell()
        TrapReaper.shared.leave(trap.thread)
        return true
    }

    /// So many items an heir runs before it has its predecessor buried, which wakes another thread.
    private static let itemsBeforeBurial = 8

    func replace(_ thread: WorkerThread) {
        let (isSeated, heir) = staff.withLock { staff -> (Bool, WorkerThread?) in
            staff.unburied.trapped(on: thread.seat)
            guard staff.seated[thread.seat] === thread else { return (false, nil) }
            // One may have come after the thread had trapped.
            let heir = thread.takeHeir()
            if let heir { staff.seated[thread.seat] = heir }
            return (true, heir)
        }
        if let heir { seat(heir) } else if isSeated { seatThread(on: thread.seat) }
    }

    func retire(_ thread: WorkerThread) {
        let wantsHeir = staff.withLock { staff in
            staff.stacks.put(thread.stack, afterTrap: true)
            return staff.unburied.isOnlyOne(on: thread.seat)
        }
        if wantsHeir { provideHeir(for: thread.seat) }
        staff.withLock { $0.unburied.buried(on: thread.seat) }
        changes.increment()
        changes.wake(.max)
    }
}
