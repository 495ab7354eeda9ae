// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// Whether a guard answers for its program where a service manager waits for signs of life. Pure.
///
/// It does not for a program that gives none while nobody would kill it for that: then the manager is the one to do it.
struct KeepAlive {
    struct Program {
        let pid: Int32
        /// How many signs of life its executor has given.
        let beats: UInt64
        /// Whether it cannot be known, as it is of another release.
        let isForeign: Bool
        /// Whether the guard itself kills it, and starts it again, when it gives none.
        let isLookedAfter: Bool
    }

    private var pid: Int32?
    private var beats: UInt64 = 0

    /// Whether the manager is told that all is well.
    ///
    /// - Parameter program: Nil while it is to be started again: the guard does what it was told.
    mutating func isDue(_ program: Program?) -> Bool {
        guard let program else { return true }
        defer { (pid, beats) = (program.pid, program.beats) }
        // One that was started since is as good as a sign of life.
        return program.pid != pid || program.beats != beats || program.isForeign || program.isLookedAfter
    }
}
