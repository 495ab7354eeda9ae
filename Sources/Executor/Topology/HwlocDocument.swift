// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// An hwloc XML document, checked and reduced to what a `Topology` needs, to be handed to hwloc.
///
/// hwloc trusts its input: version 2.9 crashes on documents that are not well formed (its own parser), and on well-formed
/// ones whose objects contradict each other. So the document is parsed and checked here, and hwloc reads `text`,
/// which is written anew from what passed. I/O objects, memory attributes and the like are left out; none of them
/// counts for the logical numbers of the others.
///
/// What holds for the written objects: sets are finite and lie within those of the parent, siblings do not overlap and
/// stand in order, PUs and nodes are leaves with numbers of their own, and types nest the same way everywhere.
struct HwlocDocument {
    /// The document for hwloc.
    private(set) var text: [UInt8]

    /// - Throws: `invalidXML` with the line of the first fault.
    init(_ bytes: [UInt8]) throws(TopologyError) {
        let root = try XMLElement.parse(bytes)
        guard root.name == "topology" else {
            throw Self.failure(
                root,
                "the root element is <\(root.name)>, not <topology>; export it with 'lstopo FILE.xml'"
            )
        }
        guard root.attributes["version"]?.hasPrefix("2.") == true else {
            throw Self.failure(
                root,
                "the format version is \(root.attributes["version"] ?? "1"), not 2; convert it with the lstopo of hwloc 2"
            )
        }
        let objects = root.children.filter { $0.name == "object" }
        guard let first = objects.first, objects.count == 1, first.attributes["type"] == "Machine" else {
            throw Self.failure(root, "it needs exactly one object of type Machine at the top")
        }
        var checker = HwlocObjectChecker()
        let machine = try checker.check(first)
        var extras: [String] = []
        for element in root.children {
            if let matrix = try Self.distances(element, nodes: checker.nodeNumbers) { extras.append(matrix) }
            if let kind = try Self.kind(element) { extras.append(kind) }
        }
        let lines =
            [
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>", "<!DOCTYPE topology SYSTEM \"hwloc2.dtd\">",
                "<topology version=\"2.0\">",
            ] + [machine] + extras + ["</topology>", ""]
        text = Array(lines.joined(separator: "\n").utf8)
    }

    /// A matrix of latencies between nodes, or `nil` for what is none.
    private static func distances(_ element: XMLElement, nodes: Set<Int>) throws(TopologyError) -> String? {
        guard element.name == "distances2", element.attributes["type"] == "NUMANode" else { return nil }
        func numbers(_ name: String) -> [UInt64?] {
            element.children.filter { $0.name == name }
                .flatMap { $0.text.split(whereSeparator: \.isWhitespace) }.map { UInt64($0) }
        }
        // Matrices by anything but kernel numbers are not of nodes as lstopo writes them.
        guard element.attributes["indexing"] == "os", let kind = element.attributes["kind"].flatMap({ UInt16($0) }),
            let count = element.attributes["nbobjs"].flatMap({ Int($0) }), (2...4096).contains(count)
        else { throw failure(element, "a broken distances2 element") }
        let indices = numbers("indexes").compactMap { $0.flatMap { Int(exactly: $0) } }
        let values = numbers("u64values").compactMap(\.self)
        guard indices.count == count, Set(indices).count == count, nodes.isSuperset(of: indices) else {
            throw failure(
                element,
                "a distances2 element whose indexes are not \(count) different NUMA nodes of the machine"
            )
        }
        guard values.count == count * count else {
            throw failure(element, "a distances2 element of \(count) nodes without \(count * count) values")
        }
        return
            "<distances2 type=\"NUMANode\" nbobjs=\"\(count)\" kind=\"\(kind)\" name=\"NUMALatency\" indexing=\"os\">"
            + list("indexes", indices.map(String.init)) + list("u64values", values.map(String.init)) + "</distances2>"
    }

    /// Numbers ten by ten, as hwloc writes them: its parser copies each part into a buffer.
    private static func list(_ name: String, _ numbers: [String]) -> String {
        stride(from: 0, to: numbers.count, by: 10).map { start in
            let part = numbers[start..<min(numbers.count, start + 10)].joined(separator: " ") + " "
            return "<\(name) length=\"\(part.utf8.count)\">\(part)</\(name)>"
        }.joined()
    }

    /// A kind of core, or `nil` for what is none.
    private static func kind(_ element: XMLElement) throws(TopologyError) -> String? {
        guard element.name == "cpukind" else { return nil }
        guard let set = element.attributes["cpuset"].flatMap({ HwlocSet($0) }) else {
            throw failure(element, "a cpukind without a finite cpuset")
        }
        let forced = element.attributes["forced_efficiency"]
        guard forced.map({ Int32($0) != nil }) ?? true else {
            throw failure(element, "a cpukind whose forced_efficiency is no number")
        }
        if set.isEmpty { return nil }
        let efficiency = forced.map { " forced_efficiency=\"\($0)\"" } ?? ""
        return "<cpukind cpuset=\"\(set.text)\"\(efficiency)>" + infos(of: element) + "</cpukind>"
    }

    /// The names and values attached to an element.
    static func infos(of element: XMLElement) -> String {
        element.children.compactMap { child in
            guard child.name == "info", let name = child.attributes["name"], let value = child.attributes["value"],
                !name.isEmpty
            else { return nil }
            return "<info name=\"\(name.xmlEscaped)\" value=\"\(value.xmlEscaped)\"/>"
        }.joined()
    }

    static func failure(_ element: XMLElement, _ reason: String) -> TopologyError {
        TopologyError(.invalidXML, "line \(element.line): \(reason)")
    }
}

extension String {
    /// The text as an attribute's value; what is not printable ASCII becomes a question mark, as hwloc writes none.
    var xmlEscaped: String {
        var result = ""
        for scalar in unicodeScalars {
            switch scalar {
            case "<": result += "&lt;"
            case ">": result += "&gt;"
            case "&": result += "&amp;"
            case "\"": result += "&quot;"
            case " "..."~": result.unicodeScalars.append(scalar)
            default: result += "?"
            }
        }
        return result
    }
}
