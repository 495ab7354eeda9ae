// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// Where something stands in a system: the names of supervisors and processes from the top, as in `/shop/orders-3`.
///
/// A component is the name of a supervisor, or of a process: it is not empty, not `.` or `..`, and has no `/` and no control
/// character. Names are looked at when they are specified, so that the path of every supervised process parses. Prints as it is
/// parsed.
public struct ProcPath: Hashable, Sendable {
    /// The names from the top; none for the system itself.
    public let components: [String]

    private init(trusted components: [String]) { self.components = components }

    /// The path of the system itself, `/`.
    public static let root = ProcPath(trusted: [])

    /// Makes a path of names.
    ///
    /// - Throws: ``ProcPathError`` when one of them cannot stand in a path.
    public init(components: [String]) throws(ProcPathError) {
        for component in components { try Self.check(component, in: components.joined(separator: "/")) }
        self.components = components
    }

    /// Parses a path, as in `/shop/orders-3`; `/` is that of the system.
    ///
    /// - Throws: ``ProcPathError``: no slash at the beginning, an empty component (also behind a slash at the end), a component that
    ///   cannot be a name.
    public init(parsing text: String) throws(ProcPathError) {
        guard text.utf8.first == UInt8(ascii: "/") else {
            throw ProcPathError(
                .noLeadingSlash,
                "a path begins with a slash, as in /shop/orders-3; got \(text.debugDescription)"
            )
        }
        if text.utf8.count == 1 {
            components = []
            return
        }
        // By bytes: a combining character behind a slash would make another character of it.
        let parts = text.utf8.dropFirst().split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
        var components: [String] = []
        for part in parts {
            let component = String(decoding: part, as: UTF8.self)
            try Self.check(component, in: text)
            components.append(component)
        }
        self.components = components
    }

    /// The name at its end; nil of the system.
    public var name: String? { components.last }

    /// The path without its last component; nil of the system.
    public var parent: ProcPath? { components.isEmpty ? nil : ProcPath(trusted: Array(components.dropLast())) }

    /// The path of something under it.
    ///
    /// - Throws: ``ProcPathError`` when the name cannot stand in a path.
    public func appending(_ name: String) throws(ProcPathError) -> ProcPath {
        try Self.check(name, in: "\(self)/\(name)")
        return ProcPath(trusted: components + [name])
    }

    /// Whether it leads to something under `other`, however deep; not when they are equal.
    public func isBelow(_ other: ProcPath) -> Bool {
        components.count > other.components.count && components.starts(with: other.components)
    }

    private static func check(_ component: String, in text: String) throws(ProcPathError) {
        if component.utf8.isEmpty {
            throw ProcPathError(
                .emptyComponent,
                "a path has no empty component, two slashes in a row, or a slash at its end; got \(text.debugDescription)"
            )
        }
        if let flaw = flaw(of: component) {
            throw ProcPathError(.badComponent, "a component of a path \(flaw); got \(component.debugDescription)")
        }
    }

    /// Why a name that is not empty cannot stand in a path; nil if it can.
    private static func flaw(of name: String) -> String? {
        if name == "." || name == ".." { return "is not . or .." }
        for scalar in name.unicodeScalars {
            if scalar == "/" { return "has no slash" }
            if scalar.value < 0x20 || 0x7f...0x9f ~= scalar.value || scalar == "\u{2028}" || scalar == "\u{2029}" {
                return "has no control character and no end of a line"
            }
        }
        return nil
    }

    /// Refuses a name that cannot stand in a path; an empty one, too.
    static func validate(_ name: String, of kind: String) throws(SupervisionError) {
        if name.utf8.isEmpty { throw SupervisionError(.emptyName, "a \(kind) needs a name that is not empty") }
        if let flaw = flaw(of: name) {
            throw SupervisionError(.badName, "the name of a \(kind) \(flaw); got \(name.debugDescription)")
        }
    }
}

extension ProcPath: LosslessStringConvertible {
    /// As ``init(parsing:)``; nil where that throws.
    public init?(_ description: String) {
        guard let path = try? ProcPath(parsing: description) else { return nil }
        self = path
    }

    /// The path as it is parsed.
    public var description: String { components.isEmpty ? "/" : components.map { "/" + $0 }.joined() }
}

extension ProcPath: ExpressibleByStringLiteral {
    /// A path that is known when the program is written. Traps if it is none.
    public init(stringLiteral text: String) {
        do {
            try self.init(parsing: text)
        } catch {
            preconditionFailure("\(error)")
        }
    }
}

/// A text that is not a path, or a name that cannot stand in one.
public struct ProcPathError: Error, Sendable, CustomStringConvertible {
    /// What is wrong; compare with the static members, more of which may be added.
    public struct Code: Hashable, Sendable {
        private let name: String
        /// It does not begin with a slash.
        public static let noLeadingSlash = Code(name: "noLeadingSlash")
        /// A component is empty.
        public static let emptyComponent = Code(name: "emptyComponent")
        /// A component cannot be a name: `.` or `..`, or it has a slash or a control character.
        public static let badComponent = Code(name: "badComponent")
    }
    /// What is wrong, for programs.
    public let code: Code
    /// What is wrong and how to mend it, for humans.
    public let description: String

    init(_ code: Code, _ description: String) {
        self.code = code
        self.description = description
    }
}
