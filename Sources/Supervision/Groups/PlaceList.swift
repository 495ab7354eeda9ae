// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// Numbers in the order in which they came, each found by its place in it, and the other way round: a pure value.
///
/// Adding and removing one costs the same however many there are, on average; so does finding one, as long as none has left:
/// afterwards the logarithm of their number. Numbers are small: what is kept goes up to the greatest.
struct PlaceList: Sendable {
    /// -1 where one has left; never the last.
    private var slots: [Int32] = []
    /// By number: the slot; -1: none.
    private var slotOfNumber: [Int32] = []
    /// Made when first needed, and kept until there are no gaps: how many are in the slots before each, summed up in ranges
    /// (a Fenwick tree, from 0).
    private var sums: [Int32] = []
    private(set) var count = 0

    /// So many slots are moved together at once.
    private static var small: Int { 32 }

    var isEmpty: Bool { count == 0 }
    private var hasGaps: Bool { count != slots.count }

    /// All, in order. O(n).
    var all: [Int] { slots.compactMap { $0 < 0 ? nil : Int($0) } }

    /// The last ones, the very last first, as far as they are wanted.
    var reversed: some Sequence<Int> { slots.reversed().lazy.filter { $0 >= 0 }.map { Int($0) } }

    func contains(_ number: Int) -> Bool { number < slotOfNumber.count && slotOfNumber[number] >= 0 }

    /// - Precondition: It is not there.
    mutating func append(_ number: Int) {
        while slotOfNumber.count <= number { slotOfNumber.append(-1) }
        precondition(slotOfNumber[number] < 0, "impossible: numbers are given to one at a time")
        slotOfNumber[number] = Int32(slots.count)
        slots.append(Int32(number))
        count += 1
        if !sums.isEmpty { appendSum() }
    }

    /// - Precondition: It is there.
    mutating func remove(_ number: Int) {
        let slot = Int(slotOfNumber[number])
        slotOfNumber[number] = -1
        slots[slot] = -1
        count -= 1
        if !sums.isEmpty { subtract(at: slot) }
        while let last = slots.last, last < 0 {
            slots.removeLast()
            if !sums.isEmpty { sums.removeLast() }
        }
        if hasGaps, slots.count <= Self.small || count < slots.count / 2 { closeGaps() }
    }

    /// The number at a place in the order, from 0.
    ///
    /// - Precondition: There are more than that.
    @inline(__always)
    mutating func number(at place: Int) -> Int { hasGaps ? number(behind: place) : Int(slots[place]) }

    @inline(never)
    private mutating func number(behind place: Int) -> Int {
        let slot = slot(before: place)
        precondition(slots[slot] >= 0, "impossible: the sums count who is there")
        return Int(slots[slot])
    }

    /// The place of a number, from 0.
    ///
    /// - Precondition: It is there.
    mutating func place(of number: Int) -> Int {
        let slot = Int(slotOfNumber[number])
        guard hasGaps else { return slot }
        sumUp()
        var (place, index) = (0, slot)
        while index > 0 {
            place += Int(sums[index - 1])
            index -= index & -index
        }
        return place
    }

    /// Each moves once for one that has left since the last time.
    private mutating func closeGaps() {
        var end = 0
        for slot in slots.indices where slots[slot] >= 0 {
            if end != slot {
                slots[end] = slots[slot]
                slotOfNumber[Int(slots[end])] = Int32(end)
            }
            end += 1
        }
        slots.removeLast(slots.count - end)
        sums = []
    }

    // MARK: Sums

    private mutating func sumUp() {
        if sums.isEmpty { while sums.count < slots.count { appendSum() } }
    }

    /// The sum at an index goes over as many slots as the lowest bit of the index, counted from 1, says.
    private mutating func appendSum() {
        let index = sums.count + 1
        var sum: Int32 = slots[index - 1] < 0 ? 0 : 1
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

    /// The slot before which there are so many, and which has one itself.
    private mutating func slot(before place: Int) -> Int {
        sumUp()
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
