// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CLightProc
import LightProc

/// How items get into queues, who is woken for them, and how workers find them: of the pool's threads, and of the workers
/// that the seeded executor makes up.
///
/// Where an item waits is decided by `WakeTarget`; in which order a worker looks at its queues, by `TurnOrder`; that none is
/// left lying while a worker sleeps is the business of `IdleWorkers`.
final class RunQueues: Sendable {
    /// From how much queued work on, in nanoseconds that it will take its owner, it is shared.
    ///
    /// Short turns that follow each other in one worker find messages, mailboxes and nodes in its cache; spread over two they
    /// cost several times as much, and to wake a thread costs its waker some microseconds. So a worker that will be done
    /// soon is left alone. A turn that takes longer than expected is found by the `StallWatch`.
    struct Sharing {
        /// Another worker is woken.
        let wakingPays: UInt
        /// Another worker that is awake and has nothing to do takes some.
        let robbingPays: UInt

        static let byTime = Sharing(wakingPays: 20_000, robbingPays: 5_000)
        static let always = Sharing(wakingPays: 0, robbingPays: 0)
    }

    private final class Identity: Sendable {}
    /// By which a worker's thread tells its own queues from others.
    private let identity: Identity
    /// What workers' threads know these queues by.
    var id: ObjectIdentifier { ObjectIdentifier(identity) }
    /// One per seat, then those that stand in for workers that are stuck.
    let workers: [Worker]
    let seatCount: Int
    /// One per NUMA node that has workers.
    let nodes: [NodeQueues]
    /// The seats' workers by node of `nodes`.
    private let workersOfNode: [[Int]]
    let idle = IdleWorkers()
    /// The node that the calling thread is on, which is no worker.
    private let nearNode: @Sendable () -> Int
    let sharing: Sharing
    let pinned: PinnedSets

    /// - Parameters:
    ///   - standInCount: How many workers may stand in for others; at most one per seat.
    ///   - timers: A wheel for each worker and each who stands in.
    ///   - memory: Where what each seat has is to lie.
    ///   - clock: By which workers measure their turns; nil: the machine's.
    ///   - sharing: When work is shared between the workers.
    ///   - nearNode: The node that the calling thread is on; not asked where there is one node only.
    init(
        _ placement: Placement,
        _ plan: NodePlan,
        standInCount: Int,
        timers: PoolTimers,
        memory: [NodeMemory],
        clock: (@Sendable () -> UInt64)? = nil,
        sharing: Sharing,
        nearNode: @escaping @Sendable () -> Int
    ) {
        let identity = Identity()
        self.identity = identity
        self.nearNode = nearNode
        self.sharing = sharing
        pinned = PinnedSets(placement, memory: memory)
        let nodes = (0..<plan.count).map { node in
            NodeQueues(plan.nodeOfSeat.firstIndex(of: node).map { memory[$0] } ?? .anywhere)
        }
        self.nodes = nodes
        workersOfNode = (0..<plan.count).map { node in plan.nodeOfSeat.indices.filter { plan.nodeOfSeat[$0] == node } }
        let seatCount = placement.seats.count
        self.seatCount = seatCount
        let standIns = seatCount..<(seatCount + standInCount)
        workers = (0..<standIns.upperBound).map { index in
            // Who stands in for others belongs to the seat of its number: see `StandIns`.
            let seat = placement.seats[index % seatCount]
            var tiers = seat.tiers.map { Worker.Tier(distance: StealDistance($0.proximity), workers: $0.workers) }
            if index >= seatCount { tiers.insert(.init(distance: .local, workers: [seat.index]), at: 0) }
            return Worker(
                index: index,
                node: plan.nodeOfSeat[seat.index],
                memory: memory[seat.index],
                queues: nodes[plan.nodeOfSeat[seat.index]],
                timers: timers.shards[index],
                pool: ObjectIdentifier(identity),
                tiers: tiers,
                nearest: tiers.flatMap(\.workers) + standIns.filter { $0 != index },
                otherNodes: plan.otherNodes(from: seat),
                isAway: index >= seatCount,
                clock: clock
            )
        }
    }

    /// Makes the workers' sends and spawns the business of a scheduler: what becomes ready there is put into `next` without
    /// asking it.
    func serve(
        _ scheduler: UInt,
        displaced: @escaping @convention(c) (UnsafeMutablePointer<crt_nodePool>?, UInt) -> Void
    ) {
        for worker in workers {
            worker.nodes.pointee.home = ProcTag.home(ofWorker: worker.index)
            worker.nodes.pointee.homeMask = ProcTag.homeMask(comparesWorkers: nodes.count > 1)
            worker.nodes.pointee.scheduler = scheduler
            worker.nodes.pointee.displaced = displaced
        }
    }

    /// The worker that the calling thread is, if it is one of these.
    @inline(__always)
    func withOwnWorker<Result>(_ body: (Worker?) -> Result) -> Result {
        guard let seat = crt_self()?.pointee.seat else { return body(nil) }
        // safety: set, by whoever runs the worker, to the worker the thread sits on, which the pool holds.
        return Unmanaged<Worker>.fromOpaque(seat)._withUnsafeGuaranteedRef { worker in
            body(worker.pool == ObjectIdentifier(identity) ? worker : nil)
        }
    }

    // MARK: Submitting

    @inline(__always)
    func add(_ item: RunItem, _ tag: ProcTag) {
        withOwnWorker { own in
            // The usual case: what is only next here needs nobody else; what it displaces may be run elsewhere.
            guard let own, (tag.rawValue ^ own.nodes.pointee.home) & own.nodes.pointee.homeMask == 0 else {
                return addElsewhere(item, tag, own)
            }
            if let displaced = own.setNext(item) { push(displaced, own) }
        }
    }

    /// Queues a job of an async process.
    @inline(__always)
    func add(_ job: UnownedJob, of executor: ProcTaskExecutor) { add(job: RunItem(job, executor), executor.proc.tag) }

    /// Queues a job. One that yields is not the next: others that are ready come first.
    @inline(__always)
    func add(job item: RunItem, _ tag: ProcTag) {
        if crt_isYield(UnsafeRawPointer(bitPattern: item.bits & ~3)) { addYielding(item, tag) } else { add(item, tag) }
    }

    @inline(never)
    private func addYielding(_ item: RunItem, _ tag: ProcTag) {
        withOwnWorker { own in
            guard let own, tag.priority == .normal, !tag.isPinned else { return add(item, tag) }
            if own.nodes.pointee.flooded != 0 { return setBack(item, own) }
            push(item, own)
        }
    }

    @inline(never)
    private func addElsewhere(_ item: RunItem, _ tag: ProcTag, _ own: Worker?) {
        if tag.isPinned { return addPinned(item, tag, own) }
        let last = tag.worker.flatMap { $0 < workers.count ? workers[$0] : nil }
        if tag.priority != .normal { return add(item, tag.priority, node: (last ?? own)?.node, near: last ?? own) }
        let target = WakeTarget.choose(
            waker: own.map { .init(worker: $0.index, node: $0.node) },
            last: last.map { .init(worker: $0.index, node: $0.node) },
            lastSleeps: last?.isParked ?? false,
            // ordering: relaxed: a hint.
            lastIsAway: last?.isAway.load(ordering: .relaxed) ?? false,
            someoneSleeps: idle.sleeperCount > 0,
            nearNode: currentNode
        )
        switch target {
        case .here:
            guard let own else { preconditionFailure("impossible: only a worker keeps what it makes ready") }
            if let displaced = own.setNext(item) { push(displaced, own) }
        case .inbox(let index):
            workers[index].inbox.push(item)
            if !unpark(workers[index]) { wakeIfNeeded(near: workers[index]) }
        case .node(let node):
            nodes[node].normal.push(item)
            if wakeSleepingNode(node) { return }
            wakeIfNeeded(near: last ?? workers.first { $0.node == node } ?? workers[0])
        }
    }

    private func add(_ item: RunItem, _ priority: ProcPriority, node: Int?, near worker: Worker?) {
        let queues = nodes[node ?? currentNode]
        switch priority {
        case .high: queues.high.push(item)
        case .normal: queues.normal.push(item)
        case .low: queues.low.push(item)
        }
        wakeIfNeeded(near: worker ?? workers[0])
    }

    /// The node of the processing unit that the calling thread is on.
    private var currentNode: Int {
        nodes.count == 1 ? 0 : nearNode()
    }

    /// Puts an item at the end of the calling worker's ring.
    func push(_ item: RunItem, _ worker: Worker) {
        // Ends: each round makes room for half a ring, or finds that a thief did.
        while !worker.ring.push(item) {
            if let half = worker.ring.takeHalf() { worker.queues.normal.push(half) }
        }
        if worker.hasQueued(sharing.wakingPays) { wakeIfNeeded(near: worker) }
    }

    /// Moves what waits for one worker alone, but for its next, to where others find it in their turn. Any thread.
    func evict(_ worker: Worker) {
        if worker.isIdle { return }
        // By way of a ring that nobody else knows.
        let ring = RunRing()
        // Ends: the ring holds no more, and what comes meanwhile comes slower than it is moved.
        while let last = ring.steal(from: worker.ring) {
            while let item = ring.pop() { worker.queues.normal.push(item) }
            worker.queues.normal.push(last)
        }
        while let item = worker.inbox.pop() ?? worker.debtors.pop() { worker.queues.normal.push(item) }
        wakeIfNeeded(near: worker)
    }

    /// Queues what a run left over: behind the others of the same priority.
    func requeue(_ item: RunItem, _ worker: Worker) {
        let tag =
            switch item.content {
            case .proc(let proc): proc._withUnsafeGuaranteedRef { $0.tag }
            case .job, .plain, .global: ProcTag(rawValue: 0)
            }
        let priority = tag.priority
        if tag.isPinned {
            worker.nodes.pointee.flooded = 0
            return addPinned(item, tag, worker)
        }
        if priority == .normal {
            if worker.nodes.pointee.flooded != 0 { return setBack(item, worker) }
            return push(item, worker)
        }
        add(item, priority, node: worker.node, near: worker)
    }

    /// Queues what has sent more than its receiver can take: behind that one, where it runs.
    @inline(never)
    private func setBack(_ item: RunItem, _ worker: Worker) {
        let index = Int(worker.nodes.pointee.flooded) - 1
        worker.nodes.pointee.flooded = 0
        let receiver = index < seatCount ? workers[index] : worker
        // ordering: relaxed: a hint, as in `addElsewhere`.
        let isThere = receiver.node == worker.node && !receiver.isAway.load(ordering: .relaxed)
        let place = isThere ? receiver : worker
        place.debtors.push(item)
        if place !== worker { unpark(place) }
        if sharesDebtors(place) { wakeIfNeeded(near: place) }
    }

    // MARK: Waking

    @inline(__always)
    func wakeIfNeeded(near worker: Worker) {
        if idle.needsWaking { wakeOne(near: worker) }
    }

    /// Wakes the nearest worker that sleeps.
    @inline(never)
    private func wakeOne(near worker: Worker) {
        if unpark(worker) { return }
        for index in worker.nearest where unpark(workers[index]) { return }
    }

    /// Wakes a worker of a node where all sleep, also while others search: what is for this node is not for them. False if
    /// there are no other nodes, or if somebody is awake, who will look at the node's queue.
    private func wakeSleepingNode(_ node: Int) -> Bool {
        guard nodes.count > 1, workersOfNode[node].allSatisfy({ workers[$0].isParked }) else { return false }
        return workersOfNode[node].contains { unpark(workers[$0]) }
    }

    /// Wakes a worker if it sleeps; it starts as a searcher.
    @discardableResult
    func unpark(_ worker: Worker) -> Bool {
        guard worker.parking.compareExchange(1, 2) else { return false }
        idle.endSleep(toSearch: true)
        worker.parking.wake()
        withOwnWorker { $0?.tally.pointee.wakes.count() }
        return true
    }

    // MARK: Workers

    /// Looks at the other workers' queues, the nearest first, and those of the nodes.
    ///
    /// - Parameters:
    ///   - rounds: How many times, with a pause between them.
    ///   - first: By which it begins with another victim of each group than the next worker would.
    func search(_ worker: Worker, rounds: Int = 4, first: Int = 0) -> RunItem? {
        if !worker.local.pointee.isSearching {
            guard idle.beginSearch(of: seatCount) else { return nil }
            worker.local.pointee.isSearching = true
        }
        let item = find(worker, first..<(first + rounds))
        worker.local.pointee.isSearching = false
        // The last to stop searching with something in hand passes the search on: there may be more.
        if idle.endSearch(), item != nil { wakeIfNeeded(near: worker) }
        return item
    }

    private func find(_ worker: Worker, _ rounds: Range<Int>) -> RunItem? {
        for round in rounds {
            if let item = worker.queues.high.pop() { return item }
            if let item = worker.inbox.pop() ?? worker.queues.normal.pop() {
                worker.tally.pointee.injected.count()
                return item
            }
            if let item = findPinned(worker) ?? steal(worker, round) ?? worker.queues.low.pop() { return item }
            if round >= Self.roundsOnOwnNode, let item = takeFromOtherNodes(worker) { return item }
            if rounds.count > 1 { for _ in 0..<16 { crt_pause() } }
        }
        return nil
    }

    /// So many rounds of a search a worker looks at its own node only: those of the node where the work is are faster, if any
    /// of them is free, and moving work to another node costs more than the wait.
    static let roundsOnOwnNode = 2

    func steal(_ thief: Worker, _ round: Int) -> RunItem? {
        for tier in thief.tiers {
            if tier.distance == .far, round < Self.roundsOnOwnNode { break }
            // Thieves that begin with the same victim would form a convoy.
            let first = (thief.index &+ round) % tier.workers.count
            for offset in 0..<tier.workers.count {
                let place = first + offset
                let victim = workers[tier.workers[place < tier.workers.count ? place : place - tier.workers.count]]
                guard let item = rob(victim, thief) else { continue }
                switch tier.distance {
                case .local: thief.tally.pointee.localSteals.count()
                case .near: thief.tally.pointee.nearSteals.count()
                case .far: thief.tally.pointee.farSteals.count()
                }
                return item
            }
        }
        // Those that stand in for others have something only while they do.
        for victim in workers[seatCount...] where !victim.isIdle && victim !== thief {
            if let item = rob(victim, thief) {
                thief.tally.pointee.localSteals.count()
                return item
            }
        }
        return nil
    }

    @inline(__always)
    private func rob(_ victim: Worker, _ thief: Worker) -> RunItem? {
        if victim.hasQueued(sharing.robbingPays), let item = thief.ring.steal(from: victim.ring) { return item }
        return victim.inboxItem() ?? (sharesDebtors(victim) ? victim.debtors.pop() : nil)
    }

    func takeFromOtherNodes(_ thief: Worker) -> RunItem? {
        for node in thief.otherNodes {
            // Somebody was woken for it there, and is on the way.
            if workersOfNode[node].contains(where: { workers[$0].parking.value == 2 }) { continue }
            if let item = nodes[node].pop() {
                thief.tally.pointee.farSteals.count()
                return item
            }
        }
        return nil
    }

    /// Counts a worker that found nothing as a sleeper, unless there is something after all.
    ///
    /// It may sleep for as long as `parking` is 1; then, or at once if that is not 1 any more, it is to `getUp`.
    /// - Parameter isLeaving: Asked after it was counted: whether it must not sleep.
    func lieDown(_ worker: Worker, unless isLeaving: () -> Bool) {
        worker.parking.set(1)
        idle.beginSleep()
        // Counted as a sleeper first, then the last look: see `IdleWorkers`.
        if isLeaving() || !worker.debtors.isEmpty || worker.hasPinned || (!idle.hasSearchers && hasWorkToShare) {
            // As a searcher: a submitter may have left more than one item to the searchers of a moment ago.
            if worker.parking.compareExchange(1, 2) { idle.endSleep(toSearch: true) }
        }
    }

    /// Puts a worker that was woken back to work, as a searcher; returns what it was woken for, if that is still there.
    func getUp(_ worker: Worker) -> RunItem? {
        worker.local.pointee.isSearching = true
        worker.fireTimers()
        // Before the word says that this worker is awake: what it was woken for nobody else is to take.
        let item = worker.take()
        worker.parking.set(0)
        // Awake first, then the look: who saw that it was on the way has left to it what came meanwhile.
        sharePinned(of: worker)
        if item != nil {
            worker.local.pointee.isSearching = false
            if idle.endSearch() { wakeIfNeeded(near: worker) }
        }
        return item
    }

    /// Whether something waits in any queue.
    var hasWork: Bool {
        nodes.contains { !$0.isEmpty } || workers.contains { !$0.isIdle } || seatOfPinnedWork != nil
    }

    /// Whether something waits that not only its owner should take.
    private var hasWorkToShare: Bool {
        nodes.contains { !$0.isEmpty }
            || workers.contains {
                // Who was woken for what is in its inbox comes by itself.
                (!$0.inbox.isEmpty && $0.parking.value != 2) || $0.hasQueued(sharing.robbingPays)
                    || (sharesDebtors($0) && !$0.debtors.isEmpty)
            }
    }

    /// Whether those whom a worker has set back may be run elsewhere: it takes long, or does not come to them.
    private func sharesDebtors(_ worker: Worker) -> Bool {
        worker.expectsLongTurns(sharing.wakingPays) || !worker.isAwake
    }
}
