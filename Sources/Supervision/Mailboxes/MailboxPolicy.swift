// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// How the mailbox of a group's members takes messages: how many, in which order, for how long.
///
/// A mailbox with a policy costs a lock a message and an object a process; one without has no bound and costs neither. The
/// control lane is never bounded: what the runtime or ``ProcRef/tell(_:lane:)`` puts there always gets in.
///
/// ```swift
/// Children("orders", Orders()).mailbox(.bounded(1_000, .dropOldest))
/// Children("prices", Prices()).mailbox(.bounded(100).expiring(after: .seconds(1)))
/// Children("jobs", Jobs()).mailbox(.unbounded.shedding(above: .milliseconds(5)))
/// ```
public struct MailboxPolicy: Sendable {
    /// What becomes of a message that comes when the mailbox is full.
    public enum Overflow: Sendable, Hashable, CaseIterable {
        /// ``ProcRef/send(_:)`` and ``ProcRef/ask(within:lane:_:)`` wait for room, first come first served; `tell`, `trySend`
        /// and `request`, which do not wait, are refused.
        case suspend
        /// The sender is told: nothing waits.
        case fail
        /// The message that comes is dropped: it becomes a dead letter, and its sender is told nothing.
        case dropNewest
        /// The message that has waited longest is dropped, of the least urgent level that has one.
        case dropOldest
    }

    /// How many messages may wait; nil: any number.
    public private(set) var capacity: Int?
    /// What becomes of one more.
    public private(set) var overflow = Overflow.fail
    /// How long a message may wait before it is dropped instead of handled; nil: for ever.
    public private(set) var maximumAge: Duration?
    /// Drops messages that wait longer than this while the mailbox stands; nil: does not.
    public private(set) var sheddingTarget: Duration?
    /// For how long it must not have been empty to be taken to stand.
    public private(set) var sheddingInterval: Duration = .milliseconds(100)
    /// How many levels of urgency there are; 1: first in, first out.
    public private(set) var levels = 1
    /// The level of a message; 0 is the most urgent one.
    let level: (@Sendable (any Sendable) -> Int)?

    /// Takes any number of messages, in the order in which they come.
    public static var unbounded: MailboxPolicy { MailboxPolicy(capacity: nil, overflow: .fail, level: nil) }

    /// Takes so many messages at most.
    public static func bounded(_ capacity: Int, _ overflow: Overflow = .suspend) -> MailboxPolicy {
        MailboxPolicy(capacity: capacity, overflow: overflow, level: nil)
    }

    private init(capacity: Int?, overflow: Overflow, level: (@Sendable (any Sendable) -> Int)?) {
        self.capacity = capacity
        self.overflow = overflow
        self.level = level
    }

    /// Drops a message that has waited longer than this when its turn comes.
    public func expiring(after age: Duration) -> MailboxPolicy {
        var policy = self
        policy.maximumAge = age
        return policy
    }

    /// Sheds load by queue delay: once the mailbox has not been empty for a whole `interval`, and until it is again, messages
    /// that have waited longer than `target` are dropped when their turn comes.
    ///
    /// After Maurer, "Fail at Scale" (ACM Queue 2015). Messages of level 0 are not shed where there are levels.
    public func shedding(above target: Duration, for interval: Duration = .milliseconds(100)) -> MailboxPolicy {
        var policy = self
        policy.sheddingTarget = target
        policy.sheddingInterval = interval
        return policy
    }

    /// Hands out the most urgent message first, and of equally urgent ones the one that came first.
    ///
    /// - Parameters:
    ///   - levels: How many levels there are, up to 64.
    ///   - level: The level of a message, 0 for the most urgent; what lies outside of the range is taken for the nearest. Called
    ///     by the sender, in whose name it runs. A message of another type is of the last level.
    public func prioritized<Message: Sendable>(
        levels: Int,
        by level: @escaping @Sendable (Message) -> Int
    ) -> MailboxPolicy {
        var policy = MailboxPolicy(capacity: capacity, overflow: overflow) { message in
            (message as? Message).map(level) ?? .max
        }
        policy.maximumAge = maximumAge
        policy.sheddingTarget = sheddingTarget
        policy.sheddingInterval = sheddingInterval
        policy.levels = levels
        return policy
    }

    func validate(group: String) throws(SupervisionError) {
        let flaw: String? =
            if let capacity, capacity < 1 {
                "the capacity of a mailbox must be at least 1, got \(capacity)"
            } else if let maximumAge, maximumAge <= .zero {
                "messages must be allowed to wait for some time, got \(maximumAge)"
            } else if let sheddingTarget, sheddingTarget <= .zero {
                "the queue delay to shed above must be positive, got \(sheddingTarget)"
            } else if sheddingInterval <= .zero {
                "the interval of shedding must be positive, got \(sheddingInterval)"
            } else if !(1...64).contains(levels) {
                "there must be 1 to 64 levels of urgency, got \(levels)"
            } else {
                nil
            }
        if let flaw { throw SupervisionError(.badMailbox, "group \(group): \(flaw)") }
    }
}
