// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// The decoded `name=value` pairs of a query string, in their order.
package struct Query: Sendable, Equatable {
    package struct Parameter: Sendable, Equatable {
        package var name: String
        package var value: String
    }

    package private(set) var parameters: [Parameter] = []

    package init() {}

    /// Parses what follows the `?`; a name without `=` has an empty value, empty pairs are skipped.
    ///
    /// - Throws: a problem with status 400 for a malformed escape.
    package init(parsing text: Substring) throws(RequestProblem) {
        for pair in text.split(separator: "&") {
            let sides = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard
                let name = PercentEncoding.decode(sides[0], plusIsSpace: true),
                let value = PercentEncoding.decode(sides.count > 1 ? sides[1] : "", plusIsSpace: true)
            else { throw .badRequest("malformed escape in the query") }
            parameters.append(Parameter(name: name, value: value))
        }
    }

    /// Returns the value of the one parameter of that name, nil where there is none.
    ///
    /// - Throws: a problem with status 400 if it is given more than once: guessing which one was meant hides mistakes.
    package func value(of name: String) throws(RequestProblem) -> String? {
        let matches = parameters.filter { $0.name == name }
        guard matches.count <= 1 else { throw .badRequest("query parameter '\(name)' is given more than once") }
        return matches.first?.value
    }

    /// Returns the one parameter of that name as an integer.
    ///
    /// - Throws: a problem with status 400 if it is missing, repeated or no integer of 64 bits.
    package func integer(_ name: String) throws(RequestProblem) -> Int {
        guard let text = try value(of: name) else { throw .badRequest("query parameter '\(name)' is missing") }
        guard let number = Int(text) else { throw .badRequest("query parameter '\(name)' is not an integer") }
        return number
    }
}
