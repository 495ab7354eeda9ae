// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc
import Synchronization

/// What became of the timers of one worker, or of those that other threads set, since the pool was made.
///
/// Reading costs some loads and disturbs nobody. The figures are not of one instant.
public struct TimerCounters: Sendable, Equatable {
    /// The worker's index; nil: timers that were set on other threads, or whose actions belong on the timer's thread.
    public let worker: Int?
    /// Timers that wait for their time.
    public let pending: Int
    /// Timers whose action was called.
    public let fired: UInt
    /// Of these, how many the timer's thread called because the worker was busy for too long with one turn.
    public let rescued: UInt
    /// Timers that were cancelled in time.
    public let cancelled: UInt
    /// How much later than they were due actions were called, all together.
    public let totalLateness: Duration
    /// The largest lateness of one.
    public let maximumLateness: Duration
    /// By lateness: the first is of less than a microsecond, number n of at least 2^(n-1) and less than 2^n; the last of all
    /// above.
    public let lateness: [UInt]
}

/// The words behind ``TimerCounters``. Written under the lock of the wheel, read by everybody.
struct TimerTally: ~Copyable, @unchecked Sendable {
    // Sendable: the words are atomic, the pointer never changes.
    let inserted = Atomic<UInt>(0)
    let fired = Atomic<UInt>(0)
    let rescued = Atomic<UInt>(0)
    let cancelled = Atomic<UInt>(0)
    private let totalLateness = Atomic<UInt>(0)
    private let maximumLateness = Atomic<UInt>(0)
    private let lateness: UnsafeMutablePointer<Atomic<UInt>>
    /// Up to 2^22 µs, four seconds, and one for all above.
    private static let classes = 24

    init() {
        lateness = .allocate(capacity: Self.classes)
        for number in 0..<Self.classes { (lateness + number).initialize(to: Atomic(0)) }
    }

    deinit {
        lateness.deinitialize(count: Self.classes)
        lateness.deallocate()
    }

    /// The class of a lateness in nanoseconds.
    static func latenessClass(_ nanoseconds: UInt64) -> Int {
        min(64 - (nanoseconds / 1000).leadingZeroBitCount, classes - 1)
    }

    func noteFired(late nanoseconds: UInt64, byKeeper: Bool) {
        fired.count()
        if byKeeper { rescued.count() }
        totalLateness.count(UInt(nanoseconds))
        // ordering: relaxed: a statistic.
        if nanoseconds > maximumLateness.known { maximumLateness.store(UInt(nanoseconds), ordering: .relaxed) }
        lateness[Self.latenessClass(nanoseconds)].count()
    }

    func counters(of worker: Int?) -> TimerCounters {
        // What ends first, so that a timer that comes and goes meanwhile counts as pending at most.
        let (fired, cancelled) = (self.fired.known, self.cancelled.known)
        return TimerCounters(
            worker: worker,
            pending: max(0, Int(inserted.known) - Int(fired) - Int(cancelled)),
            fired: fired,
            rescued: rescued.known,
            cancelled: cancelled,
            totalLateness: .nanoseconds(Int64(clamping: totalLateness.known)),
            maximumLateness: .nanoseconds(Int64(clamping: maximumLateness.known)),
            lateness: (0..<Self.classes).map { lateness[$0].known }
        )
    }
}
