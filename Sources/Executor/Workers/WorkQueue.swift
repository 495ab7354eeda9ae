// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

/// The queue that the threads of the blocking pool share, and the list of those that sleep.
///
/// A worker sleeps only after it found the queue empty under the lock, and is on the list from then on; whoever adds
/// something takes a sleeper from the list under the same lock. So no item is added unseen, and no worker polls.
struct WorkQueue {
    private var items = ItemQueue()
    private var sleepers: [Int] = []
    private(set) var isStopping = false

    init() {}

    var count: Int { items.count }
    var sleeperCount: Int { sleepers.count }

    /// Adds an item; returns the worker to wake, if one sleeps.
    mutating func add(_ item: RunItem) -> Int? {
        items.append(item)
        return sleepers.popLast()
    }

    enum Next {
        case item(RunItem)
        /// Nothing to do: sleep until woken.
        case sleep
        case stop
    }

    mutating func next(for worker: Int) -> Next {
        if let item = items.popFirst() { return .item(item) }
        if isStopping { return .stop }
        sleepers.append(worker)
        return .sleep
    }

    /// A sleeper gave up by itself (its time was up). True if it was still on the list.
    mutating func leave(_ worker: Int) -> Bool {
        guard let place = sleepers.firstIndex(of: worker) else { return false }
        sleepers.remove(at: place)
        return true
    }

    /// Lets workers sleep again when the queue is empty.
    mutating func resume() { isStopping = false }

    /// Lets the workers end once the queue is empty; returns those that sleep.
    mutating func stop() -> [Int] {
        isStopping = true
        defer { sleepers = [] }
        return sleepers
    }
}
