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
    static let capacity: UInt32 = 256
    #endif

    private let head = Atomic<UInt32>(0)
    private let tail = Atomic<UInt32>(0)
    private let entries: UnsafeMutablePointer<Atomic<UInt>>

    init() {
        entries = .allocate(capacity: Int(Self.capacity))
        for index in 0..<Int(Self.capacity) { (entries + index).initialize(to: Atomic(0)) }
    }

    deinit {
        entries.deinitialize(count: Int(Self.capacity))
        entries.deallocate()
    }

    private func entry(_ index: UInt32) -> UnsafeMutablePointer<Atomic<UInt>> {
        entries + Int(index % Self.capacity)
    }

    /// Whether nothing is in it; may be out of date when it returns.
    var isEmpty: Bool {
        // ordering: sequentiallyConsistent: the last look before a worker sleeps; see `IdleWorkers`.
        head.load(ordering: .sequentiallyConsistent) == tail.load(ordering: .sequentiallyConsistent)
    }

    var count: Int {
        // ordering: relaxed: a statistic.
        Int(tail.load(ordering: .relaxed) &- head.load(ordering: .relaxed))
    }

    /// Adds an item. Owner only. False if the ring is full.
    @inline(__always)
    func push(_ item: RunItem) -> Bool {
        // ordering: relaxed: only the owner writes it.
        let end = tail.load(ordering: .relaxed)
        // ordering: acquiring: pairs with the thieves' exchange; their copies of what we overwrite are done.
        guard end &- head.load(ordering: .acquiring) < Self.capacity else { return false }
        // ordering: relaxed: published by the store of `tail`.
        entry(end).pointee.store(item.bits, ordering: .relaxed)
        // ordering: sequentiallyConsistent: publishes the entry; and the item is in the queue before the owner looks
        // whether somebody sleeps (see `IdleWorkers`).
        tail.store(end &+ 1, ordering: .sequentiallyConsistent)
        return true
    }

    /// Takes the oldest item. Owner only.
    @inline(__always)
    func pop() -> RunItem? {
        // ordering: acquiring: as in `push`.
        var begin = head.load(ordering: .acquiring)
        while true {
            // ordering: relaxed: only the owner writes it.
            guard begin != tail.load(ordering: .relaxed) else { return nil }
            let bits = entry(begin).pointee.load(ordering: .relaxed)
            let (done, original) = head.weakCompareExchange(
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
        let begin = head.load(ordering: .acquiring)
        let half = Self.capacity / 2
        guard tail.load(ordering: .relaxed) &- begin >= half else { return nil }
        let items = (0..<half).map { RunItem(bits: entry(begin &+ $0).pointee.load(ordering: .relaxed)) }
        return head.compareExchange(
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
            let begin = victim.head.load(ordering: .acquiring)
            let end = victim.tail.load(ordering: .acquiring)
            let available = end &- begin
            guard available > 0 else { return nil }
            // The two loads may be of different moments: then the difference can be nonsense.
            if available > Self.capacity { continue }
            let count = available &- available / 2
            let mine = tail.load(ordering: .relaxed)
            // Stealing happens only when this ring is empty, but thieves may be in the middle of it: keep clear of them.
            guard mine &- head.load(ordering: .acquiring) &+ count <= Self.capacity else { return nil }
            for offset in 0..<count {
                let bits = victim.entry(begin &+ offset).pointee.load(ordering: .relaxed)
                entry(mine &+ offset).pointee.store(bits, ordering: .relaxed)
            }
            guard
                victim.head.compareExchange(
                    expected: begin,
                    desired: begin &+ count,
                    successOrdering: .acquiringAndReleasing,
                    failureOrdering: .relaxed
                ).exchanged
            else { continue }  // somebody else took some: progress was made
            let last = RunItem(bits: entry(mine &+ count &- 1).pointee.load(ordering: .relaxed))
            // ordering: sequentiallyConsistent: as in `push`.
            if count > 1 { tail.store(mine &+ count &- 1, ordering: .sequentiallyConsistent) }
            return last
        }
    }
}
