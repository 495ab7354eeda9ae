// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CNuma
import Glibc
import LightProc
import Synchronization

/// Where memory is to lie: on one NUMA node as long as that has some, or wherever the allocator has it.
///
/// A preference: a node that is full, or that the program may not use, costs speed and never the program. What the kernel
/// refuses is said once, on standard error.
struct NodeMemory: Sendable, Equatable {
    /// The kernel's number of the node; nil: the allocator's choice.
    let osNode: Int?

    static let anywhere = NodeMemory(osNode: nil)

    /// Memory of whole pages on the node, zeroed; or the allocator's, not zeroed. Give it back by `deallocate`.
    func allocate(byteCount: Int, alignment: Int) -> UnsafeMutableRawPointer {
        guard osNode != nil else { return .allocate(byteCount: byteCount, alignment: alignment) }
        let mapping = mmap(nil, byteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        guard let mapping, mapping != MAP_FAILED else { fatalError("out of memory") }
        prefer(for: UnsafeMutableRawBufferPointer(start: mapping, count: byteCount))
        return mapping
    }

    func deallocate(_ memory: UnsafeMutableRawPointer, byteCount: Int) {
        if osNode == nil { memory.deallocate() } else { munmap(memory, byteCount) }
    }

    /// Has pages that nobody touched yet come from the node. False, and one warning in the life of the program, if the
    /// kernel refuses. Does nothing for the allocator's choice.
    @discardableResult
    func prefer(for range: UnsafeMutableRawBufferPointer) -> Bool {
        guard let osNode else { return false }
        do throws(TopologyError) {
            let page = Self.pageSize
            // The last page counts, too: the range is a mapping of its own.
            let whole = UnsafeMutableRawBufferPointer(
                start: range.baseAddress,
                count: (range.count + page - 1) & ~(page - 1)
            )
            return try ThreadPlacement.preferMemory(ofOSNode: osNode, for: whole)
        } catch {
            Self.warn(error.description)
            return false
        }
    }

    /// Has what the calling thread touches first come from the node, from now on. As `prefer(for:)`.
    func preferForCallingThread() {
        guard let osNode else { return }
        do throws(TopologyError) {
            try ThreadPlacement.preferMemory(ofOSNode: osNode)
        } catch {
            Self.warn(error.description)
        }
    }

    static let pageSize = sysconf(Int32(_SC_PAGESIZE))

    /// Whether the program may take memory from more than one node: otherwise all of it is equally near.
    static let hasChoice: Bool = {
        guard ThreadPlacement.isNUMAAvailable, let allowed = numa_get_mems_allowed() else { return false }
        defer { numa_free_nodemask(allowed) }
        return numa_bitmask_weight(allowed) > 1
    }()

    /// So many regions cover all nodes of the machine, by the kernel's numbers.
    static var regionCount: Int { max(Int(numa_max_node()), 0) + 1 }

    private static let hasWarned = Atomic<Bool>(false)

    private static func warn(_ reason: String) {
        // ordering: relaxed: whoever is first says it.
        guard !hasWarned.exchange(true, ordering: .relaxed) else { return }
        let line = "bastion: memory may lie on other NUMA nodes than the workers: \(reason)\n"
        // What cannot be written to stderr cannot be told otherwise either.
        line.withCString { _ = Glibc.write(STDERR_FILENO, $0, strlen($0)) }
    }
}
