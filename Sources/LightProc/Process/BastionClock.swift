// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// The clock of an executor: the machine's monotonic time, or the virtual time of a seeded executor.
///
/// Sleeping costs one timer in the wheel of the worker that one sleeps on, O(1) to set and to cancel; `Task.sleep` works in
/// processes, too, but goes through a queue that all threads of the program share, and takes real time in tests.
public struct BastionClock: Clock {
    /// A moment of an executor's clock, in nanoseconds since an arbitrary beginning. Those of other executors mean nothing.
    public struct Instant: InstantProtocol {
        /// Nanoseconds since the clock's beginning.
        public var nanoseconds: Int64

        /// Creates an instant from the nanoseconds since the clock's beginning.
        public init(nanoseconds: Int64) { self.nanoseconds = nanoseconds }

        /// The instant that is so much later; the last there is if it lies beyond, the whole nanosecond after a fraction.
        public func advanced(by duration: Duration) -> Instant {
            let (sum, isOver) = nanoseconds.addingReportingOverflow(duration.nanosecondsUp)
            return Instant(nanoseconds: isOver ? (duration < .zero ? .min : .max) : sum)
        }

        /// How much later the other one is.
        public func duration(to other: Instant) -> Duration {
            .nanoseconds(other.nanoseconds) - .nanoseconds(nanoseconds)
        }

        /// Whether one comes before the other.
        public static func < (one: Instant, other: Instant) -> Bool { one.nanoseconds < other.nanoseconds }
    }

    private let scheduler: any ProcScheduler

    /// Creates the clock of an executor.
    public init(_ scheduler: any ProcScheduler) { self.scheduler = scheduler }

    /// The present. Any thread.
    public var now: Instant { Instant(nanoseconds: scheduler.now.inNanoseconds) }

    /// What can be told apart; timers are late by less than a millisecond where the machine is not overloaded.
    public var minimumResolution: Duration { .nanoseconds(1) }

    /// Suspends until the deadline, or until the task is cancelled. Never returns early.
    ///
    /// - Parameter tolerance: Ignored: timers are not put together.
    /// - Throws: `CancellationError` at once when the task is cancelled, also while it sleeps.
    public func sleep(until deadline: Instant, tolerance: Duration? = nil) async throws {
        try await scheduler.sleep(for: now.duration(to: deadline))
    }

    /// Moments at a fixed rate, the first one period from now; see ``Ticks``.
    ///
    /// - Precondition: The period is positive.
    public func ticks(every period: Duration) -> Ticks { Ticks(clock: self, period: period) }
}

extension ProcScheduler {
    /// The time of this executor as a clock of Swift's.
    public var clock: BastionClock { BastionClock(self) }

    /// Suspends for a time of this executor's clock.
    package func sleep(for duration: Duration) async throws {
        try Task.checkCancellation()
        guard duration > .zero else { return }
        let gate = SleepGate()
        let timer = wake(after: duration) { gate.open() }
        await withTaskCancellationHandler {
            await gate.wait()
        } onCancel: {
            timer.cancel()
            gate.open()
        }
        try Task.checkCancellation()
    }
}

/// Something one task waits for, and whoever comes first opens.
package final class SleepGate: Sendable {
    private enum State {
        case closed
        case waiting(UnsafeContinuation<Void, Never>)
        case open
    }
    private let state = Locked(State.closed)

    package init() {}

    nonisolated(nonsending) package func wait() async {
        await suspended { continuation in
            let isOpen = state.withLock { state in
                if case .open = state { return true }
                state = .waiting(continuation)
                return false
            }
            if isOpen { continuation.resume() }
        }
    }

    package func open() {
        let waiting = state.withLock { state -> UnsafeContinuation<Void, Never>? in
            defer { state = .open }
            guard case .waiting(let continuation) = state else { return nil }
            return continuation
        }
        waiting?.resume()
    }
}
