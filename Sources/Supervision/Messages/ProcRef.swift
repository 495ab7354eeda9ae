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
    init(_ proc: LightProc) { self.proc = proc }

    /// The identity of the process; it stays the same over restarts.
    public var id: ProcID { proc.id }

    /// Sends a message.
    ///
    /// Costs no allocation on a worker for messages of up to 48 bytes to a reactive process. Any thread; never blocks.
    /// - Returns: False when the process has ended for good; the message is then gone.
    @inlinable @discardableResult
    public func tell(_ message: consuming Message) -> Bool {
        deliver(message, receipt: nil)
    }

    /// Asks: sends a message that carries a reply, and waits for the answer.
    ///
    /// - Parameters:
    ///   - time: How long to wait.
    ///   - make: Makes the message around the reply, as in `{ .total($0) }`.
    /// - Throws: ``AskError``: at once when the process ends, or had ended, with the reason.
    public func ask<Value: Sendable>(
        within time: Duration = .seconds(5),
        _ make: (Reply<Value>) -> Message
    ) async throws(AskError) -> Value {
        try await request(within: time, make).value()
    }

    /// Asks without waiting.
    public func request<Value: Sendable>(
        within time: Duration = .seconds(5),
        _ make: (Reply<Value>) -> Message
    ) -> PendingReply<Value> {
        let ask = Ask<Value>(proc)
        ask.startTimer(time)
        _ = deliver(make(Reply(ask)), receipt: ask)
        return PendingReply(ask: ask)
    }

    @inlinable @inline(__always)
    func deliver(_ message: consuming Message, receipt: MessageReceipt?) -> Bool {
        guard proc.isReactive else { return deliverEnveloped(message, receipt: receipt) }
        let node = MessageNode.make(message, receipt: receipt)
        if proc.push(node) { return true }
        receipt?.refused(proc.lastExit)
        node.refuse(as: Message.self)
        return false
    }

    @usableFromInline
    func deliverEnveloped(_ message: consuming Message, receipt: MessageReceipt?) -> Bool {
        let node = MessageNode.make(Envelope(message: message), receipt: receipt)
        if proc.push(node) { return true }
        receipt?.refused(proc.lastExit)
        node.refuse(as: Envelope.self)
        return false
    }
}

extension ProcRef: CustomStringConvertible {
    /// The name of the process, if it has one, and its id, as in `worker-0<0.17>`.
    public var description: String { proc.description }
}
