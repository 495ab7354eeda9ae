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
        let message = make(Reply(ask))
        switch queue {
        case let queue as MessageQueue<Message>: queue.offerOrWait(message, of: ask)
        case let queue as MessageQueue<any Sendable>: queue.offerOrWait(message, of: ask)
        default: preconditionFailure("impossible: references are made for the type of the messages")
        }
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
        let queue = lane == .user ? proc.managedQueue : nil
        switch queue {
        case let queue as MessageQueue<any Sendable> where !proc.isReactive: queue.offerOrWait(question, of: ask)
        case let queue as MessageQueue<AnyMessage>: queue.offerOrWait(question, of: ask)
        default: ask.send(question, to: self, lane)
        }
        return PendingReply(ask: ask)
    }
}

extension MessageQueue {
    fileprivate func offerOrWait(_ message: Message, of ask: AnyAsk) {
        let proc = ask.proc
        let (outcome, number) = offerOrWait(message, receipt: ask, to: proc) { outcome in
            if case .closed = outcome { ask.refused(ask.proc.lastExit) }
        }
        switch outcome {
        case .sent: break
        case .full: ask.fail(.full)
        case .closed: ask.refused(proc.lastExit)
        case nil:
            let scheduler = proc.scheduler
            ask.whenOver { [weak self] in
                guard let message = self?.withdraw(number), !_isPOD(Message.self) else { return }
                // Perhaps where timers fire: not where code of the user's runs.
                LightProc.runOnce(on: scheduler) { withExtendedLifetime(message) {} }
            }
        }
    }
}
