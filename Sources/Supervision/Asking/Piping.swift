// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

extension PendingReply {
    /// Sends the outcome of this ask to a process, as a message that `make` makes of it, once it is known.
    ///
    /// `make` runs on a worker, as a process of its own: a trap in it is contained, and nothing is sent then. It must not block. In a full
    /// mailbox that lets senders wait the message waits for room; one that is refused is a dead letter.
    public func pipe<Message: Sendable>(
        to ref: ProcRef<Message>,
        _ make: @escaping @Sendable (Result<Value, AskError>) -> Message
    ) {
        whenComplete { ref.sendUnclaimed(make($0)) }
    }

    /// As above, as a value of any type, from whoever calls this.
    public func pipe(to ref: AnyRef, _ make: @escaping @Sendable (Result<Value, AskError>) -> any Sendable) {
        let sender = RefAddr.current
        whenComplete { result in ref.sendUnclaimed(AnyMessage(.init(.tell, make(result), from: sender))) }
    }
}

extension Context {
    /// Sends the outcome of an ask to this process once it is known, as a message that `make` makes of it.
    ///
    /// It comes like every other message, to the incarnation that there is by then. `make` runs as a process of its own.
    public func pipeToSelf<Value: Sendable, Message: Sendable>(
        _ pending: PendingReply<Value>,
        _ make: @escaping @Sendable (Result<Value, AskError>) -> Message
    ) {
        pending.pipe(to: me(as: Message.self), make)
    }
}

extension ReactiveContext {
    /// Sends the outcome of an ask to this process once it is known, as a message that `make` makes of it.
    ///
    /// It comes like every other message, to the incarnation that there is by then. `make` runs as a process of its own.
    public func pipeToSelf<Value: Sendable>(
        _ pending: PendingReply<Value>,
        _ make: @escaping @Sendable (Result<Value, AskError>) -> Body.Message
    ) {
        pending.pipe(to: me, make)
    }
}
