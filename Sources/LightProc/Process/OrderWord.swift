// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

#if !MODEL_CHECKING
public import Synchronization
#endif

/// Orders to a process besides its messages: a set in one word. They overtake messages.
@usableFromInline
struct Orders: OptionSet, Sendable {
    @usableFromInline let rawValue: UInt
    @usableFromInline init(rawValue: UInt) { self.rawValue = rawValue }

    /// Begin an incarnation.
    static let start = Orders(rawValue: 1)
    /// End at the next opportunity, as asked.
    static let stop = Orders(rawValue: 2)
    /// Cancel the task of an async process.
    static let cancel = Orders(rawValue: 4)
    /// The end is decided: run the hooks, then report it.
    static let cleanUp = Orders(rawValue: 8)
    /// The mailbox is closed: get rid of what was left in it.
    static let discard = Orders(rawValue: 16)
    /// Tell the askers whose replies were dropped.
    static let settleDropped = Orders(rawValue: 32)
    /// End normally: the process's own wish.
    static let finish = Orders(rawValue: 64)

    /// Nothing to do; keeps the role of consumer of an async process.
    static let held = Orders(rawValue: 128)
    /// Messages wait in the control lane of a reactive process.
    static let control = Orders(rawValue: 256)
    /// Give a sign of life: a reactive process, between two messages.
    static let probe = Orders(rawValue: 512)

    static let ends: Orders = [.stop, .finish]
    static let all = Orders(rawValue: .max)
}

/// The orders that a process was given and that its consumer has not withdrawn yet.
///
/// Who makes the set of a process's orders non-empty, or finds its mailbox idle then, must schedule it:
///
/// - A **reactive** process: who gives an order puts it into the set and then claims the mailbox. The consumer makes the
///   mailbox idle, looks at the orders once more, and claims it back if there are any. One of the two sees the other.
/// - An **async** process: its messages need no consumer, so the set itself is the place in the schedule. Who makes it
///   non-empty schedules the process, whose consumer is done when it makes it empty. Between withdrawing an order and
///   carrying it out it leaves ``Orders/held`` there.
@frozen @usableFromInline
struct OrderWord: ~Copyable {
    @usableFromInline let word = AtomicWord(0)

    @inlinable
    init() {}

    // MARK: Any thread

    /// Gives an order to a reactive process. True if the caller must schedule it.
    func give(_ order: Orders, claiming mailbox: borrowing Mailbox) -> Bool {
        _ = give(order)
        return mailbox.claim()
    }

    /// Gives an order. True if there was none: then the caller must schedule an async process.
    func give(_ order: Orders) -> Bool {
        // ordering: sequentiallyConsistent: the order is in place before the mailbox is looked at; the consumer goes
        // idle first and looks at the orders then. One of the two sees the other (Dekker).
        word.bitwiseOr(order.rawValue, ordering: .sequentiallyConsistent).oldValue == 0
    }

    // MARK: The consumer

    /// Whether there are orders, as far as is known: what comes in at this moment may be missed.
    @inlinable @inline(__always)
    var hasSome: Bool {
        // ordering: relaxed: a hint, looked at again before the process goes idle.
        word.load(ordering: .relaxed) != 0
    }

    /// Whether there are orders, once the mailbox was made idle.
    @inlinable @inline(__always)
    var hasSomeAfterSettling: Bool {
        // ordering: sequentiallyConsistent: see `give`.
        word.load(ordering: .sequentiallyConsistent) != 0
    }

    /// What is to be done.
    @inlinable @inline(__always)
    var current: Orders {
        // ordering: acquiring: pairs with `give`.
        Orders(rawValue: word.load(ordering: .acquiring))
    }

    /// Adds an order that the consumer itself looks at next.
    func add(_ order: Orders) {
        // ordering: relaxed: the consumer is who adds it; nobody is to be woken.
        word.bitwiseOr(order.rawValue, ordering: .relaxed)
    }

    /// Removes orders that were carried out. True if none is left, and with that, for an async process, the role of
    /// consumer.
    @discardableResult
    func withdraw(_ done: Orders, adding more: Orders = []) -> Bool {
        word.update { word in
            word = word & ~done.rawValue | more.rawValue
            return word == 0
        }
    }
}
