// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// Tells how near two PUs of a topology are, and sorts workers into steal tiers by that.
struct ProximityMap {
    private let topology: Topology

    init(_ topology: Topology) { self.topology = topology }

    /// Returns the other workers grouped by proximity, nearest group first.
    func tiers(of worker: Int, among processors: [Topology.Processor]) -> [StealTier] {
        let others = processors.indices.filter { $0 != worker }
        let groups = Dictionary(grouping: others) { proximity(processors[worker], processors[$0]) }
        return groups.keys.sorted().map { StealTier(proximity: $0, workers: groups[$0] ?? []) }
    }

    /// For each PU, by the kernel's number, the first worker of its node; where that has none, of the nearest one that has.
    /// - Complexity: O(n m) for n nodes and m workers.
    func nearestSeats(_ workers: [Topology.Processor]) -> [Int: Int] {
        let firsts = Dictionary(zip(workers.map(\.node), workers.indices), uniquingKeysWith: { first, _ in first })
        var seats: [Int: Int] = [:]
        for (node, processors) in Dictionary(grouping: topology.processors, by: \.node) {
            let nearest =
                firsts[node]
                ?? firsts.values.min {
                    (proximity(processors[0], workers[$0]), $0) < (proximity(processors[0], workers[$1]), $1)
                }
            for processor in processors { seats[processor.osIndex] = nearest }
        }
        return seats
    }

    /// How near `victim` is to `thief`; not symmetric where the distances between nodes are not.
    func proximity(_ thief: Topology.Processor, _ victim: Topology.Processor) -> Proximity {
        if thief.index == victim.index { return .samePU }
        if let core = thief.core, core == victim.core { return .sameCore }
        if let l2 = thief.l2, l2 == victim.l2 { return .sameL2 }
        let sharesNode = thief.node != nil && thief.node == victim.node
        if let l3 = thief.l3, l3 == victim.l3 { return sharesNode || thief.node == nil ? .sameL3 : .sameL3OtherNode }
        if sharesNode { return .sameNode }
        if let own = thief.node, let other = victim.node, let distance = topology.nodes[own].distances[other] {
            return .node(distance: distance)
        }
        let common = zip(thief.ancestors, victim.ancestors).prefix { $0 == $1 }.count
        return .elsewhere(levels: thief.ancestors.count - common)
    }
}
