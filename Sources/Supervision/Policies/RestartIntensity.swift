// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// How many restarts a supervisor tolerates within a period, over all of its children, before it gives up.
///
/// With `RestartIntensity(2, within: .seconds(10))`, failures at 0 s, 4 s and 11 s are tolerated: at 11 s the one at 0 s
/// is out of the window. Failures at 0 s, 4 s and 9 s are not: the third is the one too many.
public struct RestartIntensity: Sendable, Hashable {
    /// Nil: no limit.
    public let maximum: Int?
    /// The length of the window that restarts are counted in; a restart older than that is forgotten.
    public let period: Duration

    /// Never gives up.
    public static let unlimited = RestartIntensity(maximum: nil, period: .zero)

    /// Erlang's default: one restart within five seconds.
    public static let `default` = RestartIntensity(1, within: .seconds(5))

    /// Creates a limit.
    ///
    /// A negative `maximum`, or a `period` that is not positive, is refused where the supervisor is to be started or changed: with
    /// ``SupervisionError/Code/badIntensity``.
    public init(_ maximum: Int, within period: Duration) { self.init(maximum: maximum, period: period) }

    /// What makes no sense about it; nil if it does.
    var flaw: String? {
        guard let maximum else { return nil }
        if maximum < 0 { return "the number of restarts must not be negative, got \(maximum)" }
        if period <= .zero { return "the period must be positive, got \(period)" }
        return nil
    }

    private init(maximum: Int?, period: Duration) {
        self.maximum = maximum
        self.period = period
    }
}

/// The restarts that still count. A pure value; counting one costs the same however many there were.
package struct RestartWindow: Sendable {
    var intensity: RestartIntensity
    /// The times of the last restarts, from `first` on, oldest first. What is before was forgotten.
    private var restarts: [Duration] = []
    private var first = 0

    package init(_ intensity: RestartIntensity) { self.intensity = intensity }

    package enum Verdict: Equatable {
        case tolerated
        case tooMany
    }

    /// Counts a restart. Times never go backwards.
    package mutating func restart(at now: Duration) -> Verdict {
        guard let maximum = intensity.maximum else { return .tolerated }
        while first < restarts.count, now - restarts[first] > intensity.period { first += 1 }
        // Each is moved at most once for one that is forgotten.
        if first > 16, first > restarts.count / 2 {
            restarts.removeFirst(first)
            first = 0
        }
        restarts.append(now)
        return restarts.count - first > maximum ? .tooMany : .tolerated
    }
}
