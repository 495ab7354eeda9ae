// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor

/// The machine and the plan as a text for people: what there is, what may be used, who sits where and steals from whom.
struct MachinePicture {
    private let topology: Topology
    private let plan: Placement
    /// The workers on each PU, by logical number.
    private let workers: [Int: [Int]]

    init(_ topology: Topology, _ plan: Placement) {
        self.topology = topology
        self.plan = plan
        workers = Dictionary(grouping: plan.seats, by: \.pu).mapValues { $0.map(\.index) }
    }

    var text: String {
        let parts = [summary, tree, memoryWithoutProcessors, distances, PlanTable(topology, plan).lines]
        return parts.filter { !$0.isEmpty }.map { $0.joined(separator: "\n") }.joined(separator: "\n\n")
    }

    // MARK: What there is, what may be used, and why so many workers

    private var summary: [String] {
        let source =
            switch topology.origin {
            case .thisMachine: "this machine"
            case .affinityMask: "this machine (only its affinity mask is known)"
            case .file(let path): path
            case .synthetic(let text): "\"\(text)\""
            }
        let objects = [
            counted(topology.processors.count, "PU"),
            topology.cores.isEmpty ? "cores not described" : counted(topology.cores.count, "core"),
            counted(topology.packages.count, "package"), counted(topology.nodes.count, "NUMA node"),
        ]
        var lines = ["Machine   \(source): " + objects.joined(separator: ", ")]
        if topology.kinds.count > 1 {
            let kinds = topology.kinds.map { "\($0.name) (kind \($0.index)): \(counted($0.processors.count, "PU"))" }
            lines.append("Kinds     " + kinds.joined(separator: ", "))
        }
        lines.append("Usable    " + allowance)
        lines.append("Workers   " + plan.explanation)
        return lines + topology.warnings.map { "Warning   \($0)" }
    }

    private var allowance: String {
        let allowance = topology.allowance
        var parts = ["CPUs \(ranges(topology.usableProcessors.map(\.osIndex).sorted()))"]
        if let affinity = allowance.affinity { parts.append("affinity mask \(ranges(affinity))") }
        if !allowance.offline.isEmpty { parts.append("offline \(ranges(allowance.offline))") }
        let outside = allowance.excluded.filter { !allowance.offline.contains($0) }
        if !outside.isEmpty {
            parts.append(
                (topology.origin.isThisMachine ? "outside the cpuset " : "offline or outside the cpuset ")
                    + ranges(outside)
            )
        }
        if topology.origin.isThisMachine {
            parts.append(allowance.quota.map { "quota \($0.cpus) CPUs (\($0.source))" } ?? "no CPU quota")
        }
        return parts.joined(separator: "; ")
    }

    // MARK: The tree

    private var tree: [String] {
        let machine = Enclosure.machine(topology)
        return lines(of: machine, indent: "")
            + ["", "[cpu→worker]  · usable, no worker  ✕ not allowed"]
    }

    private func lines(of enclosure: Enclosure, indent: String) -> [String] {
        // Inner enclosures and the cores outside of them, in the machine's order.
        let inside = Set(enclosure.inner.flatMap(\.processors))
        let cores = coreLines(enclosure.processors.filter { !inside.contains($0) })
        let children =
            enclosure.inner.map { (first: $0.processors[0], enclosure: Optional($0), line: "") }
            + cores.map { (first: $0.first, enclosure: nil, line: $0.text) }
        let sorted = children.sorted { $0.first < $1.first }
        var result = [enclosure.labels.joined(separator: " ═ ")]
        for (position, child) in sorted.enumerated() {
            let isLast = position == sorted.count - 1
            let below = child.enclosure.map { lines(of: $0, indent: "") } ?? [child.line]
            for (row, line) in below.enumerated() {
                let branch = row == 0 ? (isLast ? "└─ " : "├─ ") : (isLast ? "   " : "│  ")
                result.append(indent + branch + line)
            }
        }
        return result
    }

    private func coreLines(_ processors: [Int]) -> [(first: Int, text: String)] {
        let byCore = Dictionary(grouping: processors) { topology.processors[$0].core ?? -1 - $0 }
        return byCore.values.map { members in
            let first = topology.processors[members[0]]
            let name = first.core.map { "Core \($0)" } ?? "PU \(first.index)"
            let kind = topology.kinds.count > 1 ? " " + topology.kinds[first.kind].name : ""
            return (members[0], name + kind + "  " + members.map(cell).joined(separator: " "))
        }
    }

    private func cell(_ index: Int) -> String {
        let processor = topology.processors[index]
        guard processor.isAllowed else { return "[\(processor.osIndex) ✕]" }
        guard let workers = workers[index] else { return "[\(processor.osIndex) ·]" }
        return "[\(processor.osIndex)→w\(ranges(workers))]"
    }

    // MARK: Memory

    private var memoryWithoutProcessors: [String] {
        let nodes = topology.nodes.filter(\.processors.isEmpty)
        return nodes.isEmpty
            ? [] : ["Memory that is no PU's first choice: " + nodes.map(Enclosure.label).joined(separator: ", ")]
    }

    private var distances: [String] {
        guard topology.nodes.count > 1, topology.nodes.contains(where: { $0.distances.contains { $0 != nil } }) else {
            return []
        }
        let columns = topology.nodes.map { "\($0.index)".leftPadded(to: 5) }.joined()
        let rows = topology.nodes.map { node in
            "\(node.index)".leftPadded(to: 6)
                + node.distances.map { ($0.map(String.init) ?? "?").leftPadded(to: 5) }.joined()
        }
        return ["Distances between NUMA nodes (10 is local)", "      " + columns] + rows
    }
}

extension String {
    /// The text with blanks before it, so that it is at least `width` characters wide.
    func leftPadded(to width: Int) -> String { String(repeating: " ", count: max(0, width - count)) + self }

    /// The text with blanks after it, so that it is at least `width` characters wide.
    func rightPadded(to width: Int) -> String { self + String(repeating: " ", count: max(0, width - count)) }
}
