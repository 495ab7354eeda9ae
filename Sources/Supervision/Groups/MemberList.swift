// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// Members in the order in which they came, each found by its number: a pure value.
///
/// Adding and removing one costs the same however many there are, on average; so does finding the one at a place, as long as
/// none has left: afterwards the logarithm of their number.
struct MemberList<Member: AnyObject> {
    /// Nil where one has left; never the last.
    private var slots: [Member?] = []
    /// The number of who stands in a slot, or stood there.
    private var numbers: [Int32] = []
    /// By number: the slot; -1: none.
    private var places: [Int32] = []
    /// Made when first needed, and kept until there are no gaps: how many members are in the slots before each, summed up in ranges
    /// (a Fenwick tree, from 0).
    private var sums: [Int32] = []
    private(set) var count = 0

    /// So many slots are moved together at once.
    private static var small: Int { 32 }

    var isEmpty: Bool { count == 0 }
    private var hasGaps: Bool { count != slots.count }

    /// All, in order. O(n).
    var all: [Member] { slots.compactMap { $0 } }

    /// The last ones, the very last first, as far as they are wanted.
    var reversed: some Sequence<(member: Member, number: Int)> {
        slots.indices.reversed().lazy.compactMap { slot in slots[slot].map { ($0, Int(numbers[slot])) } }
    }

    /// Whether a member has this number, and is this one.
    func contains(_ member: Member, number: Int) -> Bool { slot(of: member, number) != nil }

    /// - Precondition: No other has this number.
    mutating func append(_ member: Member, number: Int) {
        while places.count <= number { places.append(-1) }
        precondition(places[number] < 0, "impossible: numbers are given to one at a time")
        places[number] = Int32(slots.count)
        slots.append(member)
        numbers.append(Int32(number))
        count += 1
        if !sums.isEmpty { appendSum() }
    }

    /// False if it is no member.
    mutating func remove(_ member: Member, number: Int) -> Bool {
        guard let slot = slot(of: member, number) else { return false }
        places[number] = -1
        slots[slot] = nil
        count -= 1
        if !sums.isEmpty { subtract(at: slot) }
        while let last = slots.last, last == nil {
            slots.removeLast()
            numbers.removeLast()
            if !sums.isEmpty { sums.removeLast() }
        }
        if hasGaps, slots.count <= Self.small || count < slots.count / 2 { closeGaps() }
        return true
    }

    /// The member at a place in the order, from 0.
    ///
    /// - Precondition: There are more members than that.
    mutating func member(at place: Int) -> Member {
        var slot = place
        if hasGaps {
            if sums.isEmpty { while sums.count < slots.count { appendSum() } }
            slot = self.slot(before: place)
        }
        guard let member = slots[slot] else { preconditionFailure("impossible: the sums count members") }
        return member
    }

    private func slot(of member: Member, _ number: Int) -> Int? {
        guard number < places.count, places[number] >= 0, slots[Int(places[number])] === member else { return nil }
        return Int(places[number])
    }

    /// Each moves once for one that has left since the last time.
    private mutating func closeGaps() {
        var end = 0
        for slot in slots.indices where slots[slot] != nil {
            if end != slot {
                slots[end] = slots[slot]
                numbers[end] = numbers[slot]
                places[Int(numbers[end])] = Int32(end)
            }
            end += 1
        }
        slots.removeLast(slots.count - end)
        numbers.removeLast(numbers.count - end)
        sums = []
    }

    // MARK: Sums

    /// The sum at an index goes over as many slots as the lowest bit of the index, counted from 1, says.
    private mutating func appendSum() {
        let index = sums.count + 1
        var sum: Int32 = slots[index - 1] == nil ? 0 : 1
        var below = index - 1
        while below > index - (index & -index) {
            sum += sums[below - 1]
            below -= below & -below
        }
        sums.append(sum)
    }

    private mutating func subtract(at slot: Int) {
        var index = slot + 1
        while index <= sums.count {
            sums[index - 1] -= 1
            index += index & -index
        }
    }

    /// The slot before which there are so many members, and which has one itself.
    private func slot(before place: Int) -> Int {
        var (left, slot) = (Int32(place), 0)
        var step = 1 << (Int.bitWidth - 1 - sums.count.leadingZeroBitCount)
        while step > 0 {
            if slot + step <= sums.count, sums[slot + step - 1] <= left {
                slot += step
                left -= sums[slot - 1]
            }
            step /= 2
        }
        return slot
    }
}

extension MemberList: Sendable where Member: Sendable {}

/// Numbers from 0 on, each given to one at a time, the lowest first: a pure value. Costs the logarithm of those given back.
struct NumberPool: Sendable {
    /// Given back, and lower than `next`; a heap, the lowest in front.
    private var free: [Int] = []
    /// From here on none was given.
    private var next = 0
    private var sum = 0
    private(set) var count = 0

    var isEmpty: Bool { count == 0 }
    /// The number that is in use, if it is the only one.
    var only: Int? { count == 1 ? sum : nil }

    mutating func take() -> Int {
        let number = takeFree() ?? next
        if number == next { next += 1 }
        count += 1
        sum += number
        return number
    }

    /// - Precondition: The number is in use.
    mutating func giveBack(_ number: Int) {
        count -= 1
        sum -= number
        if isEmpty {
            self = NumberPool()
            return
        }
        free.append(number)
        var child = free.count - 1
        while child > 0, free[child] < free[(child - 1) / 2] {
            free.swapAt(child, (child - 1) / 2)
            child = (child - 1) / 2
        }
    }

    private mutating func takeFree() -> Int? {
        guard let lowest = free.first else { return nil }
        let last = free.removeLast()
        if free.isEmpty { return lowest }
        free[0] = last
        var parent = 0
        while true {
            let first = 2 * parent + 1
            guard first < free.count else { return lowest }
            let lower = first + 1 < free.count && free[first + 1] < free[first] ? first + 1 : first
            if free[parent] <= free[lower] { return lowest }
            free.swapAt(parent, lower)
            parent = lower
        }
    }
}
