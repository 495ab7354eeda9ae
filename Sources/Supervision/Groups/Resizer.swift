// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// When a group gets more members, and when it loses some: bounds, and rules.
///
/// At each interval the group is looked at:
///
/// | what is seen | what follows |
/// |---|---|
/// | fewer or more members than the bounds allow | as many as it takes |
/// | more than half of the members are over the threshold | `growthRate` more of them, at least one; then no growth for two intervals |
/// | for all of `patience` at most `idleShare` of the members were busy | `shrinkRate` of them leave, at least one, but not so many that fewer than a quarter more than the busiest moment needed are left |
/// | anything else | nothing |
///
/// Between the two lies what keeps a group from swinging: a group that is neither overloaded nor idle stays as it is, and one that
/// had to grow soon after it had shrunk does not shrink so far again for a while, each time twice as long up to a day, until the load is a different one.
///
/// A group with a resizer has mailboxes with a policy (`.unbounded` unless it says otherwise).
public struct Resizer: Sendable, Hashable {
    /// What makes a member overloaded.
    public enum Threshold: Sendable, Hashable {
        /// A message has waited for longer than this in its mailbox.
        case queueDelay(Duration)
        /// More messages than this wait in its mailbox.
        case depth(Int)
    }

    /// How few and how many members the group may have.
    public let bounds: ClosedRange<Int>
    /// What makes a member overloaded.
    public let threshold: Threshold
    /// How many members are added at a time, as a share of those that there are.
    public let growthRate: Double
    /// How many leave at a time, likewise.
    public let shrinkRate: Double
    /// Which share of the members may be busy while the group counts as idle.
    public let idleShare: Double
    /// How often the group is looked at.
    public let interval: Duration
    /// For how long the group must be idle before members leave.
    public let patience: Duration

    /// Creates the rules of a resizer.
    ///
    /// - Parameters:
    ///   - bounds: How few and how many members; at least one. The redundancy of the group must lie within.
    ///   - threshold: What makes a member overloaded.
    ///   - growthRate: Positive.
    ///   - shrinkRate: Positive, at most 1.
    ///   - idleShare: Between 0 and 0.8: after shrinking at most so large a part of the members is needed.
    public init(
        _ bounds: ClosedRange<Int>,
        growingAbove threshold: Threshold = .queueDelay(.milliseconds(50)),
        by growthRate: Double = 0.5,
        shrinkingBy shrinkRate: Double = 0.25,
        idleShare: Double = 0.5,
        every interval: Duration = .seconds(1),
        patience: Duration = .seconds(10)
    ) {
        self.bounds = bounds
        self.threshold = threshold
        self.growthRate = growthRate
        self.shrinkRate = shrinkRate
        self.idleShare = idleShare
        self.interval = interval
        self.patience = patience
    }

    func flaw(redundancy: Int) -> String? {
        if bounds.lowerBound < 1 { return "a resizer must leave at least one member, got \(bounds)" }
        if !bounds.contains(redundancy) {
            return "the redundancy must lie within the resizer's \(bounds), got \(redundancy)"
        }
        if growthRate <= 0 || !growthRate.isFinite {
            return "the resizer's growth rate must be positive, got \(growthRate)"
        }
        if !(shrinkRate > 0 && shrinkRate <= 1) {
            return "the resizer's shrink rate must be above 0 and at most 1, got \(shrinkRate)"
        }
        if !(idleShare >= 0 && idleShare <= 0.8) {
            return "the resizer's idle share must be 0 to 0.8, got \(idleShare)"
        }
        if interval <= .zero { return "the resizer's interval must be positive, got \(interval)" }
        if patience < .zero { return "the resizer's patience must not be negative, got \(patience)" }
        switch threshold {
        case .queueDelay(let delay) where delay <= .zero:
            return "the resizer's queue delay must be positive, got \(delay)"
        case .depth(let depth) where depth < 0: return "the resizer's depth must not be negative, got \(depth)"
        case .queueDelay, .depth: return nil
        }
    }
}

extension Children {
    /// Lets the group grow and shrink with its load; see ``Resizer``.
    ///
    /// Members that are added get the lowest numbers that are free. One that leaves gets no more messages through ``Group``, handles
    /// those that it has, and is stopped then: no message that was taken is lost. Costs a timer and a look at each member an interval.
    public func resizer(_ resizer: Resizer) -> Children {
        var children = self
        children.features.resizer = resizer
        return children
    }
}

/// Decides how a group grows and shrinks: pure. What was seen and the time come in, how many members come or go comes out.
struct ResizerMachine: Sendable {
    /// What a look at the group shows.
    struct Sample: Sendable, Equatable {
        /// How many members there are.
        var size: Int
        /// How many of them are over the threshold.
        var overloaded: Int
        /// How many have something to do.
        var busy: Int
    }

    enum Decision: Equatable, Sendable {
        case keep
        case grow(Int)
        case shrink(Int)
    }

    /// The group had to grow soon after it had shrunk.
    private struct Regret {
        /// It is not to have fewer members.
        var size: Int
        var until: Duration
        /// The most that were busy when it shrank: with less than half of that the load is a different one.
        var peak: Int
    }

    /// Part of the members that are busy after shrinking, at most.
    static let utilisation = 0.8

    let resizer: Resizer
    /// Since when the group is idle, as far as that has not been acted on, and the most members that were busy meanwhile.
    private var quiet: (since: Duration, peak: Int)?
    private var lastGrowth: Duration?
    private var lastShrink: (at: Duration, from: Int, peak: Int)?
    private var regret: Regret?
    /// How long shrinking again is to be left alone after the next regret.
    private var hold: Duration

    init(_ resizer: Resizer) {
        self.resizer = resizer
        hold = max(resizer.patience, resizer.interval) * 2
    }

    /// Times never go backwards.
    mutating func decide(_ sample: Sample, at now: Duration) -> Decision {
        let bounds = resizer.bounds
        if sample.size < bounds.lowerBound { return .grow(bounds.lowerBound - sample.size) }
        if sample.size > bounds.upperBound { return .shrink(sample.size - bounds.upperBound) }
        if sample.overloaded * 2 > sample.size {
            quiet = nil
            return grow(sample.size, at: now)
        }
        guard Double(sample.busy) <= resizer.idleShare * Double(sample.size) else {
            quiet = nil
            return .keep
        }
        let began = quiet ?? (now, 0)
        let peak = max(began.peak, sample.busy)
        quiet = (began.since, peak)
        guard now - began.since >= resizer.patience else { return .keep }
        // It must be idle for as long again, and what was busy before does not count then.
        quiet = (now, 0)
        return shrink(sample.size, peak, at: now)
    }

    private mutating func grow(_ size: Int, at now: Duration) -> Decision {
        if let lastGrowth, now - lastGrowth < resizer.interval * 2 { return .keep }
        let wanted = Self.atLeastOne(size, resizer.growthRate)
        let count = min(wanted, resizer.bounds.upperBound - size)
        guard count > 0 else { return .keep }
        lastGrowth = now
        if let last = lastShrink, now - last.at < hold {
            hold = min(hold * 2, .seconds(86_400))
            regret = Regret(size: last.from, until: now + hold, peak: last.peak)
        }
        lastShrink = nil
        return .grow(count)
    }

    private mutating func shrink(_ size: Int, _ peak: Int, at now: Duration) -> Decision {
        if let known = regret, peak * 2 < known.peak {
            regret = nil
            hold = max(resizer.patience, resizer.interval) * 2
        }
        var least = max(resizer.bounds.lowerBound, Int((Double(peak) / Self.utilisation).rounded(.up)))
        if let regret, now < regret.until { least = max(least, regret.size) }
        let count = min(Self.atLeastOne(size, resizer.shrinkRate), size - least)
        guard count > 0 else { return .keep }
        lastShrink = (now, size, peak)
        return .shrink(count)
    }

    private static func atLeastOne(_ size: Int, _ rate: Double) -> Int {
        max(1, Int(min(Double(size) * rate, 1_000_000).rounded(.up)))
    }
}
