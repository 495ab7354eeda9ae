// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CLightProc
import Glibc
import LightProc
import Synchronization

/// A seat with what belongs to it: its queue, its node pool, its place to sleep.
///
/// It outlives the threads that sit on it: when one traps, its successor goes on with the same queue. "Owner" below is
/// the thread on the seat.
final class Worker: @unchecked Sendable {
    // Sendable: shared state is atomic; `local` and `nodes` are the owner's, handed over when it is replaced.

    let index: Int
    let pool: ObjectIdentifier
    let ring = RunRing()
    /// 0: awake. 1: sleeps. 2: was woken.
    let parking = FutexWord()
    /// Also holds the item that was made ready last, run next: what it needs is still in the cache. The owner's.
    let nodes: UnsafeMutablePointer<crt_nodePool>
    /// Whom to steal from, nearest first.
    let victims: [Int]

    struct Local {
        var tick: UInt32 = 0
        /// How many items in a row came from `next`.
        var nextRuns = 0
        var isSearching = false
    }
    let local: UnsafeMutablePointer<Local>

    /// So many items in a row may come from `next` before the ring gets its turn: two processes that only talk to each
    /// other must not starve the rest.
    private static let nextLimit = 64
    /// Every so many items the injection queue comes first. A prime, so that it falls into step with nothing.
    private static let fairness: UInt32 = 61

    init(index: Int, pool: ObjectIdentifier, victims: [Int]) {
        self.index = index
        self.pool = pool
        self.victims = victims
        // Two cache lines of its own, as the processor fetches them in pairs: the owner writes here for each message.
        let hot = UnsafeMutableRawPointer.allocate(byteCount: 128, alignment: 128)
        nodes = hot.initializeMemory(as: crt_nodePool.self, to: crt_nodePool())
        let offset = MemoryLayout<crt_nodePool>.stride
        precondition(offset + MemoryLayout<Local>.size <= 128, "impossible: the hot part of a worker has grown")
        local = (hot + offset).initializeMemory(as: Local.self, to: Local())
    }

    deinit {
        while let node = nodes.pointee.free {
            nodes.pointee.free = node.load(as: UnsafeMutableRawPointer?.self)
            free(node)
        }
        UnsafeMutableRawPointer(nodes).deallocate()
    }

    /// Makes an item the next to run; returns the one that was, to be put into the ring. Owner only.
    @inline(__always)
    func setNext(_ item: RunItem) -> RunItem? {
        let before = nodes.pointee.next
        nodes.pointee.next = item.bits
        return before == 0 ? nil : RunItem(bits: before)
    }

    @inline(__always)
    private func takeNext() -> RunItem? {
        let bits = nodes.pointee.next
        if bits == 0 { return nil }
        nodes.pointee.next = 0
        return RunItem(bits: UInt(bits))
    }

    /// What to run now, from this seat's queues and the injection queue. Owner only.
    @inline(__always)
    func take(_ injection: borrowing InjectionQueue) -> RunItem? {
        local.pointee.tick &+= 1
        if local.pointee.tick % Self.fairness == 0, let item = injection.pop() { return item }
        if local.pointee.nextRuns < Self.nextLimit, let item = takeNext() {
            local.pointee.nextRuns &+= 1
            return item
        }
        local.pointee.nextRuns = 0
        return ring.pop() ?? takeNext() ?? injection.pop()
    }
}
