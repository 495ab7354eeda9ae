// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

public import LightProc

/// A reference to a process that takes messages of any type. It stays valid over restarts.
///
/// What it sends is told apart at the receiver: an async process and a reactive one whose messages are ``AnyMessage`` take everything. A
/// reactive process of another type of message takes what is exactly of that type, told or broadcast; of a `Message` that is
/// `any Sendable`, everything but asks. Sent from code of a process, a message carries that process's address; otherwise, and by
/// ``tellAnonymously(_:lane:)``, none. Order and delivery are those of ``ProcRef``.
public struct AnyRef: Sendable, Hashable, CustomStringConvertible {
    /// The process itself; the same object over restarts.
    public let proc: LightProc

    package init(_ proc: LightProc) { self.proc = proc }

    /// A reference to the same process, whatever it takes.
    public init<Message: Sendable>(_ ref: ProcRef<Message>) { proc = ref.proc }

    /// The identity of the process; it stays the same over restarts.
    public var id: ProcID { proc.id }

    /// Whether both refer to the same process.
    public static func == (one: AnyRef, other: AnyRef) -> Bool { one.proc === other.proc }
    /// By the identity of the process.
    public func hash(into hasher: inout Hasher) { hasher.combine(id) }
    /// The name of the process, if it has one, and its id.
    public var description: String { proc.description }

    // MARK: Tell

    /// Sends a value, with the sender's address if the calling code belongs to a process. Any thread; never blocks.
    ///
    /// Costs an allocation (none to a typed reactive process), and what ``LightProc/LightProc/current`` does.
    ///
    /// - Returns: False when the process has ended for good, does not take values of that type, or its mailbox is full and its
    ///   policy is not to drop; ``trySend(_:lane:)`` says which.
    @discardableResult
    public func tell(_ message: any Sendable, lane: MessageLane = .user) -> Bool {
        put(AnyMessage(.init(.tell, message, from: .current)), lane: lane) == .sent
    }

    /// Sends a value without the sender's address. Otherwise as ``tell(_:lane:)``.
    @discardableResult
    public func tellAnonymously(_ message: any Sendable, lane: MessageLane = .user) -> Bool {
        put(AnyMessage(.init(.tell, message, from: .anonymous)), lane: lane) == .sent
    }

    /// Sends a value, or says why it was not taken and gives it back. Any thread; never blocks.
    ///
    /// - Throws: `full`, `closed` or `wrongType`.
    public func trySend<Message: Sendable>(
        _ message: Message,
        lane: MessageLane = .user
    ) throws(SendError<Message>) {
        try tryPut(message, from: .current, lane)
    }

    /// As ``trySend(_:lane:)``, without the sender's address.
    public func trySendAnonymously<Message: Sendable>(
        _ message: Message,
        lane: MessageLane = .user
    ) throws(SendError<Message>) {
        try tryPut(message, from: .anonymous, lane)
    }

    private func tryPut<Message: Sendable>(
        _ message: Message,
        from sender: RefAddr,
        _ lane: MessageLane
    ) throws(SendError<Message>) {
        switch put(AnyMessage(.init(.tell, message, from: sender)), lane: lane) {
        case .sent: break
        case .full: throw .full(message, id)
        case .closed: throw .closed(message, id)
        case .wrongType: throw .wrongType(message, id)
        }
    }

    // MARK: Ask

    /// Asks: sends a value that carries a reply, and waits for an answer of a type.
    ///
    /// Within a deadline (``Context/withTimeout(_:_:)``) it waits no longer than that. In a full mailbox that lets senders wait the question
    /// waits for room.
    /// - Throws: ``AskError``: `wrongAnswer`, with both types, when the answer is of another one; `wrongMessage` when the process
    ///   takes no such asks; otherwise as ``ProcRef/ask(within:lane:_:)``.
    public func ask<Value: Sendable>(
        _ message: any Sendable,
        as type: Value.Type = Value.self,
        within time: Duration = .seconds(5),
        lane: MessageLane = .user
    ) async throws(AskError) -> Value {
        try await asking(message, from: .current, within: time, lane: lane).value()
    }

    /// As ``ask(_:as:within:lane:)``, without the sender's address.
    public func askAnonymously<Value: Sendable>(
        _ message: any Sendable,
        as type: Value.Type = Value.self,
        within time: Duration = .seconds(5),
        lane: MessageLane = .user
    ) async throws(AskError) -> Value {
        try await asking(message, from: .anonymous, within: time, lane: lane).value()
    }

    /// Asks without waiting. A mailbox that is full refuses, also if its policy is to let senders wait.
    public func request<Value: Sendable>(
        _ message: any Sendable,
        as type: Value.Type = Value.self,
        within time: Duration = .seconds(5),
        lane: MessageLane = .user
    ) -> PendingReply<Value> {
        let ask = Ask(proc, for: Value.self, within: time)
        ask.send(AnyMessage(.init(.ask, message, from: .current, reply: AnyReply(ask))), to: self, lane)
        return PendingReply(ask: ask)
    }

    // MARK: Delivery

    /// What became of a message.
    enum Outcome { case sent, full, closed, wrongType }

    /// Puts a message into the mailbox in the form that the process takes.
    func put(_ message: AnyMessage, receipt: MessageReceipt? = nil, lane: MessageLane) -> Outcome {
        if let queue = proc.managedQueue {
            return queue.offer(dynamic: message, receipt: receipt as? Ask, lane: lane, to: proc)
        }
        if !proc.isReactive { return push(Envelope(message: message), receipt, lane) }
        let type = proc.messageType
        if type == AnyMessage.self { return push(message, receipt, lane) }
        guard message.kind != .ask else { return .wrongType }
        if type == (any Sendable).self { return push(message.payload as any Sendable, receipt, lane) }
        func open<Actual>(_ actual: Actual) -> Outcome {
            Actual.self == type ? push(actual, receipt, lane) : .wrongType
        }
        // Not called directly: see `Envelope.message(as:)`.
        return _openExistential(message.payload, do: open)
    }

    private func push<Actual>(_ message: Actual, _ receipt: MessageReceipt?, _ lane: MessageLane) -> Outcome {
        let node = MessageNode.make(message, receipt: receipt)
        if proc.push(node, lane: lane) { return .sent }
        node.refuse(as: Actual.self)
        return .closed
    }
}

extension Ask {
    /// Sends the message of this ask. False when it was not taken: then the ask has ended.
    @discardableResult
    func send(_ message: AnyMessage, to ref: AnyRef, _ lane: MessageLane) -> Bool {
        switch ref.put(message, receipt: self, lane: lane) {
        case .sent: return true
        case .full: fail(.full)
        case .closed: refused(ref.proc.lastExit)
        case .wrongType: fail(.wrongMessage)
        }
        return false
    }
}

extension MessageQueue {
    func offer(
        dynamic message: AnyMessage,
        receipt: Ask?,
        lane: MessageLane,
        to proc: LightProc
    ) -> AnyRef.Outcome {
        guard let form = form(of: message, for: proc) else { return .wrongType }
        return AnyRef.Outcome(offer(form, receipt: receipt, lane: lane, to: proc))
    }

    /// The form in which the process takes it; nil if it takes none.
    func form(of message: AnyMessage, for proc: LightProc) -> (any Sendable)? {
        // An async process's queue holds what its envelopes do.
        if !proc.isReactive || proc.messageType == AnyMessage.self { return message }
        let fits = proc.messageType == (any Sendable).self || proc.messageType == type(of: message.payload)
        return fits && message.kind != .ask ? message.payload : nil
    }
}

extension AnyRef.Outcome {
    init(_ outcome: SendOutcome) {
        switch outcome {
        case .sent: self = .sent
        case .full: self = .full
        case .closed: self = .closed
        }
    }
}

extension ProcRef {
    /// A reference to the same process that sends messages of any type.
    public var dynamic: AnyRef { AnyRef(proc) }
}
