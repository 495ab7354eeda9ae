// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// Checks the objects of an hwloc document against each other, and writes them anew.
struct HwlocObjectChecker {
    /// The kernel's numbers of the nodes seen so far.
    private(set) var nodeNumbers: Set<Int> = []
    private var processorNumbers: Set<Int> = []
    private var identities: Set<UInt64> = []
    /// Pairs of types, the outer one first, that were seen to enclose each other.
    private var nestings: Set<[Substring]> = []

    /// The sets of an object, each within the complete one.
    private struct Sets {
        let cpus, completeCPUs, nodes, completeNodes: HwlocSet

        func isWithin(_ outer: Sets) -> Bool {
            cpus.isSubset(of: outer.cpus) && completeCPUs.isSubset(of: outer.completeCPUs)
                && nodes.isSubset(of: outer.nodes) && completeNodes.isSubset(of: outer.completeNodes)
        }
    }

    private static let caches: Set<Substring> = [
        "L1Cache", "L2Cache", "L3Cache", "L4Cache", "L5Cache", "L1iCache", "L2iCache", "L3iCache",
    ]
    private static let normalTypes: Set<Substring> = caches.union(["Machine", "Package", "Die", "Group", "Core", "PU"])
    private static let memoryTypes: Set<Substring> = ["NUMANode", "MemCache"]
    private static let inputOutputTypes: Set<Substring> = ["Bridge", "PCIDev", "OSDev", "Misc"]
    /// Attributes that are numbers, and mean nothing for the shape of the machine.
    private static let numbers = [
        "local_memory", "cache_size", "cache_linesize", "cache_associativity", "kind", "subkind", "dont_merge",
    ]

    /// Checks the root object with all below it and returns their text.
    ///
    /// - Throws: `invalidXML` with the line of the first fault.
    mutating func check(_ machine: XMLElement) throws(TopologyError) -> String {
        let sets = try Self.sets(of: machine)
        var attributes = ""
        for (name, complete) in [("allowed_cpuset", sets.completeCPUs), ("allowed_nodeset", sets.completeNodes)] {
            guard let text = machine.attributes[name] else { continue }
            guard let set = HwlocSet(text), set.isSubset(of: complete), !set.isEmpty else {
                throw HwlocDocument.failure(machine, "\(name) is empty, infinite, or not within the complete set")
            }
            attributes += " \(name)=\"\(set.text)\""
        }
        let text = try write(machine, sets, enclosedBy: [], extra: attributes)
        guard !processorNumbers.isEmpty else { throw HwlocDocument.failure(machine, "it has no PU") }
        guard !nodeNumbers.isEmpty else { throw HwlocDocument.failure(machine, "it has no NUMA node") }
        return text
    }

    private mutating func write(
        _ element: XMLElement,
        _ sets: Sets,
        enclosedBy outer: [Substring],
        extra: String = ""
    ) throws(TopologyError) -> String {
        let type = try Self.type(of: element)
        guard !(type == "Machine" && !outer.isEmpty) else {
            throw HwlocDocument.failure(element, "a Machine within an object")
        }
        try checkNesting(of: type, in: outer, element)
        let number = try osNumber(element, type, sets)
        var text = "<object type=\"\(type)\""
        if let number { text += " os_index=\"\(number)\"" }
        text += " cpuset=\"\(sets.cpus.text)\" complete_cpuset=\"\(sets.completeCPUs.text)\""
        text += " nodeset=\"\(sets.nodes.text)\" complete_nodeset=\"\(sets.completeNodes.text)\"" + extra
        text += " gp_index=\"\(try identity(of: element))\"" + (try attributes(of: element, type)) + ">"
        text += HwlocDocument.infos(of: element)
        for child in try children(of: element, type, sets) {
            text += "\n" + (try write(child.element, child.sets, enclosedBy: outer + [type]))
        }
        return text + "</object>"
    }

    /// The memory children, then the others in the order of their PUs, each checked against its parent and siblings.
    private func children(
        of element: XMLElement,
        _ type: Substring,
        _ sets: Sets
    ) throws(TopologyError) -> [(element: XMLElement, sets: Sets)] {
        var memory: [(element: XMLElement, sets: Sets)] = []
        var normal: [(element: XMLElement, sets: Sets)] = []
        var taken = HwlocSet()
        for child in element.children where child.name == "object" {
            let childType = try Self.type(of: child)
            if Self.inputOutputTypes.contains(childType) { continue }
            let childSets = try Self.sets(of: child)
            guard childSets.isWithin(sets) else {
                throw HwlocDocument.failure(child, "the sets of this \(childType) are not within those of its parent")
            }
            if Self.memoryTypes.contains(childType) {
                guard type != "PU", type != "NUMANode" else {
                    throw HwlocDocument.failure(child, "a \(childType) within a \(type)")
                }
                memory.append((child, childSets))
            } else {
                guard Self.normalTypes.contains(type), type != "PU" else {
                    throw HwlocDocument.failure(child, "a \(childType) within a \(type)")
                }
                guard childSets.completeCPUs.isDisjoint(with: taken) else {
                    throw HwlocDocument.failure(child, "this \(childType) overlaps an earlier one beside it")
                }
                taken.formUnion(childSets.completeCPUs)
                normal.append((child, childSets))
            }
        }
        let sorted = normal.enumerated().sorted {
            ($0.element.sets.completeCPUs.first ?? .max, $0.offset) < (
                $1.element.sets.completeCPUs.first ?? .max, $1.offset
            )
        }
        return memory + sorted.map(\.element)
    }

    private mutating func checkNesting(
        of type: Substring,
        in outer: [Substring],
        _ element: XMLElement
    ) throws(TopologyError) {
        // Groups and memory-side caches have depths of their own.
        guard type != "Group", !Self.memoryTypes.contains(type) else { return }
        for enclosing in Set(outer) where enclosing != "Group" {
            guard enclosing != type, !nestings.contains([type, enclosing]) else {
                throw HwlocDocument.failure(
                    element,
                    "a \(type) within a \(enclosing), though elsewhere it encloses one"
                )
            }
            nestings.insert([enclosing, type])
        }
    }

    private mutating func osNumber(_ element: XMLElement, _ type: Substring, _ sets: Sets) throws(TopologyError) -> Int?
    {
        let text = element.attributes["os_index"]
        let number = text.flatMap { Int($0) }.flatMap { (0..<HwlocSet.limit).contains($0) ? $0 : nil }
        switch type {
        case "PU":
            guard let number, processorNumbers.insert(number).inserted, sets.completeCPUs == HwlocSet(number) else {
                throw HwlocDocument.failure(
                    element,
                    "a PU whose os_index is missing, taken, or not its complete_cpuset"
                )
            }
            return number
        case "NUMANode":
            guard let number, nodeNumbers.insert(number).inserted, sets.completeNodes == HwlocSet(number) else {
                throw HwlocDocument.failure(
                    element,
                    "a NUMANode whose os_index is missing, taken, or not its complete_nodeset"
                )
            }
            return number
        default:
            // UInt32.max is hwloc's word for unknown.
            guard text == nil || text == "4294967295" || text.flatMap({ UInt32($0) }) != nil else {
                throw HwlocDocument.failure(element, "an os_index that is no number")
            }
            return text.flatMap { UInt32($0) }.flatMap { $0 == .max ? nil : Int($0) }
        }
    }

    private mutating func identity(of element: XMLElement) throws(TopologyError) -> UInt64 {
        guard let identity = element.attributes["gp_index"].flatMap({ UInt64($0) }), identity > 0,
            identities.insert(identity).inserted
        else { throw HwlocDocument.failure(element, "a gp_index that is missing, taken, or no positive number") }
        return identity
    }

    private func attributes(of element: XMLElement, _ type: Substring) throws(TopologyError) -> String {
        var text = ""
        for name in Self.numbers {
            guard let value = element.attributes[name] else { continue }
            // A fully associative cache has -1.
            guard UInt64(value) != nil || value == "-1" else {
                throw HwlocDocument.failure(element, "\(name) is no number")
            }
            text += " \(name)=\"\(value)\""
        }
        if Self.caches.contains(type) {
            guard let depth = element.attributes["depth"], type.dropFirst().first == depth.first, depth.count == 1,
                let sort = element.attributes["cache_type"], ["0", "1", "2"].contains(sort)
            else { throw HwlocDocument.failure(element, "a \(type) whose depth or cache_type is wrong") }
            text += " depth=\"\(depth)\" cache_type=\"\(sort)\""
        }
        if let subtype = element.attributes["subtype"], !subtype.isEmpty {
            text += " subtype=\"\(subtype.xmlEscaped)\""
        }
        return text
    }

    private static func type(of element: XMLElement) throws(TopologyError) -> Substring {
        let type = element.attributes["type"]?[...] ?? ""
        guard normalTypes.contains(type) || memoryTypes.contains(type) || inputOutputTypes.contains(type) else {
            throw HwlocDocument.failure(element, "an object of the unknown type '\(type)'")
        }
        return type
    }

    private static func sets(of element: XMLElement) throws(TopologyError) -> Sets {
        func set(_ name: String) throws(TopologyError) -> HwlocSet {
            guard let set = element.attributes[name].flatMap({ HwlocSet($0) }) else {
                throw HwlocDocument.failure(
                    element,
                    "\(name) is missing, infinite, or no set of numbers below \(HwlocSet.limit)"
                )
            }
            return set
        }
        let sets = Sets(
            cpus: try set("cpuset"),
            completeCPUs: try set("complete_cpuset"),
            nodes: try set("nodeset"),
            completeNodes: try set("complete_nodeset")
        )
        guard sets.cpus.isSubset(of: sets.completeCPUs), sets.nodes.isSubset(of: sets.completeNodes) else {
            throw HwlocDocument.failure(element, "a set that is not within the complete one")
        }
        return sets
    }
}
