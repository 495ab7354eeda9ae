// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// Whether the executor gets on, as probes tell that it has to run. Pure.
///
/// One probe for each set of workers is on the way at a time, so however long workers are stuck, no more pile up.
struct HeartRhythm: Equatable {
    /// Sets of workers that are probed: one for each NUMA node.
    let sets: Int
    /// By set: whether the probe of this round has run.
    private var hasAnswered: [Bool]
    private var round: UInt = 0

    init(sets: Int) {
        precondition(sets > 0, "impossible: an executor has workers")
        self.sets = sets
        hasAnswered = Array(repeating: true, count: sets)
    }

    /// It is time for a beat. Returns the number of the round that begins; nil while probes of the last one have not run.
    mutating func timeIsUp() -> UInt? {
        guard hasAnswered.allSatisfy({ $0 }) else { return nil }
        round &+= 1
        hasAnswered = Array(repeating: false, count: sets)
        return round
    }

    /// A probe has run. True if it was the last of its round: that is a beat.
    mutating func probeRan(on set: Int, round: UInt) -> Bool {
        // One that is of another round was answered for by nobody.
        guard round == self.round, !hasAnswered[set] else { return false }
        hasAnswered[set] = true
        return hasAnswered.allSatisfy { $0 }
    }

    /// How often it is time for a beat: five times in what the guard waits for one, and four times in what systemd does, so that
    /// both get twice what they need, also if some come late. Nil if nobody waits.
    static func interval(hangTime: Duration?, watchdogTime: Duration?) -> Duration? {
        let wishes = [hangTime.map { $0 / 5 }, watchdogTime.map { $0 / 4 }].compactMap(\.self)
        return wishes.min().map { max($0, .milliseconds(1)) }
    }
}
