// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// Elements in the order in which they came: an array with a moving head.
struct FIFO<Element> {
    private var items: [Element] = []
    private var head = 0

    init() {}

    var count: Int { items.count - head }

    var first: Element? { head < items.count ? items[head] : nil }

    mutating func append(_ item: Element) { items.append(item) }

    mutating func append(contentsOf more: [Element]) { items += more }

    /// Removes the oldest; amortised O(1), as what was taken is given up only when it is half of the array.
    mutating func popFirst() -> Element? {
        guard head < items.count else { return nil }
        let item = items[head]
        head += 1
        if head == items.count {
            items.removeAll(keepingCapacity: true)
            head = 0
        } else if head >= 1024, head * 2 >= items.count {
            items.removeFirst(head)
            head = 0
        }
        return item
    }
}
