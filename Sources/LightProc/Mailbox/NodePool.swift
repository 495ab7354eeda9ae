// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

public import CLightProc
public import Glibc

/// The free list of message nodes of the worker that the calling thread is.
///
/// The number of its nodes and the reductions left in the run share a word, so that a send or a receive changes one.
/// Costs two loads and two stores on a worker; on other threads it is the allocator. A node may be taken on one worker and
/// given back on another: a list that grows too long goes, whole, to a depot, from where a worker that has run out takes
/// it. So a stream from one worker to another allocates nothing in the long run either.
@frozen @usableFromInline
enum NodePool {
    // What is sent wakes somebody: the stack is looked at here, as every message begins here, and the receiver is told that he
    // will be run when the node gets into his mailbox.

    /// Bytes of a pooled node, header included.
    @inlinable @inline(__always)
    static var nodeSize: Int { 64 }

    /// So many nodes make a batch for the depot.
    @inlinable @inline(__always)
    static var batchSize: Int { 1024 }

    @inlinable @inline(__always)
    static func allocate(_ size: Int) -> UnsafeMutableRawPointer {
        if size <= nodeSize, let pool = crt_nodes(), let node = pool.pointee.free {
            crt_touchStack()
            pool.pointee.free = node.load(as: UnsafeMutableRawPointer?.self)
            // A send is a reduction too: a producer that only its own inbox held back would fill the memory.
            pool.pointee.meter &+= taken
            return node
        }
        return allocateSlowly(size)
    }

    @inline(never) @usableFromInline
    static func allocateSlowly(_ size: Int) -> UnsafeMutableRawPointer {
        crt_probeStackForMessage()
        if let pool = crt_nodes() {
            pool.pointee.meter &-= 1
            if size <= nodeSize, let batch = takeBatch(pool) {
                pool.pointee.free = batch.head.load(as: UnsafeMutableRawPointer?.self)
                pool.pointee.meter &+= UInt64(batch.count - 1) << 32
                return batch.head
            }
        }
        var block: UnsafeMutableRawPointer?
        // posix_memalign fails only for lack of memory: a bad alignment cannot occur, 64 is a power of two.
        guard posix_memalign(&block, 64, max(size, nodeSize)) == 0, let block else { fatalError("out of memory") }
        return block
    }

    @inlinable @inline(__always)
    static func recycle(_ node: UnsafeMutableRawPointer, size: Int) {
        guard size <= nodeSize, let pool = crt_nodes() else { return dispose(node) }
        give(node, to: pool, meter: 1 << 32)
        trim(pool)
    }

    /// Puts a node of a message that is being handled on the list; `trim` follows at the end of the run.
    @inlinable @inline(__always)
    static func recycleHandled(_ node: UnsafeMutableRawPointer, size: Int, to pool: UnsafeMutablePointer<crt_nodePool>)
    {
        if size <= nodeSize {
            give(node, to: pool, meter: received)
        } else {
            pool.pointee.meter &-= 1
            free(node)
        }
    }

    @inlinable @inline(__always)
    static func give(_ node: UnsafeMutableRawPointer, to pool: UnsafeMutablePointer<crt_nodePool>, meter: UInt64) {
        node.storeBytes(of: pool.pointee.free, as: UnsafeMutableRawPointer?.self)
        pool.pointee.free = node
        pool.pointee.meter &+= meter
    }

    /// Gives a batch to the depot if the list has grown long.
    @inlinable @inline(__always)
    static func trim(_ pool: UnsafeMutablePointer<crt_nodePool>) {
        if count(pool) >= batchSize * 2 { giveBatch(pool) }
    }

    // MARK: Meter

    /// One node less, one reduction less.
    @inlinable @inline(__always)
    static var taken: UInt64 { 0 &- (1 << 32) &- 1 }

    /// One node more, one reduction less.
    @inlinable @inline(__always)
    static var received: UInt64 { (1 << 32) &- 1 }

    /// Reductions left; negative when more were spent than there were.
    @inlinable @inline(__always)
    static func budget(_ pool: UnsafeMutablePointer<crt_nodePool>) -> Int32 {
        Int32(truncatingIfNeeded: pool.pointee.meter)
    }

    @inlinable @inline(__always)
    static func setBudget(_ pool: UnsafeMutablePointer<crt_nodePool>, _ budget: Int32) {
        pool.pointee.meter &+= UInt64(bitPattern: Int64(budget) &- Int64(self.budget(pool)))
    }

    /// Gives the worker what one turn may spend.
    @inlinable @inline(__always)
    static func beginTurn(_ pool: UnsafeMutablePointer<crt_nodePool>) {
        setBudget(pool, LightProc.reductions &- pool.pointee.cut)
        pool.pointee.flooded = 0
    }

    /// What a send to a process that is behind costs besides, in reductions.
    static func charge(_ pool: UnsafeMutablePointer<crt_nodePool>) { pool.pointee.meter &-= 15 }

    @inlinable @inline(__always)
    static func count(_ pool: UnsafeMutablePointer<crt_nodePool>) -> Int {
        Int((Int64(bitPattern: pool.pointee.meter) &- Int64(budget(pool))) >> 32)
    }

    /// Keeps half of a list and gives the other to the depot.
    @inline(never) @usableFromInline
    static func giveBatch(_ pool: UnsafeMutablePointer<crt_nodePool>) {
        guard pool.pointee.region == 0 else { return sortOut(pool) }
        guard let batch = pool.pointee.free else { return }
        var last = batch
        for _ in 1..<batchSize {
            guard let next = last.load(as: UnsafeMutableRawPointer?.self) else { return }
            last = next
        }
        pool.pointee.free = last.load(as: UnsafeMutableRawPointer?.self)
        pool.pointee.meter &-= UInt64(batchSize) << 32
        last.storeBytes(of: nil, as: UnsafeMutableRawPointer?.self)
        if !depot.put(batch) { disposeAll(batch) }
    }

    private static let depot = NodeDepot()

    // MARK: Regions

    private static func takeBatch(_ pool: UnsafeMutablePointer<crt_nodePool>) -> NodeBatch? {
        if let region = NodeRegions.region(of: pool) { return region.take() }
        return depot.take().map { NodeBatch(head: $0, count: batchSize) }
    }

    /// Gives a node back that no worker's list takes.
    @inline(never) @usableFromInline
    static func dispose(_ node: UnsafeMutableRawPointer) {
        guard let region = NodeRegions.region(holding: node) else { return free(node) }
        node.storeBytes(of: nil, as: UnsafeMutableRawPointer?.self)
        region.put(NodeBatch(head: node, count: 1))
    }

    /// Gives all nodes of a list back.
    static func disposeAll(_ head: UnsafeMutableRawPointer?) {
        var next = head
        while let node = next {
            next = node.load(as: UnsafeMutableRawPointer?.self)
            dispose(node)
        }
    }

    /// Keeps nodes of the worker's own region, a batch at most, and sends all others where they come from.
    private static func sortOut(_ pool: UnsafeMutablePointer<crt_nodePool>) {
        let own = pool.pointee.region
        var kept = NodeBatch.Builder()
        var surplus: [UInt: NodeBatch.Builder] = [:]
        var next = pool.pointee.free
        while let node = next {
            next = node.load(as: UnsafeMutableRawPointer?.self)
            let home = NodeRegions.number(holding: node)
            if home == own, kept.count < batchSize {
                kept.append(node)
            } else if home == 0 {
                free(node)
            } else {
                surplus[home, default: .init()].append(node)
                if surplus[home]?.count == batchSize, let batch = surplus.removeValue(forKey: home)?.batch {
                    NodeRegions.region(home)?.put(batch)
                }
            }
        }
        for (home, builder) in surplus {
            if let batch = builder.batch { NodeRegions.region(home)?.put(batch) }
        }
        let budget = budget(pool)
        pool.pointee.free = kept.batch?.head
        pool.pointee.meter = UInt64(kept.count) << 32
        setBudget(pool, budget)
    }
}

/// A list of nodes that belongs to whoever holds it.
struct NodeBatch {
    let head: UnsafeMutableRawPointer
    let count: Int

    /// Makes one, in the order in which the nodes come.
    struct Builder {
        private var head: UnsafeMutableRawPointer?
        private var last: UnsafeMutableRawPointer?
        private(set) var count = 0

        mutating func append(_ node: UnsafeMutableRawPointer) {
            node.storeBytes(of: nil, as: UnsafeMutableRawPointer?.self)
            if let last { last.storeBytes(of: node, as: UnsafeMutableRawPointer?.self) } else { head = node }
            last = node
            count += 1
        }

        var batch: NodeBatch? { head.map { NodeBatch(head: $0, count: count) } }
    }
}

/// Batches of nodes on their way from workers that receive more than they send to those that do the opposite.
private final class NodeDepot: Sendable {
    private struct Batches: @unchecked Sendable {
        // Sendable: a batch in here belongs to nobody else.
        var heads: [UnsafeMutableRawPointer] = []
    }
    private let batches = Locked(Batches())
    /// 64 batches are 4 MiB; what comes beyond that goes back to the allocator.
    private static let limit = 64

    func take() -> UnsafeMutableRawPointer? {
        let bits = batches.withLock { UInt(bitPattern: $0.heads.popLast()) }
        return UnsafeMutableRawPointer(bitPattern: bits)
    }

    func put(_ batch: UnsafeMutableRawPointer) -> Bool {
        let bits = UInt(bitPattern: batch)
        return batches.withLock { batches in
            guard batches.heads.count < Self.limit, let head = UnsafeMutableRawPointer(bitPattern: bits) else {
                return false
            }
            batches.heads.append(head)
            return true
        }
    }
}
