// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

package import CLightProc
import Glibc
import Synchronization

/// The memory of message nodes, one region for each NUMA node, so that a worker's nodes lie on its own.
///
/// Only where a pool asks for it: on a machine with one memory node there are no regions, and nodes come from the allocator.
/// The regions are address space reserved at once and for the life of the program, so that a node's region follows from
/// its address; memory is used as messages need it, in slabs, and given back (see `NodeSlabs`). Each region lies where
/// the executor has the kernel put it.
///
/// A node that another NUMA node's worker received stays in the list of that worker as long as the list is short: it is in
/// the cache there. When the list is trimmed, each goes back to its own region.
package enum NodeRegions {
    /// Address space of a region: what messages that wait on one NUMA node may take, beyond which they come from the
    /// allocator.
    static let span = 1 << 34

    /// Reserved at the first call; the regions it was made for, or nil if the kernel refused the address space.
    private static let regions = Locked(Reservation.none)
    /// Where the regions begin, and their number: 0 before there are any.
    private static let base = Atomic<UInt>(0)
    private static let reserved = Atomic<Int>(0)
    /// By number; written before `reserved`, never again.
    nonisolated(unsafe) private static var table: UnsafeMutablePointer<NodeRegion>?

    private enum Reservation {
        case none
        case failed
        /// Which regions lie where they should.
        case made(placed: [Bool])
    }

    /// Has new message nodes of a worker come from a region, if that can be placed. Costs some system calls.
    ///
    /// - Parameters:
    ///   - index: Which region, from 0.
    ///   - count: How many regions there are to be in all; the first call of the program decides.
    ///   - pool: The worker's nodes, before it runs.
    ///   - place: Has the kernel put memory of a range where the region is to be; false if it refuses. Called once for each
    ///     region that it succeeds for, under a lock.
    /// - Returns: False if the nodes come from the allocator, as without a region.
    package static func use(
        _ index: Int,
        of count: Int,
        for pool: UnsafeMutablePointer<crt_nodePool>,
        place: (UnsafeMutableRawBufferPointer) -> Bool
    ) -> Bool {
        let isPlaced = regions.withLock { state in
            if case .none = state { state = reserve(count) }
            guard case .made(var placed) = state, placed.indices.contains(index), let region = region(UInt(index + 1))
            else { return false }
            if !placed[index] {
                placed[index] = place(region.memory)
                state = .made(placed: placed)
            }
            return placed[index]
        }
        pool.pointee.region = isPlaced ? UInt(index + 1) : 0
        return isPlaced
    }

    /// Gives all nodes of a worker's list back. By the owner of the worker, whose threads have ended.
    package static func dispose(_ pool: UnsafeMutablePointer<crt_nodePool>) {
        NodePool.disposeAll(pool.pointee.free)
        pool.pointee.free = nil
    }

    private static func reserve(_ count: Int) -> Reservation {
        let size = count * span
        let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE
        guard count > 0, let start = mmap(nil, size, PROT_NONE, flags, -1, 0), start != MAP_FAILED else {
            return .failed  // by a limit of address space
        }
        let regions = UnsafeMutablePointer<NodeRegion>.allocate(capacity: count)
        for index in 0..<count {
            let memory = UnsafeMutableRawBufferPointer(start: start + index * span, count: span)
            (regions + index).initialize(to: NodeRegion(memory))
        }
        table = regions
        base.store(UInt(bitPattern: start), ordering: .relaxed)
        // ordering: releasing: with the table and the base; pairs with `number(holding:)` and `region(_:)`.
        reserved.store(count, ordering: .releasing)
        return .made(placed: Array(repeating: false, count: count))
    }

    /// 1 + the region that a node lies in; 0 for one of the allocator.
    static func number(holding node: UnsafeMutableRawPointer) -> UInt {
        // ordering: acquiring: see `reserve`.
        let count = reserved.load(ordering: .acquiring)
        if count == 0 { return 0 }
        // A pointer below the base wraps around, and is far beyond the end then.
        let offset = UInt(bitPattern: node) &- base.load(ordering: .relaxed)
        return offset < UInt(count * span) ? offset / UInt(span) + 1 : 0
    }

    /// The region of a number, of which 0 is none.
    static func region(_ number: UInt) -> UnsafeNodeRegion? {
        // ordering: acquiring: see `reserve`.
        guard number > 0, number <= UInt(reserved.load(ordering: .acquiring)), let table else { return nil }
        return UnsafeNodeRegion(table + Int(number - 1))
    }

    static func region(holding node: UnsafeMutableRawPointer) -> UnsafeNodeRegion? { region(number(holding: node)) }

    static func region(of pool: UnsafeMutablePointer<crt_nodePool>) -> UnsafeNodeRegion? { region(pool.pointee.region) }

    /// The part of a region that was in use so far; empty without such a region. For looks at where it lies. Any thread.
    package static func usedMemory(ofRegion index: Int) -> Range<UInt> {
        region(UInt(index + 1))?.usedMemory ?? 0..<0
    }
}

/// One region. Lives as long as the program.
struct NodeRegion: ~Copyable {
    fileprivate let memory: UnsafeMutableRawBufferPointer
    fileprivate let slabs: Locked<NodeSlabs>

    init(_ memory: UnsafeMutableRawBufferPointer) {
        self.memory = memory
        slabs = Locked(
            NodeSlabs(base: UInt(bitPattern: memory.baseAddress), capacity: memory.count / NodeSlabs.slabSize)
        )
    }
}

/// A region in the table of regions, which is never freed.
struct UnsafeNodeRegion {
    private let region: UnsafeMutablePointer<NodeRegion>
    init(_ region: UnsafeMutablePointer<NodeRegion>) { self.region = region }

    var memory: UnsafeMutableRawBufferPointer { region.pointee.memory }

    var usedMemory: Range<UInt> {
        region.pointee.slabs.withLock { $0.base..<($0.base + UInt($0.opened * NodeSlabs.slabSize)) }
    }

    /// So many slabs are made accessible at a time.
    private static let step = 16

    /// A batch or less; nil if the region is used up, or the kernel has no memory to give.
    func take() -> NodeBatch? {
        let supply = region.pointee.slabs.withLock { slabs -> NodeSlabs.Supply? in
            let before = slabs.opened
            guard let supply = slabs.take() else { return nil }
            if slabs.opened > before, before % Self.step == 0, case .slab(let address) = supply {
                let end = min(
                    address + UInt(Self.step * NodeSlabs.slabSize),
                    UInt(bitPattern: memory.baseAddress! + memory.count)
                )
                let status = mprotect(
                    UnsafeMutableRawPointer(bitPattern: address),
                    Int(end - address),
                    PROT_READ | PROT_WRITE
                )
                // A limit of memory or of mappings.
                guard status == 0 else { fatalError("out of memory") }
            }
            return supply
        }
        switch supply {
        case .chain(let chain):
            return UnsafeMutableRawPointer(bitPattern: chain.head).map { NodeBatch(head: $0, count: chain.count) }
        case .slab(let address):
            // safety: the slab is accessible, and nobody else's.
            guard let slab = UnsafeMutableRawPointer(bitPattern: address) else { return nil }
            var builder = NodeBatch.Builder()
            for index in 0..<NodePool.batchSize { builder.append(slab + index * NodePool.nodeSize) }
            return builder.batch
        case nil:
            return nil
        }
    }

    /// Gives back nodes of this region.
    func put(_ batch: NodeBatch) {
        region.pointee.slabs.withLock { slabs in
            if slabs.keep(.init(head: UInt(bitPattern: batch.head), count: batch.count)) { return }
            var next: UnsafeMutableRawPointer? = batch.head
            while let node = next {
                next = node.load(as: UnsafeMutableRawPointer?.self)
                let address = UInt(bitPattern: node)
                node.storeBytes(of: slabs.sort(address), as: UInt.self)
                if let slab = slabs.release(slabOf: address), let start = UnsafeMutableRawPointer(bitPattern: slab) {
                    // Fails only for an address that is not ours; what stays is memory that is used again anyway.
                    _ = madvise(start, NodeSlabs.slabSize, MADV_DONTNEED)
                }
            }
        }
    }
}
