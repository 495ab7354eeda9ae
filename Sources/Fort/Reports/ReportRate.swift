// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// How many reports a second are written: in each second the first few, the others are counted. A value without a clock.
struct ReportRate: Equatable {
    let limit: Int
    private var second: Int64 = .min
    private var count = 0
    /// Those that were not admitted since the last one that was told of them.
    private(set) var untold = 0

    init(limit: Int) { self.limit = limit }

    /// Whether one is written that happens now.
    ///
    /// - Returns: How many before it were not; nil if it is not written itself.
    mutating func admit(at time: WallTime) -> Int? {
        let second = time.nanoseconds / 1_000_000_000
        if second != self.second { (self.second, count) = (second, 0) }
        guard count < limit else {
            untold += 1
            return nil
        }
        count += 1
        defer { untold = 0 }
        return untold
    }

    /// One that was admitted cannot be written after all, with those that it would have told of.
    mutating func giveBack(_ more: Int) { untold += more + 1 }
}
