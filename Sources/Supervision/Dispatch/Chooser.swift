// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import LightProc

/// Which member gets the next message: the built-in strategies as one pure value. Randomness is a seed, load an argument.
///
/// Members have places 0, 1, ... in the order in which they joined; each choice is O(1) in their number, with a hash ring
/// O(log n).
struct Chooser: Sendable {
    private enum Way: Sendable {
        case roundRobin, random, leastLoaded, hashed, sticky
    }
    /// What a member is known by on the ring: the smallest number that was free. Who comes after one has left inherits its keys.
    private struct Slot: Sendable {
        /// -1: nobody has it.
        var place = -1
        /// How many members had it before: so that a key does not stick to another one.
        var generation: UInt32 = 0
    }

    private let way: Way
    private var roundRobin = RoundRobin()
    private var loads = LeastLoaded()
    /// Empty unless the way is `hashed`.
    private var ring = HashRing()
    /// Empty unless the way is `sticky`.
    private var table = StickyTable(limit: 1)
    private var random: SplitMix64
    private var slots: [Slot] = []
    private var free: [UInt32] = []
    /// By place.
    private var slotOfPlace: [UInt32] = []

    init(_ strategy: DistributionStrategy, seed: UInt64) {
        random = SplitMix64(seed: seed)
        switch strategy.way {
        case .roundRobin, .broadcast, .firstAnswer, .custom: way = .roundRobin
        case .random: way = .random
        case .leastLoaded: way = .leastLoaded
        case .hashed: way = .hashed
        case .sticky(_, let limit):
            way = .sticky
            table = StickyTable(limit: limit)
        }
    }

    var count: Int { slotOfPlace.count }

    /// Whether a key decides.
    var isKeyed: Bool { way == .hashed || way == .sticky }

    /// A member joined; its place is the last one.
    mutating func add() {
        let slot: UInt32
        if let smallest = free.popLast() {
            slot = smallest
        } else {
            slot = UInt32(slots.count)
            slots.append(Slot())
        }
        slots[Int(slot)].place = count
        slotOfPlace.append(slot)
        loads.add()
        if way == .hashed { ring.add(slot) }
    }

    /// The member at a place left; those behind it move up.
    mutating func remove(at place: Int) {
        let slot = slotOfPlace.remove(at: place)
        slots[Int(slot)].place = -1
        slots[Int(slot)].generation &+= 1
        for later in place..<count { slots[Int(slotOfPlace[later])].place = later }
        // In falling order, so that the smallest is the last.
        free.insert(slot, at: free.firstIndex { $0 < slot } ?? free.count)
        loads.remove(at: place)
        roundRobin.removed(at: place)
        if way == .hashed { ring.remove(slot) }
    }

    /// The place whose turn it is, round robin.
    ///
    /// - Precondition: There is a member.
    mutating func nextTurn() -> Int { roundRobin.choose(of: count) }

    /// - Parameter key: Of the message; a keyed strategy needs one.
    /// - Returns: A place; nil when there is no member, or the strategy needs a key and there is none.
    mutating func choose(_ key: DistributionKey?, load: (Int) -> ProcLoad) -> Int? {
        if count == 0 { return nil }
        switch way {
        case .roundRobin: return roundRobin.choose(of: count)
        case .random: return Int(random.next(upperBound: UInt64(count)))
        case .leastLoaded: return loads.choose(&random, load: load)
        case .hashed: return key.flatMap { ring.slot(of: $0) }.map { slots[Int($0)].place }
        case .sticky:
            guard let key else { return nil }
            if let member = table.member(of: key) {
                let slot = slots[Int(member >> 32)]
                if slot.place >= 0, slot.generation == UInt32(truncatingIfNeeded: member) { return slot.place }
            }
            let place = loads.choose(&random, load: load)
            let slot = slotOfPlace[place]
            table.stick(key, to: UInt64(slot) << 32 | UInt64(slots[Int(slot)].generation))
            return place
        }
    }
}
