// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// Reports for people and for machines.
extension TrapReport {
    /// One place in the code that the faulting stack stood in.
    public struct Frame: Sendable, Equatable {
        /// An address within the instruction.
        public let address: UInt
        /// The function's name, demangled; nil where nothing is known.
        public let function: String?
        /// The path of the executable or library.
        public let object: String?
        /// From debug information; nil without it, or without libdw on the system.
        public let file: String?
        /// Likewise.
        public let line: Int?
        /// Whether the compiler put the function's code into its caller, which is the next frame.
        public let isInlined: Bool
    }

    /// Names the addresses of the backtrace, innermost first.
    ///
    /// The thread that looks up symbols reads symbol tables and debug information: milliseconds for an address that is new,
    /// nothing for one that was looked up before. The calling thread waits for it; in a task, `await` ``symbolicated()`` first.
    public func frames() -> [Frame] { content.frames }

    /// Names addresses of another backtrace; may wait as ``frames()``.
    package static func frames(of backtrace: [UInt]) -> [Frame] {
        ReportResolver.shared.symbols(at: backtrace).flatMap(frames(of:))
    }

    private static func frames(of symbol: Symbolizer.Symbol) -> [Frame] {
        let address = symbol.address
        guard !symbol.locations.isEmpty else {
            return [
                Frame(address: address, function: nil, object: symbol.object, file: nil, line: nil, isInlined: false)
            ]
        }
        return symbol.locations.map {
            Frame(
                address: address,
                function: $0.function,
                object: symbol.object,
                file: $0.file,
                line: $0.line,
                isInlined: $0.isInlined
            )
        }
    }

    /// File and line of the innermost frame of the program, as in `Orders.swift:12`; nil without debug information. May wait
    /// as ``frames()``.
    public var place: String? { content.place }

    /// Looks up no more addresses than it takes to find it.
    static func place(in backtrace: [UInt]) -> String? {
        for frame in backtrace.lazy.flatMap({ frames(of: [$0]) }) {
            guard let file = frame.file, let line = frame.line, line > 0, !file.hasSuffix(">") else { continue }
            // The C library and the Swift runtime may have debug information too; the trap is not theirs.
            let object = frame.object?.split(separator: "/").last ?? ""
            if object.hasPrefix("libc.so") || object.hasPrefix("libswift") { continue }
            return "\(file.split(separator: "/").last ?? ""):\(line)"
        }
        return nil
    }

    /// The report for people: what and who in the first line, then the backtrace. Costs as ``frames()``.
    public func text() -> String {
        var text = "\((path ?? name).map { "\($0)\(process)" } ?? "\(process)") trapped: \(summary)"
        if let messageType { text += ", handling \(messageType)" }
        for (number, frame) in frames().enumerated() {
            text += "\n  \(number) \(frame)"
        }
        return text
    }

    /// The report for machines: one line of JSON. Costs as ``frames()``.
    ///
    /// `{"kind":...,"message":...,"signal":4,"process":"<0.7>","name":...,"path":...,"messageType":...,"time":1764000000.25,
    /// "frames":[{"address":"0x...","function":...,"object":...,"file":...,"line":...,"inlined":false}]}`; what is not
    /// known is null.
    public func json() -> String {
        let listed = frames().map { frame in
            "{\"address\":\"0x\(String(frame.address, radix: 16))\",\"function\":\(Self.json(frame.function)),"
                + "\"object\":\(Self.json(frame.object)),\"file\":\(Self.json(frame.file)),"
                + "\"line\":\(frame.line.map(String.init) ?? "null"),\"inlined\":\(frame.isInlined)}"
        }
        let (seconds, attoseconds) = time.components
        let microseconds = "\(1_000_000 + attoseconds / 1_000_000_000_000)".dropFirst()
        return "{\"kind\":\(Self.json(kind.rawValue)),\"message\":\(Self.json(message)),\"signal\":\(signal),"
            + "\"process\":\(Self.json(process.description)),\"name\":\(Self.json(name)),"
            + "\"path\":\(Self.json(path)),\"messageType\":\(Self.json(messageType)),\"time\":\(seconds).\(microseconds),"
            + "\"frames\":[\(listed.joined(separator: ","))]}"
    }

    /// A JSON string (RFC 8259), or null.
    static func json(_ text: String?) -> String {
        guard let text else { return "null" }
        var quoted = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": quoted += "\\\""
            case "\\": quoted += "\\\\"
            case "\n": quoted += "\\n"
            case "\r": quoted += "\\r"
            case "\t": quoted += "\\t"
            case _ where scalar.value < 0x20:
                let digits = String(scalar.value, radix: 16)
                quoted += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: quoted.unicodeScalars.append(scalar)
            }
        }
        return quoted + "\""
    }
}

extension TrapReport.Frame: CustomStringConvertible {
    /// Function and place, as far as they are known: `Shop.price(of:) at Shop.swift:12`.
    public var description: String {
        var text = "\(isInlined ? "[inlined] " : "")\(function ?? "?")"
        if let file {
            text += " at \(file)\(line.map { ":\($0)" } ?? "")"
        } else if let object {
            text += " in \(object) 0x\(String(address, radix: 16))"
        }
        return text
    }
}
