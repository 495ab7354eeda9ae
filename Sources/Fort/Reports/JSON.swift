// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// A JSON document (RFC 8259) to be written: valid UTF-8 on one line whatever the strings contain.
enum JSON: Sendable {
    case null
    case bool(Bool)
    case int(Int64)
    /// A number with a fixed number of decimals, as thousandths.
    case thousandths(Int64)
    case string(String)
    case array([JSON])
    /// Members in this order; keys are not looked at for repetitions.
    case object([(String, JSON)])

    /// Null where there is none.
    static func optional(_ text: String?) -> JSON { text.map { .string($0) } ?? .null }
    /// Null where there is none.
    static func optional(_ number: Int?) -> JSON { number.map { .int(Int64($0)) } ?? .null }
    /// As `0x7f00`, for numbers that JavaScript cannot hold.
    static func address(_ address: UInt64) -> JSON { .string("0x" + String(address, radix: 16)) }

    /// The document.
    var text: String {
        var text = ""
        write(to: &text)
        return text
    }

    private func write(to text: inout String) {
        switch self {
        case .null: text += "null"
        case .bool(let value): text += value ? "true" : "false"
        case .int(let value): text += String(value)
        case .thousandths(let value):
            let rest = String(1000 + value.magnitude % 1000).dropFirst()
            text += "\(value < 0 ? "-" : "")\(value.magnitude / 1000).\(rest)"
        case .string(let value): Self.write(value, to: &text)
        case .array(let values):
            text += "["
            for (index, value) in values.enumerated() {
                if index > 0 { text += "," }
                value.write(to: &text)
            }
            text += "]"
        case .object(let members):
            text += "{"
            for (index, member) in members.enumerated() {
                if index > 0 { text += "," }
                Self.write(member.0, to: &text)
                text += ":"
                member.1.write(to: &text)
            }
            text += "}"
        }
    }

    /// A string is made of Unicode scalars, so what is written is valid; what came from C was repaired when it became a string.
    private static func write(_ string: String, to text: inout String) {
        text += "\""
        for scalar in string.unicodeScalars {
            switch scalar {
            case "\"": text += "\\\""
            case "\\": text += "\\\\"
            case "\n": text += "\\n"
            case "\r": text += "\\r"
            case "\t": text += "\\t"
            // Control characters, and the two line separators that JavaScript does not take within a string.
            case _
            where scalar.value < 0x20 || scalar.value == 0x7f || scalar.value == 0x2028 || scalar.value == 0x2029:
                let digits = String(scalar.value, radix: 16)
                text += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: text.unicodeScalars.append(scalar)
            }
        }
        text += "\""
    }
}
