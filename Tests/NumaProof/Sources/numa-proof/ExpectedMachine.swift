// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor

/// What the program is told of the machine, and the plan that follows from that by hand.
struct ExpectedMachine {
    struct Node {
        let osIndex: Int
        let cpus: [Int]
    }
    let nodes: [Node]
    /// By position in `nodes`.
    let distances: [[Int]]

    /// - Parameters:
    ///   - nodes: As in `0:0-1,1:2-3`.
    ///   - distances: As in `10.12/12.10`.
    init(nodes: String, distances: String) {
        self.nodes = nodes.split(separator: ",").map { text in
            let parts = text.split(separator: ":")
            let bounds = parts[1].split(separator: "-").map { Int($0) ?? -1 }
            return Node(osIndex: Int(parts[0]) ?? -1, cpus: Array(bounds[0]...bounds[bounds.count - 1]))
        }
        self.distances = distances.split(separator: "/").map { $0.split(separator: ".").map { Int($0) ?? -1 } }
    }

    func check(_ topology: Topology, _ placement: Placement, like synthetic: String?, _ report: Report) {
        let seen = topology.nodes.map { node in
            (node.osIndex, node.processors.map { topology.processors[$0].osIndex }.sorted(), node.distances)
        }
        let isAsTold = seen.elementsEqual(zip(nodes, distances)) { seen, told in
            seen.0 == told.0.osIndex && seen.1 == told.0.cpus && seen.2 == told.1.map { Optional($0) }
        }
        report.expect(isAsTold, "topology", seen.map { "node \($0.0): CPUs \($0.1)" }.joined(separator: ", "))

        let cpus = nodes.flatMap(\.cpus)
        let isComplete = placement.seats.map(\.osPU).sorted() == cpus.sorted() && placement.pinsWorkers
        let isNear = placement.seats.allSatisfy { $0.memoryNode == nodes[position(of: $0)].osIndex }
        report.expect(isComplete && isNear, "plan", placement.explanation)
        let orders = placement.seats.map { ($0.steal, order(from: $0, in: placement)) }
        report.expect(orders.allSatisfy { $0 == $1 }, "order", orders.map { "\($0.0)" }.joined(separator: " "))
        guard let synthetic else { return }
        let other = (try? Placement(Topology(synthetic: synthetic)))?.seats.map(\.steal)
        report.expect(other == placement.seats.map(\.steal), "like", synthetic)
    }

    private func position(of seat: Seat) -> Int { nodes.firstIndex { $0.cpus.contains(seat.osPU) } ?? -1 }

    /// Whom a worker steals from: its own node, then the others by distance.
    private func order(from seat: Seat, in placement: Placement) -> [[Int]] {
        let own = position(of: seat)
        let others = placement.seats.filter { $0.index != seat.index }
        let groups = Dictionary(grouping: others) { distances[own][position(of: $0)] }
        return groups.keys.sorted().map { groups[$0, default: []].map(\.index) }
    }
}
