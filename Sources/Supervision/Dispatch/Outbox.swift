// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// What others are to be told, in the order in which it happened, by one thread at a time and under no lock. A pure value.
///
/// It stands behind the lock of what changes: who changes something posts it there, and delivers afterwards. Who finds
/// another thread delivering leaves it to that one.
struct Outbox<Item: Sendable>: Sendable {
    private var items: [Item] = []
    private var isDelivering = false

    mutating func post(_ item: Item) { items.append(item) }

    /// What is to be told by the calling thread, which calls `delivered` then; nil if there is nothing for it to do.
    mutating func collect() -> [Item]? {
        if isDelivering || items.isEmpty { return nil }
        isDelivering = true
        defer { items = [] }
        return items
    }

    /// What was collected has been told. More may have come: collect again.
    mutating func delivered() { isDelivering = false }
}
