// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

@testable import Executor

/// A made-up machine as the XML that lstopo would write: sets and numbers follow from what lies in what.
struct MachineXML {
    /// Numbers are the kernel's.
    indirect enum Part {
        case package(Int, [Part])
        case group([Part])
        case cache(level: Int, [Part])
        case core(Int, [Part])
        case pu(Int)
        /// A processor that is not online: the complete sets alone know of it.
        case offline(Int)
        case node(Int, mebibytes: Int = 1024, subtype: String? = nil)
    }

    struct Kind {
        let processors: [Int]
        let efficiency: Int?
        var name: String?
    }

    let parts: [Part]
    var kinds: [Kind] = []
    /// The kernel's numbers of nodes, and a row for each.
    var distances: (nodes: [Int], rows: [[Int]])?

    func topology() throws -> Topology { try Topology(xml: Array(text.utf8), name: "made up") }

    private var text: String {
        var identity = 0
        let machine = Self.write("Machine", 0, parts, inheriting: [], &identity)
        let kinds = kinds.map { kind in
            let efficiency = kind.efficiency.map { " forced_efficiency=\"\($0)\"" } ?? ""
            let name = kind.name.map { "<info name=\"CoreType\" value=\"\($0)\"/>" } ?? ""
            return "<cpukind cpuset=\"\(Self.set(Set(kind.processors)))\"\(efficiency)>\(name)</cpukind>"
        }
        let matrix = distances.map { nodes, rows in
            let indexes = nodes.map { "\($0) " }.joined()
            let values = rows.flatMap(\.self).map { "\($0) " }.joined()
            return
                "<distances2 type=\"NUMANode\" nbobjs=\"\(nodes.count)\" kind=\"5\" name=\"NUMALatency\" indexing=\"os\">"
                + "<indexes length=\"\(indexes.utf8.count)\">\(indexes)</indexes>"
                + "<u64values length=\"\(values.utf8.count)\">\(values)</u64values></distances2>"
        }
        return (["<topology version=\"2.0\">", machine] + kinds + [matrix ?? "", "</topology>"]).joined(separator: "\n")
    }

    private static func write(
        _ type: String,
        _ number: Int?,
        _ parts: [Part],
        inheriting inherited: Set<Int>,
        _ identity: inout Int,
        attributes: String = ""
    ) -> String {
        identity += 1
        let online = parts.reduce(into: Set<Int>()) { $0.formUnion($1.processors(online: true)) }
        let complete = parts.reduce(into: Set<Int>()) { $0.formUnion($1.processors(online: false)) }
        let own = Set(parts.compactMap(\.nodeNumber))
        let nodes = parts.reduce(into: inherited) { $0.formUnion($1.nodes) }
        func object(_ type: String, _ number: Int?, nodes: Set<Int>, _ attributes: String) -> String {
            "<object type=\"\(type)\"" + (number.map { " os_index=\"\($0)\"" } ?? "")
                + " cpuset=\"\(set(online))\" complete_cpuset=\"\(set(complete))\" nodeset=\"\(set(nodes))\""
                + " complete_nodeset=\"\(set(nodes))\" gp_index=\"\(identity)\"\(attributes)>"
        }
        let isMachine = type == "Machine"
        let allowed = isMachine ? " allowed_cpuset=\"\(set(online))\" allowed_nodeset=\"\(set(nodes))\"" : ""
        var text = object(type, number, nodes: nodes, attributes + allowed)
        for part in parts {
            func inner(_ type: String, _ number: Int?, _ parts: [Part], _ attributes: String = "") {
                text += write(type, number, parts, inheriting: inherited.union(own), &identity, attributes: attributes)
            }
            switch part {
            case .package(let number, let parts): inner("Package", number, parts)
            case .group(let parts): inner("Group", nil, parts, " kind=\"1001\" subkind=\"0\"")
            case .core(let number, let parts): inner("Core", number, parts)
            case .cache(let level, let parts):
                inner("L\(level)Cache", nil, parts, " cache_size=\"1048576\" depth=\"\(level)\" cache_type=\"0\"")
            case .pu(let number):
                identity += 1
                let sets = "cpuset=\"\(set([number]))\" complete_cpuset=\"\(set([number]))\""
                let nodeSets = "nodeset=\"\(set(nodes))\" complete_nodeset=\"\(set(nodes))\""
                text += "<object type=\"PU\" os_index=\"\(number)\" \(sets) \(nodeSets) gp_index=\"\(identity)\"/>"
            case .offline: break
            case .node(let number, let mebibytes, let subtype):
                identity += 1
                let kind = subtype.map { " subtype=\"\($0)\"" } ?? ""
                let memory = " local_memory=\"\(mebibytes << 20)\"\(kind)"
                text += object("NUMANode", number, nodes: [number], memory) + "</object>"
            }
        }
        return text + "</object>"
    }

    /// As hwloc writes sets: words of 32 bits, the highest first.
    private static func set(_ numbers: Set<Int>) -> String {
        var words = [UInt32](repeating: 0, count: (numbers.max() ?? 0) / 32 + 1)
        for number in numbers { words[number / 32] |= 1 << (number % 32) }
        return words.reversed().map { "0x" + String($0, radix: 16) }.joined(separator: ",")
    }
}

extension MachineXML.Part {
    private var parts: [MachineXML.Part] {
        switch self {
        case .package(_, let parts), .group(let parts), .cache(_, let parts), .core(_, let parts): parts
        case .pu, .offline, .node: []
        }
    }

    fileprivate func processors(online: Bool) -> Set<Int> {
        switch self {
        case .pu(let number): [number]
        case .offline(let number): online ? [] : [number]
        default: parts.reduce(into: []) { $0.formUnion($1.processors(online: online)) }
        }
    }

    fileprivate var nodeNumber: Int? { if case .node(let number, _, _) = self { number } else { nil } }
    fileprivate var nodes: Set<Int> {
        parts.reduce(into: Set([nodeNumber].compactMap(\.self))) { $0.formUnion($1.nodes) }
    }
}
