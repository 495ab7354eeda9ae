// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor

/// A part of the machine as the picture nests it: objects that hold the same PUs are one enclosure.
struct Enclosure {
    let labels: [String]
    let processors: [Int]
    private(set) var inner: [Enclosure] = []

    /// The whole machine, with everything in it in its place.
    static func machine(_ topology: Topology) -> Enclosure {
        var groups: [[Int]: [String]] = [:]
        // The order in which objects with the same PUs are named.
        for package in topology.packages {
            groups[package.processors, default: []].append(
                "Package \(package.index)\(package.model.map { ": \($0)" } ?? "")"
            )
        }
        for node in topology.nodes where !node.processors.isEmpty {
            groups[node.processors, default: []].append(label(node))
        }
        for cache in topology.caches.sorted(by: { $0.level > $1.level }) where sharesCores(cache, topology) {
            let bytes = cache.sizeBytes > 0 ? " (\(size(cache.sizeBytes)))" : ""
            groups[cache.processors, default: []].append("L\(cache.level) #\(cache.index)\(bytes)")
        }
        var machine = Enclosure(labels: ["Machine"], processors: topology.processors.map(\.index))
        // Larger ones first, so that each finds its enclosure already there.
        for (processors, labels) in groups.sorted(by: { ($1.key.count, $0.key[0]) < ($0.key.count, $1.key[0]) }) {
            machine.insert(Enclosure(labels: labels, processors: processors))
        }
        return machine
    }

    /// What the picture says about a node.
    static func label(_ node: Topology.Node) -> String {
        let kind = node.memoryKind.map { " \($0)" } ?? ""
        return "NUMA node \(node.index) (\(node.memoryBytes > 0 ? size(node.memoryBytes) : "memory unknown")\(kind))"
    }

    /// A level 3 cache is always worth a line; a level 2 cache only if it joins several cores.
    private static func sharesCores(_ cache: Topology.Cache, _ topology: Topology) -> Bool {
        let cores = Set(cache.processors.map { topology.processors[$0].core ?? -1 - $0 })
        return cache.level == 3 || cores.count > 1
    }

    private mutating func insert(_ new: Enclosure) {
        if let place = inner.firstIndex(where: { Set($0.processors).isSuperset(of: new.processors) }) {
            inner[place].insert(new)
        } else {
            inner.append(new)
        }
    }
}
