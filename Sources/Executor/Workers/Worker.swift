// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CLightProc
import Glibc
import LightProc
import Synchronization

/// A seat with what belongs to it: its queues, its node pool, its place to sleep; all in memory of the seat's NUMA node.
///
/// It outlives the threads that sit on it: when one traps, its successor goes on with the same queues. "Owner" below is
/// the thread on the seat.
final class Worker: @unchecked Sendable {
    // Sendable: shared state is atomic; `local` and `nodes` are the owner's, handed over when it is replaced.

    let index: Int
    /// The node of its queues, as an index into the nodes of the pool.
    let node: Int
    let pool: ObjectIdentifier
    let memory: NodeMemory
    let ring: RunRing
    /// What other threads found to be at home here, and what waits here for this worker to wake up.
    let inbox: InjectionQueue
    /// Who sent more to a process that runs here than it could take; run when there is nothing else, and now and then.
    let debtors: InjectionQueue
    let queues: NodeQueues
    /// How many urgent items wait in them.
    private let urgent: UnsafeMutablePointer<Atomic<Int>>
    /// 0: awake. 1: sleeps. 2: was woken.
    let parking: FutexWord
    /// Also holds the item that was made ready last, run next: what it needs is still in the cache. The owner's.
    let nodes: UnsafeMutablePointer<crt_nodePool>
    /// Whom to steal from: groups of the same proximity, nearest first.
    let tiers: [Tier]
    /// All other workers, nearest first.
    let nearest: [Int]
    /// The other nodes of the pool, nearest first.
    let otherNodes: [Int]
    let tally: UnsafeMutablePointer<WorkerTally>
    /// The timers that the owner sets, and fires.
    let timers: TimerShard
    /// By which turns are measured; nil: the machine's.
    private let clock: (@Sendable () -> UInt64)?
    /// Whether the owner is to go: it stood in for another worker, which got on.
    let isLeaving = Atomic<Bool>(false)
    /// Whether nothing should be put here for the owner: it is stuck, or there is none. A hint: what comes all the same is
    /// given to others by the stall watch. Written by that, and while it does not run.
    let isAway: Atomic<Bool>
    /// Which sets of pinned processes it serves: a `PinnedLanes`, that somebody else keeps; 0: none.
    private let lanesWord = Atomic<UInt>(0)

    struct Tier {
        let distance: StealDistance
        let workers: [Int]
    }

    /// How many turns were taken. The owner writes; the stall watch reads.
    let turns: UnsafeMutablePointer<Atomic<UInt>>

    struct Local {
        /// How many items in a row came from `next`.
        var nextRuns: UInt = 0
        var order = TurnOrder()
        var isSearching = false
    }
    let local: UnsafeMutablePointer<Local>

    /// So many items in a row may come from `next` before the ring gets its turn: two processes that only talk to each
    /// other must not starve the rest.
    private static let nextLimit = 64

    /// Where what the worker writes lies in one block.
    private enum Layout {
        // Cache lines of its own, as the processor fetches them in pairs: the owner writes here for each message.
        static var turns: Int { (MemoryLayout<crt_nodePool>.stride + 15) & ~15 }
        static var local: Int { turns + 16 }
        static var ring: Int { (local + MemoryLayout<Local>.size + 127) & ~127 }
        static var tally: Int { (ring + RunRing.byteCount + 127) & ~127 }
        static var parking: Int { (tally + MemoryLayout<WorkerTally>.size + 127) & ~127 }
        static var size: Int { parking + 128 }
    }

    init(
        index: Int,
        node: Int,
        memory: NodeMemory,
        queues: NodeQueues,
        timers: TimerShard,
        pool: ObjectIdentifier,
        tiers: [Tier],
        nearest: [Int],
        otherNodes: [Int],
        isAway: Bool,
        clock: (@Sendable () -> UInt64)? = nil
    ) {
        self.index = index
        self.isAway = Atomic(isAway)
        self.memory = memory
        self.timers = timers
        self.node = node
        self.queues = queues
        urgent = queues.high.counter
        self.pool = pool
        self.tiers = tiers
        self.nearest = nearest
        self.otherNodes = otherNodes
        self.clock = clock
        inbox = InjectionQueue(memory)
        debtors = InjectionQueue(memory)
        let block = memory.allocate(byteCount: Layout.size, alignment: 128)
        nodes = block.initializeMemory(as: crt_nodePool.self, to: crt_nodePool())
        turns = (block + Layout.turns).bindMemory(to: Atomic<UInt>.self, capacity: 1)
        turns.initialize(to: Atomic(0))
        local = (block + Layout.local).initializeMemory(as: Local.self, to: Local())
        ring = RunRing(at: block + Layout.ring)
        tally = (block + Layout.tally).bindMemory(to: WorkerTally.self, capacity: 1)
        tally.initialize(to: WorkerTally())
        parking = FutexWord(at: block + Layout.parking)
    }

    deinit {
        NodeRegions.dispose(nodes)
        turns.deinitialize(count: 1)
        tally.deinitialize(count: 1)
        memory.deallocate(nodes, byteCount: Layout.size)
    }

    /// Where it lies: what the owner writes, and its inbox.
    var bytes: [Range<UInt>] {
        let start = UInt(bitPattern: nodes)
        return [start..<(start + UInt(Layout.size))] + inbox.bytes + debtors.bytes
    }

    /// Makes an item the next to run; returns the one that was, to be put into the ring. Owner only.
    @inline(__always)
    func setNext(_ item: RunItem) -> RunItem? {
        let before = crt_exchangeNext(nodes, item.bits)
        return before == 0 ? nil : RunItem(bits: before)
    }

    /// Owner only, while it runs nothing.
    @inline(__always)
    private func takeNext() -> RunItem? {
        let bits = crt_takeNext(nodes)
        return bits == 0 ? nil : RunItem(bits: bits)
    }

    /// What to run now, from this worker's queues and those of its node. Owner only.
    @inline(__always)
    func take() -> RunItem? {
        let turn = turns.pointee.known &+ 1
        // ordering: relaxed: a statistic.
        turns.pointee.store(turn, ordering: .relaxed)
        // ordering: relaxed: a hint, as in `InjectionQueue.mayHaveSome`.
        let isUrgent = urgent.pointee.load(ordering: .relaxed) > 0
        if local.pointee.order.isSpecial(turn) || isUrgent, let item = takeOutOfOrder(turn) {
            return item
        }
        if local.pointee.nextRuns < Self.nextLimit, let item = takeNext() {
            local.pointee.nextRuns &+= 1
            return item
        }
        return takeInOrder()
    }

    /// What waits for this worker alone. Owner only, while it runs nothing.
    func takeOwn() -> RunItem? { takeNext() ?? ring.pop() ?? inbox.pop() ?? debtors.pop() }

    // MARK: What is pinned

    /// What it serves; nil for nothing. Any thread.
    var lanes: PinnedLanes? {
        // ordering: sequentiallyConsistent: of a worker that lies down, after it said so; and published before anything is put in.
        // safety: lanes are kept as long as the pool.
        UnsafeRawPointer(bitPattern: lanesWord.load(ordering: .sequentiallyConsistent))
            .map { Unmanaged<PinnedLanes>.fromOpaque($0).takeUnretainedValue() }
    }

    /// Whether it serves any. Any thread; may be out of date.
    @inline(__always)
    var hasLanes: Bool {
        // ordering: relaxed: a hint; the last look before a worker sleeps is `hasPinned`.
        lanesWord.load(ordering: .relaxed) != 0
    }

    /// From now on it serves these, which outlive it. Any thread.
    func serve(_ lanes: PinnedLanes) {
        // ordering: sequentiallyConsistent: see `lanes`.
        lanesWord.store(UInt(bitPattern: Unmanaged.passUnretained(lanes).toOpaque()), ordering: .sequentiallyConsistent)
    }

    func serves(_ set: PinnedSet) -> Bool { lanes?.sets.contains { $0 === set } ?? false }

    /// Whether something waits that is pinned and this worker may run; may be out of date.
    var hasPinned: Bool { lanes.map { !$0.isEmpty } ?? false }

    /// Something that it may run was put into the queue of a set. Owner only.
    func notePinned() { local.pointee.order.mindPinned(true) }

    /// Something that is pinned, when nothing else is there. Owner only, while it runs nothing.
    @inline(never)
    func takePinned() -> RunItem? {
        guard let lanes else { return nil }
        let turn = turns.pointee.known
        guard let item = lanes.pop(from: turn) ?? lanes.popLow(from: turn) else { return nil }
        tally.pointee.injected.count()
        return item
    }

    /// What is pinned, if the turn is for that.
    @inline(never)
    private func takePinned(at turn: UInt) -> RunItem? {
        guard let lanes else { return nil }
        let item: RunItem? =
            switch local.pointee.order.pinned(at: turn) {
            case .nothing: nil
            case .any: lanes.pop(from: turn)
            case .normal: lanes.popNormal(from: turn) ?? lanes.pop(from: turn)
            case .low: lanes.popLow(from: turn)
            }
        if item != nil { tally.pointee.injected.count() }
        local.pointee.order.mindPinned(lanes.mayHaveSome)
        return item
    }

    @inline(__always)
    private func takeInOrder() -> RunItem? {
        if local.pointee.nextRuns > 0 {
            tally.pointee.lifoHits.count(local.pointee.nextRuns)
            local.pointee.nextRuns = 0
        }
        return ring.pop() ?? takeNext() ?? takeManyFromOutside() ?? (hasLanes ? takePinned() : nil) ?? debtors.pop()
            ?? queues.low.pop()
    }

    /// As `takeFromOutside`, while the ring is empty.
    @inline(__always)
    private func takeManyFromOutside() -> RunItem? {
        guard let item = inbox.pop() ?? queues.normal.pop(moving: Self.batch, to: ring) else { return nil }
        tally.pointee.injected.count()
        return item
    }

    /// So many items at most are taken out of the node's queue at a time.
    private static let batch = 64

    /// What `TurnOrder` says that comes first at this turn; nil if there is nothing of that kind.
    @inline(never)
    private func takeOutOfOrder(_ turn: UInt) -> RunItem? {
        if local.pointee.order.isMeasuring(turn) {
            local.pointee.order.measure(turn, at: now)
            publishExpectedTurn()
        }
        fireTimers()
        if hasLanes, let item = takePinned(at: turn) { return item }
        if TurnOrder.isForDebtors(turn), let item = debtors.pop() { return item }
        switch local.pointee.order.first(at: turn) {
        case .urgent: return queues.high.pop() ?? (hasLanes ? lanes?.popHigh(from: turn) : nil)
        case .inbox: return takeFromOutside()
        case .node:
            guard let item = queues.normal.pop() else { return takeFromOutside() }
            tally.pointee.injected.count()
            return item
        case .low: return queues.low.pop() ?? takeFromOutside()
        }
    }

    private func publishExpectedTurn() { expect(turnsOf: local.pointee.order.expectedTurn) }

    /// Whether what waits in the ring may be expected to take the owner so many nanoseconds. Any thread; may be out of date.
    @inline(__always)
    func hasQueued(_ nanoseconds: UInt) -> Bool {
        let count = UInt(ring.count)
        // ordering: relaxed: an estimate.
        return count > 0 && count &* tally.pointee.expectedTurn.load(ordering: .relaxed) >= nanoseconds
    }

    /// Whether so many turns may be expected to take the owner so many nanoseconds. Any thread; may be out of date.
    func expects(_ count: UInt, toTake nanoseconds: UInt) -> Bool {
        // ordering: relaxed: an estimate.
        count > 0 && count &* tally.pointee.expectedTurn.load(ordering: .relaxed) >= nanoseconds
    }

    /// A turn of the owner's may be expected to take so long, as it has measured, or as somebody else has seen. Any thread.
    func expect(turnsOf nanoseconds: UInt64) {
        // ordering: relaxed: an estimate.
        tally.pointee.expectedTurn.store(UInt(min(nanoseconds, TurnOrder.longestExpected)), ordering: .relaxed)
    }

    /// Whether one turn may be expected to take the owner so many nanoseconds. Any thread.
    func expectsLongTurns(_ nanoseconds: UInt) -> Bool {
        // ordering: relaxed: an estimate.
        tally.pointee.expectedTurn.load(ordering: .relaxed) >= nanoseconds
    }

    @inline(__always)
    private func takeFromOutside() -> RunItem? {
        guard let item = inbox.pop() ?? queues.normal.pop() else { return nil }
        tally.pointee.injected.count()
        return item
    }

    /// Calls what is due, up to a batch. Owner only, while it runs nothing.
    @inline(__always)
    func fireTimers() {
        if timers.hasSome, timers.next <= UInt(MonotonicClock.nanoseconds) { timers.fire(limit: PoolTimers.batch) }
    }

    /// Whether nothing waits for this worker alone, but for the item in `next`; may be out of date.
    var isIdle: Bool { ring.isEmpty && inbox.isEmpty && debtors.isEmpty }

    /// By what it measures its turns, in nanoseconds.
    private var now: UInt64 { clock?() ?? MonotonicClock.nanoseconds }

    /// Takes something out of the inbox for another worker, unless this one was woken for it just now.
    func inboxItem() -> RunItem? { inbox.mayHaveSome && parking.value != 2 ? inbox.pop() : nil }

    // MARK: Sleep

    var isParked: Bool { parking.value == 1 }

    /// Whether a thread sits on the seat and does not sleep; may be out of date.
    var isAwake: Bool { tally.pointee.awakeSince.known != 0 }

    func noteSleep() {
        tally.pointee.parks.count()
        let since = tally.pointee.awakeSince.known
        let now = UInt(self.now)
        local.pointee.order.rest(turns.pointee.known, at: UInt64(now))
        publishExpectedTurn()
        if since > 0, now > since { tally.pointee.busyNanoseconds.count(now - since) }
        tally.pointee.awakeSince.store(0, ordering: .relaxed)
    }

    func noteAwake() {
        let now = self.now
        local.pointee.order.resume(turns.pointee.known, at: now)
        tally.pointee.awakeSince.store(UInt(now), ordering: .relaxed)
    }

    /// As far as is known; by any thread.
    var counters: WorkerCounters {
        let since = tally.pointee.awakeSince.known
        let now = UInt(self.now)
        let current = since > 0 && now > since ? now - since : 0
        return WorkerCounters(
            worker: index,
            polls: turns.pointee.known,
            lifoHits: tally.pointee.lifoHits.known,
            localSteals: tally.pointee.localSteals.known,
            nearSteals: tally.pointee.nearSteals.known,
            farSteals: tally.pointee.farSteals.known,
            injected: tally.pointee.injected.known,
            parks: tally.pointee.parks.known,
            wakes: tally.pointee.wakes.known,
            busyTime: .nanoseconds(Int64(tally.pointee.busyNanoseconds.known + current)),
            isParked: isParked,
            queueDepth: ring.count + inbox.count + (crt_seemsToHaveNext(nodes) ? 1 : 0)
        )
    }
}
