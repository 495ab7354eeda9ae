// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// Bytes leaked against a budget: tells once when it is near, and once when it is reached.
///
/// A value without locks or clocks.
struct LeakAccount: Equatable {
    enum Step: Equatable {
        case nothing
        case near
        case reached
    }

    private(set) var bytes = 0
    private(set) var budget: Int
    private var told = Step.nothing

    init(budget: Int) { self.budget = budget }

    /// Four fifths of the budget.
    var nearMark: Int { budget - budget / 5 }

    /// Adds to what is leaked. Returns what is to be told about it: the most serious that was not told before.
    mutating func add(_ more: Int) -> Step {
        precondition(more >= 0, "impossible: a trap gives nothing back, got \(more) bytes")
        let (sum, overflow) = bytes.addingReportingOverflow(more)
        bytes = overflow ? .max : sum
        return advance()
    }

    /// Sets another budget; what was told under the former one may be told again.
    mutating func setBudget(_ budget: Int) -> Step {
        precondition(budget > 0, "the leak budget must be positive, got \(budget)")
        self.budget = budget
        told = .nothing
        return advance()
    }

    private mutating func advance() -> Step {
        let now: Step = bytes >= budget ? .reached : bytes >= nearMark ? .near : .nothing
        switch (told, now) {
        case (_, .nothing), (.near, .near), (.reached, _): return .nothing
        case (_, .near), (_, .reached):
            told = now
            return now
        }
    }
}
