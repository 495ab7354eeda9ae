// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc
public import Logging

extension Middleware {
    /// How the handling of a message went.
    public enum Outcome: Sendable {
        /// The handler returned.
        case handled
        /// It threw this error.
        case failed(any Error)
    }

    /// Tells how long each handler took, on the executor's clock, and how it went: for metrics.
    ///
    /// A trap is told nobody here; it is in the process's exit reason.
    /// - Parameter record: Called by the process after each message. Must not block.
    public static func measuring(
        _ record: @escaping @Sendable (Handling, Duration, Outcome) -> Void
    ) -> Middleware {
        Middleware(
            now: { handling, next in
                let began = handling.proc.scheduler.now
                do {
                    try next()
                    record(handling, handling.proc.scheduler.now - began, .handled)
                } catch {
                    record(handling, handling.proc.scheduler.now - began, .failed(error))
                    throw error
                }
            },
            later: { handling, next in
                let began = handling.proc.scheduler.now
                do {
                    try await next()
                    record(handling, handling.proc.scheduler.now - began, .handled)
                } catch {
                    record(handling, handling.proc.scheduler.now - began, .failed(error))
                    throw error
                }
            }
        )
    }

    /// Logs the type of each message, how long its handler took and how it went; never its contents.
    public static func logging(_ level: Logger.Level = .debug) -> Middleware {
        measuring { handling, time, outcome in
            var metadata: Logger.Metadata = [
                "path": "\(handling.path)", "process": "\(handling.process)", "type": "\(handling.messageType)",
                "took": "\(time)",
            ]
            if case .failed(let error) = outcome { metadata["error"] = "\(error)" }
            handling.system.log.log(level: level, "message", metadata: metadata)
        }
    }

    /// Handles so many messages per period at most, over all members of the group; bursts of up to `burst`.
    ///
    /// An asynchronous handler waits for its turn. A reactive process cannot wait: what is too much is dropped (`shed`).
    /// - Precondition: `count` and `burst` are at least 1, `period` is positive.
    public static func rateLimit(_ count: Int, per period: Duration, burst: Int = 1) -> Middleware {
        let bucket = Locked(TokenBucket(count, per: period, burst: burst))
        return Middleware(
            now: { handling, next in
                let now = handling.proc.scheduler.now
                guard bucket.withLock({ $0.takeNow(at: now) }) else { throw DroppedMessage(.shed) }
                try next()
            },
            later: { handling, next in
                let now = handling.proc.scheduler.now
                let delay = bucket.withLock { $0.reserve(at: now) }
                if delay > .zero { try await handling.proc.scheduler.sleep(for: delay) }
                try await next()
            }
        )
    }

    /// Handles a message anew when its handler threw, up to so many times, for errors that `isWorthIt`.
    ///
    /// The handler must bear it: what it did before it threw stays done. An asynchronous handler waits for the backoff in
    /// between, a reactive process tries again at once. Cancellation and ``DroppedMessage`` are not tried again, and a trap
    /// cannot be.
    public static func retry(
        _ times: Int,
        backoff: Backoff = .none,
        when isWorthIt: @escaping @Sendable (any Error) -> Bool = { _ in true }
    ) -> Middleware {
        @Sendable func isFinal(_ error: any Error, _ failures: Int) -> Bool {
            failures > times || error is CancellationError || error is DroppedMessage || !isWorthIt(error)
        }
        return Middleware(
            now: { _, next in
                // Ends: each round is a failure more.
                for failures in 1... {
                    do { return try next() } catch  where !isFinal(error, failures) {}
                }
            },
            later: { handling, next in
                for failures in 1... {
                    do { return try await next() } catch  where !isFinal(error, failures) {
                        let delay = backoff.delay(afterFailures: failures)
                        if delay > .zero { try await handling.proc.scheduler.sleep(for: delay) }
                    }
                }
            }
        )
    }

    /// Gives each handler so much time, or what is left of its ask's if that is less.
    ///
    /// An asynchronous handler is cancelled and fails with ``DeadlineExceeded`` when the time is up, see
    /// ``Context/withTimeout(_:_:)``. A reactive one is not interrupted; but an ask whose answer is too late already is dropped
    /// (`expired`) by both.
    public static func deadline(_ time: Duration) -> Middleware {
        Middleware(
            now: { handling, next in
                if let left = handling.remainingTime, left <= .zero { throw DroppedMessage(.expired) }
                try next()
            },
            later: { handling, next in
                if let left = handling.remainingTime, left <= .zero { throw DroppedMessage(.expired) }
                try await handling.proc.withTimeout(min(time, handling.remainingTime ?? time)) { try await next() }
            }
        )
    }

    /// Opens a span around each handler and closes it with the outcome; for tracers of any make.
    ///
    /// - Parameter begin: Called before the handler; returns what is called after it. Both by the process.
    public static func tracing(
        _ begin: @escaping @Sendable (Handling) -> @Sendable (Outcome) -> Void
    ) -> Middleware {
        Middleware(
            now: { handling, next in
                let end = begin(handling)
                do {
                    try next()
                    end(.handled)
                } catch {
                    end(.failed(error))
                    throw error
                }
            },
            later: { handling, next in
                let end = begin(handling)
                do {
                    try await next()
                    end(.handled)
                } catch {
                    end(.failed(error))
                    throw error
                }
            }
        )
    }
}

/// So many events per period, with bursts: a pure value. O(1).
///
/// The virtual scheduling form of the leaky bucket (ITU-T I.371, GCRA): what is kept is when the next event is due if they came
/// evenly.
struct TokenBucket: Sendable {
    private let interval: Duration
    private let tolerance: Duration
    private var due: Duration = .zero

    init(_ count: Int, per period: Duration, burst: Int) {
        precondition(count > 0, "the number of messages must be positive, got \(count)")
        precondition(period > .zero, "the period must be positive, got \(period)")
        precondition(burst > 0, "the burst must be positive, got \(burst)")
        interval = period / count
        tolerance = interval * (burst - 1)
    }

    /// Whether an event may happen now; it counts then.
    mutating func takeNow(at now: Duration) -> Bool {
        guard now >= due - tolerance else { return false }
        due = max(due, now) + interval
        return true
    }

    /// How long an event must wait for its turn, which is then taken.
    mutating func reserve(at now: Duration) -> Duration {
        let delay = max(.zero, due - tolerance - now)
        due = max(due, now) + interval
        return delay
    }
}
