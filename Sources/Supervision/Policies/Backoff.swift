// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// How long to wait before a restart.
///
/// `.exponential(.milliseconds(50), cap: .seconds(5))` waits 50 ms before the first restart in a row, then 100, 200, ...
/// up to 5 s. It is the child that waits, not its supervisor.
///
/// With a jitter each delay is drawn at random, evenly between `1 - jitter` and `1 + jitter` times of what it would be: so that
/// children that failed together do not come back together. The cap holds for what is drawn, too.
///
/// A child that stayed up for longer than `resetAfter` starts from the beginning; without it, for longer than its last delay plus
/// the first one.
public struct Backoff: Sendable, Hashable {
    package enum Growth: Sendable, Hashable {
        case constant
        case linear
        case exponential
    }

    package let growth: Growth
    /// The first delay; of linear ones the step as well.
    package let first: Duration
    /// Without effect where it is constant.
    package let cap: Duration
    /// By how much a delay may differ, as a fraction of it.
    public let jitter: Double
    /// How long a child must stay up to start from the beginning; nil: longer than its last delay plus the first one.
    public let resetAfter: Duration?

    private init(_ growth: Growth, _ first: Duration, cap: Duration, jitter: Double, resetAfter: Duration?) {
        self.growth = growth
        self.first = first
        self.cap = cap
        self.jitter = jitter
        self.resetAfter = resetAfter
    }

    /// At once.
    public static let none = Backoff(.constant, .zero, cap: .zero, jitter: 0, resetAfter: nil)

    /// Always the same time.
    public static func constant(_ delay: Duration, jitter: Double = 0, resetAfter: Duration? = nil) -> Backoff {
        Backoff(.constant, delay, cap: .seconds(Int64.max), jitter: jitter, resetAfter: resetAfter)
    }

    /// Longer by the same time with every restart in a row, up to a cap: 1 s, 2 s, 3 s, ...
    public static func linear(
        _ step: Duration,
        cap: Duration,
        jitter: Double = 0,
        resetAfter: Duration? = nil
    ) -> Backoff {
        Backoff(.linear, step, cap: cap, jitter: jitter, resetAfter: resetAfter)
    }

    /// Doubles with every restart in a row, up to a cap.
    public static func exponential(
        _ first: Duration,
        cap: Duration,
        jitter: Double = 0,
        resetAfter: Duration? = nil
    ) -> Backoff {
        Backoff(.exponential, first, cap: cap, jitter: jitter, resetAfter: resetAfter)
    }

    /// What makes no sense about it; nil if it does.
    package var flaw: String? {
        if first < .zero { return "the delay must not be negative, got \(first)" }
        if growth != .constant, cap < first {
            return "the cap must not be below the first delay: \(cap) is below \(first)"
        }
        if !(0...1).contains(jitter) { return "the jitter must lie between 0 and 1, got \(jitter)" }
        if let resetAfter, resetAfter <= .zero { return "the time of the reset must be positive, got \(resetAfter)" }
        return nil
    }

    /// The delay that all later ones come to.
    var longest: Duration {
        guard first > .zero else { return .zero }
        return growth == .constant ? first : cap
    }

    /// How long the first so many delays take together; not counted on beyond a limit.
    func time(of count: Int, atMost limit: Duration) -> Duration {
        guard longest > .zero else { return .zero }
        var total = Duration.zero
        var failures = 0
        // Ends: every delay is positive.
        while failures < count, total <= limit {
            failures += 1
            total += delay(withoutJitterAfter: failures)
        }
        return total
    }

    /// The delay before the restart after the `failures`-th failure in a row, counted from 1.
    ///
    /// - Parameter draw: Evenly distributed, from 0 up to 1: where in the range of the jitter it lies.
    package func delay(afterFailures failures: Int, draw: Double = 0.5) -> Duration {
        let delay = delay(withoutJitterAfter: failures)
        guard jitter > 0, delay > .zero else { return delay }
        return min(delay * (1 + jitter * (2 * draw - 1)), cap)
    }

    /// How many failures in a row there were before this one, of a child that was up for a time.
    package func failures(_ failures: Int, afterUptime uptime: Duration) -> Int {
        guard failures > 0 else { return 0 }
        let limit = resetAfter ?? delay(withoutJitterAfter: failures) + delay(withoutJitterAfter: 1)
        return uptime > limit ? 0 : failures
    }

    private func delay(withoutJitterAfter failures: Int) -> Duration {
        guard first > .zero, cap > .zero else { return .zero }
        switch growth {
        case .constant:
            return first
        case .linear:
            // Not multiplied where that would be more than the cap: it might be too much for a number.
            return Double(failures) >= cap / first ? cap : first * max(failures, 1)
        case .exponential:
            var delay = first
            // Ends: at the cap at the latest; each round doubles.
            var left = failures
            while left > 1, delay < cap {
                delay = min(delay * 2, cap)
                left -= 1
            }
            return min(delay, cap)
        }
    }
}
