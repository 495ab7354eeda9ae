// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

/// A message of any type as its receiver sees it: what was sent, how (told, asked, broadcast), and by whom.
///
/// It is one word; what it holds is shared by all copies, and by all receivers of a broadcast. A reactive process takes such messages
/// with `typealias Message = AnyMessage`, an async one with ``Context/receive()``; see ``MessageMatch`` for how they are told
/// apart. Costs one allocation per send, whatever the number of receivers.
public struct AnyMessage: Sendable, CustomStringConvertible {
    /// How a message was sent.
    public enum Kind: Sendable, Hashable {
        /// To one receiver, which owns it.
        case tell
        /// With a reply.
        case ask
        /// To several receivers, which share it.
        case broadcast
    }

    final class Content: Sendable {
        let kind: Kind
        let payload: any Sendable
        let sender: RefAddr
        let reply: AnyReply?

        init(_ kind: Kind, _ payload: any Sendable, from sender: RefAddr, reply: AnyReply? = nil) {
            self.kind = kind
            self.payload = payload
            self.sender = sender
            self.reply = reply
        }
    }

    let content: Content

    init(_ content: Content) { self.content = content }

    /// Creates a message that somebody not known tells.
    public init(_ payload: any Sendable) { content = Content(.tell, payload, from: .anonymous) }

    /// How it was sent.
    public var kind: Kind { content.kind }
    /// What was sent.
    public var payload: any Sendable { content.payload }
    /// Who sent it.
    public var sender: RefAddr { content.sender }
    /// The reply, if it is a question; nil otherwise.
    public var reply: AnyReply? { content.reply }
    /// The type of what was sent.
    @usableFromInline
    var payloadType: Any.Type { type(of: content.payload) }

    /// What was sent, if it was told or broadcast and is of this type; nil otherwise.
    public func value<Value: Sendable>(as type: Value.Type = Value.self) -> Value? {
        kind == .ask ? nil : Envelope(message: payload).message(as: type)
    }

    /// How it was sent, of which type it is and by whom; never its contents.
    public var description: String { "\(kind) of \(type(of: payload)) from \(sender)" }
}
