// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

/// The less loaded of two members drawn at random ("the power of two choices", Mitzenmacher 2001). A pure value.
///
/// Load is an estimate, as mailboxes are not counted: how many messages were sent from here since the mailbox was last seen
/// empty, and one for the message in hand. A mailbox is looked at when its process is drawn.
///
/// | seen | load |
/// |---|---|
/// | idle | 0 |
/// | busy, nothing waits | 1 |
/// | messages wait | 1 + those sent from here since it was seen idle or busy, at least 1 |
/// | behind | the same, at least 1 + 256 |
/// | down | more than any other |
struct LeastLoaded: Sendable {
    /// By number of the member: messages sent since the mailbox was last seen empty.
    private var sent: [UInt32] = []

    /// A member came; nothing was sent to it.
    mutating func add(_ number: Int) {
        while sent.count <= number { sent.append(0) }
        sent[number] = 0
    }

    /// - Parameters:
    ///   - order: The members by place, by their numbers; at least one.
    ///   - load: Of the member of a number.
    /// - Returns: The number of the member that is chosen.
    mutating func choose(
        _ random: inout some RandomNumberGenerator,
        of order: inout PlaceList,
        load: (Int) -> ProcLoad
    ) -> Int {
        let count = UInt64(order.count)
        let first = Int(random.next(upperBound: count))
        var choice = order.number(at: first)
        if count > 1 {
            // One of the others.
            var place = Int(random.next(upperBound: count - 1))
            if place >= first { place += 1 }
            let second = order.number(at: place)
            let (loadOfFirst, loadOfSecond) = (estimate(choice, load(choice)), estimate(second, load(second)))
            if loadOfSecond < loadOfFirst { choice = second }
        }
        sent[choice] = sent[choice] == .max ? .max : sent[choice] + 1
        return choice
    }

    /// What is made of a look at a member.
    mutating func estimate(_ number: Int, _ seen: ProcLoad) -> UInt64 {
        switch seen {
        case .idle:
            sent[number] = 0
            return 0
        case .busy:
            sent[number] = 0
            return 1
        case .waiting: return 1 + UInt64(max(sent[number], 1))
        case .behind: return 1 + UInt64(max(sent[number], 256))
        case .down: return .max
        }
    }
}
