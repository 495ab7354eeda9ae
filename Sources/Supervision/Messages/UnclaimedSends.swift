// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

/// Messages that are sent when nobody is there to take them back: of timers, of pipes. What is refused is a dead letter.
extension ProcRef {
    /// Sends at once, or not at all.
    func tellUnclaimed(_ message: Message) { proc.unclaimed(offer(message)) }

    /// As above; where the mailbox lets senders wait the message waits for room.
    func sendUnclaimed(_ message: Message) {
        guard let queue = proc.managedQueue else { return tellUnclaimed(message) }
        let (outcome, _) = offerOrWait(message, receipt: nil, to: queue) { [proc] in proc.unclaimed($0) }
        if let outcome { proc.unclaimed(outcome) }
    }
}

extension AnyRef {
    /// Sends at once, or not at all.
    func tellUnclaimed(_ message: AnyMessage) {
        let reason: DeadLetter.Reason
        switch put(message, lane: .user) {
        case .sent: return
        case .full: reason = .overflow
        case .closed: reason = .closed
        case .wrongType: reason = .wrongType
        }
        proc.unclaimed(message, reason)
    }

    /// As above; where the mailbox lets senders wait the message waits for room.
    func sendUnclaimed(_ message: AnyMessage) {
        switch proc.managedQueue {
        case let queue as MessageQueue<any Sendable>:
            queue.sendUnclaimed(proc.isReactive ? message.payload : message, to: proc)
        case let queue as MessageQueue<AnyMessage>: queue.sendUnclaimed(message, to: proc)
        default: tellUnclaimed(message)
        }
    }
}

extension MessageQueue {
    fileprivate func sendUnclaimed(_ message: Message, to proc: LightProc) {
        if let outcome = offerOrWait(message, to: proc, { proc.unclaimed($0) }).outcome { proc.unclaimed(outcome) }
    }
}

extension LightProc {
    fileprivate final func unclaimed<Message>(_ outcome: SendOutcome<Message>) {
        switch outcome {
        case .sent: break
        case .full(let message): unclaimed(message, .overflow)
        case .closed(let message): unclaimed(message, .closed)
        }
    }

    fileprivate final func unclaimed<Message: Sendable>(_ message: Message, _ reason: DeadLetter.Reason) {
        let sender = (message as? AnyMessage)?.sender.id
        BastionSystem.of(self)?.deadLetter(DeadLetter(Message.self, message, to: id, name, from: sender, reason))
        // Perhaps on a thread that is none of ours, as the process closes.
        if !_isPOD(Message.self) { LightProc.runOnce(on: scheduler) { withExtendedLifetime(message) {} } }
    }
}
