// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// Whose turn it is of the wishes to reload: one call at a time, and one more for all wishes that came meanwhile. Pure.
struct Reloads {
    private var isCalling = false
    private var isWanted = false

    /// Somebody wants a reload. Returns whether to call now.
    mutating func wanted() -> Bool {
        if isCalling { isWanted = true }
        defer { isCalling = true }
        return !isCalling
    }

    /// The call is over. Returns whether to call again.
    mutating func ended() -> Bool {
        defer { isWanted = false }
        isCalling = isWanted
        return isWanted
    }
}
