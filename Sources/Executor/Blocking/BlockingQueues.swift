// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// The queues of the blocking pool, one a NUMA node, and the threads that serve them: which sleep, which have a job.
///
/// A thread sleeps only after it found nothing under the lock, and is on the list of sleepers from then on; whoever adds a
/// job takes a sleeper from the list under the same lock. So no job is added unseen, and no thread polls. Threads serve
/// their own node; those of other nodes help where a job has waited for longer than the target and no thread can be added.
///
/// A pure value, under the lock of ``BlockingPool``; time comes in.
struct BlockingQueues<Item> {
    private struct Node {
        var jobs = FIFO<(item: Item, since: Duration)>()
        var sleepers: [Int] = []
        var threads = 0
        /// Threads that have a job.
        var running = 0
        var finished: UInt = 0
        var growth = BlockingGrowth()
    }
    private var nodes: [Node]
    let limits: BlockingGrowth.Limits
    private(set) var isStopping = false
    private(set) var threads = 0
    private(set) var running = 0
    private(set) var queued = 0
    /// The most threads that there were at a time.
    private(set) var peak = 0
    private(set) var started: UInt = 0

    init(nodes count: Int, limits: BlockingGrowth.Limits) {
        nodes = Array(repeating: Node(), count: count)
        self.limits = limits
    }

    /// When the job that waits for longest was added; nil if none waits.
    var oldest: Duration? { nodes.compactMap { $0.jobs.first?.since }.min() }

    var sleeperCount: Int { nodes.reduce(0) { $0 + $1.sleepers.count } }

    func threads(of node: Int) -> Int { nodes[node].threads }

    private func load(of node: Int, at now: Duration) -> BlockingGrowth.Load {
        let state = nodes[node]
        return BlockingGrowth.Load(
            threads: state.threads,
            available: state.threads - state.running,
            queued: state.jobs.count,
            oldestWait: state.jobs.first.map { now - $0.since } ?? .zero,
            finished: state.finished,
            room: limits.maximumThreads - threads
        )
    }

    // MARK: Jobs

    /// What is to be done for a job that was added.
    enum Addition: Equatable {
        /// A sleeper was taken off its list: wake it.
        case wake(Int)
        /// There is no thread: add one to the node.
        case hire
        /// Threads are busy: have the queues looked at in due time.
        case watch
        /// A thread is on its way.
        case nothing
    }

    mutating func add(_ item: Item, to node: Int, at now: Duration) -> Addition {
        nodes[node].jobs.append((item, now))
        queued += 1
        if let sleeper = nodes[node].sleepers.popLast() { return .wake(sleeper) }
        let load = load(of: node, at: now)
        // While the pool stops, who stops it adds the thread.
        if isStopping, load.threads == 0 { return .nothing }
        if nodes[node].growth.jobAdded(load, at: now) > 0 { return .hire }
        return load.isBehind ? .watch : .nothing
    }

    enum Next {
        case job(Item)
        /// Nothing to do: sleep until woken.
        case sleep
        case stop
    }

    /// What a thread does next; it has no job now.
    mutating func next(for thread: Int, of node: Int, at now: Duration) -> Next {
        if let item = take(from: node) ?? takeElsewhere(node, at: now) {
            nodes[node].running += 1
            running += 1
            started += 1
            return .job(item)
        }
        if isStopping { return .stop }
        nodes[node].sleepers.append(thread)
        return .sleep
    }

    private mutating func take(from node: Int) -> Item? {
        guard let job = nodes[node].jobs.popFirst() else { return nil }
        queued -= 1
        return job.item
    }

    /// Where no thread can be added, or where there is none and none will come: the oldest job of another node.
    private mutating func takeElsewhere(_ node: Int, at now: Duration) -> Item? {
        guard queued > 0, isStopping || threads >= limits.maximumThreads else { return nil }
        let late = nodes.indices.compactMap { index -> (Int, Duration)? in
            nodes[index].jobs.first.map { (index, $0.since) }
        }.min { $0.1 < $1.1 }
        guard let late, isStopping || now - late.1 >= limits.targetDelay else { return nil }
        return take(from: late.0)
    }

    /// A thread has done its job.
    mutating func finish(on node: Int) {
        nodes[node].running -= 1
        nodes[node].finished &+= 1
        running -= 1
    }

    // MARK: Threads

    /// A thread is added; it has no job yet.
    mutating func hire(for node: Int) {
        nodes[node].threads += 1
        threads += 1
        peak = max(peak, threads)
    }

    /// A sleeper gave up by itself (its time was up). True if it was still on the list; then it is gone.
    mutating func leave(_ thread: Int, of node: Int) -> Bool {
        guard let place = nodes[node].sleepers.firstIndex(of: thread) else { return false }
        nodes[node].sleepers.remove(at: place)
        remove(from: node)
        return true
    }

    /// A thread ends because the pool stops.
    mutating func stopped(on node: Int) { remove(from: node) }

    /// A thread trapped in its job. True if another one is needed in its place.
    mutating func trapped(on node: Int, at now: Duration) -> Bool {
        nodes[node].running -= 1
        running -= 1
        remove(from: node)
        return load(of: node, at: now).isBehind
    }

    private mutating func remove(from node: Int) {
        nodes[node].threads -= 1
        threads -= 1
    }

    // MARK: Growth

    /// Nodes where jobs wait for longer than the target: whether their threads sleep is of interest.
    func lateNodes(at now: Duration) -> [Int] {
        nodes.indices.filter {
            let load = load(of: $0, at: now)
            return load.isBehind && load.room > 0 && load.oldestWait >= limits.targetDelay
        }
    }

    /// What a look at all queues came to.
    struct Look: Equatable {
        /// So many threads are to be added, by node.
        var hires: [(node: Int, count: Int)] = []
        /// Sleepers of other nodes that are to help, off their lists: wake them.
        var wakes: [Int] = []
        var nextLook: Duration?

        static func == (a: Look, b: Look) -> Bool {
            a.hires.map(\.node) == b.hires.map(\.node) && a.hires.map(\.count) == b.hires.map(\.count)
                && a.wakes == b.wakes && a.nextLook == b.nextLook
        }
    }

    /// Decides for every node whether its threads are too few. Hires are promised: they count from now on.
    mutating func look(at now: Duration, allSleep: (Int) -> Bool) -> Look {
        var result = Look()
        for node in nodes.indices {
            let load = load(of: node, at: now)
            var decision = nodes[node].growth.look(load, at: now, allSleep: allSleep(node), limits: limits)
            if decision.added > 0 {
                for _ in 0..<decision.added { hire(for: node) }
                result.hires.append((node, decision.added))
            } else if load.isBehind, load.room <= 0 {
                let wait = limits.targetDelay - load.oldestWait
                if wait > .zero, sleeperCount > 0 {
                    decision.nextLook = wait
                } else {
                    result.wakes += takeSleepers(load.queued - load.available)
                }
            }
            if let next = decision.nextLook { result.nextLook = min(next, result.nextLook ?? next) }
        }
        return result
    }

    private mutating func takeSleepers(_ count: Int) -> [Int] {
        var taken: [Int] = []
        for node in nodes.indices {
            while taken.count < count, let sleeper = nodes[node].sleepers.popLast() { taken.append(sleeper) }
        }
        return taken
    }

    /// Whether jobs wait for which no thread is on its way.
    func isBehind(at now: Duration) -> Bool { nodes.indices.contains { load(of: $0, at: now).isBehind } }

    /// Nodes where jobs wait and there is no thread.
    var abandonedNodes: [Int] { nodes.indices.filter { nodes[$0].threads == 0 && nodes[$0].jobs.count > 0 } }

    // MARK: Life

    /// Lets threads sleep again when the queues are empty.
    mutating func resume() { isStopping = false }

    /// Lets the threads end once the queues are empty; returns those that sleep, off their lists.
    mutating func stop() -> [Int] {
        isStopping = true
        return takeSleepers(.max)
    }
}
