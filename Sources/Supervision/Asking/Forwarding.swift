// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

public import LightProc

extension AnyMessage {
    /// Sends it on as it is: sender, kind, and the ask if it is one, which the new receiver's end then ends.
    func forward(to ref: AnyRef, _ lane: MessageLane) -> Bool {
        guard let ask = reply?.token.ask, !ask.isSettled else { return ref.put(self, lane: lane) == .sent }
        ask.hand(to: ref.proc)
        return ask.send(self, to: ref, lane)
    }
}

extension ProcRef {
    /// Sends a message with the ask that a process has in hand, if it has one.
    func forward(_ message: Message, from proc: LightProc, _ lane: MessageLane) -> Bool {
        let receipt = proc.releaseAskInHand()
        (receipt as? Ask)?.hand(to: self.proc)
        return deliver(message, receipt: receipt, lane: lane)
    }
}

extension Context {
    /// Hands a message on to another process as it was sent: with its sender, and, if it is a question, with its ask.
    ///
    /// From here on it is the other process that the asker waits for: the end of this one does not end the ask, the end of that
    /// one does, also while the message still waits there when that one ends for good. Any thread; never blocks.
    /// - Returns: False when that process does not take it; an ask then ends at once, with the reason (`refused`, `full`).
    @discardableResult
    public func forward(_ message: AnyMessage, to ref: AnyRef, lane: MessageLane = .user) -> Bool {
        message.forward(to: ref, lane)
    }

    /// Hands a message on to another process; if the message in hand is an ask, with that ask. See ``forward(_:to:lane:)-(AnyMessage,_,_)``.
    ///
    /// The message in hand is the one that this process received last. The message may be another one, as long as the reply is in it.
    @discardableResult
    public func forward<Message: Sendable>(
        _ message: Message,
        to ref: ProcRef<Message>,
        lane: MessageLane = .user
    ) -> Bool {
        ref.forward(message, from: proc, lane)
    }
}

extension ReactiveContext {
    /// Hands a message on to another process as it was sent: with its sender, and, if it is a question, with its ask.
    ///
    /// From here on it is the other process that the asker waits for. Never blocks.
    /// - Returns: False when that process does not take it; an ask then ends at once, with the reason (`refused`, `full`).
    @discardableResult
    public func forward(_ message: AnyMessage, to ref: AnyRef, lane: MessageLane = .user) -> Bool {
        message.forward(to: ref, lane)
    }

    /// Hands a message on to another process; if the message in hand is an ask, with that ask.
    ///
    /// From here on it is the other process that the asker waits for. The message may be another one than that in hand, as long as
    /// the reply is in it.
    @discardableResult
    public func forward<Message: Sendable>(
        _ message: Message,
        to ref: ProcRef<Message>,
        lane: MessageLane = .user
    ) -> Bool {
        ref.forward(message, from: proc, lane)
    }
}

extension ReplyToken {
    /// Makes another process answer for the reply.
    func delegate(to proc: LightProc) {
        if ask.isSettled { return }
        ask.hand(to: proc)
        if !proc.adopt(ask) { ask.processEnded(proc.lastExit ?? .shutdown) }
    }
}

extension Reply {
    /// Makes another process answer for this reply: its end ends the ask, and that of the one that has had it until now does not.
    ///
    /// Any end from here on, also of an incarnation that has not yet taken the message in which the reply comes; where the ask
    /// is to survive that, send the reply with ``delegate(to:_:)``. Any thread; never blocks.
    public func delegate<Message: Sendable>(to ref: ProcRef<Message>) { token.delegate(to: ref.proc) }

    /// Sends a message with this reply in it to another process, which from here on answers for it.
    ///
    /// The ask travels with the message: while that waits, a restart of the process does not end it. Any thread; never blocks.
    /// - Returns: False when that process does not take the message: the ask has ended then, with the reason.
    @discardableResult
    public func delegate<Message: Sendable>(to ref: ProcRef<Message>, _ make: (Reply<Value>) -> Message) -> Bool {
        if token.ask.isSettled { return false }
        token.ask.hand(to: ref.proc)
        return ref.deliver(make(self), receipt: token.ask, lane: .user)
    }
}

extension AnyReply {
    /// Makes another process answer for this reply; see ``Reply/delegate(to:)``.
    public func delegate(to ref: AnyRef) { token.delegate(to: ref.proc) }
}
