// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CLightProc
import LightProc

/// Where the memory of one worker lies, as the kernel says.
public struct WorkerMemory: Sendable, Equatable {
    /// The worker's index: that of its seat.
    public let worker: Int
    /// The kernel's number of the node that its memory is to lie on; nil where that makes no difference, or the worker is not
    /// pinned.
    public let node: Int?
    /// The stack of the thread on the seat, and the thread's record.
    public let stack: Area
    /// The worker's own queues and counters.
    public let queues: Area
    /// The queues that it shares with the other workers of its node.
    public let nodeQueues: Area
    /// The message nodes that workers of its memory node get their own from; empty where the allocator provides them.
    public let messageNodes: Area

    /// Some memory, and on which nodes its pages lie.
    public struct Area: Sendable, Equatable {
        /// Addresses, in stretches.
        public let bytes: [Range<UInt>]
        /// How many pages lie on which node, by the kernel's number of it. Pages that nobody touched are not there.
        public let pagesByNode: [Int: Int]

        init(_ bytes: [Range<UInt>]) throws(TopologyError) {
            self.bytes = bytes.filter { !$0.isEmpty }
            var pages: [Int: Int] = [:]
            for range in self.bytes {
                for case let node? in try MemoryLocation.nodes(of: range) { pages[node, default: 0] += 1 }
            }
            pagesByNode = pages
        }

        /// Whether an address lies in it.
        public func contains(_ address: UInt) -> Bool { bytes.contains { $0.contains(address) } }
    }
}

extension WorkerPool {
    /// Asks the kernel on which NUMA nodes the memory of each worker lies. Disturbs nobody; takes some microseconds a worker.
    ///
    /// - Throws: as ``MemoryLocation/nodes(of:)``.
    public func memoryOfWorkers() throws(TopologyError) -> [WorkerMemory] {
        let threads = staff.withLock { staff in workers.indices.map { staff.seated[$0] } }
        return try placement.seats.map { seat throws(TopologyError) in
            let worker = workers[seat.index]
            let stack = threads[seat.index].map { thread in
                let record = UInt(bitPattern: thread.record)
                return [thread.stack.low..<thread.stack.high, record..<(record + UInt(MemoryLayout<crt_thread>.size))]
            }
            let region = worker.nodes.pointee.region
            return WorkerMemory(
                worker: seat.index,
                node: worker.memory.osNode,
                stack: try .init(stack ?? []),
                queues: try .init(worker.bytes),
                nodeQueues: try .init(worker.queues.bytes),
                messageNodes: try .init(region > 0 ? [NodeRegions.usedMemory(ofRegion: Int(region - 1))] : [])
            )
        }
    }
}

extension NodeQueues {
    /// Where they lie.
    var bytes: [Range<UInt>] { high.bytes + normal.bytes + low.bytes }
}
