// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

/// Messages that are sent when nobody is there to take them back: of timers, of pipes. What is refused is a dead letter.
extension ProcRef {
    /// Sends at once, or not at all.
    func tellUnclaimed(_ message: Message) { proc.unclaimed(message, offer(message)) }

    /// As above; where the mailbox lets senders wait the message waits for room.
    func sendUnclaimed(_ message: Message) {
        guard let queue = proc.managedQueue else { return tellUnclaimed(message) }
        queue.sendUnclaimed(message, to: proc)
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
        proc.lost(message, reason)
    }

    /// As above; where the mailbox lets senders wait the message waits for room.
    func sendUnclaimed(_ message: AnyMessage) {
        guard let queue = proc.managedQueue, let form = queue.form(of: message, for: proc) else {
            return tellUnclaimed(message)
        }
        queue.sendUnclaimed(form, to: proc)
    }
}

extension MessageQueue {
    fileprivate func sendUnclaimed(_ message: any Sendable, to proc: LightProc) {
        let outcome = offerOrWait(message, to: proc) { proc.unclaimed(message, $0) }.outcome
        if let outcome { proc.unclaimed(message, outcome) }
    }
}

extension LightProc {
    fileprivate final func unclaimed(_ message: any Sendable, _ outcome: SendOutcome) {
        switch outcome {
        case .sent: break
        case .full: lost(message, .overflow)
        case .closed: lost(message, .closed)
        }
    }

    fileprivate final func lost(_ message: any Sendable, _ reason: DeadLetter.Reason) {
        let sender = (message as? AnyMessage)?.sender.id
        BastionSystem.of(self)?.deadLetter(DeadLetter(of: message, to: id, name, from: sender, reason))
        // Perhaps on a thread that is none of ours, as the process closes.
        LightProc.runOnce(on: scheduler) { withExtendedLifetime(message) {} }
    }
}
