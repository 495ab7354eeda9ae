// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// Which queue a worker looks into first at each of its turns, so that none starves.
///
/// Most turns belong to what is urgent and then to what was made ready last. Every 16th turn (every second one of a worker
/// whose turns are long) looks at what came from outside first, and every 64th at what has low priority.
struct TurnOrder: Sendable, Equatable {
    enum First: Equatable {
        /// High priority; then the worker's own.
        case urgent
        /// The worker's inbox, then the node's queue; then the worker's own. Nothing urgent.
        case inbox
        /// The node's queue, then the worker's inbox; then the worker's own. Nothing urgent.
        case node
        /// Low priority; then the worker's own. Nothing urgent.
        case low
    }

    /// Turns longer than this, on average, are long: 16 of them would keep what comes from outside waiting noticeably.
    static let longTurn: Duration = .microseconds(10)
    static let turnsOfLow: UInt = 64

    /// Which turns are special: those of which these bits are 0.
    private var mask: UInt = 15
    /// Likewise, while nothing waits that is pinned: 1 if turns are long.
    private var usualMask: UInt = 15
    private var mindsPinned = false
    /// The mean duration of a turn in nanoseconds; nil until it was measured.
    private(set) var meanTurn: UInt64?
    /// How long a turn may be expected to take, in nanoseconds: grows at once, falls by halves. Unknown at first: long.
    private(set) var expectedTurn = Self.longestExpected
    private var isFirst = true
    static let longestExpected: UInt64 = 1 << 31
    private var measuredAt: UInt64 = 0
    private var measuredTurn: UInt = 0

    /// Whether the turn is one for somebody else than what is urgent, or made ready last.
    @inline(__always)
    func isSpecial(_ turn: UInt) -> Bool { turn & mask == 0 }

    func first(at turn: UInt) -> First {
        let mask = usualMask
        guard turn & mask == 0 else { return .urgent }
        if turn % Self.turnsOfLow == 0 { return .low }
        return turn & (mask &+ 1) == 0 ? .node : .inbox
    }

    /// What a turn is for of what is pinned to the worker's processor, before everything else.
    enum Pinned: Equatable {
        case nothing
        /// The most urgent.
        case any
        /// Of normal priority, then the most urgent.
        case normal
        case low
    }

    /// While something waits that is pinned: every second turn of a worker is for that, of one whose turns are long every fourth. So
    /// neither waits for the other for ever; nor does what is pinned with normal, or low, priority for what is pinned with high.
    func pinned(at turn: UInt) -> Pinned {
        if turn % (2 * Self.turnsOfLow) == Self.turnsOfLow { return .low }
        guard turn & (usualMask == 1 ? 3 : 1) == 1 else { return .nothing }
        return turn % 16 == 1 ? .normal : .any
    }

    /// Something that is pinned waits, as far as the worker knows, or nothing does: then its turns come in between or not.
    mutating func mindPinned(_ waits: Bool) {
        if waits == mindsPinned { return }
        mindsPinned = waits
        setMask()
    }

    private mutating func setMask() { mask = mindsPinned ? 0 : usualMask }

    /// Whether what was set back comes first, if there is any: as often as what has low priority.
    static func isForDebtors(_ turn: UInt) -> Bool { turn % turnsOfLow == turnsOfLow / 2 }

    /// Whether it is time to measure how long turns take.
    func isMeasuring(_ turn: UInt) -> Bool { turn % Self.turnsOfLow == 0 }

    /// So late it is at this turn; the worker did not sleep since `resume`.
    mutating func measure(_ turn: UInt, at nanoseconds: UInt64) {
        if let mean = mean(until: turn, at: nanoseconds) {
            expect(mean)
            meanTurn = mean
            usualMask = mean > UInt64(Self.longTurn.inNanoseconds) ? 1 : 15
            setMask()
        }
        measuredTurn = turn
        measuredAt = nanoseconds
    }

    /// The worker is about to sleep; it may have taken too few turns to order them by how long they took.
    mutating func rest(_ turn: UInt, at nanoseconds: UInt64) {
        if let mean = mean(until: turn, at: nanoseconds) { expect(mean) }
        measuredAt = 0
    }

    private func mean(until turn: UInt, at nanoseconds: UInt64) -> UInt64? {
        let turns = turn &- measuredTurn
        guard turns > 0, measuredAt > 0, nanoseconds >= measuredAt else { return nil }
        return (nanoseconds - measuredAt) / UInt64(turns)
    }

    private mutating func expect(_ mean: UInt64) {
        expectedTurn = min(max(mean, isFirst ? 0 : expectedTurn / 2), Self.longestExpected)
        isFirst = false
    }

    /// The worker has slept until now.
    mutating func resume(_ turn: UInt, at nanoseconds: UInt64) {
        measuredTurn = turn
        measuredAt = nanoseconds
    }
}
