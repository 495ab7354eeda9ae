// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

/// Which members of a distributor get a message.
///
/// | strategy | `tellOne`, `askOne`, `request` | `tell` | `ask` |
/// |---|---|---|---|
/// | `roundRobin` (default) | one after the other | one | one |
/// | `random` | any | one | one |
/// | `leastLoaded` | the less loaded of two drawn at random | one | one |
/// | `consistentHash` | the one that the key belongs to | one | one |
/// | `sticky` | the one that the key went to before; a new key as `leastLoaded` | one | one |
/// | `custom` | the one that you choose | one | one |
/// | `broadcast` | as `roundRobin` | all | all, the first answer counts |
/// | `firstAnswer` | as `roundRobin` | one | some or all, the first answer counts |
///
/// What "load" means: see the table in docs/SEMANTICS.md. All but `custom` choose in O(1), with a ring in O(log n).
public struct DistributionStrategy: Sendable {
    enum Way: Sendable {
        case roundRobin
        case random
        case leastLoaded
        case hashed(KeyFunction?)
        case sticky(KeyFunction?, limit: Int)
        case broadcast
        case firstAnswer(of: Int?)
        case custom(any DistributionPolicy)
    }
    let way: Way

    /// One member after the other, over all senders.
    public static let roundRobin = DistributionStrategy(way: .roundRobin)
    /// Any member, each as likely.
    public static let random = DistributionStrategy(way: .random)
    /// The less loaded of two members that are drawn at random.
    public static let leastLoaded = DistributionStrategy(way: .leastLoaded)
    /// The member that the message's key belongs to on a ring of hashes; the key is given with each message.
    ///
    /// When a member joins or leaves, of the keys of n members about one in n moves, to or from that member.
    public static let consistentHash = DistributionStrategy(way: .hashed(nil))
    /// To all; of an ask the first answer counts.
    public static let broadcast = DistributionStrategy(way: .broadcast)
    /// An ask goes to all, and the first answer counts.
    public static let firstAnswer = DistributionStrategy(way: .firstAnswer(of: nil))

    /// As ``consistentHash``, with a key that is made of the message, on the sender's thread, under no lock.
    public static func consistentHash<Message: Sendable>(
        by key: @escaping @Sendable (Message) -> DistributionKey
    ) -> DistributionStrategy {
        DistributionStrategy(way: .hashed(TypedKeyFunction(key)))
    }

    /// The member that messages with this key went to before, as long as it is a member; the key is given with each message.
    ///
    /// - Parameter limit: How many keys are remembered, at least one; the one used longest ago is forgotten for a new one.
    public static func sticky(limit: Int = 10_000) -> DistributionStrategy {
        precondition(limit > 0, "a sticky distributor must remember at least one key, got \(limit)")
        return DistributionStrategy(way: .sticky(nil, limit: limit))
    }

    /// As ``sticky(limit:)``, with a key that is made of the message, on the sender's thread, under no lock.
    public static func sticky<Message: Sendable>(
        limit: Int = 10_000,
        by key: @escaping @Sendable (Message) -> DistributionKey
    ) -> DistributionStrategy {
        precondition(limit > 0, "a sticky distributor must remember at least one key, got \(limit)")
        return DistributionStrategy(way: .sticky(TypedKeyFunction(key), limit: limit))
    }

    /// An ask goes to so many members, one after the other, and the first answer counts.
    ///
    /// - Precondition: `count` is positive.
    public static func firstAnswer(of count: Int) -> DistributionStrategy {
        precondition(count > 0, "at least one member must be asked, got \(count)")
        return DistributionStrategy(way: .firstAnswer(of: count))
    }

    /// The member that you choose.
    public static func custom(_ policy: any DistributionPolicy) -> DistributionStrategy {
        DistributionStrategy(way: .custom(policy))
    }

    /// The member that a closure chooses, by its place among the members.
    public static func custom(
        _ choose: @escaping @Sendable (_ members: Recipients, _ key: DistributionKey?) -> Int
    ) -> DistributionStrategy {
        custom(ClosurePolicy(choose))
    }

    /// What makes the key of a message, if the strategy has such.
    var keyFunction: KeyFunction? {
        switch way {
        case .hashed(let function), .sticky(let function, _): function
        case .roundRobin, .random, .leastLoaded, .broadcast, .firstAnswer, .custom: nil
        }
    }

    /// Whether two groups may use both for one distributor. Closures are the same if they are the same strategy value.
    func isSame(as other: DistributionStrategy) -> Bool {
        switch (way, other.way) {
        case (.roundRobin, .roundRobin), (.random, .random), (.leastLoaded, .leastLoaded), (.broadcast, .broadcast):
            true
        case (.hashed(let mine), .hashed(let others)): mine === others
        case (.sticky(let mine, let limit), .sticky(let others, let othersLimit)):
            mine === others && limit == othersLimit
        case (.firstAnswer(let mine), .firstAnswer(let others)): mine == others
        case (.custom(let mine), .custom(let others)): mine === others
        case (.roundRobin, _), (.random, _), (.leastLoaded, _), (.broadcast, _), (.hashed, _), (.sticky, _),
            (.firstAnswer, _), (.custom, _):
            false
        }
    }
}

/// A strategy of your own.
public protocol DistributionPolicy: AnyObject, Sendable {
    /// Chooses a member by its place in `members`, which are at least one.
    ///
    /// Called for each send, by the sender, on its thread and in its name: a trap in it is the sender's. Under no lock, and
    /// perhaps by several senders at a time.
    func choose(from members: Recipients, key: DistributionKey?) -> Int
}

private final class ClosurePolicy: DistributionPolicy {
    private let call: @Sendable (Recipients, DistributionKey?) -> Int
    init(_ call: @escaping @Sendable (Recipients, DistributionKey?) -> Int) { self.call = call }
    func choose(from members: Recipients, key: DistributionKey?) -> Int { call(members, key) }
}

/// What makes the key of a message; of which type of messages is known to the subclass only.
class KeyFunction: @unchecked Sendable {
    // Sendable: what subclasses have is constant.
    let messageType: Any.Type
    init(_ type: Any.Type) { messageType = type }
}

/// What makes the key of messages of one type.
final class TypedKeyFunction<Message: Sendable>: KeyFunction, @unchecked Sendable {
    // Sendable: `call` is, and constant.
    let call: @Sendable (Message) -> DistributionKey
    init(_ call: @escaping @Sendable (Message) -> DistributionKey) {
        self.call = call
        super.init(Message.self)
    }
}
