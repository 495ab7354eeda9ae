// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// A JSON value whose object members keep their order.
///
/// Written out here so that the example needs no Foundation: it only ever writes JSON, small and flat.
package enum JSON: Sendable, Equatable {
    case string(String)
    case integer(Int)
    /// Must be finite: JSON has no other numbers.
    case number(Double)
    case object([(name: String, value: JSON)])

    package static func == (left: JSON, right: JSON) -> Bool { left.text == right.text }

    /// The value in one line, without blanks.
    package var text: String {
        var text = ""
        write(to: &text)
        return text
    }

    private func write(to text: inout String) {
        switch self {
        case .string(let string):
            Self.writeQuoted(string, to: &text)
        case .integer(let integer):
            text += String(integer)
        case .number(let number):
            precondition(number.isFinite, "a JSON number must be finite")
            text += String(number)
        case .object(let members):
            var separator = "{"
            for member in members {
                text += separator
                Self.writeQuoted(member.name, to: &text)
                text += ":"
                member.value.write(to: &text)
                separator = ","
            }
            text += members.isEmpty ? "{}" : "}"
        }
    }

    private static func writeQuoted(_ string: String, to text: inout String) {
        text += "\""
        for scalar in string.unicodeScalars {
            switch scalar {
            case "\"": text += "\\\""
            case "\\": text += "\\\\"
            case "\n": text += "\\n"
            case "\r": text += "\\r"
            case "\t": text += "\\t"
            case "\u{0}"..<" ", "\u{7F}":
                let digits = String(scalar.value, radix: 16)
                text += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: text.unicodeScalars.append(scalar)
            }
        }
        text += "\""
    }
}

extension JSON: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByDictionaryLiteral {
    package init(stringLiteral value: String) { self = .string(value) }
    package init(integerLiteral value: Int) { self = .integer(value) }
    package init(dictionaryLiteral elements: (String, JSON)...) {
        self = .object(elements.map { (name: $0.0, value: $0.1) })
    }
}
