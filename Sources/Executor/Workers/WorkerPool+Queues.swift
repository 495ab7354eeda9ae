// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CLightProc
import LightProc

/// How items get into queues, who is woken for them, and how workers find them.
///
/// Where an item waits is decided by `WakeTarget`; in which order a worker looks at its queues, by `TurnOrder`; that none is
/// left lying while a worker sleeps is the business of `IdleWorkers`.
extension WorkerPool {
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

    @inline(never)
    private func addElsewhere(_ item: RunItem, _ tag: ProcTag, _ own: Worker?) {
        let last = tag.worker.flatMap { $0 < workers.count ? workers[$0] : nil }
        if tag.priority != .normal { return add(item, tag.priority, node: (last ?? own)?.node, near: last ?? own) }
        let target = WakeTarget.choose(
            waker: own.map { .init(worker: $0.index, node: $0.node) },
            last: last.map { .init(worker: $0.index, node: $0.node) },
            lastSleeps: last?.isParked ?? false,
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
        if nodes.count == 1 { return 0 }
        return ThreadPlacement.currentPU().flatMap { nodeOfPU[$0] } ?? 0
    }

    /// Puts an item at the end of the calling worker's ring.
    func push(_ item: RunItem, _ worker: Worker) {
        // Ends: each round makes room for half a ring, or finds that a thief did.
        while !worker.ring.push(item) {
            if let half = worker.ring.takeHalf() { worker.queues.normal.push(half) }
        }
        wakeIfNeeded(near: worker)
    }

    /// Queues what a run left over: behind the others of the same priority.
    func requeue(_ item: RunItem, _ worker: Worker) {
        let priority =
            switch item.content {
            case .proc(let proc): proc._withUnsafeGuaranteedRef { $0.tag.priority }
            case .job, .plain: ProcPriority.normal
            }
        if priority == .normal { return push(item, worker) }
        add(item, priority, node: worker.node, near: worker)
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

    func work(_ thread: WorkerThread, as worker: Worker) {
        take(worker, for: thread)
        worker.noteAwake()
        // The predecessor on this seat may have trapped as a searcher only in user code, where nobody searches.
        while let item = worker.take() ?? search(worker) ?? sleep(worker) {
            if isDropping.load(ordering: .relaxed) { item.kill() }
            if thread.run(item) { requeue(item, worker) }
            // ordering: relaxed: it may take another turn.
            if worker.isLeaving.load(ordering: .relaxed) { break }
        }
        if worker.index >= placement.seats.count { handOver(worker) }
        worker.noteSleep()
    }

    /// Looks at the other workers' queues, the nearest first, and those of the nodes.
    private func search(_ worker: Worker) -> RunItem? {
        if !worker.local.pointee.isSearching {
            guard idle.beginSearch(of: placement.seats.count) else { return nil }
            worker.local.pointee.isSearching = true
        }
        let item = find(worker)
        worker.local.pointee.isSearching = false
        // The last to stop searching with something in hand passes the search on: there may be more.
        if idle.endSearch(), item != nil { wakeIfNeeded(near: worker) }
        return item
    }

    private func find(_ worker: Worker) -> RunItem? {
        for round in 0..<4 {
            if let item = worker.queues.high.pop() { return item }
            if let item = worker.inbox.pop() ?? worker.queues.normal.pop() {
                worker.tally.pointee.injected.count()
                return item
            }
            if let item = steal(worker, round) ?? worker.queues.low.pop() { return item }
            if round >= Self.roundsOnOwnNode, let item = takeFromOtherNodes(worker) { return item }
            for _ in 0..<16 { crt_pause() }
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
                guard let item = thief.ring.steal(from: victim.ring) ?? victim.inboxItem() else { continue }
                switch tier.distance {
                case .local: thief.tally.pointee.localSteals.count()
                case .near: thief.tally.pointee.nearSteals.count()
                case .far: thief.tally.pointee.farSteals.count()
                }
                return item
            }
        }
        // Those that stand in for others have something only while they do.
        for victim in workers[placement.seats.count...] where !victim.isIdle && victim !== thief {
            if let item = thief.ring.steal(from: victim.ring) ?? victim.inboxItem() {
                thief.tally.pointee.localSteals.count()
                return item
            }
        }
        return nil
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

    /// Sleeps until there is something to search for. Returns nil when the pool is stopping and nothing is left.
    private func sleep(_ worker: Worker) -> RunItem? {
        while true {
            worker.parking.set(1)
            idle.beginSleep()
            // Counted as a sleeper first, then the last look: see `IdleWorkers`.
            let stopping =
                isStopping.load(ordering: .sequentiallyConsistent)
                || worker.isLeaving.load(ordering: .sequentiallyConsistent)
            if stopping || (!idle.hasSearchers && hasWork) {
                // As a searcher: a submitter may have left more than one item to the searchers of a moment ago.
                if worker.parking.compareExchange(1, 2) { idle.endSleep(toSearch: true) }
            }
            if worker.parking.value == 1 {
                worker.noteSleep()
                // Ends: whoever takes this worker off the list of sleepers changes the word first.
                while worker.parking.value == 1 { worker.parking.blockingWait(while: 1) }
                worker.noteAwake()
                stirWatch()
            }
            worker.local.pointee.isSearching = true
            // Before the word says that this worker is awake: what it was woken for nobody else is to take.
            let item = worker.take()
            worker.parking.set(0)
            if let item {
                worker.local.pointee.isSearching = false
                if idle.endSearch() { wakeIfNeeded(near: worker) }
                return item
            }
            if let item = search(worker) { return item }
            if stopping { return nil }
        }
    }

    /// Whether something waits in any queue.
    var hasWork: Bool { nodes.contains { !$0.isEmpty } || workers.contains { !$0.isIdle } }
}
