// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor

/// The plan as a table: one line per worker, with whom it steals from, nearest first.
struct PlanTable {
    private let topology: Topology
    private let plan: Placement

    init(_ topology: Topology, _ plan: Placement) {
        self.topology = topology
        self.plan = plan
    }

    var lines: [String] {
        let header = ["worker", "cpu", "PU", "core", "L3", "node", "memory", "kind", "steals from, nearest first"]
        let rows = [header] + plan.seats.map(row)
        let widths = header.indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
        return rows.map { row in
            let cells = row.indices.map { column in
                column < 7 ? row[column].leftPadded(to: widths[column]) : row[column].rightPadded(to: widths[column])
            }
            var line = cells.joined(separator: "  ")
            while line.last == " " { line.removeLast() }
            return line
        }
    }

    private func row(_ seat: Seat) -> [String] {
        func number(_ value: Int?) -> String { value.map(String.init) ?? "-" }
        let kind = topology.kinds.count > 1 ? topology.kinds[seat.kind].name : "-"
        let memory = seat.memoryNode.flatMap { node in topology.nodes.first { $0.osIndex == node }?.index }
        let tiers = seat.tiers.map { "\(name($0.proximity)) \(ranges($0.workers))" }.joined(separator: " | ")
        return [
            "\(seat.index)", "\(seat.osPU)", "\(seat.pu)", number(seat.core), number(seat.l3), number(seat.node),
            number(memory), kind, tiers,
        ]
    }

    private func name(_ proximity: Proximity) -> String {
        switch proximity {
        case .samePU: "PU:"
        case .sameCore: "core:"
        case .sameL2: "L2:"
        case .sameL3: "L3:"
        case .sameL3OtherNode: "L3 of other node:"
        case .sameNode: "node:"
        case .node(let distance): "at \(distance):"
        case .elsewhere(let levels): "elsewhere (\(counted(levels, "level")) up):"
        }
    }
}
