// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// A message that is made when its turn comes: a timer that has fired, which may be cancelled until then.
///
/// It waits behind the control lane and before the user lane, in the order in which it came.
package protocol MessageSource: AnyObject, Sendable {
    /// Its turn has come: what it brings, nil if it is not meant any more. By the consumer, once; for an async process under
    /// a lock of that: it must not come back to the process, nor run code of the user's.
    func takeTurn() -> SourceTurn?

    /// What it would bring, to an async process that looks for one message among others; nil for nothing. As above.
    var preview: Any? { get }
}

/// What a ``MessageSource`` brings.
package enum SourceTurn: Sendable {
    case message(MessageNode)
    /// A call of ``ReactiveBody/signalled(_:on:)``; reactive processes only.
    case signal(UInt)
}

/// What few mailboxes have besides their lanes. Made when first needed; behind the lock of the process.
final class MailboxExtras {
    private var sources: [any MessageSource] = []
    /// Sources that have had their turn are at the front of the array.
    private var handled = 0
    /// Messages of the user lane that a selective receive has passed over, oldest first; a chain. Older than what is in the
    /// mailbox. Async processes only.
    private(set) var saved: UInt = 0
    private var lastSaved: UInt = 0
    /// Changes when a message is taken: then positions are worth nothing any more.
    var epoch: UInt = 0
    /// Selective receives that wait for something new.
    private var gates: [SleepGate] = []

    var hasSources: Bool { handled < sources.count }
    var waitingSources: ArraySlice<any MessageSource> { sources[handled...] }

    func append(_ source: any MessageSource) { sources.append(source) }

    func takeSource() -> (any MessageSource)? {
        guard hasSources else { return nil }
        defer {
            handled += 1
            epoch &+= 1
            // Amortised O(1).
            if handled * 2 > sources.count {
                sources.removeFirst(handled)
                handled = 0
            }
        }
        return sources[handled]
    }

    /// Removes a source wherever it is.
    func remove(_ source: any MessageSource) {
        sources.removeAll { $0 === source }
        // Those that have had their turn are gone for good.
        handled = 0
    }

    func dropSources() {
        sources = []
        handled = 0
        epoch &+= 1
    }

    /// The next message, of an async process.
    func takeFirst() -> MessageNode? {
        // Ends: each round removes a source.
        while let source = takeSource() {
            if case .message(let node)? = source.takeTurn() { return node }
        }
        guard let node = MessageNode(bits: saved) else { return nil }
        saved = node.next
        if MessageNode(bits: saved) == nil { lastSaved = 0 }
        return node
    }

    func save(_ node: MessageNode) {
        node.next = 0
        if let last = MessageNode(bits: lastSaved) { last.next = node.bits } else { saved = node.bits }
        lastSaved = node.bits
    }

    /// Removes a node that is among the saved ones. O(n).
    func remove(_ node: MessageNode) {
        var before: MessageNode?
        var current = MessageNode(bits: saved)
        while let each = current, each.bits != node.bits {
            before = each
            current = MessageNode(bits: each.next)
        }
        guard current != nil else { return }
        if let before { before.next = node.next } else { saved = node.next }
        if lastSaved == node.bits { lastSaved = before?.bits ?? 0 }
    }

    /// Removes all that is saved, as a chain that goes on with another.
    func takeSaved(before rest: UInt) -> UInt {
        guard let last = MessageNode(bits: lastSaved) else { return rest }
        last.next = rest
        defer { (saved, lastSaved) = (0, 0) }
        return saved
    }

    func append(_ gate: SleepGate) { gates.append(gate) }
    func remove(_ gate: SleepGate) { gates.removeAll { $0 === gate } }
    func takeGates() -> [SleepGate] {
        if gates.isEmpty { return [] }
        defer { gates = [] }
        return gates
    }
}

extension ProcSide.Content {
    /// Everything that waits, in order, as a chain that goes on with what was in the mailbox.
    mutating func takeMessages(before userMessages: UInt) -> UInt {
        guard let extras else { return control.takeAll(before: userMessages) }
        extras.dropSources()
        return control.takeAll(before: extras.takeSaved(before: userMessages))
    }

    mutating func makeExtras() -> MailboxExtras {
        if let extras { return extras }
        let fresh = MailboxExtras()
        extras = fresh
        return fresh
    }
}

extension LightProc {
    /// Adds a message that is made when its turn comes. Any thread.
    ///
    /// - Returns: False when the process is closed.
    @discardableResult
    package final func push(_ source: any MessageSource) -> Bool {
        let isTaken = side.content.withLock { content in
            if state.phase == .closed { return false }
            content.makeExtras().append(source)
            return true
        }
        guard isTaken else { return false }
        if isReactive { order(.control) } else { wakeReceiver() }
        return true
    }

    /// Whether a message waits in the user lane. By the consumer.
    package final var hasWaitingMessages: Bool { !mailbox.isEmpty }

    /// Lets what looks for one message among others look again. By who woke the receiver.
    final func openGates() {
        for gate in side.content.withLock({ $0.extras?.takeGates() ?? [] }) { gate.open() }
    }
}
