// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// How many threads have trapped on each seat and are not joined yet.
///
/// A seat gets its next heir only when the last of its trapped threads is gone. So a storm of traps that is faster than the
/// reaper does not pile up threads: on a seat without an heir the next trap waits for the reaper. At most three threads
/// that trapped belong to a seat: one that an heir succeeded, one that the heir of that moment succeeded because it had
/// been provided while the first one's trap was not known yet, and one that waits for the reaper.
struct UnburiedThreads {
    private var bySeat: [Int: Int] = [:]

    /// Of all seats.
    var count: Int { bySeat.values.reduce(0, +) }

    /// Whether a thread that is about to be forgotten is the last of its seat.
    func isOnlyOne(on seat: Int) -> Bool { bySeat[seat] == 1 }

    mutating func trapped(on seat: Int) { bySeat[seat, default: 0] += 1 }

    mutating func buried(on seat: Int) {
        guard let count = bySeat[seat], count > 0 else {
            preconditionFailure("impossible: a thread is buried that did not trap on seat \(seat)")
        }
        bySeat[seat] = count == 1 ? nil : count - 1
    }
}
