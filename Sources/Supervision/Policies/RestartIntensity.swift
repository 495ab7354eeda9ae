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
    /// - Precondition: `maximum` is not negative and `period` is positive.
    public init(_ maximum: Int, within period: Duration) {
        precondition(maximum >= 0, "the number of restarts must not be negative, got \(maximum)")
        precondition(period > .zero, "the period must be positive, got \(period)")
        self.init(maximum: maximum, period: period)
    }

    private init(maximum: Int?, period: Duration) {
        self.maximum = maximum
        self.period = period
    }
}

/// The restarts that still count. A pure value.
struct RestartWindow: Sendable {
    let intensity: RestartIntensity
    private var restarts: [Duration] = []

    init(_ intensity: RestartIntensity) { self.intensity = intensity }

    enum Verdict: Equatable {
        case tolerated
        case tooMany
    }

    /// Counts a restart. Times never go backwards.
    mutating func restart(at now: Duration) -> Verdict {
        guard let maximum = intensity.maximum else { return .tolerated }
        restarts.removeAll { now - $0 > intensity.period }
        restarts.append(now)
        return restarts.count > maximum ? .tooMany : .tolerated
    }
}
