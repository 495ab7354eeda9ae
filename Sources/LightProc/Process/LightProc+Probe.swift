// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// Whether an async incarnation owes a sign of life, and how much of it blocks its thread with leave: one word,
/// the third of the slot, where a reactive process has its body.
private struct ProbeWord {
    var rawValue: UInt
    /// A sign of life is owed.
    static let owed: UInt = 1
    /// One closure that may block its thread. Counted from here up.
    static let blocking: UInt = 2

    var isOwed: Bool { rawValue & Self.owed != 0 }
    var blockingCount: Int { Int(rawValue >> 1) }
}

/// Signs of life, for who wants to know whether a process still gets on.
///
/// A reactive process gives one between two messages. An async one when one of its jobs returns: which one is no matter, so a
/// process that has several tasks is alive as long as one of them gets on. Who has nothing to do, who is suspended, who waits
/// for a message, and who is inside of `blocking { }`, is alive without being asked. Nothing is queued for an idle process.
extension LightProc {
    /// Asks for a sign of life. True if there is one at once; otherwise ``hasGivenSignOfLife`` says later whether it came.
    ///
    /// Costs some loads for a process that is idle, a lock for an async one, an order for a reactive one that is busy. Any thread.
    package func askForSignOfLife() -> Bool {
        guard state.phase == .active else { return true }
        if isReactive {
            if mailbox.isIdle { return true }
            order(.probe)
        } else {
            _ = slot.word2.bitwiseOr(ProbeWord.owed, ordering: .relaxed)
        }
        return hasGivenSignOfLife
    }

    /// Whether it has given a sign of life since it was asked for one, or does nothing at the moment. Any thread.
    package var hasGivenSignOfLife: Bool {
        guard state.phase == .active else { return true }
        if isReactive { return !orders.current.contains(.probe) }
        // ordering: relaxed: a sign that is given at this moment is seen the next time.
        let word = ProbeWord(rawValue: slot.word2.load(ordering: .relaxed))
        if !word.isOwed { return true }
        // None yet: the incarnation waits for its start, and nothing of it can be stuck.
        guard let executor = withSide({ $0.executor }) else { return true }
        // Those that are queued or running. Without any, all of its tasks are suspended.
        return state.activations - executor.childCount <= word.blockingCount
    }

    /// Whether no message waits, and it waits for one: nothing is in hand, as far as that can be known. Any thread; may be out of
    /// date when it returns.
    ///
    /// An async process that handles messages in several tasks has nothing to do as soon as one of them waits for a message.
    package var hasNothingToDo: Bool {
        guard state.phase == .active else { return false }
        if isReactive { return mailbox.isIdle }
        return existingSide?.content.withLock { content in
            !content.waiters.isEmpty && content.control.isEmpty && mailbox.isEmpty
        } ?? false
    }

    /// A job of the process has returned. By its worker.
    final func giveSignOfLife() {
        if isReactive { return }
        // ordering: relaxed: on the line that the process touches anyway; nothing is published.
        if slot.word2.load(ordering: .relaxed) & ProbeWord.owed != 0 {
            _ = slot.word2.bitwiseAnd(~ProbeWord.owed, ordering: .relaxed)
        }
    }

    /// A task of the process is about to block a thread that is there for that.
    func blockingBegins() { _ = slot.word2.wrappingAdd(ProbeWord.blocking, ordering: .relaxed) }

    func blockingEnds(in incarnation: UInt32) {
        // Begun in an incarnation that is over: the next one started from zero.
        guard state.incarnation == incarnation else { return }
        slot.word2.update { if $0 >= ProbeWord.blocking { $0 -= ProbeWord.blocking } }
    }
}
