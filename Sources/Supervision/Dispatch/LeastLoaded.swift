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
    /// By place: messages sent since the mailbox was last seen empty.
    private var sent: [UInt32] = []

    var count: Int { sent.count }

    mutating func add() { sent.append(0) }
    mutating func remove(at place: Int) { sent.remove(at: place) }

    /// - Precondition: There is a member.
    mutating func choose(_ random: inout some RandomNumberGenerator, load: (Int) -> ProcLoad) -> Int {
        let count = UInt64(sent.count)
        let first = Int(random.next(upperBound: count))
        var choice = first
        if count > 1 {
            // One of the others.
            var second = Int(random.next(upperBound: count - 1))
            if second >= first { second += 1 }
            let (loadOfFirst, loadOfSecond) = (estimate(first, load(first)), estimate(second, load(second)))
            if loadOfSecond < loadOfFirst { choice = second }
        }
        sent[choice] = sent[choice] == .max ? .max : sent[choice] + 1
        return choice
    }

    /// What is made of a look at a member.
    mutating func estimate(_ place: Int, _ seen: ProcLoad) -> UInt64 {
        switch seen {
        case .idle:
            sent[place] = 0
            return 0
        case .busy:
            sent[place] = 0
            return 1
        case .waiting: return 1 + UInt64(max(sent[place], 1))
        case .behind: return 1 + UInt64(max(sent[place], 256))
        case .down: return .max
        }
    }
}
