// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// How long to wait before a restart.
///
/// `.exponential(.milliseconds(50), cap: .seconds(5))` waits 50 ms before the first restart in a row, then 100, 200, ...
/// up to 5 s. A child that stayed up for longer than its last delay plus the first one starts from the beginning.
public enum Backoff: Sendable, Hashable {
    /// At once.
    case none
    /// Always the same time.
    case constant(Duration)
    /// Longer by the same time with every restart in a row, up to a cap: 1 s, 2 s, 3 s, ...
    case linear(Duration, cap: Duration)
    /// Doubles with every restart in a row, up to a cap.
    case exponential(Duration, cap: Duration)

    /// The delay before the restart after the `failures`-th failure in a row, counted from 1.
    func delay(afterFailures failures: Int) -> Duration {
        switch self {
        case .none:
            return .zero
        case .constant(let delay):
            return delay
        case .linear(let step, let cap):
            guard step > .zero, cap > .zero else { return .zero }
            // Not multiplied where that would be more than the cap: it might be too much for a number.
            return Double(failures) >= cap / step ? cap : step * max(failures, 1)
        case .exponential(let first, let cap):
            guard first > .zero else { return .zero }
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
