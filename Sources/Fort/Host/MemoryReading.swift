// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// How often the kernel did something to a control group's memory: `memory.events`.
struct MemoryEventCounts: Equatable, Sendable {
    /// Reclaimed although it was below `memory.low`: the machine is short.
    var low = 0
    /// Throttled and reclaimed, as it was above `memory.high`.
    var high = 0
    /// Reclaimed at `memory.max`.
    var max = 0
    /// Reclaiming at `memory.max` was in vain.
    var oom = 0
    /// Processes that were ended.
    var kills = 0
    /// How often that was a whole group.
    var groupKills = 0

    init() {}

    /// - Parameter text: `low 0\nhigh 3\n...`; what is unknown, or no number, is left out.
    init(_ text: String) {
        for line in text.split(separator: "\n") {
            let fields = line.split(separator: " ")
            guard fields.count == 2, let count = Int(fields[1]), count >= 0 else { continue }
            switch fields[0] {
            case "low": low = count
            case "high": high = count
            case "max": max = count
            case "oom": oom = count
            case "oom_kill": kills = count
            case "oom_group_kill": groupKills = count
            default: break
            }
        }
    }

    static func &+ (a: Self, b: Self) -> Self { combined(a, b) { $0 &+ $1 } }
    /// What came since; a group that is another one, and counts anew, has none.
    static func since(_ former: Self, _ now: Self) -> Self { combined(now, former) { Swift.max($0 &- $1, 0) } }

    private static func combined(_ a: Self, _ b: Self, _ combine: (Int, Int) -> Int) -> Self {
        var result = Self()
        result.low = combine(a.low, b.low)
        result.high = combine(a.high, b.high)
        result.max = combine(a.max, b.max)
        result.oom = combine(a.oom, b.oom)
        result.kills = combine(a.kills, b.kills)
        result.groupKills = combine(a.groupKills, b.groupKills)
        return result
    }
}

/// Waiting for memory: PSI, `memory.pressure` or `/proc/pressure/memory`.
struct StallFigures: Equatable, Sendable {
    /// Part of the time in which some task waited, an average over 10 seconds, 0 to 1.
    var some: Double = 0
    /// The same in which nothing else ran.
    var full: Double = 0
    /// For how long that was in all, in microseconds.
    var someTotal: UInt64 = 0
    var fullTotal: UInt64 = 0

    /// - Parameter text: `some avg10=1.50 avg60=0.00 avg300=0.00 total=88964\nfull ...`. Nil if there is no such line.
    init?(_ text: String) {
        var hasSome = false
        for line in text.split(separator: "\n") {
            let fields = line.split(separator: " ")
            guard let kind = fields.first, kind == "some" || kind == "full" else { continue }
            var (average, total) = (0.0, UInt64(0))
            for field in fields.dropFirst() {
                let parts = field.split(separator: "=")
                guard parts.count == 2 else { continue }
                if parts[0] == "avg10" { average = Swift.min(Swift.max((Double(parts[1]) ?? 0) / 100, 0), 1) }
                if parts[0] == "total" { total = UInt64(parts[1]) ?? 0 }
            }
            if kind == "some" {
                (some, someTotal, hasSome) = (average, total, true)
            } else {
                (full, fullTotal) = (average, total)
            }
        }
        if !hasSome { return nil }
    }
}

/// What the kernel says of the program's memory at one moment.
struct MemoryReading: Equatable, Sendable {
    /// Bytes in use, and the limit, of the group with the least room.
    var used: Int?
    var limit: Int?
    /// Which part of `memory.high` is in use, in the group where it is the largest; nil: there is no such limit. May be above 1.
    var shareOfHigh: Double?
    /// The same of `memory.max`.
    var shareOfMax: Double?
    /// Of the program's group with all below, and of those around it by themselves.
    var events = MemoryEventCounts()
    var stall: StallFigures?
}
