// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// A machine as a value: packages, NUMA nodes, caches, cores and processing units (PUs), and which PUs may be used.
///
/// A topology is read once (`current()`, `init(xmlFile:)`, `init(synthetic:)`) and never changes. Indices without further
/// name are hwloc's logical numbers, those that `lstopo` prints after `L#`; `osIndex` is the kernel's number (`P#`).
/// PUs that are offline, or outside the cpuset hwloc saw, are not in `processors`; `Allowance.excluded` lists them.
///
/// Invariants: `processors` and `nodes` are ordered by logical number; `nodes[i].index == i`; a PU names a node, cache,
/// core or package only if that object is listed here; at least one PU exists.
public struct Topology: Sendable, Equatable {
    /// Where the description came from.
    public let origin: Origin
    /// The packages (sockets) that hold PUs.
    public let packages: [Package]
    /// The NUMA nodes, memory-only nodes included.
    public let nodes: [Node]
    /// The level 2 and level 3 caches that serve PUs.
    public let caches: [Cache]
    /// The physical cores; empty on a machine that does not describe them.
    public let cores: [Core]
    /// The kinds of cores, as hwloc ranks them; empty where the machine is uniform or does not say.
    public let kinds: [CoreKind]
    /// The processing units (hardware threads).
    public let processors: [Processor]
    /// What the process may use of the machine, and why.
    public let allowance: Allowance
    /// What could not be found out and how the value made up for it, in sentences; empty when all went well.
    public let warnings: [String]

    /// The source of a topology.
    public enum Origin: Sendable, Hashable {
        /// Read by hwloc from the machine this process runs on.
        case thisMachine
        /// Only the affinity mask of this process is known: no caches, cores or nodes.
        case affinityMask
        /// Read from an hwloc XML file of some machine.
        case file(String)
        /// Made up from a synthetic description.
        case synthetic(String)

        /// Whether PU numbers are those of the machine this process runs on, so that threads can be pinned to them.
        public var isThisMachine: Bool {
            switch self {
            case .thisMachine, .affinityMask: true
            case .file, .synthetic: false
            }
        }
    }

    /// The PUs this process may use.
    public var usableProcessors: [Processor] { processors.filter(\.isAllowed) }

    /// The number of workers that suits this process: its usable PUs, limited by the CPU quota rounded up.
    public var suggestedWorkerCount: Int {
        let usable = processors.count { $0.isAllowed }
        guard let quota = allowance.quota else { return usable }
        return min(usable, quota.workerLimit)
    }
}

extension Topology {
    /// A package: one processor chip in its socket.
    public struct Package: Sendable, Equatable {
        /// hwloc's logical number.
        public let index: Int
        /// The kernel's number, or `nil` where unknown.
        public let osIndex: Int?
        /// The processor's name, as the machine tells it.
        public let model: String?
        /// Logical numbers of its PUs.
        public let processors: [Int]
    }

    /// A NUMA node: memory with a place in the machine.
    public struct Node: Sendable, Equatable {
        /// hwloc's logical number.
        public let index: Int
        /// The kernel's number, which memory policies take.
        public let osIndex: Int
        /// The size of its memory in bytes; 0 where unknown or none.
        public let memoryBytes: UInt64
        /// The sort of memory where it is not plain DRAM (`MCDRAM`, `GPUMemory`), as hwloc names it.
        public let memoryKind: String?
        /// Logical numbers of the PUs that have it as their own node; empty for a memory-only node.
        public let processors: [Int]
        /// Latency to each node, by logical number, relative to 10 for local access; `nil` where unknown.
        public let distances: [Int?]
    }

    /// A level 2 or level 3 cache.
    public struct Cache: Sendable, Equatable {
        /// 2 or 3.
        public let level: Int
        /// hwloc's logical number among the caches of the level.
        public let index: Int
        /// The size in bytes; 0 where unknown.
        public let sizeBytes: UInt64
        /// Logical numbers of the PUs that share it.
        public let processors: [Int]
    }

    /// A physical core.
    public struct Core: Sendable, Equatable {
        /// hwloc's logical number.
        public let index: Int
        /// The kernel's number, unique only within a package, or `nil` where unknown.
        public let osIndex: Int?
        /// The kind of its fastest PU, an index into `kinds`; 0 where unknown.
        public let kind: Int
        /// Logical numbers of its PUs: more than one are SMT siblings.
        public let processors: [Int]
    }

    /// A kind of core of a hybrid machine.
    public struct CoreKind: Sendable, Equatable {
        /// hwloc's number of the kind.
        public let index: Int
        /// A name for people: what the vendor calls it, or `performance` and `efficiency`, or `kind-N`.
        public let name: String
        /// The rank: a faster kind has a larger number; `nil` where hwloc could not rank the kinds.
        public let rank: Int?
        /// Logical numbers of its PUs.
        public let processors: [Int]
    }

    /// A processing unit: what the kernel calls a CPU.
    public struct Processor: Sendable, Equatable {
        /// hwloc's logical number.
        public let index: Int
        /// The kernel's CPU number, which an affinity mask takes.
        public let osIndex: Int
        /// The package, or `nil` where the machine does not describe packages.
        public let package: Int?
        /// The core, or `nil` where the machine does not describe cores: each PU then counts as a core of its own.
        public let core: Int?
        /// The level 2 cache, or `nil` where there is none or it is not described.
        public let l2: Int?
        /// The level 3 cache, or `nil` where there is none or it is not described.
        public let l3: Int?
        /// The nearest NUMA node, or `nil` where no node is attached to this PU.
        public let node: Int?
        /// The core kind, an index into `kinds`; 0 where unknown.
        public let kind: Int
        /// Whether the process may run on it.
        public let isAllowed: Bool
        /// Identities of the enclosing objects, outermost first; only good for comparing PUs of one topology.
        package let ancestors: [UInt64]
    }

    /// What the process may use of the machine, and who says so.
    public struct Allowance: Sendable, Equatable {
        /// Kernel numbers of PUs the machine has but this topology leaves out: offline, or outside the cpuset.
        public let excluded: [Int]
        /// Kernel numbers of those in `excluded` that are known to be offline.
        public let offline: [Int]
        /// Kernel numbers in the affinity mask of the process, or `nil` for a machine that is not this one.
        public let affinity: [Int]?
        /// The tightest CPU quota of the control groups around the process, or `nil` where there is none.
        public let quota: CPUQuota?
    }
}
