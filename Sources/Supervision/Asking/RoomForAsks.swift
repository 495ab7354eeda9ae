// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

public import LightProc

/// Asks of who waits for the answer: where the mailbox is full and lets senders wait, the question waits for room as they do.
///
/// Its place is given up when the ask ends, by its time or otherwise.
extension ProcRef {
    @inlinable
    func asking<Value: Sendable>(
        within time: Duration,
        lane: MessageLane = .user,
        _ make: (Reply<Value>) -> Message
    ) -> PendingReply<Value> {
        guard lane == .user, proc.tag.isManaged else { return request(within: time, lane: lane, make) }
        let ask = Ask(proc, for: Value.self, within: time)
        ask.waitForRoom(make(Reply(ask)))
        return PendingReply(ask: ask)
    }
}

extension AnyRef {
    func asking<Value: Sendable>(
        _ message: any Sendable,
        from sender: RefAddr,
        within time: Duration,
        lane: MessageLane = .user
    ) -> PendingReply<Value> {
        let ask = Ask(proc, for: Value.self, within: time)
        let question = AnyMessage(.init(.ask, message, from: sender, reply: AnyReply(ask)))
        if lane == .user, let queue = proc.managedQueue, let form = queue.form(of: question, for: proc) {
            queue.offerOrWait(form, of: ask)
        } else {
            ask.send(question, to: self, lane)
        }
        return PendingReply(ask: ask)
    }
}

extension Ask {
    /// Sends the message of this ask to a managed process.
    @usableFromInline
    func waitForRoom(_ message: any Sendable) {
        guard let queue = proc.managedQueue else {
            preconditionFailure("impossible: a managed process has a queue")
        }
        queue.offerOrWait(message, of: self)
    }
}

extension MessageQueue {
    fileprivate func offerOrWait(_ message: any Sendable, of ask: Ask) {
        let proc = ask.proc
        let (outcome, number) = offerOrWait(message, receipt: ask, to: proc) { _ in }
        guard outcome == nil else { return }
        ask.whenSettled { [weak self, weak proc] _ in
            if let self, let proc { _ = withdraw(number, of: proc) }
        }
    }
}
