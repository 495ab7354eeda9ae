// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// Elements in the order in which they came: a ring that grows. What was taken out is not held any longer.
struct Ring<Element> {
    private var slots: [Element?] = []
    private var head = 0
    private(set) var count = 0

    init() {}

    var isEmpty: Bool { count == 0 }

    /// The oldest element.
    var first: Element? { count == 0 ? nil : slots[head] }

    /// Adds an element as the newest. Amortised O(1).
    mutating func append(_ element: Element) {
        if count == slots.count { grow() }
        slots[(head + count) & (slots.count - 1)] = element
        count += 1
    }

    /// Adds an element as the oldest. Amortised O(1).
    mutating func prepend(_ element: Element) {
        if count == slots.count { grow() }
        head = (head + slots.count - 1) & (slots.count - 1)
        slots[head] = element
        count += 1
    }

    /// Removes the oldest. O(1).
    mutating func popFirst() -> Element? {
        guard count > 0 else { return nil }
        let element = slots[head].take()
        head = (head + 1) & (slots.count - 1)
        count -= 1
        return element
    }

    /// All elements, oldest first. O(n).
    var elements: [Element] { (0..<count).compactMap { slots[(head + $0) & (slots.count - 1)] } }

    /// Changes all elements in place, oldest first. O(n).
    mutating func update(_ change: (inout Element) -> Void) {
        for offset in 0..<count {
            let place = (head + offset) & (slots.count - 1)
            if var element = slots[place] {
                change(&element)
                slots[place] = element
            }
        }
    }

    /// Removes the first element that fits, wherever it is. O(n).
    mutating func removeFirst(where fits: (Element) throws -> Bool) rethrows -> Element? {
        for offset in 0..<count {
            guard let element = slots[(head + offset) & (slots.count - 1)], try fits(element) else { continue }
            // What was before it moves up by one.
            for back in stride(from: offset, to: 0, by: -1) {
                slots[(head + back) & (slots.count - 1)] = slots[(head + back - 1) & (slots.count - 1)]
            }
            slots[head] = nil
            head = (head + 1) & (slots.count - 1)
            count -= 1
            return element
        }
        return nil
    }

    /// Removes all, oldest first.
    mutating func removeAll() -> [Element] {
        var all: [Element] = []
        all.reserveCapacity(count)
        while let element = popFirst() { all.append(element) }
        slots = []
        head = 0
        return all
    }

    /// The size stays a power of two, so that places are found by a mask.
    private mutating func grow() {
        var larger: [Element?] = []
        let size = max(8, slots.count * 2)
        larger.reserveCapacity(size)
        for offset in 0..<count { larger.append(slots[(head + offset) & (slots.count - 1)]) }
        while larger.count < size { larger.append(nil) }
        slots = larger
        head = 0
    }
}

extension Ring: Sendable where Element: Sendable {}
