// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// Which message nodes of a stretch of memory are free: a stretch of slabs, each of which is a batch of nodes.
///
/// Decides only; its owner holds a lock, writes the nodes and asks the kernel. Free nodes are kept as whole batches, as they
/// come, up to a limit. What is beyond that is sorted by slab, and a slab whose nodes are all free is given back to the
/// kernel: after a flood of messages its memory is the program's again.
struct NodeSlabs {
    /// Bytes of a slab.
    static var slabSize: Int { NodePool.batchSize * NodePool.nodeSize }

    let base: UInt
    private let capacity: Int
    private let limit: Int
    /// Slabs used so far, empty ones included.
    private(set) var opened = 0
    private var batches: [UInt] = []
    private var empty: [Int] = []
    /// By slab: its free nodes that are in no batch.
    private var sorted: [Loose] = []
    /// Slabs with such nodes.
    private var partial: [Int] = []

    private struct Loose {
        var head: UInt = 0
        var count = 0
        /// Where in `partial`.
        var place = -1
    }

    /// - Parameters:
    ///   - capacity: How many slabs there are room for.
    ///   - limit: How many whole batches are kept.
    init(base: UInt, capacity: Int, limit: Int = 64) {
        self.base = base
        self.capacity = capacity
        self.limit = limit
    }

    /// Free nodes, linked by their first word.
    struct Chain: Equatable {
        let head: UInt
        let count: Int
    }

    enum Supply: Equatable {
        case chain(Chain)
        /// All nodes of a slab at this address, not linked yet.
        case slab(UInt)
    }

    /// Free nodes for a worker that has none; nil when there is no room left.
    mutating func take() -> Supply? {
        if let head = batches.popLast() { return .chain(Chain(head: head, count: NodePool.batchSize)) }
        if let slab = partial.last {
            let loose = sorted[slab]
            forget(slab)
            return .chain(Chain(head: loose.head, count: loose.count))
        }
        if let slab = empty.popLast() { return .slab(address(of: slab)) }
        guard opened < capacity else { return nil }
        opened += 1
        sorted.append(Loose())
        return .slab(address(of: opened - 1))
    }

    /// Keeps a whole batch as it is. False if there are enough of them: then its nodes are to be sorted one by one.
    mutating func keep(_ chain: Chain) -> Bool {
        guard chain.count == NodePool.batchSize, batches.count < limit else { return false }
        batches.append(chain.head)
        return true
    }

    /// Sorts a free node into its slab. Returns what its first word has to be: the next free node there, or 0.
    mutating func sort(_ node: UInt) -> UInt {
        let slab = Int(node - base) / Self.slabSize
        let next = sorted[slab].head
        sorted[slab].head = node
        sorted[slab].count += 1
        if sorted[slab].place < 0 {
            sorted[slab].place = partial.count
            partial.append(slab)
        }
        return next
    }

    /// Takes the slab of a node that was sorted just now, if all of its nodes are free: the kernel may have its memory.
    mutating func release(slabOf node: UInt) -> UInt? {
        let slab = Int(node - base) / Self.slabSize
        guard sorted[slab].count == NodePool.batchSize else { return nil }
        forget(slab)
        empty.append(slab)
        return address(of: slab)
    }

    /// Nodes that are free here, in slabs that were opened.
    var freeCount: Int {
        batches.count * NodePool.batchSize + empty.count * NodePool.batchSize
            + partial.reduce(0) { $0 + sorted[$1].count }
    }

    private func address(of slab: Int) -> UInt { base + UInt(slab * Self.slabSize) }

    private mutating func forget(_ slab: Int) {
        let place = sorted[slab].place
        let last = partial.removeLast()
        if last != slab {
            partial[place] = last
            sorted[last].place = place
        }
        sorted[slab] = Loose()
    }
}
