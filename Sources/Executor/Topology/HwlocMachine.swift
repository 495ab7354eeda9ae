// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

internal import CHwloc
internal import Glibc

/// A loaded hwloc topology, freed when the value goes away.
///
/// Invariant: `handle` is loaded, so that its objects are immutable and all pointers into it live as long as this value.
struct HwlocMachine: ~Copyable {
    private let handle: hwloc_topology_t

    /// What hwloc reads.
    enum Source {
        /// The machine that the process runs on (or what `HWLOC_*` variables put in its place).
        case thisMachine
        /// An hwloc XML document.
        case xml([UInt8])
        /// A synthetic description.
        case synthetic(String)
    }

    /// Loads a topology with hwloc's default filters, so that logical numbers are those of `lstopo`.
    ///
    /// - Throws: `hwlocFailed`, `invalidXML` or `invalidSynthetic`.
    init(_ source: Source) throws(TopologyError) {
        // Structures may differ between major versions: bits 16 and up.
        guard hwloc_get_api_version() >> 16 == UInt32(HWLOC_API_VERSION) >> 16 else {
            throw TopologyError(.hwlocFailed, "the installed libhwloc is not of version 2; install libhwloc15")
        }
        var created: hwloc_topology_t?
        guard hwloc_topology_init(&created) == 0, let created else {
            throw TopologyError(.hwlocFailed, "hwloc cannot start: \(systemMessage(errno))", errno: errno)
        }
        let failure = Self.load(created, from: source)
        if let failure {
            hwloc_topology_destroy(created)
            throw failure
        }
        handle = created
    }

    deinit { hwloc_topology_destroy(handle) }

    private static func load(_ topology: hwloc_topology_t, from source: Source) -> TopologyError? {
        switch source {
        case .thisMachine:
            guard hwloc_topology_load(topology) == 0 else {
                return TopologyError(
                    .hwlocFailed,
                    "hwloc cannot read this machine: \(systemMessage(errno))",
                    errno: errno
                )
            }
        case .xml(let bytes):
            // The size includes a terminating zero. The buffer must stay until the load is over.
            let terminated = bytes + [0]
            let status = terminated.withUnsafeBufferPointer { buffer in
                // safety: hwloc copies or parses the buffer within these two calls.
                buffer.withMemoryRebound(to: CChar.self) { text in
                    hwloc_topology_set_xmlbuffer(topology, text.baseAddress, Int32(text.count)) == 0
                        ? hwloc_topology_load(topology) : -1
                }
            }
            guard status == 0 else {
                return TopologyError(
                    .invalidXML,
                    "hwloc rejects it; export it again with 'lstopo FILE.xml'",
                    errno: EINVAL
                )
            }
        case .synthetic(let text):
            guard hwloc_topology_set_synthetic(topology, text) == 0, hwloc_topology_load(topology) == 0 else {
                return TopologyError(
                    .invalidSynthetic,
                    "hwloc rejects the synthetic description '\(text)'; write levels as 'pack:2 numa:1 l3:2 core:4 pu:2', PUs last",
                    errno: EINVAL
                )
            }
        }
        return nil
    }

    /// Whether the topology describes the machine this process runs on.
    var isThisSystem: Bool { hwloc_topology_is_thissystem(handle) == 1 }

    /// The processing units, by logical number.
    var processors: [HwlocObject] { objects(atDepth: hwloc_get_type_depth(handle, HWLOC_OBJ_PU)) }

    /// The NUMA nodes, by logical number.
    var nodes: [HwlocObject] { objects(atDepth: Int32(HWLOC_TYPE_DEPTH_NUMANODE.rawValue)) }

    private func objects(atDepth depth: Int32) -> [HwlocObject] {
        (0..<hwloc_get_nbobjs_by_depth(handle, depth)).compactMap { index in
            hwloc_get_obj_by_depth(handle, depth, index).map { HwlocObject(pointer: $0) }
        }
    }

    /// Kernel numbers of PUs that the machine has but `processors` lacks: offline or disallowed.
    var excludedProcessors: [Int] {
        // safety: the root and its sets live as long as the topology.
        guard let root = hwloc_get_root_obj(handle), let complete = root.pointee.complete_cpuset else { return [] }
        let present = Set(HwlocBitmap.members(of: root.pointee.cpuset))
        return HwlocBitmap.members(of: complete).filter { !present.contains($0) }
    }

    /// A kind of PUs.
    struct Kind {
        let index: Int
        let efficiency: Int?
        let coreType: String?
        let osProcessors: [Int]
    }

    /// The kinds of PUs, by hwloc's number: slowest first where ranked.
    var kinds: [Kind] {
        let count = hwloc_cpukinds_get_nr(handle, 0)
        guard count > 0, let set = hwloc_bitmap_alloc() else { return [] }
        defer { hwloc_bitmap_free(set) }
        return (0..<count).compactMap { index in
            var efficiency: Int32 = -1
            var infoCount: UInt32 = 0
            var infos: UnsafeMutablePointer<hwloc_info_s>?
            guard hwloc_cpukinds_get_info(handle, UInt32(index), set, &efficiency, &infoCount, &infos, 0) == 0 else {
                return nil
            }
            // safety: hwloc owns the infos; they live as long as the topology.
            let coreType = UnsafeBufferPointer(start: infos, count: Int(infoCount)).first {
                String(cString: $0.name) == "CoreType"
            }
            return Kind(
                index: Int(index),
                efficiency: efficiency < 0 ? nil : Int(efficiency),
                coreType: coreType.map { String(cString: $0.value) },
                osProcessors: HwlocBitmap.members(of: set)
            )
        }
    }

    /// Latencies between nodes by logical number, `nil` where unknown: the first matrix that says it means latency.
    var nodeDistances: [[Int?]] {
        let count = nodes.count
        var matrix = [[Int?]](repeating: [Int?](repeating: nil, count: count), count: count)
        var found: UInt32 = 1
        var first: UnsafeMutablePointer<hwloc_distances_s>?
        let kind = UInt(HWLOC_DISTANCES_KIND_MEANS_LATENCY.rawValue)
        guard hwloc_distances_get_by_type(handle, HWLOC_OBJ_NUMANODE, &found, &first, kind, 0) == 0, found > 0,
            let first
        else { return matrix }
        defer { hwloc_distances_release(handle, first) }
        // safety: the arrays hold nbobjs objects and nbobjs² values until the release.
        let size = Int(first.pointee.nbobjs)
        let indices = (0..<size).map { first.pointee.objs[$0].map { Int($0.pointee.logical_index) } }
        for row in 0..<size {
            for column in 0..<size {
                guard let from = indices[row], let to = indices[column], from < count, to < count else { continue }
                matrix[from][to] = Int(clamping: first.pointee.values[row * size + column])
            }
        }
        return matrix
    }
}

/// Reads hwloc's bitmaps.
enum HwlocBitmap {
    /// Returns the members in ascending order; none for an infinite set, which only a broken file has.
    static func members(of bitmap: hwloc_const_bitmap_t?) -> [Int] {
        guard let bitmap, hwloc_bitmap_weight(bitmap) > 0 else { return [] }
        var members: [Int] = []
        var current = hwloc_bitmap_first(bitmap)
        while current >= 0 {  // Ends: the set is finite and the cursor grows.
            members.append(Int(current))
            current = hwloc_bitmap_next(bitmap, current)
        }
        return members
    }
}
