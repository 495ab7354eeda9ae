// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// Names a timer of one wheel.
///
/// The place of the entry and how often that was used before: a handle of a timer that fired, or was cancelled, names
/// nothing. (Unless the same place is used again 2^32 times meanwhile.)
struct TimerHandle: Hashable, Sendable {
    let bits: UInt64

    init(bits: UInt64) { self.bits = bits }

    fileprivate init(index: UInt32, generation: UInt32) { bits = (UInt64(generation) << 32) | UInt64(index) }
    fileprivate var index: UInt32 { UInt32(truncatingIfNeeded: bits) }
    fileprivate var generation: UInt32 { UInt32(truncatingIfNeeded: bits >> 32) }
}

/// Timers in the order of their deadlines: a hierarchical wheel, pure.
///
/// After Varghese and Lauck, "Hashed and Hierarchical Timing Wheels" (1987), scheme 7. Time is in nanoseconds. A tick is
/// 2^16 of them (65.5 µs); 8 levels of 64 slots reach 2^48 ticks, more than there are in 63 bits of nanoseconds, so that
/// nothing lies beyond the last level.
///
/// A timer lies at the level of the highest digit (of 6 bits) in which its tick differs from the wheel's. So all timers of a
/// level are earlier than those of the levels above, the slots of a level are in the order of time without wrapping round, and
/// a bitmap a level finds the first. When the wheel comes to a slot of a level above, its timers move down, at most 7
/// times each. A timer keeps its exact deadline: when its tick has come it is sorted among the others of that tick.
///
/// Insertion and cancellation are O(1) and allocate nothing once the wheel has had as many timers (in chunks of 512 entries,
/// 40 bytes each with a closure). `nextExpiry` is O(1). Handing one out is O(1) amortised, beside sorting it among those of the
/// same tick. Only a timer whose tick is over already is inserted in O(timers of that tick).
///
/// Equal deadlines come out in the order they went in.
struct TimerWheel<Payload>: ~Copyable {
    private static var tickBits: UInt64 { 16 }
    private static var digitBits: Int { 6 }
    private static var slotCount: Int { 64 }
    private static var levelCount: Int { 8 }
    private static var chunkBits: UInt32 { 9 }
    private static var chunkSize: Int { 1 << Int(chunkBits) }
    private static var none: UInt32 { .max }
    /// The place of an entry that is in `due`.
    private static var inDue: UInt16 { .max }

    private struct Entry {
        var deadline: UInt64 = 0
        /// The next in the slot, or of the free entries.
        var next: UInt32
        var previous: UInt32
        /// How often the entry was given back.
        var generation: UInt32 = 0
        /// Level and slot.
        var place: UInt16 = 0
        var payload: Payload?
    }

    private struct Slot {
        var first: UInt32 = .max
        var last: UInt32 = .max
        /// No timer in the slot is earlier. Its first timer may be later, if the one it stems from was cancelled.
        var earliest: UInt64 = .max
    }

    /// A timer whose tick has come; stale if it was cancelled since.
    private struct Due {
        let deadline: UInt64
        let order: UInt64
        let index: UInt32
        let generation: UInt32

        func isBefore(_ other: Due) -> Bool {
            deadline != other.deadline ? deadline < other.deadline : order < other.order
        }
    }

    private var chunks: ContiguousArray<UnsafeMutablePointer<Entry>> = []
    /// Entries that were ever used.
    private var used: UInt32 = 0
    private var firstFree: UInt32 = .max
    private let slots: UnsafeMutablePointer<Slot>
    /// By level: which slots have timers.
    private let occupied: UnsafeMutablePointer<UInt64>
    /// Which levels have timers.
    private var levels: UInt64 = 0
    /// The tick that the wheel stands at. No timer in a slot has an earlier one.
    private var position: UInt64 = 0
    /// In order, from `dueStart` on; the first of them is not stale.
    private var due: ContiguousArray<Due> = []
    private var dueStart = 0
    private var drained: UInt64 = 0

    /// How many timers there are.
    private(set) var count = 0

    init() {
        let slotTotal = Self.levelCount * Self.slotCount
        slots = .allocate(capacity: slotTotal)
        slots.initialize(repeating: Slot(), count: slotTotal)
        occupied = .allocate(capacity: Self.levelCount)
        occupied.initialize(repeating: 0, count: Self.levelCount)
    }

    deinit {
        for (number, chunk) in chunks.enumerated() {
            chunk.deinitialize(count: min(Self.chunkSize, Int(used) - number * Self.chunkSize))
            chunk.deallocate()
        }
        slots.deallocate()
        occupied.deallocate()
    }

    // MARK: Operations

    /// Adds a timer. Deadlines beyond 2^63 - 1 count as that.
    mutating func insert(_ payload: Payload, at deadline: UInt64) -> TimerHandle {
        let deadline = min(deadline, UInt64(Int64.max))
        let index = takeEntry()
        let entry = self.entry(index)
        entry.pointee.deadline = deadline
        entry.pointee.payload = payload
        count += 1
        if deadline >> Self.tickBits < position {
            insertIntoDue(index, entry)
        } else {
            link(index, entry)
        }
        return TimerHandle(index: index, generation: entry.pointee.generation)
    }

    /// Removes a timer. Nil if it has been handed out, or was cancelled.
    mutating func cancel(_ handle: TimerHandle) -> Payload? {
        guard handle.index < used else { return nil }
        let entry = self.entry(handle.index)
        guard entry.pointee.generation == handle.generation else { return nil }
        let isDue = entry.pointee.place == Self.inDue
        if !isDue { unlink(entry) }
        let payload = release(handle.index, entry)
        if isDue { dropStale() }
        return payload
    }

    /// No timer is due before; nil if there is none. May be earlier than the first deadline after a cancellation.
    var nextExpiry: UInt64? {
        let inSlots = firstSlot.map { slots[$0.place].earliest }
        guard dueStart < due.count else { return inSlots }
        return inSlots.map { min($0, due[dueStart].deadline) } ?? due[dueStart].deadline
    }

    /// Hands out the first timer if its deadline has come.
    ///
    /// - Parameter now: May jump in both directions; deadlines count, not how time went.
    mutating func popDue(at now: UInt64) -> (payload: Payload, deadline: UInt64)? {
        // Ends: each round hands one out, finds none due, or moves the timers of a slot to a lower level or to `due`.
        while true {
            let slot = firstSlot
            if dueStart < due.count, due[dueStart].deadline <= slot.map({ slots[$0.place].earliest }) ?? .max {
                return due[dueStart].deadline <= now ? takeFirstDue() : nil
            }
            guard let slot, slot.tick <= now >> Self.tickBits else {
                advance(to: now)
                return nil
            }
            let isLowest = slot.place < Self.slotCount
            // The others of its tick may still come, and are then sorted with it.
            if isLowest, slots[slot.place].earliest > now { return nil }
            position = max(position, slot.tick)
            let first = slots[slot.place].first
            empty(slot.place)
            if isLowest { drain(first) } else { cascade(first) }
        }
    }

    /// Lets the wheel follow the time where no timer is in between, so that new ones come to the level they belong to. O(1).
    mutating func advance(to now: UInt64) {
        let tick = now >> Self.tickBits
        if tick > position, tick < firstSlot?.tick ?? .max { position = tick }
    }

    /// Removes all timers.
    mutating func removeAll() -> [Payload] {
        var payloads: [Payload] = []
        for index in 0..<used {
            let entry = self.entry(index)
            guard entry.pointee.payload != nil else { continue }
            if entry.pointee.place != Self.inDue { unlink(entry) }
            if let payload = release(index, entry) { payloads.append(payload) }
        }
        dropStale()
        return payloads
    }

    // MARK: Slots

    /// The slot with the earliest timers, and the tick at which it begins.
    private var firstSlot: (place: Int, tick: UInt64)? {
        guard levels != 0 else { return nil }
        let level = levels.trailingZeroBitCount
        let slot = occupied[level].trailingZeroBitCount
        let shift = UInt64(level * Self.digitBits)
        let above = shift + UInt64(Self.digitBits)
        return (level * Self.slotCount + slot, ((position >> above) << above) | (UInt64(slot) << shift))
    }

    private mutating func link(_ index: UInt32, _ entry: UnsafeMutablePointer<Entry>) {
        let tick = entry.pointee.deadline >> Self.tickBits
        let level = (63 - ((tick ^ position) | 1).leadingZeroBitCount) / Self.digitBits
        let digit = Int(truncatingIfNeeded: tick >> UInt64(level * Self.digitBits)) & (Self.slotCount - 1)
        let place = level * Self.slotCount + digit
        let slot = slots + place
        entry.pointee.place = UInt16(place)
        entry.pointee.next = Self.none
        entry.pointee.previous = slot.pointee.last
        if slot.pointee.last == Self.none {
            slot.pointee.first = index
            slot.pointee.earliest = entry.pointee.deadline
            occupied[level] |= 1 << UInt64(digit)
            levels |= 1 << UInt64(level)
        } else {
            self.entry(slot.pointee.last).pointee.next = index
            slot.pointee.earliest = min(slot.pointee.earliest, entry.pointee.deadline)
        }
        slot.pointee.last = index
    }

    private mutating func unlink(_ entry: UnsafeMutablePointer<Entry>) {
        let place = Int(entry.pointee.place)
        let (previous, next) = (entry.pointee.previous, entry.pointee.next)
        if previous == Self.none { slots[place].first = next } else { self.entry(previous).pointee.next = next }
        if next == Self.none { slots[place].last = previous } else { self.entry(next).pointee.previous = previous }
        if slots[place].first == Self.none { empty(place) }
    }

    private mutating func empty(_ place: Int) {
        slots[place] = Slot()
        let level = place / Self.slotCount
        occupied[level] &= ~(1 << UInt64(place % Self.slotCount))
        if occupied[level] == 0 { levels &= ~(1 << UInt64(level)) }
    }

    /// Moves the timers of a slot that the wheel has come to down to where they belong now.
    private mutating func cascade(_ first: UInt32) {
        var index = first
        while index != Self.none {
            let entry = self.entry(index)
            let next = entry.pointee.next
            link(index, entry)
            index = next
        }
    }

    /// Sorts the timers of a tick that has come among those that are due.
    private mutating func drain(_ first: UInt32) {
        var isSorted = true
        var last = dueStart < due.count ? due[due.count - 1].deadline : 0
        var index = first
        while index != Self.none {
            let entry = self.entry(index)
            let deadline = entry.pointee.deadline
            if deadline < last { isSorted = false }
            last = deadline
            due.append(Due(deadline: deadline, order: drained, index: index, generation: entry.pointee.generation))
            drained &+= 1
            entry.pointee.place = Self.inDue
            index = entry.pointee.next
        }
        if !isSorted { due[dueStart...].sort { $0.isBefore($1) } }
    }

    // MARK: Due

    private mutating func insertIntoDue(_ index: UInt32, _ entry: UnsafeMutablePointer<Entry>) {
        let deadline = entry.pointee.deadline
        var (low, high) = (dueStart, due.count)
        while low < high {
            let middle = (low + high) / 2
            if due[middle].deadline <= deadline { low = middle + 1 } else { high = middle }
        }
        due.insert(
            Due(deadline: deadline, order: drained, index: index, generation: entry.pointee.generation),
            at: low
        )
        drained &+= 1
        entry.pointee.place = Self.inDue
    }

    private mutating func takeFirstDue() -> (payload: Payload, deadline: UInt64)? {
        let first = due[dueStart]
        let payload = release(first.index, entry(first.index))
        dropStale()
        return payload.map { ($0, first.deadline) }
    }

    /// Skips what was handed out or cancelled.
    private mutating func dropStale() {
        while dueStart < due.count, entry(due[dueStart].index).pointee.generation != due[dueStart].generation {
            dueStart += 1
        }
        guard dueStart == due.count, dueStart > 0 else { return }
        // A burst is not to keep its memory.
        if due.count > 4096 { due = [] } else { due.removeAll(keepingCapacity: true) }
        dueStart = 0
    }

    // MARK: Entries

    private func entry(_ index: UInt32) -> UnsafeMutablePointer<Entry> {
        chunks[Int(index >> Self.chunkBits)] + (Int(index) & (Self.chunkSize - 1))
    }

    private mutating func takeEntry() -> UInt32 {
        if firstFree != Self.none {
            let index = firstFree
            firstFree = entry(index).pointee.next
            return index
        }
        precondition(used < Self.none, "more than 2^32 - 1 timers")
        let index = used
        if Int(index >> Self.chunkBits) == chunks.count { chunks.append(.allocate(capacity: Self.chunkSize)) }
        used += 1
        entry(index).initialize(to: Entry(next: Self.none, previous: Self.none, payload: nil))
        return index
    }

    private mutating func release(_ index: UInt32, _ entry: UnsafeMutablePointer<Entry>) -> Payload? {
        let payload = entry.pointee.payload.take()
        entry.pointee.generation &+= 1
        entry.pointee.next = firstFree
        firstFree = index
        count -= 1
        return payload
    }
}
