// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

internal import CHwloc

/// An object of a loaded hwloc topology; must not outlive its `HwlocMachine`.
struct HwlocObject {
    /// Valid while the `HwlocMachine` lives; immutable since its load.
    private let pointer: UnsafeMutablePointer<hwloc_obj>

    init(pointer: UnsafeMutablePointer<hwloc_obj>) { self.pointer = pointer }

    // safety, for all members: the pointer and those in the object are valid, see above; hwloc sets the union member
    // of `attr` that belongs to the type.

    /// A number unique among all objects of the topology.
    var identity: UInt64 { pointer.pointee.gp_index }
    /// The number among objects of the same level.
    var logicalIndex: Int { Int(pointer.pointee.logical_index) }
    /// The kernel's number, or `nil` where unknown.
    var osIndex: Int? {
        pointer.pointee.os_index == UInt32.max ? nil : Int(pointer.pointee.os_index)  // HWLOC_UNKNOWN_INDEX
    }
    /// The vendor's refinement of the type, such as `MCDRAM`.
    var subtype: String? { pointer.pointee.subtype.map { String(cString: $0) } }
    /// The enclosing objects, innermost first.
    var ancestors: [HwlocObject] {
        var found: [HwlocObject] = []
        var next = pointer.pointee.parent
        while let current = next {  // Ends: hwloc's objects form a tree.
            found.append(HwlocObject(pointer: current))
            next = current.pointee.parent
        }
        return found
    }

    var isPackage: Bool { pointer.pointee.type == HWLOC_OBJ_PACKAGE }
    var isCore: Bool { pointer.pointee.type == HWLOC_OBJ_CORE }
    var isL2: Bool { pointer.pointee.type == HWLOC_OBJ_L2CACHE }
    var isL3: Bool { pointer.pointee.type == HWLOC_OBJ_L3CACHE }

    /// The size of a cache in bytes; 0 for other objects.
    var cacheBytes: UInt64 {
        guard isL2 || isL3, let attributes = pointer.pointee.attr else { return 0 }
        return attributes.pointee.cache.size
    }

    /// The memory of a NUMA node in bytes; 0 for other objects.
    var memoryBytes: UInt64 {
        guard pointer.pointee.type == HWLOC_OBJ_NUMANODE, let attributes = pointer.pointee.attr else { return 0 }
        return attributes.pointee.numanode.local_memory
    }

    /// The NUMA nodes attached directly to this object, through memory-side caches if any.
    var attachedNodes: [HwlocObject] {
        var found: [HwlocObject] = []
        var pending = memoryChildren
        while let child = pending.first {  // Ends: each step removes one object of a finite tree.
            pending.removeFirst()
            if child.pointer.pointee.type == HWLOC_OBJ_NUMANODE { found.append(child) }
            pending.append(contentsOf: child.memoryChildren)
        }
        return found
    }

    private var memoryChildren: [HwlocObject] {
        var found: [HwlocObject] = []
        var next = pointer.pointee.memory_first_child
        while let current = next {  // Ends: siblings form a list.
            found.append(HwlocObject(pointer: current))
            next = current.pointee.next_sibling
        }
        return found
    }

    /// The value of the first attribute of that name.
    func info(_ name: String) -> String? {
        hwloc_obj_get_info_by_name(pointer, name).map { String(cString: $0) }
    }
}
