// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// An element of an XML document: its name, attributes, text and children.
struct XMLElement {
    let name: String
    /// The line of its start tag.
    let line: Int
    fileprivate(set) var attributes: [String: String] = [:]
    /// The text directly within it, all parts joined.
    fileprivate(set) var text = ""
    fileprivate(set) var children: [XMLElement] = []

    /// Parses a document: one root element, attributes in quotes, text, comments, a declaration, a document type without
    /// inner subset. Of entities only the predefined five and character references are known.
    ///
    /// - Throws: `invalidXML` with the line of the first fault.
    static func parse(_ bytes: [UInt8]) throws(TopologyError) -> XMLElement {
        var parser = XMLParser(bytes)
        return try parser.parseDocument()
    }
}

/// Turns bytes into elements; never looks beyond the bytes, whatever they are.
private struct XMLParser {
    private let bytes: [UInt8]
    private var position = 0
    private var line = 1
    /// The open elements, outermost first.
    private var open: [XMLElement] = []
    private var root: XMLElement?

    /// Deeper nesting is no machine.
    private static let depthLimit = 64

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    mutating func parseDocument() throws(TopologyError) -> XMLElement {
        guard !bytes.contains(0) else { throw failure("it holds a zero byte, so it is no text") }
        guard bytes.contains(where: { !$0.isBlank }) else { throw failure("it is empty") }
        while position < bytes.count {  // Ends: each turn consumes at least a byte, or throws.
            if starts(with: "<?") {
                try skip(through: "?>", what: "declaration")
            } else if starts(with: "<!--") {
                try skip(through: "-->", what: "comment")
            } else if starts(with: "<!") {
                try skip(through: ">", what: "document type")
            } else if starts(with: "</") {
                try closeElement()
            } else if current == UInt8(ascii: "<") {
                try openElement()
            } else {
                let text = take { $0 != UInt8(ascii: "<") }
                if !open.isEmpty { open[open.count - 1].text += String(decoding: text, as: UTF8.self) }
            }
        }
        if let last = open.last { throw failure("it ends within <\(last.name)>: the file is cut off") }
        guard let root else { throw failure("it has no element, so it is no XML") }
        return root
    }

    private mutating func openElement() throws(TopologyError) {
        let start = line
        advance()
        let name = take(\.isNamePart)
        guard !name.isEmpty else { throw failure("'<' without an element name") }
        guard root == nil else { throw failure("a second root element; keep only one topology in the file") }
        guard open.count < Self.depthLimit else {
            throw failure("elements are nested more than \(Self.depthLimit) deep")
        }
        var element = XMLElement(name: String(decoding: name, as: UTF8.self), line: start)
        while true {  // Ends: each turn consumes a byte, or leaves.
            let hadBlank = !take(\.isBlank).isEmpty
            if starts(with: "/>") {
                advance(by: 2)
                return finish(element)
            }
            if current == UInt8(ascii: ">") {
                advance()
                open.append(element)
                return
            }
            guard position < bytes.count else { throw failure("it ends within a tag: the file is cut off") }
            let attribute = String(decoding: take(\.isNamePart), as: UTF8.self)
            guard hadBlank, !attribute.isEmpty, current == UInt8(ascii: "=") else {
                throw failure("a broken attribute")
            }
            advance()
            let value = try attributeValue()
            guard element.attributes.updateValue(value, forKey: attribute) == nil else {
                throw failure("the attribute \(attribute) stands twice")
            }
        }
    }

    private mutating func attributeValue() throws(TopologyError) -> String {
        guard let quote = current, quote == UInt8(ascii: "\"") || quote == UInt8(ascii: "'") else {
            throw failure("an attribute without quotes")
        }
        advance()
        let raw = take { $0 != quote && $0 != UInt8(ascii: "<") }
        guard position < bytes.count else { throw failure("it ends within an attribute: the file is cut off") }
        guard current == quote else { throw failure("an attribute whose closing quote is missing") }
        advance()
        return try decodeEntities(raw)
    }

    private func decodeEntities(_ raw: ArraySlice<UInt8>) throws(TopologyError) -> String {
        let text = String(decoding: raw, as: UTF8.self)
        guard text.contains("&") else { return text }
        var result = ""
        var rest = text[...]
        while let ampersand = rest.firstIndex(of: "&") {  // Ends: each turn shortens the rest.
            result += rest[..<ampersand]
            guard let end = rest[ampersand...].firstIndex(of: ";") else { throw failure("an '&' without ';'") }
            let name = rest[rest.index(after: ampersand)..<end]
            switch name {
            case "lt": result += "<"
            case "gt": result += ">"
            case "amp": result += "&"
            case "quot": result += "\""
            case "apos": result += "'"
            default:
                let number = name.hasPrefix("#x") ? UInt32(name.dropFirst(2), radix: 16) : UInt32(name.dropFirst())
                guard name.hasPrefix("#"), let number, let scalar = Unicode.Scalar(number), number != 0 else {
                    throw failure("the unknown entity &\(name);")
                }
                result.unicodeScalars.append(scalar)
            }
            rest = rest[rest.index(after: end)...]
        }
        return result + rest
    }

    private mutating func closeElement() throws(TopologyError) {
        advance(by: 2)
        let name = String(decoding: take(\.isNamePart), as: UTF8.self)
        _ = take(\.isBlank)
        guard current == UInt8(ascii: ">"), let last = open.last, last.name == name else {
            throw failure("</\(name)> closes no open element")
        }
        advance()
        open.removeLast()
        finish(last)
    }

    private mutating func finish(_ element: XMLElement) {
        if open.isEmpty { root = element } else { open[open.count - 1].children.append(element) }
    }

    private mutating func skip(through end: StaticString, what: String) throws(TopologyError) {
        while !starts(with: end) {
            guard position < bytes.count else { throw failure("a \(what) that does not end") }
            advance()
        }
        advance(by: end.utf8CodeUnitCount)
    }

    private mutating func take(_ belongs: (UInt8) -> Bool) -> ArraySlice<UInt8> {
        let start = position
        while let byte = current, belongs(byte) { advance() }
        return bytes[start..<position]
    }

    private var current: UInt8? { position < bytes.count ? bytes[position] : nil }

    private func starts(with text: StaticString) -> Bool {
        text.withUTF8Buffer { bytes[position...].starts(with: $0) }
    }

    private mutating func advance(by count: Int = 1) {
        for _ in 0..<count where position < bytes.count {
            if bytes[position] == UInt8(ascii: "\n") { line += 1 }
            position += 1
        }
    }

    private func failure(_ reason: String) -> TopologyError {
        TopologyError(.invalidXML, "line \(line): \(reason)")
    }
}

extension UInt8 {
    fileprivate var isBlank: Bool { self == 0x20 || (0x09...0x0D).contains(self) }

    fileprivate var isNamePart: Bool {
        switch self {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"), UInt8(ascii: "-"), UInt8(ascii: "."),
            UInt8(ascii: ":"):
            true
        default: false
        }
    }
}
