// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// Moments at a fixed rate: pure.
///
/// They lie at whole multiples of the period after the start, however late each is seen: lateness does not add up. Moments
/// that have passed by the time the next is asked for are skipped, not made up for.
struct IntervalSchedule {
    let period: Int64
    /// The last moment that was handed out; before the first, the start.
    private(set) var last: Int64

    init(start: Int64, period: Int64) {
        self.period = period
        last = start
    }

    /// The first moment after the last one that has not passed, and how many lie between the two.
    mutating func next(at now: Int64) -> (moment: Int64, missed: Int) {
        // One that is due at this very moment has not passed.
        let (first, isOver) = last.addingReportingOverflow(period)
        guard !isOver else { return (.max, 0) }
        let missed = first < now ? (now - last - 1) / period : 0
        let (moment, isBeyond) = first.addingReportingOverflow(missed * period)
        last = isBeyond ? .max : moment
        return (last, Int(missed))
    }
}

/// Moments of a clock at a fixed rate, as an asynchronous sequence.
///
/// Each comes one period after the last, not later because that one was handled late. What the task was too busy for is
/// skipped and counted (``Tick/missed``), so that moments never come in a bunch. Ends when the task is cancelled, as of a
/// process that is asked to stop. Each iterator has its own start, one period before its first moment. Costs a timer a moment.
public struct Ticks: AsyncSequence, Sendable {
    /// One moment.
    public struct Tick: Sendable, Equatable {
        /// When it was due. Never handed out before.
        public let instant: BastionClock.Instant
        /// How many before it were skipped because nobody asked for them in time.
        public let missed: Int
    }
    /// What is iterated over.
    public typealias Element = Tick

    let clock: BastionClock
    let period: Int64

    init(clock: BastionClock, period: Duration) {
        precondition(period > .zero, "the period must be positive")
        self.clock = clock
        self.period = period.nanosecondsUp
    }

    /// Waits for one moment after the other.
    public struct AsyncIterator: AsyncIteratorProtocol {
        let clock: BastionClock
        private var schedule: IntervalSchedule

        init(_ ticks: Ticks) {
            clock = ticks.clock
            schedule = IntervalSchedule(start: ticks.clock.now.nanoseconds, period: ticks.period)
        }

        /// Waits for the next moment; nil when the task is cancelled.
        public mutating func next() async -> Tick? {
            let (moment, missed) = schedule.next(at: clock.now.nanoseconds)
            let instant = BastionClock.Instant(nanoseconds: moment)
            do { try await clock.sleep(until: instant) } catch { return nil }
            return Tick(instant: instant, missed: missed)
        }
    }

    /// Returns an iterator whose first moment is one period from now.
    public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(self) }
}

extension ProcScheduler {
    /// Calls `action` at a fixed rate, the first time one period from now, until the token is cancelled.
    ///
    /// The action runs where those of `schedule(after:_:)` do, and must not block. It is called at whole multiples of the period;
    /// those that have passed by the time it is set anew, after the call, are skipped. The argument says how many.
    /// Cancellation does not stop a call that has begun; none begins after it. Cost: a timer a call.
    ///
    /// - Precondition: The period is positive.
    @discardableResult
    public func schedule(every period: Duration, _ action: @escaping @Sendable (_ missed: Int) -> Void) -> TimerToken {
        precondition(period > .zero, "the period must be positive")
        let repeater = Repeater(self, period.nanosecondsUp, action)
        repeater.arm()
        return TimerToken { repeater.cancel() }
    }
}

/// A timer that is set again each time it has fired.
private final class Repeater: Sendable {
    private struct State {
        var schedule: IntervalSchedule
        var timer: TimerToken?
        var isCancelled = false
    }
    private let state: Locked<State>
    /// The timer's hold on this must not hold the scheduler, which holds the timer.
    private let scheduler: WeakScheduler
    private let action: @Sendable (Int) -> Void

    init(_ scheduler: any ProcScheduler, _ period: Int64, _ action: @escaping @Sendable (Int) -> Void) {
        self.scheduler = WeakScheduler(scheduler)
        self.action = action
        state = Locked(
            State(schedule: IntervalSchedule(start: scheduler.now.inNanoseconds, period: period), timer: nil)
        )
    }

    func arm() {
        guard let scheduler = scheduler.value else { return }
        let now = scheduler.now.inNanoseconds
        let (moment, missed) = state.withLock { $0.schedule.next(at: now) }
        let timer = scheduler.schedule(after: .nanoseconds(moment - now)) { [self] in fire(missed) }
        let isCancelled = state.withLock { state in
            if !state.isCancelled { state.timer = timer }
            return state.isCancelled
        }
        if isCancelled { timer.cancel() }
    }

    private func fire(_ missed: Int) {
        if state.withLock({ $0.isCancelled }) { return }
        action(missed)
        arm()
    }

    func cancel() {
        let timer = state.withLock { state in
            state.isCancelled = true
            defer { state.timer = nil }
            return state.timer
        }
        timer?.cancel()
    }
}

private final class WeakScheduler: @unchecked Sendable {
    // Sendable: a weak reference may be read by several threads at a time, and is written once.
    weak var value: (any ProcScheduler)?
    init(_ value: any ProcScheduler) { self.value = value }
}
