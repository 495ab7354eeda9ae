// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

extension Context {
    /// A reference to this process that sends messages of any type.
    public var ref: AnyRef { AnyRef(proc) }

    /// The address of this process, as its messages carry it.
    public var signature: RefAddr { RefAddr(ref) }

    /// Waits for the next message, of whatever type and however it was sent; see ``MessageMatch`` for how to tell them apart.
    ///
    /// A message of a typed reference comes as one that somebody not known told; an ask of one with its message, in which the reply is.
    /// - Throws: `CancellationError` when the process is asked to stop.
    public nonisolated(nonsending) func receive() async throws -> AnyMessage { try await receive(AnyMessage.self) }

    /// As ``receive()``, for some time at most. No message is lost when the time is up.
    ///
    /// - Throws: ``DeadlineExceeded`` when none came in time; `CancellationError` when the process is asked to stop.
    public func receive(within time: Duration) async throws -> AnyMessage {
        try await receive(AnyMessage.self, within: time)
    }

    /// Counts a message as a dead letter of this process (`unhandled`). An ask whose reply nobody holds ends as `unanswered`.
    public func deadLetter(_ message: AnyMessage) {
        system.deadLetter(of: type(of: message.payload), to: proc, from: message.sender.id, .unhandled)
    }

    /// The message that stands for one of a type: a dynamic one for what it carries, if that was told or broadcast, and any other for
    /// a dynamic one of nobody who is known.
    func standIn<Message: Sendable>(for message: any Sendable, as type: Message.Type) -> Message? {
        if let dynamic = message as? AnyMessage { return dynamic.value(as: type) }
        guard Message.self == AnyMessage.self else { return nil }
        return Envelope(message: AnyMessage(message)).message(as: type)
    }
}

/// `for await message in context`: the messages as they come, of any type, until the process is asked to stop.
///
/// Those of one type: ``Context/messages(of:)``.
extension Context: AsyncSequence {
    /// A message of any type; see ``MessageMatch``.
    public typealias Element = AnyMessage

    /// Returns an iterator over what is in the mailbox and what will come; several share it.
    public func makeAsyncIterator() -> Messages<AnyMessage>.AsyncIterator {
        messages(of: AnyMessage.self).makeAsyncIterator()
    }
}

extension ReactiveContext {
    /// A reference to this process that sends messages of any type.
    public var ref: AnyRef { AnyRef(proc) }

    /// The address of this process, as its messages carry it.
    public var signature: RefAddr { RefAddr(ref) }

    /// Counts a message as a dead letter of this process (`unhandled`). An ask whose reply nobody holds ends as `unanswered`.
    public func deadLetter(_ message: AnyMessage) { message.becomesDeadLetter(.unhandled) }
}
