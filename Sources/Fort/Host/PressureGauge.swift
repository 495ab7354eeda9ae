// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// Decides how short of memory the program is, from what is read now and what was read before. Pure.
///
/// | | some | critical |
/// |---|---|---|
/// | of `memory.max` in use | 85 % | 95 % |
/// | of `memory.high` in use | 90 % | 100 % |
/// | some task waits for memory | 10 % of the time | 40 % |
/// | all tasks wait | 2 % | 10 % |
/// | the kernel reclaimed at `high` or `max`, and 75 % are in use | any | |
/// | it reclaimed below `low` | any | |
/// | reclaiming was in vain, or it has ended a process | | any |
///
/// The level rises at once. It falls one step when, for 5 seconds, nothing came near what holds it: four fifths of the limits on waiting, ten
/// points below those on use. So a program at the edge does not change its mind with each look.
struct PressureGauge: Sendable {
    typealias Level = MemoryPressure.Level

    /// How long it is calm before the level falls.
    static let calm = Duration.seconds(5)
    /// Waiting is averaged over no less.
    static let window = Duration.milliseconds(500)
    /// What lies further back does not count: then the kernel's own average does.
    static let longestWindow = Duration.seconds(3)

    private(set) var pressure = MemoryPressure.unknown
    /// Since when nothing came near what holds the level.
    private var calmSince: Duration?
    private var events: MemoryEventCounts?
    private var firstKills: Int?
    private var stall: (time: Duration, figures: StallFigures)?
    private var shares = (some: 0.0, full: 0.0)

    init() {}

    /// What was read at a time.
    ///
    /// - Parameters:
    ///   - time: Of a clock that does not go backwards.
    ///   - triggerShare: The kernel said of itself that tasks wait for at least this part of the time; nil: it did not.
    /// - Returns: The pressure, with figures.
    mutating func read(_ reading: MemoryReading, at time: Duration, triggerShare: Double? = nil) -> MemoryPressure {
        let fresh = events.map { MemoryEventCounts.since($0, reading.events) } ?? MemoryEventCounts()
        events = reading.events
        let firstKills = self.firstKills ?? reading.events.kills
        self.firstKills = firstKills
        measureStall(reading.stall, at: time)
        let stalled = (some: max(shares.some, triggerShare ?? 0), full: shares.full)

        let reached = Self.level(reading, fresh, stalled, .reaching)
        let kept = Self.level(reading, fresh, stalled, .keeping)
        if reached > pressure.level {
            pressure.level = reached
            calmSince = nil
        } else if kept >= pressure.level {
            calmSince = nil
        } else if let since = calmSince {
            if time - since >= Self.calm {
                pressure.level = Level(rawValue: pressure.level.rawValue - 1) ?? .none
                // The next step takes as long again.
                calmSince = time
            }
        } else {
            calmSince = time
        }
        pressure.usedBytes = reading.used
        pressure.limitBytes = reading.limit
        pressure.stalledShare = reading.stall == nil ? nil : stalled.some
        pressure.fullyStalledShare = reading.stall == nil ? nil : stalled.full
        pressure.kills = max(reading.events.kills - firstKills, 0)
        return pressure
    }

    private mutating func measureStall(_ figures: StallFigures?, at time: Duration) {
        guard let figures else {
            (stall, shares) = (nil, (0, 0))
            return
        }
        guard let last = stall, time - last.time <= Self.longestWindow else {
            // Of long ago, or never: what the kernel averages.
            (stall, shares) = ((time, figures), (figures.some, figures.full))
            return
        }
        guard time - last.time >= Self.window else { return }
        let microseconds = (time - last.time) / Duration.microseconds(1)
        func share(_ now: UInt64, _ then: UInt64) -> Double {
            now < then ? 0 : min(Double(now - then) / microseconds, 1)
        }
        shares.some = share(figures.someTotal, last.figures.someTotal)
        shares.full = share(figures.fullTotal, last.figures.fullTotal)
        stall = (time, figures)
    }

    private enum Side { case reaching, keeping }

    /// The level that a reading speaks for by itself.
    private static func level(
        _ reading: MemoryReading,
        _ fresh: MemoryEventCounts,
        _ stalled: (some: Double, full: Double),
        _ side: Side
    ) -> Level {
        let (lower, factor) = side == .reaching ? (0, 1) : (0.1, 0.8)
        let (ofMax, ofHigh) = (reading.shareOfMax ?? 0, reading.shareOfHigh ?? 0)
        if fresh.oom > 0 || fresh.kills > 0 || fresh.groupKills > 0 || ofMax >= 0.95 - lower || ofHigh >= 1 - lower
            || stalled.some >= 0.4 * factor || stalled.full >= 0.1 * factor
        {
            return .critical
        }
        if fresh.low > 0 || ((fresh.high > 0 || fresh.max > 0) && max(ofMax, ofHigh) >= 0.75 - lower)
            || ofMax >= 0.85 - lower || ofHigh >= 0.9 - lower || stalled.some >= 0.1 * factor
            || stalled.full >= 0.02 * factor
        {
            return .some
        }
        return .none
    }
}
