// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// Tells a program that hangs from one that lives, by looking at how often its executor has given a sign of life. Pure.
struct BeatWatch {
    private var beats: UInt64 = 0
    private var since: Duration?
    private var lastLook: Duration?

    /// - Parameters:
    ///   - beats: How many signs of life there were.
    ///   - hangTime: After how long without one it hangs; nil: never.
    /// - Returns: Whether it hangs.
    mutating func look(beats: UInt64, hangTime: Duration?, at now: Duration) -> Bool {
        defer { lastLook = now }
        // Who has not looked for so long was stopped itself, and the program with it perhaps: it has all its time again.
        let hasSlept = hangTime.map { limit in lastLook.map { now - $0 > limit / 2 } ?? true } ?? true
        guard let hangTime, let since, beats == self.beats, !hasSlept else {
            self.beats = beats
            since = hangTime == nil ? nil : now
            return false
        }
        return now - since >= hangTime
    }
}
