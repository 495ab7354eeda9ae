// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

public import LightProc

/// A reference to a process that takes messages of one type. It stays valid over restarts.
///
/// Messages from one sender arrive in the order in which they were sent, each at most once. While the process is being
/// restarted they wait; the one it was handling when it failed is not delivered again.
public struct ProcRef<Message: Sendable>: Sendable {
    /// The process itself; the same object over restarts.
    public let proc: LightProc

    @usableFromInline
    package init(_ proc: LightProc) { self.proc = proc }

    /// The identity of the process; it stays the same over restarts.
    public var id: ProcID { proc.id }

    /// Sends a message.
    ///
    /// Costs no allocation on a worker for messages of up to 48 bytes to a reactive process. Any thread; never blocks.
    /// - Returns: False when the process has ended for good, or its mailbox is full and its policy is not to drop; the message
    ///   is then gone. ``trySend(_:)`` gives it back.
    @inlinable @discardableResult
    public func tell(_ message: consuming Message) -> Bool {
        deliver(message, receipt: nil)
    }

    /// Sends a message in a lane of the mailbox.
    ///
    /// In the control lane it is handled before every message that waits in the user lane, after the message in hand, and in
    /// order with those that the same sender sent in that lane. Costs a lock, and some hundred bytes of the process, once.
    /// - Returns: False when the process has ended for good; the message is then gone.
    @discardableResult
    public func tell(_ message: consuming Message, lane: MessageLane) -> Bool {
        deliver(message, receipt: nil, lane: lane)
    }

    /// Asks: sends a message that carries a reply, and waits for the answer.
    ///
    /// Within a deadline (``Context/withTimeout(_:_:)``) it waits no longer than that. In a full mailbox that lets senders wait the message
    /// waits for room.
    ///
    /// - Parameters:
    ///   - time: How long to wait.
    ///   - lane: Where the message waits until it is handled.
    ///   - make: Makes the message around the reply, as in `{ .total($0) }`.
    /// - Throws: ``AskError``: at once when the process ends, or had ended, with the reason.
    @inlinable
    public func ask<Value: Sendable>(
        within time: Duration = .seconds(5),
        lane: MessageLane = .user,
        _ make: (Reply<Value>) -> Message
    ) async throws(AskError) -> Value {
        try await asking(within: time, lane: lane, make).value()
    }

    /// Asks without waiting. Within a deadline of the calling task the answer is waited for no longer than that. A mailbox that is full
    /// refuses, also if its policy is to let senders wait.
    @inlinable
    public func request<Value: Sendable>(
        within time: Duration = .seconds(5),
        lane: MessageLane = .user,
        _ make: (Reply<Value>) -> Message
    ) -> PendingReply<Value> {
        let ask = Ask(proc, for: Value.self, within: time)
        _ = deliver(make(Reply(ask)), receipt: ask, lane: lane)
        return PendingReply(ask: ask)
    }

    @inlinable
    func deliver(_ message: consuming Message, receipt: MessageReceipt?, lane: MessageLane) -> Bool {
        lane == .user ? deliver(message, receipt: receipt) : deliverInLane(message, receipt: receipt, lane: lane)
    }

    @usableFromInline
    func deliverInLane(_ message: consuming Message, receipt: MessageReceipt?, lane: MessageLane) -> Bool {
        if let queue = proc.managedQueue { return deliver(message, receipt: receipt, lane: lane, to: queue) }
        if proc.isReactive {
            let node = MessageNode.make(message, receipt: receipt)
            if proc.push(node, lane: lane) { return true }
            receipt?.refused(proc.lastExit)
            node.refuse(as: Message.self)
        } else {
            let node = MessageNode.make(Envelope(message: message), receipt: receipt)
            if proc.push(node, lane: lane) { return true }
            receipt?.refused(proc.lastExit)
            node.refuse(as: Envelope.self)
        }
        return false
    }

    @inlinable @inline(__always)
    func deliver(_ message: consuming Message, receipt: MessageReceipt?) -> Bool {
        guard proc.tag.takesMessagesBare else { return deliverEnveloped(message, receipt: receipt) }
        let node = MessageNode.make(message, receipt: receipt)
        if proc.push(node, isReactive: true) { return true }
        receipt?.refused(proc.lastExit)
        node.refuse(as: Message.self)
        return false
    }

    @inlinable
    func deliverEnveloped(_ message: consuming Message, receipt: MessageReceipt?) -> Bool {
        if proc.tag.isManaged { return deliverManaged(message, receipt: receipt) }
        let node = MessageNode.make(Envelope(message: message), receipt: receipt)
        if proc.push(node, isReactive: false) { return true }
        receipt?.refused(proc.lastExit)
        node.refuse(as: Envelope.self)
        return false
    }

    @usableFromInline
    func deliverManaged(_ message: consuming Message, receipt: MessageReceipt?) -> Bool {
        guard let queue = proc.managedQueue else {
            preconditionFailure("impossible: a managed process has a queue")
        }
        return deliver(message, receipt: receipt, lane: .user, to: queue)
    }

    private func deliver(
        _ message: consuming Message,
        receipt: MessageReceipt?,
        lane: MessageLane,
        to queue: MessageQueue
    ) -> Bool {
        // Every receipt is that of an ask.
        queue.offer(message, receipt: receipt as? Ask, lane: lane, to: proc) == .sent
    }
}

extension ProcRef: CustomStringConvertible {
    /// The name of the process, if it has one, and its id, as in `worker-0<0.17>`.
    public var description: String { proc.description }
}

extension ProcRef: Hashable {
    /// Whether both refer to the same process.
    public static func == (one: ProcRef, other: ProcRef) -> Bool { one.proc === other.proc }
    /// By the identity of the process.
    public func hash(into hasher: inout Hasher) { hasher.combine(id) }
}
