// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CLightProc

/// What the layer above keeps with a process over all of its incarnations, and what it hears of them.
///
/// It lives as long as the process, and must not hold on to it. None of its functions may block, trap, or run code of the
/// user's: what they let go of that is the user's is destroyed elsewhere.
package protocol ProcCompanion: AnyObject, Sendable {
    /// An incarnation begins; nothing of it has run. By the consumer.
    func starting(_ proc: LightProc, incarnation: UInt32)

    /// How an incarnation ends was decided, once. On whichever thread decided.
    func endDecided(of proc: LightProc, incarnation: UInt32, reason: ExitReason)

    /// An incarnation is over and its hooks have run; whether there will be another one is decided next. On a worker.
    func incarnationEnded(of proc: LightProc, incarnation: UInt32, reason: ExitReason)

    /// The process takes no message any more, for ever. Once, on any thread; nil when its last reference is gone.
    func closed(_ proc: LightProc?, _ id: ProcID, reason: ExitReason)
}

extension LightProc {
    /// What the layer above keeps with the process; nil if it has not needed to. Any thread.
    package final var companion: (any ProcCompanion)? { existingSide?.content.withLock { $0.companion } }

    /// The companion, made when first asked for. Any thread; `make` may be called in vain when two come at once.
    package final func companion(orMake make: () -> any ProcCompanion) -> any ProcCompanion {
        if let companion { return companion }
        let fresh = make()
        return side.content.withLock { content in
            if let companion = content.companion { return companion }
            content.companion = fresh
            return fresh
        }
    }

    /// Declares that messages go through a queue of the layer above, and of which type they are. Before anybody else knows
    /// the process.
    package final func manageMessages<Message: Sendable>(of type: Message.Type, by companion: any ProcCompanion) {
        side.content.withLock { content in
            content.companion = companion
            content.opener = Opener<Message>.self
        }
        tagWord.update { $0 |= ProcTag.managedBit }
    }

    /// How many messages the tasks of a managed async process have taken out of its mailbox, over all incarnations. Some of them
    /// never got to see theirs: the incarnation was sealed before.
    package final var nodesTaken: Int { withSide { $0.nodesTaken } }

    // MARK: The ask in hand

    /// When the answer to the ask in hand is too late, on the scheduler's clock; nil if the message in hand is no ask, or
    /// that has no deadline. By the process.
    package final var deadlineInHand: Duration? {
        existingSide?.content.withLock { $0.receiptInHand?.deadline }
    }

    /// The receipt of the ask in hand; nil if the message in hand is none, or it was answered. By the process.
    package final var receiptInHand: MessageReceipt? {
        existingSide?.content.withLock { $0.receiptInHand }
    }

    /// Takes the ask in hand from the process, whose end is of no interest to the asker any more; nil if there is none.
    ///
    /// By the process, to set the message aside or hand it on: the receipt goes with it.
    package final func releaseAskInHand() -> MessageReceipt? {
        existingSide?.content.withLock { content in
            guard let receipt = content.receiptInHand else { return nil }
            content.inHand = nil
            return content.receipts.removeValue(forKey: ObjectIdentifier(receipt))?.receipt
        }
    }

    /// Makes the process answer for an ask whose message it does not have in hand: its next end ends the ask. Any thread.
    ///
    /// - Returns: False when the process is closed.
    package final func adopt(_ receipt: MessageReceipt) -> Bool {
        side.content.withLock { content in
            // Closing tells the receipts under this lock, after it has changed the phase.
            if state.phase == .closed { return false }
            let inHand = content.inHand
            content.register(receipt)
            content.inHand = inHand
            return true
        }
    }

    /// The message in hand, an ask, was handled. By the process.
    @usableFromInline
    package final func askWasHandled() {
        existingSide?.content.withLock { $0.inHand = nil }
    }

    // MARK: Waiting

    /// Whether the calling task is the first one of this async process, or one that the first one waits for in `withTimeout`.
    package final var isFirstTaskCalling: Bool {
        guard let task = crt_currentTask() else { return false }
        return isMainTask(task) || DeadlineScope.holdsUpMainTask(of: id)
    }

    /// Whether a child task of this async process has ever waited for a message: then it may receive although its first task is
    /// held up. Any thread.
    package final var receivesInChildTasks: Bool { existingSide?.content.withLock { $0.nextWaiter != 0 } ?? false }
}
