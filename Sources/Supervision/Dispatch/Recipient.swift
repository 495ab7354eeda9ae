// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

public import LightProc

/// A process that others are told of: a member of a distributor, a dispatcher or a process group.
public struct Recipient: Sendable, Hashable, CustomStringConvertible {
    let proc: LightProc
    /// The type of its messages; nil for an async process, which takes any.
    let messageType: Any.Type?

    init(_ proc: LightProc, messageType: Any.Type?) {
        self.proc = proc
        self.messageType = messageType
    }

    init(_ proc: LightProc) { self.init(proc, messageType: proc.isReactive ? proc.messageType : nil) }

    /// The identity of the process; it stays the same over restarts.
    public var id: ProcID { proc.id }
    /// What supervisors and logs call the process; nil if nobody named it.
    public var name: String? { proc.name }
    /// How much the process has to do; may be out of date when it returns.
    public var load: ProcLoad { proc.load }
    /// The name of the process, if it has one, and its id.
    public var description: String { proc.description }

    /// Whether it takes messages of a type: a reactive process takes one type, an async one takes any.
    public func takes<Message: Sendable>(_ type: Message.Type) -> Bool { messageType.map { $0 == type } ?? true }

    /// The process as a taker of messages of a type; nil when it takes another one.
    public func ref<Message: Sendable>(as type: Message.Type = Message.self) -> ProcRef<Message>? {
        takes(type) ? ProcRef(proc) : nil
    }

    /// Sends a message. False when the process takes another type, or has ended for good; the message is then gone.
    @discardableResult
    public func tell<Message: Sendable>(_ message: Message) -> Bool { ref(as: Message.self)?.tell(message) ?? false }

    /// Whether both are the same process.
    public static func == (lhs: Recipient, rhs: Recipient) -> Bool { lhs.proc === rhs.proc }
    /// By the identity of the process.
    public func hash(into hasher: inout Hasher) { hasher.combine(proc.id) }
}

/// The members of a distributor, a dispatcher or a group at one moment, in the order in which they joined. Copying is O(1).
public struct Recipients: Sendable, RandomAccessCollection {
    let list: [Recipient]

    init(_ list: [Recipient]) { self.list = list }

    /// Always 0.
    public var startIndex: Int { 0 }
    /// How many there are.
    public var endIndex: Int { list.count }
    /// The member at a place.
    public subscript(position: Int) -> Recipient { list[position] }
}
