// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

#if !MODEL_CHECKING
public import Synchronization
#endif

/// The message queue of a process: any number of senders, one consumer, first in first out per sender.
///
/// `inbox` is a stack of nodes that senders push onto with one exchange; the consumer takes it whole, turns it round
/// and keeps what it has not handled yet in `taken`. So a consumer that dies in the middle of a message loses that
/// message and no other. The word is at the same time the process's place in the schedule:
///
/// | inbox | meaning |
/// |---|---|
/// | 0 | idle: empty, and nobody runs the process or is about to |
/// | 1 | busy: the process is queued, running, or being restarted; nothing new has come |
/// | 2 | closed: refuses messages for ever |
/// | else | busy, and this is the newest of the messages that have come |
///
/// The sender who finds it idle is the one to schedule the process.
@frozen
public struct Mailbox: ~Copyable {
    @usableFromInline let inbox: AtomicWord
    /// Written by the consumer only.
    @usableFromInline let taken: AtomicWord

    @usableFromInline static var idle: UInt { @inlinable @inline(__always) get { 0 } }
    @usableFromInline static var busy: UInt { @inlinable @inline(__always) get { 1 } }
    @usableFromInline static var closed: UInt { @inlinable @inline(__always) get { 2 } }

    /// Creates an empty mailbox.
    ///
    /// - Parameter isBusy: Whether the creator schedules the process itself.
    @inlinable
    init(isBusy: Bool) {
        inbox = AtomicWord(isBusy ? Self.busy : Self.idle)
        taken = AtomicWord(0)
    }

    /// What became of a message that was pushed.
    @frozen
    public enum Push: Sendable, Equatable {
        /// The process was idle: the caller must schedule it.
        case schedule
        /// The process will come to the message by itself.
        case queued
        /// The mailbox is closed; the node still belongs to the caller.
        case closed
    }

    /// Adds a message. Any thread.
    @inlinable @inline(__always)
    func push(_ node: MessageNode) -> Push {
        // ordering: relaxed: only a first guess; the exchange decides.
        var seen = inbox.load(ordering: .relaxed)
        while true {
            if seen == Self.closed { return .closed }
            node.next = seen <= Self.busy ? 0 : seen
            // ordering: acquiringAndReleasing: publishes the node; pairs with the exchange in `take`. Acquiring so that
            // who schedules the process sees what the consumer wrote before it went idle.
            let (done, original) = inbox.weakCompareExchange(
                expected: seen,
                desired: node.bits,
                successOrdering: .acquiringAndReleasing,
                failureOrdering: .relaxed
            )
            if done { return seen == Self.idle ? .schedule : .queued }
            // Retried because another sender's push, or the consumer, got in between.
            seen = original
        }
    }

    /// Makes an idle process busy without a message. True if the caller must schedule it. Any thread.
    @inlinable
    func claim() -> Bool {
        // ordering: sequentiallyConsistent: with `settle`; store of the order, then this; see `LightProc.order`.
        inbox.compareExchange(
            expected: Self.idle,
            desired: Self.busy,
            successOrdering: .sequentiallyConsistent,
            failureOrdering: .sequentiallyConsistent
        ).exchanged
    }

    /// Removes the oldest message. Consumer only.
    @inlinable @inline(__always)
    func take() -> MessageNode? {
        // ordering: relaxed: written and read by the consumer; a change of consumer goes through the schedule.
        if let node = MessageNode(bits: taken.load(ordering: .relaxed)) {
            taken.store(node.next, ordering: .relaxed)
            return node
        }
        return takeBatch()
    }

    @inlinable @inline(__always)
    func takeBatch() -> MessageNode? {
        // ordering: relaxed: if something has come that this does not see yet, `settle` fails and we come back.
        if inbox.load(ordering: .relaxed) <= Self.closed { return nil }
        // ordering: acquiringAndReleasing: pairs with the pushes; what they published is visible now.
        let oldest = Self.reversed(inbox.exchange(Self.busy, ordering: .acquiringAndReleasing))
        guard let node = MessageNode(bits: oldest) else { return nil }
        taken.store(node.next, ordering: .relaxed)
        return node
    }

    /// As `take`, for a consumer that keeps what is left of the batch in `rest` from one call to the next: 0 at first if
    /// nothing was taken before. `taken` says the same at every moment at which the consumer may trap.
    @inlinable @inline(__always)
    func take(_ rest: inout UInt) -> MessageNode? {
        guard let node = MessageNode(bits: rest) else {
            let node = takeBatch()
            rest = node?.next ?? 0
            return node
        }
        rest = node.next
        // ordering: relaxed: as in `take()`.
        taken.store(rest, ordering: .relaxed)
        return node
    }

    /// What is left of the batch that was taken last. Consumer only.
    @inlinable @inline(__always)
    var rest: UInt { taken.load(ordering: .relaxed) }

    /// Goes idle. False if messages are waiting, or the mailbox was closed. Consumer only.
    @inlinable @inline(__always)
    func settle() -> Bool {
        // ordering: relaxed: as in `take`.
        if taken.load(ordering: .relaxed) != 0 { return false }
        // ordering: sequentiallyConsistent: publishes the consumer's writes to the next one; with `claim`, see there.
        return inbox.compareExchange(
            expected: Self.busy,
            desired: Self.idle,
            successOrdering: .sequentiallyConsistent,
            failureOrdering: .relaxed
        ).exchanged
    }

    /// Refuses every later message and returns those that were left, oldest first, linked. Consumer only.
    func close() -> UInt {
        // ordering: acquiringAndReleasing: as `takeBatch`.
        let newer = Self.reversed(inbox.exchange(Self.closed, ordering: .acquiringAndReleasing))
        let older = taken.exchange(0, ordering: .relaxed)
        guard var last = MessageNode(bits: older) else { return newer }
        while let next = MessageNode(bits: last.next) { last = next }
        last.next = newer
        return older
    }

    /// Whether messages are waiting; may be out of date when it returns.
    var isEmpty: Bool {
        // ordering: relaxed: a hint.
        inbox.load(ordering: .relaxed) <= Self.closed && taken.load(ordering: .relaxed) == 0
    }

    /// Whether nothing waits and nobody runs the process; may be out of date when it returns.
    var isIdle: Bool {
        // ordering: acquiring: as `isClosed`.
        inbox.load(ordering: .acquiring) == Self.idle
    }

    var isClosed: Bool {
        // ordering: acquiring: pairs with `close`.
        inbox.load(ordering: .acquiring) == Self.closed
    }

    /// So many messages of a batch make who receives them behind: what a turn may take.
    #if MODEL_CHECKING
    @usableFromInline static var longBatch: UInt { @inlinable @inline(__always) get { 2 } }
    #else
    @usableFromInline static var longBatch: UInt { @inlinable @inline(__always) get { 256 } }
    #endif

    /// Whether more messages are left of the batch that is being handled than one turn takes: senders are faster than the
    /// process. Any thread; a hint.
    @inlinable @inline(__always)
    var isBehind: Bool {
        // ordering: relaxed: a hint.
        taken.load(ordering: .relaxed) & 1 != 0
    }

    /// Turns a stack of nodes into a queue; the reference to a node is odd if at least `longBatch` others follow it.
    @inlinable @inline(__always)
    static func reversed(_ top: UInt) -> UInt {
        if top <= closed { return 0 }
        var current = MessageNode(bits: top)
        var previous: UInt = 0
        var count: UInt = 0
        while let node = current {
            current = MessageNode(bits: node.next)
            node.next = previous
            previous = node.bits | (count >= longBatch ? 1 : 0)
            count &+= 1
        }
        return previous
    }
}
