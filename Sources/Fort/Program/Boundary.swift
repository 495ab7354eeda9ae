// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// What stands around a program.
public enum Boundary: String, Sendable, CaseIterable {
    /// The bodies are supervised processes: what throws or traps is started again. What cannot be contained ends the program.
    case inProcess = "in-process"
    /// Beside that, a guard process runs the program as its child, keeps its listening sockets, and starts it again whatever it
    /// died of.
    case guarded
}
