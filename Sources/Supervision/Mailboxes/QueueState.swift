// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

/// A message in the queue of a managed process. An object, as it is passed on often: copies of its parts cost more.
final class QueueEntry: @unchecked Sendable {
    // Sendable: what changes does so under the queue's lock, or while one thread has it.
    let message: any Sendable
    /// Of an ask.
    let receipt: Ask?
    /// When it was sent, on the executor's clock.
    let sent: Duration
    /// The level of urgency, 0 first.
    let level: Int
    /// Who sent it; nil if that was no process.
    let sender: ProcID?
    /// Let go of when the message is taken.
    var ticket: MessageReceipt?
    /// Grows from one message that was added to the next.
    var number = 0

    init(
        message: any Sendable,
        receipt: Ask?,
        sent: Duration,
        level: Int,
        sender: ProcID?,
        ticket: MessageReceipt? = nil
    ) {
        self.message = message
        self.receipt = receipt
        self.sent = sent
        self.level = level
        self.sender = sender
        self.ticket = ticket
    }
}

/// Why a message was not handled.
enum DropCause: Sendable, Hashable {
    case overflow
    case expired
    case shed
    /// It was an ask whose asker does not wait any longer.
    case lateAsk
}

/// The messages of a managed process, and who waits for room: a pure value. Time comes in as an argument.
///
/// The process's own mailbox is the bell: it holds tokens, one for each message that is here, perhaps more. `offer` and `take`
/// say how often to ring.
struct QueueState: Sendable {
    typealias Entry = QueueEntry

    /// What becomes of a message.
    enum Offer {
        case taken
        /// It was taken, and this one dropped for it.
        case takenFor(Entry)
        /// It was dropped itself.
        case dropped(Entry)
        /// There is no room; it was not taken.
        case full(Entry)
        /// The process has ended for good.
        case closed(Entry)
    }

    /// What a token brings.
    struct Take {
        /// The message to handle; nil if none is left.
        var entry: Entry?
        /// What is handled instead of a message.
        var notice: Notice?
        /// Messages that are not handled.
        var dropped: [(entry: Entry, cause: DropCause)] = []
        /// Waiting senders whose message has been taken.
        var admitted: [Int] = []
    }

    private let policy: MailboxPolicy
    private(set) var levels: [Ring<Entry>]
    private(set) var control = Ring<Entry>()
    /// Each behind as many messages as waited when it came.
    private(set) var notices = Ring<(mark: Int, number: Int, notice: Notice)>()
    /// Messages that have left the levels, for whatever reason.
    private(set) var removed = 0
    private var lastNumber = 0
    private var waiting = Ring<(number: Int, entry: Entry)>()
    private var nextNumber = 0
    private var controller: QueueDelayController?
    /// Tokens that are in the mailbox, or on their way there; at least as many as there are messages.
    private var tokens = 0
    /// Selective receives that are under way: they have to hear of each message, also where there are tokens enough.
    var seekers = 0
    /// Whether they were rung for since one of them looked, and what was the last to be there then.
    private var isAlarmed = false
    private var lastLookedAt = 0
    /// Messages in the levels, the control lane aside.
    private(set) var count = 0
    private(set) var isClosed = false

    init(_ policy: MailboxPolicy) {
        self.policy = policy
        levels = Array(repeating: Ring(), count: policy.levels)
        if let target = policy.sheddingTarget {
            controller = QueueDelayController(target: target, interval: policy.sheddingInterval)
        }
    }

    /// When the message that has waited longest was sent; nil if none waits.
    var oldest: Duration? { levels.compactMap { $0.first?.sent }.min() }
    var waitingSenders: Int { waiting.count }

    /// Adds a message if there is room, or makes room as the policy says.
    mutating func offer(_ entry: Entry) -> Offer {
        if isClosed { return .closed(entry) }
        guard let capacity = policy.capacity, count >= capacity || !waiting.isEmpty else {
            add(entry)
            return .taken
        }
        switch policy.overflow {
        case .suspend, .fail: return .full(entry)
        case .dropNewest: return .dropped(entry)
        case .dropOldest:
            // The least urgent level that is not more urgent than the newcomer; otherwise that one has to go.
            guard let level = levels.indices.last(where: { !levels[$0].isEmpty }), level >= entry.level,
                let oldest = levels[level].popFirst()
            else { return .dropped(entry) }
            leave()
            add(entry)
            return .takenFor(oldest)
        }
    }

    /// Lets a sender wait with its message; returns its number. After `full`, under the same lock.
    mutating func wait(with entry: Entry) -> Int {
        nextNumber += 1
        waiting.append((nextNumber, entry))
        return nextNumber
    }

    /// Takes back what a sender waits with; nil if it was taken meanwhile.
    mutating func withdraw(_ number: Int) -> Entry? { waiting.removeFirst { $0.number == number }?.entry }

    /// Adds a message to the control lane, which has no bound.
    mutating func offerControl(_ entry: Entry) -> Offer {
        if isClosed { return .closed(entry) }
        control.append(numbered(entry))
        return .taken
    }

    /// Adds messages that were taken before, whatever the bound: they are the next of their levels.
    mutating func putBack(_ entries: [Entry]) {
        for entry in entries.reversed() where !isClosed {
            levels[entry.level].prepend(numbered(entry))
            count += 1
            // What was told to come behind them still does.
            removed -= 1
        }
    }

    /// Adds a notice, which no bound applies to. Dropped when the process has ended for good.
    mutating func offer(_ notice: Notice) {
        if isClosed { return }
        lastNumber += 1
        notices.append((removed + count, lastNumber, notice))
    }

    /// Takes a notice out of turn, by its number.
    mutating func takeNotice(_ number: Int) -> Notice? { notices.removeFirst { $0.number == number }?.notice }

    /// Adds a message that comes next, for a token that the process has made itself. Not refused: the process lives.
    mutating func putFirst(_ entry: Entry) {
        control.prepend(numbered(entry))
        tokens += 1
    }

    private mutating func numbered(_ entry: Entry) -> Entry {
        lastNumber += 1
        entry.number = lastNumber
        return entry
    }

    /// Takes a message out of turn, by its number. What it has waited does not matter.
    mutating func take(_ number: Int) -> Take {
        var take = Take()
        take.entry = control.removeFirst { $0.number == number }
        for level in levels.indices where take.entry == nil {
            take.entry = levels[level].removeFirst { $0.number == number }
            if take.entry != nil {
                leave()
                // It was not among those that notices wait for which were there before it.
                notices.update { notice in if notice.number < number { notice.mark += 1 } }
            }
        }
        admit(&take)
        return take
    }

    /// A token was removed from the mailbox without being handled.
    mutating func tokenIsGone() { tokensAreLost(1) }

    /// So many tokens were taken out of the mailbox by tasks that will never handle them.
    mutating func tokensAreLost(_ count: Int) { tokens = max(0, tokens - max(0, count)) }

    private mutating func admit(_ take: inout Take) {
        guard let capacity = policy.capacity else { return }
        while count < capacity, let (number, entry) = waiting.popFirst() {
            add(entry)
            take.admitted.append(number)
        }
    }

    /// How many tokens to put into the mailbox now; they count as put.
    mutating func tokensToRing() -> Int {
        let missing = tokensMissing()
        guard missing == 0, seekers > 0, !isAlarmed, lastNumber > lastLookedAt else { return missing }
        isAlarmed = true
        tokens += 1
        return 1
    }

    /// As above, by a selective receive.
    mutating func tokensMissing() -> Int {
        let missing = max(0, -surplus)
        tokens += missing
        return missing
    }

    /// How many more tokens there are than messages.
    var surplus: Int { tokens - control.count - count - notices.count }

    /// A selective receive looks at all that waits.
    mutating func isLookedAt() {
        isAlarmed = false
        lastLookedAt = lastNumber
    }

    /// A token was handled: the next message, past those that are not to be handled any more. The control lane comes first,
    /// whichever lane the token lay in.
    mutating func take(at now: Duration) -> Take {
        // Not below zero: one that was taken for lost may turn up.
        tokens = max(0, tokens - 1)
        var take = Take()
        take.entry = control.popFirst()
        if take.entry != nil { return take }
        // Ends: each round removes a message.
        while true {
            if let first = notices.first, first.mark <= removed {
                take.notice = notices.popFirst()?.notice
                break
            }
            guard let level = levels.indices.first(where: { !levels[$0].isEmpty }),
                let entry = levels[level].popFirst()
            else { break }
            leave()
            guard let cause = cause(against: entry, at: now) else {
                take.entry = entry
                break
            }
            take.dropped.append((entry, cause))
        }
        admit(&take)
        return take
    }

    /// Refuses everything from now on, and returns what was left: messages, and those of waiting senders.
    mutating func close() -> (left: [Entry], waiting: [(number: Int, entry: Entry)]) {
        isClosed = true
        let left = control.removeAll() + levels.indices.flatMap { levels[$0].removeAll() }
        count = 0
        _ = notices.removeAll()
        return (left, waiting.removeAll())
    }

    /// Refuses everything from now on if nothing waits, not even a sender. True if it does refuse.
    mutating func closeIfEmpty() -> Bool {
        if count == 0, control.isEmpty, waiting.isEmpty { isClosed = true }
        return isClosed
    }

    private mutating func add(_ entry: Entry) {
        if count == 0 { controller?.startsToFill(at: entry.sent) }
        levels[entry.level].append(numbered(entry))
        count += 1
    }

    private mutating func leave() {
        count -= 1
        removed += 1
    }

    private mutating func cause(against entry: Entry, at now: Duration) -> DropCause? {
        let age = now - entry.sent
        if let maximumAge = policy.maximumAge, age > maximumAge { return .expired }
        if entry.receipt?.isSettled == true { return .lateAsk }
        if policy.levels > 1, entry.level == 0 { return nil }
        return controller?.drops(after: age, isLast: count == 0, at: now) == true ? .shed : nil
    }
}
