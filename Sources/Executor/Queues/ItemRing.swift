// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// Items in the order in which they came, in memory of a place; as large as it had to be once.
///
/// A plain record of memory that its owner frees.
struct ItemRing {
    private let memory: NodeMemory
    private var items: UnsafeMutablePointer<UInt>?
    private var capacity = 0
    private var head = 0
    private(set) var count = 0

    /// Of the first items: a page of them.
    private static let firstCapacity = 512

    init(_ memory: NodeMemory) { self.memory = memory }

    mutating func free() {
        if let items { memory.deallocate(items, byteCount: capacity * 8) }
        self = ItemRing(memory)
    }

    var bytes: Range<UInt> {
        let start = UInt(bitPattern: items)
        return start..<(start + UInt(capacity * 8))
    }

    mutating func append(_ item: RunItem) {
        if count == capacity { grow() }
        let end = head + count
        items.unsafelyUnwrapped[end < capacity ? end : end - capacity] = item.bits
        count += 1
    }

    /// Removes the oldest.
    mutating func popFirst() -> RunItem? {
        guard count > 0 else { return nil }
        let bits = items.unsafelyUnwrapped[head]
        head = head + 1 == capacity ? 0 : head + 1
        count -= 1
        return RunItem(bits: bits)
    }

    /// Doubles the room: amortised O(1) an item.
    private mutating func grow() {
        let larger = max(2 * capacity, Self.firstCapacity)
        let new = memory.allocate(byteCount: larger * 8, alignment: 64).bindMemory(to: UInt.self, capacity: larger)
        for index in 0..<count {
            let place = head + index
            new[index] = items.unsafelyUnwrapped[place < capacity ? place : place - capacity]
        }
        if let items { memory.deallocate(items, byteCount: capacity * 8) }
        items = new
        capacity = larger
        head = 0
    }
}
