// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import LightProc
import Testing

@testable import Supervision

/// The kinds of end that the tables of the policies speak of.
enum EndKind: CaseIterable, Sendable {
    case normal, shutdown, error, trap, killed

    var reason: ExitReason {
        switch self {
        case .normal: .normal
        case .shutdown: .shutdown
        case .error: .error(Failure())
        case .trap:
            .trap(
                TrapReport(
                    kind: .trap,
                    message: nil,
                    signal: 4,
                    process: ProcID(rawValue: 1),
                    name: nil,
                    backtrace: []
                )
            )
        case .killed: .killed
        }
    }

    /// The table, written out.
    func restarts(_ type: RestartType) -> Bool {
        switch (self, type) {
        case (.normal, .permanent), (.shutdown, .permanent), (.error, .permanent), (.trap, .permanent),
            (.killed, .permanent):
            true
        case (.error, .transient), (.trap, .transient), (.killed, .transient): true
        case (.normal, .transient), (.shutdown, .transient): false
        case (.normal, .temporary), (.shutdown, .temporary), (.error, .temporary), (.trap, .temporary),
            (.killed, .temporary):
            false
        }
    }
}

@Suite struct PolicyTests {
    @Test(arguments: EndKind.allCases, RestartType.allCases)
    func restartTypesFollowTheTable(_ end: EndKind, _ type: RestartType) {
        #expect(type.restarts(after: end.reason) == end.restarts(type))
    }

    @Test(arguments: EndKind.allCases)
    func aLinkedEndIsAFailureWhateverTheOtherEndWas(_ end: EndKind) {
        let reason = ExitReason.linked(ProcID(rawValue: 3), end.reason)
        #expect(RestartType.transient.restarts(after: reason))
        #expect(!RestartType.temporary.restarts(after: reason))
    }

    // MARK: Intensity

    static let windows: [(maximum: Int, period: Int, failures: [Int], tolerated: Int)] = [
        (0, 5, [0], 0),
        (1, 5, [0, 5], 1),
        (1, 5, [0, 6, 12, 18], 4),
        (2, 10, [0, 4, 11], 3),
        (2, 10, [0, 4, 9], 2),
        (2, 10, [0, 4, 10], 2),
        (3, 1, [0, 0, 0, 0], 3),
        (3, 1, [0, 0, 0, 2, 2, 2, 4, 4, 4, 4], 9),
    ]

    @Test(arguments: windows)
    func restartsBeyondTheIntensityAreTooMany(maximum: Int, period: Int, failures: [Int], tolerated: Int) {
        var window = RestartWindow(RestartIntensity(maximum, within: .seconds(period)))
        let verdicts = failures.map { window.restart(at: .seconds($0)) }
        let expected = failures.indices.map { $0 < tolerated ? RestartWindow.Verdict.tolerated : .tooMany }
        #expect(verdicts == expected)
    }

    @Test func aRestartExactlyAsOldAsThePeriodStillCounts() {
        var window = RestartWindow(RestartIntensity(1, within: .seconds(5)))
        #expect(window.restart(at: .zero) == .tolerated)
        var later = window
        #expect(window.restart(at: .seconds(5)) == .tooMany)
        #expect(later.restart(at: .seconds(5) + .nanoseconds(1)) == .tolerated)
    }

    @Test func unlimitedIntensityToleratesEverything() {
        var window = RestartWindow(.unlimited)
        for _ in 0..<10_000 { #expect(window.restart(at: .zero) == .tolerated) }
    }

    // MARK: Backoff

    @Test func noBackoffNeverWaits() {
        for failures in [0, 1, 2, 100] { #expect(Backoff.none.delay(afterFailures: failures) == .zero) }
    }

    @Test func constantBackoffAlwaysWaitsTheSame() {
        for failures in [1, 2, 1000] {
            #expect(Backoff.constant(.seconds(3)).delay(afterFailures: failures) == .seconds(3))
        }
    }

    @Test func exponentialBackoffDoublesUpToTheCap() {
        let backoff = Backoff.exponential(.milliseconds(50), cap: .seconds(5))
        let delays = (1...10).map { backoff.delay(afterFailures: $0) }
        #expect(delays == [50, 100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000].map { .milliseconds($0) })
        #expect(backoff.delay(afterFailures: 0) == .milliseconds(50))
    }

    @Test func exponentialBackoffDoesNotOverflow() {
        let backoff = Backoff.exponential(.nanoseconds(1), cap: .seconds(Int64.max))
        for failures in [64, 94, 95, 128, 1000] {
            let delay = backoff.delay(afterFailures: failures)
            #expect(delay > .zero && delay <= .seconds(Int64.max))
        }
        #expect(backoff.delay(afterFailures: 1000) == .seconds(Int64.max))
    }

    @Test func linearBackoffGrowsByTheSameUpToTheCap() {
        let backoff = Backoff.linear(.milliseconds(100), cap: .seconds(1))
        #expect((1...12).map { backoff.delay(afterFailures: $0) } == (1...12).map { .milliseconds(min($0, 10) * 100) })
        #expect(backoff.delay(afterFailures: 0) == .milliseconds(100))
        let long = Backoff.linear(.seconds(Int64.max / 2), cap: .seconds(Int64.max))
        #expect(long.delay(afterFailures: .max) == .seconds(Int64.max))
        #expect(Backoff.linear(.zero, cap: .seconds(1)).delay(afterFailures: 9) == .zero)
        #expect(Backoff.linear(.seconds(2), cap: .seconds(1)).delay(afterFailures: 1) == .seconds(1))
    }

    @Test(arguments: [0, 0.2, 1])
    func jitterDrawsEvenlyAroundTheDelay(_ jitter: Double) {
        let backoff = Backoff.linear(.seconds(2), cap: .seconds(100), jitter: jitter)
        func seconds(_ failures: Int, _ draw: Double) -> Double {
            backoff.delay(afterFailures: failures, draw: draw) / .seconds(1)
        }
        for failures in [1, 2, 7] {
            let middle = Double(2 * failures)
            for draw in [0, 0.25, 0.5, 0.75, 1 - 0x1p-53] {
                let expected = middle * (1 - jitter + 2 * jitter * draw)
                #expect(abs(seconds(failures, draw) - expected) < 1e-6, "\(failures) \(draw)")
            }
            #expect(backoff.delay(afterFailures: failures) == .seconds(2) * failures, "without a draw it is the middle")
        }
        // As it is drawn for a child.
        var draws = SplitMix64(seed: 1)
        let drawn = (0..<1000).map { _ in seconds(3, Double.random(in: 0..<1, using: &draws)) }
        let (low, high) = (6 - 6 * jitter, 6 + 6 * jitter)
        #expect(drawn.allSatisfy { low - 1e-6 <= $0 && $0 <= high + 1e-6 })
        let isSpread = (drawn.min() ?? 0) < low + 0.1 && (drawn.max() ?? 0) > high - 0.1
        #expect(isSpread, "all of the range is drawn")
    }

    @Test func theCapHoldsForWhatIsDrawn() {
        let backoff = Backoff.exponential(.seconds(1), cap: .seconds(5), jitter: 0.5)
        // 4 s, and then 5 s.
        for failures in [3, 4, 20] {
            #expect(backoff.delay(afterFailures: failures, draw: 0.9) == .seconds(5))
            #expect(backoff.delay(afterFailures: failures, draw: 0) < .seconds(3))
        }
        // What is constant has none.
        let constant = Backoff.constant(.seconds(5), jitter: 0.5)
        #expect(constant.delay(afterFailures: 9, draw: 0.9) > .milliseconds(6999))
        #expect(Backoff.constant(.zero, jitter: 1).delay(afterFailures: 9, draw: 0.9) == .zero)
    }

    @Test func failuresAreForgottenAfterTheTimeThatWasGiven() {
        let reset = Backoff.exponential(.seconds(1), cap: .seconds(60), resetAfter: .seconds(10))
        for failures in [1, 3, 50] {
            #expect(reset.failures(failures, afterUptime: .zero) == failures)
            #expect(reset.failures(failures, afterUptime: .seconds(10)) == failures)
            #expect(reset.failures(failures, afterUptime: .seconds(10) + .nanoseconds(1)) == 0)
        }
        #expect(reset.failures(0, afterUptime: .zero) == 0)
        // Without it by the last delay and the first one: 4 s and 1 s.
        let plain = Backoff.exponential(.seconds(1), cap: .seconds(60))
        #expect(plain.failures(3, afterUptime: .seconds(5)) == 3)
        #expect(plain.failures(3, afterUptime: .seconds(5) + .nanoseconds(1)) == 0)
    }

    @Test func aCapBelowTheFirstDelayIsTheDelay() {
        #expect(Backoff.exponential(.seconds(2), cap: .seconds(1)).delay(afterFailures: 1) == .seconds(1))
        #expect(Backoff.exponential(.zero, cap: .seconds(1)).delay(afterFailures: 9) == .zero)
    }
}
