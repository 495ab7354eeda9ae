// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// Checks a synthetic description before hwloc sees it: hwloc would allocate whatever it asks for.
enum SyntheticDescription {
    /// The most objects of one type that a description may ask for.
    static let objectLimit = 65_536

    /// - Throws: `invalidSynthetic` if it is empty, holds a zero byte, or multiplies up to more than `objectLimit`.
    static func check(_ text: String) throws(TopologyError) {
        guard !text.utf8.contains(0), text.contains(where: { !$0.isWhitespace }) else {
            throw TopologyError(
                .invalidSynthetic,
                "the synthetic description is empty; write one such as 'pack:2 numa:1 l3:2 core:4 pu:2'"
            )
        }
        guard text.utf8.count <= 1 << 16 else {
            throw TopologyError(
                .invalidSynthetic,
                "the synthetic description is too long; use an XML file for such a machine"
            )
        }
        var objects = 1
        for level in text.withoutParentheses.split(whereSeparator: { $0.isWhitespace || $0 == "[" || $0 == "]" }) {
            // `core:4` or, with the type left out, `4`.
            let digits =
                level.split(separator: ":", omittingEmptySubsequences: false).last?.prefix { $0.isNumber } ?? ""
            guard !digits.isEmpty else { continue }
            let (product, overflows) = objects.multipliedReportingOverflow(by: Int(digits) ?? .max)
            guard !overflows, product <= objectLimit else {
                throw TopologyError(
                    .invalidSynthetic,
                    "the synthetic description '\(text)' asks for more than \(objectLimit) objects of a type; describe a smaller machine"
                )
            }
            objects = max(1, product)
        }
    }
}

extension String {
    /// The text without what stands in parentheses: attributes such as `(memory=1GB)`.
    fileprivate var withoutParentheses: String {
        var depth = 0
        return filter { character in
            if character == "(" { depth += 1 }
            defer { if character == ")", depth > 0 { depth -= 1 } }
            return depth == 0
        }
    }
}
