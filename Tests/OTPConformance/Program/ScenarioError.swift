// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// A line of the input that is no scenario.
struct ScenarioError: Error, Equatable, CustomStringConvertible {
    /// From one on.
    let line: Int
    let what: String

    var description: String { "line \(line): \(what)" }
}
