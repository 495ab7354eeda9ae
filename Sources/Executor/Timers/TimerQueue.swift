// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// Deadlines in order: a binary heap, pure.
///
/// Insertion, removal of the first, and cancellation are O(log n). Equal deadlines come out in the order they went in.
struct TimerQueue<Payload> {
    /// Names an entry; never used twice.
    struct ID: Hashable, Sendable { fileprivate let number: UInt64 }

    private struct Entry {
        let deadline: Duration
        let id: ID
        let payload: Payload

        func isBefore(_ other: Entry) -> Bool {
            deadline != other.deadline ? deadline < other.deadline : id.number < other.id.number
        }
    }

    private var heap: [Entry] = []
    private var places: [ID: Int] = [:]
    private var nextNumber: UInt64 = 0

    init() {}

    var isEmpty: Bool { heap.isEmpty }
    var count: Int { heap.count }
    var nextDeadline: Duration? { heap.first?.deadline }

    mutating func insert(_ payload: Payload, at deadline: Duration) -> ID {
        let id = ID(number: nextNumber)
        nextNumber += 1
        heap.append(Entry(deadline: deadline, id: id, payload: payload))
        places[id] = heap.count - 1
        siftUp(heap.count - 1)
        return id
    }

    /// Removes an entry. Nil if it is not there (any more).
    @discardableResult
    mutating func remove(_ id: ID) -> Payload? {
        guard let place = places[id] else { return nil }
        return remove(at: place)
    }

    /// Removes the first entry if its deadline has come.
    mutating func popDue(at now: Duration) -> Payload? {
        guard let first = heap.first, first.deadline <= now else { return nil }
        return remove(at: 0)
    }

    private mutating func remove(at place: Int) -> Payload {
        let last = heap.count - 1
        if place != last { swapEntries(place, last) }
        let entry = heap.removeLast()
        places[entry.id] = nil
        if place < heap.count {
            siftDown(place)
            siftUp(place)
        }
        return entry.payload
    }

    private mutating func siftUp(_ start: Int) {
        var child = start
        while child > 0 {
            let parent = (child - 1) / 2
            guard heap[child].isBefore(heap[parent]) else { return }
            swapEntries(child, parent)
            child = parent
        }
    }

    private mutating func siftDown(_ start: Int) {
        var parent = start
        while true {
            var smallest = parent
            for child in [2 * parent + 1, 2 * parent + 2]
            where child < heap.count && heap[child].isBefore(heap[smallest]) {
                smallest = child
            }
            if smallest == parent { return }
            swapEntries(parent, smallest)
            parent = smallest
        }
    }

    private mutating func swapEntries(_ a: Int, _ b: Int) {
        heap.swapAt(a, b)
        places[heap[a].id] = a
        places[heap[b].id] = b
    }
}
