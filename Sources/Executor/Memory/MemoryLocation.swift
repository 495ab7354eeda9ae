// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

internal import CNuma
internal import Glibc

/// Asks the kernel on which NUMA node memory lies.
public enum MemoryLocation {
    /// The kernel's number of the node that each page of a range lies on; nil for a page that is not there yet.
    ///
    /// One system call (`move_pages`), about 0.1 µs a page; moves nothing and touches nothing.
    /// - Parameter range: addresses of the calling program; pages that it covers only in part count.
    /// - Throws: `memoryPolicyFailed` if the kernel knows no NUMA, or a sandbox forbids the question.
    public static func nodes(of range: Range<UInt>) throws(TopologyError) -> [Int?] {
        guard ThreadPlacement.isNUMAAvailable else {
            throw TopologyError(.memoryPolicyFailed, "the kernel has no NUMA", errno: ENOSYS)
        }
        if range.isEmpty { return [] }
        let page = UInt(NodeMemory.pageSize)
        let first = range.lowerBound & ~(page - 1)
        var pages = stride(from: first, to: range.upperBound, by: Int(page)).map {
            UnsafeMutableRawPointer(bitPattern: $0)
        }
        var status = [Int32](repeating: -1, count: pages.count)
        // safety: without nodes to move to, the kernel only writes one number a page into `status`.
        guard move_pages(0, UInt(pages.count), &pages, nil, &status, 0) >= 0 else {
            let number = errno
            throw TopologyError(
                .memoryPolicyFailed,
                "cannot ask where memory lies: \(systemMessage(number)); allow move_pages in the sandbox",
                errno: number
            )
        }
        return status.map { $0 >= 0 ? Int($0) : nil }
    }

    /// The kernel's number of the node that the page at an address lies on; nil if the page is not there yet.
    ///
    /// - Throws: as `nodes(of:)`.
    public static func node(of address: UInt) throws(TopologyError) -> Int? {
        try nodes(of: address..<(address + 1)).first ?? nil
    }
}
