// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// Whose turn it is, one after the other. A pure value.
///
/// Members are known by their places; who joins comes last, and who leaves makes the later ones move up.
struct RoundRobin: Sendable, Equatable {
    private var next = 0

    /// - Precondition: `count` is positive.
    mutating func choose(of count: Int) -> Int {
        let choice = next < count ? next : 0
        next = choice + 1
        return choice
    }

    /// The member at a place left: nobody loses a turn by that.
    mutating func removed(at place: Int) { if place < next { next -= 1 } }
}
