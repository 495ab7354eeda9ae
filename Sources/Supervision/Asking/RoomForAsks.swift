// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

/// Asks of who waits for the answer: where the mailbox is full and lets senders wait, the question waits for room as they do.
///
/// Its place is given up when the ask ends, by its time or otherwise.
extension ProcRef {
    func asking<Value: Sendable>(
        within time: Duration,
        lane: MessageLane = .user,
        _ make: (Reply<Value>) -> Message
    ) -> PendingReply<Value> {
        guard lane == .user, let queue = proc.managedQueue else {
            return request(within: time, lane: lane, make)
        }
        let ask = Ask<Value>(proc, within: time)
        queue.offerOrWait(make(Reply(ask)), of: ask)
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
        let ask = Ask<Value>(proc, within: time)
        let question = AnyMessage(.init(.ask, message, from: sender, reply: AnyReply(ask)))
        if lane == .user, let queue = proc.managedQueue, let form = queue.form(of: question, for: proc) {
            queue.offerOrWait(form, of: ask)
        } else {
            ask.send(question, to: self, lane)
        }
        return PendingReply(ask: ask)
    }
}

extension MessageQueue {
    fileprivate func offerOrWait(_ message: any Sendable, of ask: AnyAsk) {
        let proc = ask.proc
        let (outcome, number) = offerOrWait(message, receipt: ask, to: proc) { _ in }
        guard outcome == nil else { return }
        ask.whenOver { [weak self, weak proc] in
            if let self, let proc { _ = withdraw(number, of: proc) }
        }
    }
}
