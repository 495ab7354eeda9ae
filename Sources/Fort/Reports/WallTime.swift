// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc

/// A moment, in nanoseconds since 1970 (UTC).
struct WallTime: Hashable, Comparable, Sendable {
    var nanoseconds: Int64

    init(nanoseconds: Int64) { self.nanoseconds = nanoseconds }

    init(_ duration: Duration) {
        let (seconds, attoseconds) = duration.components
        nanoseconds = seconds * 1_000_000_000 + attoseconds / 1_000_000_000
    }

    static var now: WallTime {
        var time = timespec()
        // Fails only for an unknown clock or a bad address; neither can occur.
        clock_gettime(CLOCK_REALTIME, &time)
        return WallTime(nanoseconds: Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec))
    }

    var sinceEpoch: Duration { .nanoseconds(nanoseconds) }
    var milliseconds: Int64 { nanoseconds / 1_000_000 }

    static func < (lhs: WallTime, rhs: WallTime) -> Bool { lhs.nanoseconds < rhs.nanoseconds }

    /// As in `2026-11-28T12:00:00.123Z`.
    var text: String { text(separator: ":") }
    /// As in `2026-11-28T12-00-00.123Z`, for the names of files. Those of the years 1970 to 9999 sort by time.
    var fileText: String { text(separator: "-") }

    private func text(separator: String) -> String {
        let milliseconds = max(nanoseconds, 0) / 1_000_000
        let date = Self.date(ofDay: Int(milliseconds / 86_400_000))
        let time = milliseconds % 86_400_000
        return "\(date.year)-\(two(date.month))-\(two(date.day))T\(two(Int(time / 3_600_000)))\(separator)"
            + "\(two(Int(time / 60_000 % 60)))\(separator)\(two(Int(time / 1000 % 60)))."
            + "\(String(1000 + time % 1000).dropFirst())Z"
    }

    private func two(_ number: Int) -> Substring { String(100 + number).dropFirst() }

    /// The date of a day counted from 1970-01-01, after Howard Hinnant's "chrono-Compatible Low-Level Date Algorithms".
    static func date(ofDay day: Int) -> (year: Int, month: Int, day: Int) {
        let shifted = day + 719_468
        let era = shifted / 146_097
        let dayOfEra = shifted % 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let shiftedMonth = (5 * dayOfYear + 2) / 153
        let month = shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9
        return (yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, dayOfYear - (153 * shiftedMonth + 2) / 5 + 1)
    }
}
