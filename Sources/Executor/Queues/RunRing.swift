// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

#if !MODEL_CHECKING
import LightProc
import Synchronization
#endif

/// The run queue of one worker: a ring that its owner pushes to and pops from, and others steal half of.
///
/// After Go's `runq` and Tokio's local queue. `head` and `tail` only grow; entry `i` lies at `i % capacity`. The owner
/// alone writes `tail` and the entries between `tail` and `head + capacity`; everybody takes entries by moving `head`.
/// A thief copies first and then moves `head`: if that succeeds nobody took them meanwhile, and the owner cannot have
/// overwritten them, because it does not wrap past `head`.
///
/// Indices are 32 bits and wrap; a wrap within one operation would need 4 billion pushes by the owner meanwhile, during
/// which `head` would have moved too, so that the exchange fails.
struct RunRing: ~Copyable {
    #if MODEL_CHECKING
    static let capacity: UInt32 = 4
    #else
    static let capacity: UInt32 = 1024
    #endif

    private struct Ends: ~Copyable {
        let head = Atomic<UInt32>(0)
        let tail = Atomic<UInt32>(0)
    }
    private let ends: UnsafeMutablePointer<Ends>
    private let entries: UnsafeMutablePointer<Atomic<UInt>>
    private let ownsMemory: Bool

    private static var entriesOffset: Int { 128 }
    /// Bytes of a ring in memory that is given to it.
    static var byteCount: Int { entriesOffset + Int(capacity) * MemoryLayout<Atomic<UInt>>.stride }

    /// - Parameter place: Memory of ``byteCount`` bytes, aligned to 128, that the caller frees after the ring is gone; nil:
    ///   of the allocator.
    init(at place: UnsafeMutableRawPointer? = nil) {
        ownsMemory = place == nil
        ends = place?.bindMemory(to: Ends.self, capacity: 1) ?? .allocate(capacity: 1)
        ends.initialize(to: Ends())
        let behind = place.map { $0 + Self.entriesOffset }
        entries =
            behind?.bindMemory(to: Atomic<UInt>.self, capacity: Int(Self.capacity))
            ?? .allocate(capacity: Int(Self.capacity))
        for index in 0..<Int(Self.capacity) { (entries + index).initialize(to: Atomic(0)) }
    }

    deinit {
        // Memory of somebody else may be gone already; atomic words are nothing to be taken down.
        guard ownsMemory else { return }
        entries.deinitialize(count: Int(Self.capacity))
        ends.deinitialize(count: 1)
        entries.deallocate()
        ends.deallocate()
    }

    private func entry(_ index: UInt32) -> UnsafeMutablePointer<Atomic<UInt>> {
        entries + Int(index % Self.capacity)
    }

    /// Whether nothing is in it; may be out of date when it returns.
    var isEmpty: Bool {
        // ordering: sequentiallyConsistent: the last look before a worker sleeps; see `IdleWorkers`.
        ends.pointee.head.load(ordering: .sequentiallyConsistent)
            == ends.pointee.tail.load(ordering: .sequentiallyConsistent)
    }

    var count: Int {
        // ordering: relaxed: a statistic.
        Int(ends.pointee.tail.load(ordering: .relaxed) &- ends.pointee.head.load(ordering: .relaxed))
    }

    /// How many items can be added; thieves may make it more. Owner only.
    var room: Int {
        // ordering: acquiring: as in `push`.
        let begin = ends.pointee.head.load(ordering: .acquiring)
        return Int(Self.capacity &- (ends.pointee.tail.load(ordering: .relaxed) &- begin))
    }

    /// Adds an item. Owner only. False if the ring is full.
    @inline(__always)
    func push(_ item: RunItem) -> Bool {
        // ordering: relaxed: only the owner writes it.
        let end = ends.pointee.tail.load(ordering: .relaxed)
        // ordering: acquiring: pairs with the thieves' exchange; their copies of what we overwrite are done.
        guard end &- ends.pointee.head.load(ordering: .acquiring) < Self.capacity else { return false }
        // ordering: relaxed: published by the store of `tail`.
        entry(end).pointee.store(item.bits, ordering: .relaxed)
        // ordering: sequentiallyConsistent: publishes the entry; and the item is in the queue before the owner looks
        // whether somebody sleeps (see `IdleWorkers`).
        ends.pointee.tail.store(end &+ 1, ordering: .sequentiallyConsistent)
        return true
    }

    /// Takes the oldest item. Owner only.
    @inline(__always)
    func pop() -> RunItem? {
        // ordering: acquiring: as in `push`.
        var begin = ends.pointee.head.load(ordering: .acquiring)
        while true {
            // ordering: relaxed: only the owner writes it.
            guard begin != ends.pointee.tail.load(ordering: .relaxed) else { return nil }
            let bits = entry(begin).pointee.load(ordering: .relaxed)
            let (done, original) = ends.pointee.head.weakCompareExchange(
                expected: begin,
                desired: begin &+ 1,
                successOrdering: .acquiringAndReleasing,
                failureOrdering: .acquiring
            )
            if done { return RunItem(bits: bits) }
            // Retried because a thief took some.
            begin = original
        }
    }

    /// Takes the older half of a full ring, to be put elsewhere at once. Owner only. Nil if a thief was faster.
    func takeHalf() -> [RunItem]? {
        let begin = ends.pointee.head.load(ordering: .acquiring)
        let half = Self.capacity / 2
        guard ends.pointee.tail.load(ordering: .relaxed) &- begin >= half else { return nil }
        let items = (0..<half).map { RunItem(bits: entry(begin &+ $0).pointee.load(ordering: .relaxed)) }
        return ends.pointee.head.compareExchange(
            expected: begin,
            desired: begin &+ half,
            successOrdering: .acquiringAndReleasing,
            failureOrdering: .relaxed
        ).exchanged ? items : nil
    }

    /// Moves half of another worker's items here and returns one of them. Called by the owner of this ring.
    func steal(from victim: borrowing RunRing) -> RunItem? {
        while true {
            // ordering: acquiring: the entries up to `tail` are visible; pairs with the victim's store.
            let begin = victim.ends.pointee.head.load(ordering: .acquiring)
            let end = victim.ends.pointee.tail.load(ordering: .acquiring)
            let available = end &- begin
            guard available > 0 else { return nil }
            // The two loads may be of different moments: then the difference can be nonsense.
            if available > Self.capacity { continue }
            let count = available &- available / 2
            let mine = ends.pointee.tail.load(ordering: .relaxed)
            // Stealing happens only when this ring is empty, but thieves may be in the middle of it: keep clear of them.
            guard mine &- ends.pointee.head.load(ordering: .acquiring) &+ count <= Self.capacity else { return nil }
            for offset in 0..<count {
                let bits = victim.entry(begin &+ offset).pointee.load(ordering: .relaxed)
                entry(mine &+ offset).pointee.store(bits, ordering: .relaxed)
            }
            guard
                victim.ends.pointee.head.compareExchange(
                    expected: begin,
                    desired: begin &+ count,
                    successOrdering: .acquiringAndReleasing,
                    failureOrdering: .relaxed
                ).exchanged
            else { continue }  // somebody else took some: progress was made
            let last = RunItem(bits: entry(mine &+ count &- 1).pointee.load(ordering: .relaxed))
            // ordering: sequentiallyConsistent: as in `push`.
            if count > 1 { ends.pointee.tail.store(mine &+ count &- 1, ordering: .sequentiallyConsistent) }
            return last
        }
    }
}
