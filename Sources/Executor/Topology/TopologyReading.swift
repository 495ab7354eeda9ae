// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// Turns what hwloc knows into a `Topology` value.
///
/// Objects are collected through the ancestors of PUs, so that all that is listed serves a PU; nodes are all listed.
struct TopologyReading {
    private(set) var packages: [Topology.Package] = []
    private(set) var nodes: [Topology.Node] = []
    private(set) var caches: [Topology.Cache] = []
    private(set) var cores: [Topology.Core] = []
    private(set) var kinds: [Topology.CoreKind] = []
    private(set) var processors: [Topology.Processor] = []
    private(set) var excluded: [Int] = []
    private(set) var warnings: [String] = []

    /// Reads a machine.
    ///
    /// - Parameter affinity: the kernel's numbers of the PUs that may be used; `nil` allows all of them.
    init(_ machine: borrowing HwlocMachine, affinity: Set<Int>?) {
        let units = machine.processors
        excluded = machine.excludedProcessors
        readKinds(machine, units)
        readProcessors(units, affinity)
        let distances = machine.nodeDistances
        nodes = machine.nodes.enumerated().map { index, object in
            Topology.Node(
                // Only a broken file has a node without a number; memory policies refuse this one.
                index: index,
                osIndex: object.osIndex ?? Int(UInt32.max),
                memoryBytes: object.memoryBytes,
                memoryKind: object.subtype,
                processors: processors.filter { $0.node == index }.map(\.index),
                distances: distances[index]
            )
        }
    }

    private mutating func readKinds(_ machine: borrowing HwlocMachine, _ units: [HwlocObject]) {
        let found = machine.kinds
        let logical = Dictionary(
            units.compactMap { unit in unit.osIndex.map { ($0, unit.logicalIndex) } },
            uniquingKeysWith: { first, _ in first }
        )
        let top = found.compactMap(\.efficiency).max()
        kinds = found.map { kind in
            let name: String
            if let coreType = kind.coreType {
                name = coreType
            } else if found.count == 2, let efficiency = kind.efficiency {
                name = efficiency == top ? "performance" : "efficiency"
            } else {
                name = "kind-\(kind.index)"
            }
            return Topology.CoreKind(
                index: kind.index,
                name: name,
                rank: kind.efficiency,
                processors: kind.osProcessors.compactMap { logical[$0] }.sorted()
            )
        }
        if found.count > 1, found.contains(where: { $0.efficiency == nil }) {
            warnings.append(
                "hwloc cannot rank the \(found.count) kinds of cores; workers take them in the machine's order"
            )
        }
    }

    private mutating func readProcessors(_ units: [HwlocObject], _ affinity: Set<Int>?) {
        var kindOfProcessor: [Int: Int] = [:]
        for kind in kinds { for processor in kind.processors { kindOfProcessor[processor] = kind.index } }
        var members = Members()
        for (index, unit) in units.enumerated() {
            let ancestors = unit.ancestors
            let package = ancestors.first(where: \.isPackage)
            let core = ancestors.first(where: \.isCore)
            let l2 = ancestors.first(where: \.isL2)
            let l3 = ancestors.first(where: \.isL3)
            if let package { members.packages.add(index, to: package) }
            if let core { members.cores.add(index, to: core) }
            if let l2 { members.l2.add(index, to: l2) }
            if let l3 { members.l3.add(index, to: l3) }
            let osIndex = unit.osIndex
            processors.append(
                Topology.Processor(
                    // Only a broken file has a PU without a number; it cannot be pinned to.
                    index: index,
                    osIndex: osIndex ?? Int(UInt32.max),
                    package: package?.logicalIndex,
                    core: core?.logicalIndex,
                    l2: l2?.logicalIndex,
                    l3: l3?.logicalIndex,
                    node: Self.nearestNode(ancestors),
                    kind: kindOfProcessor[index] ?? 0,
                    isAllowed: osIndex.map { affinity?.contains($0) ?? true } ?? false,
                    ancestors: ancestors.reversed().map(\.identity)
                )
            )
        }
        packages = members.packages.inOrder.map {
            Topology.Package(
                index: $0.object.logicalIndex,
                osIndex: $0.object.osIndex,
                model: $0.object.info("CPUModel"),
                processors: $0.processors
            )
        }
        cores = members.cores.inOrder.map { entry in
            let fastest = entry.processors.max { rank(ofKindOf: $0) < rank(ofKindOf: $1) }
            return Topology.Core(
                index: entry.object.logicalIndex,
                osIndex: entry.object.osIndex,
                kind: fastest.map { processors[$0].kind } ?? 0,
                processors: entry.processors
            )
        }
        caches = [(2, members.l2), (3, members.l3)].flatMap { level, caches in
            caches.inOrder.map {
                Topology.Cache(
                    level: level,
                    index: $0.object.logicalIndex,
                    sizeBytes: $0.object.cacheBytes,
                    processors: $0.processors
                )
            }
        }
    }

    private func rank(ofKindOf processor: Int) -> Int {
        kinds.first { $0.index == processors[processor].kind }?.rank ?? 0
    }

    /// The node of the innermost enclosure that has one. Of several, plain memory goes before special memory, such as
    /// the MCDRAM of Knights Landing, which is small; and the first before others, as in hwloc's own default.
    private static func nearestNode(_ ancestors: [HwlocObject]) -> Int? {
        for ancestor in ancestors {
            let nodes = ancestor.attachedNodes
            if let node = nodes.first(where: { $0.subtype == nil || $0.subtype == "DRAM" }) ?? nodes.first {
                return node.logicalIndex
            }
        }
        return nil
    }
}

/// The PUs of each object, while processors are read.
private struct Members {
    var packages = Group()
    var cores = Group()
    var l2 = Group()
    var l3 = Group()

    struct Group {
        private(set) var entries: [UInt64: (object: HwlocObject, processors: [Int])] = [:]

        mutating func add(_ processor: Int, to object: HwlocObject) {
            entries[object.identity, default: (object, [])].processors.append(processor)
        }

        var inOrder: [(object: HwlocObject, processors: [Int])] {
            entries.values.sorted { $0.object.logicalIndex < $1.object.logicalIndex }
        }
    }
}
