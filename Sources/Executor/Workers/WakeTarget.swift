// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// Where something that became ready is to wait for its turn.
///
/// A process prefers the worker that ran it last, whose cache still holds what it needs, until that worker is busy and
/// another one idles. Woken by a worker of the same NUMA node it stays with that one: the message that woke it is in that
/// worker's cache, and handing it over would cost more than most messages take to handle.
enum WakeTarget: Equatable {
    /// On the waking worker, as the next to run.
    case here
    /// In the inbox of a worker; that one is to be woken if it sleeps.
    case inbox(Int)
    /// In the queue of a node, for whichever of its workers is free first.
    case node(Int)

    /// Who wakes, or who ran it last: a worker and its node, as an index into the nodes of the pool.
    struct Place: Equatable {
        let worker: Int
        let node: Int
    }

    /// - Parameters:
    ///   - waker: The worker that made it ready; nil for another thread.
    ///   - last: Who ran it last; nil if nobody did.
    ///   - lastSleeps: Whether that worker sleeps.
    ///   - lastIsAway: Whether nothing should wait for that worker: it is stuck, or has left.
    ///   - someoneSleeps: Whether any worker does.
    ///   - nearNode: The node of the thread that made it ready.
    static func choose(
        waker: Place?,
        last: Place?,
        lastSleeps: Bool,
        lastIsAway: Bool,
        someoneSleeps: Bool,
        nearNode: Int
    ) -> WakeTarget {
        guard let last else { return waker == nil ? .node(nearNode) : .here }
        if let waker, waker.node == last.node { return .here }
        // Made ready from afar, or from outside: where it was before.
        if lastIsAway { return .node(last.node) }
        if lastSleeps { return .inbox(last.worker) }
        return someoneSleeps || waker != nil ? .node(last.node) : .inbox(last.worker)
    }
}
