// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

extension Context {
    /// Waits for a message that fits, and leaves the others where they are, in their order.
    ///
    /// What waits is looked at first, in the order in which it would be received; then what comes. Messages that do not fit, or are of
    /// another type, stay in the mailbox and are received by whoever asks for them; none is lost, whatever ends the wait. In a
    /// mailbox with a policy messages that are passed over keep their place and count, and those that fit are taken whatever their age.
    ///
    /// Costs a call of `fits` and a copy for every message that is passed over: all that waits, each time that it is called, and
    /// once more when another task of the process receives meanwhile. Keep mailboxes short where it is used.
    /// - Parameter fits: Called by this task; must not block. Called again for the same message in the next selective receive.
    /// - Throws: `CancellationError` when the process is asked to stop.
    public nonisolated(nonsending) func receive<Message: Sendable>(
        _ type: Message.Type = Message.self,
        matching fits: (Message) -> Bool
    ) async throws -> Message {
        let message = try await select(type, fits)
        if let hooks = system.hooks { try await spoil(hooks, message) }
        return message
    }

    /// As ``receive(_:matching:)``, for some time at most. No message is lost when the time is up.
    ///
    /// - Throws: ``DeadlineExceeded`` when none came in time; `CancellationError` when the process is asked to stop.
    public func receive<Message: Sendable>(
        _ type: Message.Type = Message.self,
        matching fits: @escaping @Sendable (Message) -> Bool,
        within time: Duration
    ) async throws -> Message {
        try await proc.withTimeout(time, keepingLateResult: true) { try await receive(type, matching: fits) }
    }

    private nonisolated(nonsending) func select<Message: Sendable>(
        _ type: Message.Type,
        _ fits: (Message) -> Bool
    ) async throws -> Message {
        let queue = proc.managedQueue
        var selection = LightProc.Selection()
        var seen = 0
        queue?.isSought(true)
        defer { queue?.isSought(false) }
        // Ends: each round looks at what is new, or waits for that.
        search: while !Task.isCancelled, !proc.isStopRequested {
            if !LightProc.mayGoOn { await Task.yield() }
            queue?.removeSurplus(of: proc)
            guard let candidates = proc.candidates(&selection, as: Envelope.self) else { break }
            for candidate in candidates {
                guard let message = fitting(candidate.message, type, fits) else { continue }
                guard let node = proc.take(candidate, selection) else { continue search }
                var envelope = node.open(as: Envelope.self).message
                if let notice = envelope.message as? Notice {
                    // Withdrawn by `fits`, or by another task.
                    guard let taken = notice.message(for: proc) else { continue search }
                    envelope = Envelope(message: taken)
                }
                proc.received(envelope.typeWord)
                return message
            }
            // Of a managed process what was looked at until here are tokens, and what a timer sent.
            for waiting in queue?.waiting(after: &seen) ?? [] {
                guard let message = fitting(Envelope(message: waiting.content), type, fits),
                    let taken = queue?.take(waiting, by: proc)
                else { continue }
                LightProc.spendReduction()
                // The ask before it is in hand no longer.
                if let receipt = taken.receipt { proc.accept(receipt) } else { proc.askWasHandled() }
                proc.received(Envelope(message: taken.content).typeWord)
                return message
            }
            if candidates.isEmpty { await proc.waitForMore(selection) }
        }
        throw CancellationError()
    }

    private func fitting<Message: Sendable>(
        _ envelope: Envelope,
        _ type: Message.Type,
        _ fits: (Message) -> Bool
    ) -> Message? {
        if envelope.message is QueueToken { return nil }
        var content = envelope.message
        if let notice = content as? Notice {
            guard let preview = notice.preview(for: proc) else { return nil }
            content = preview
        }
        guard let message = Envelope(message: content).message(as: type) ?? standIn(for: content, as: type) else {
            return nil
        }
        return fits(message) ? message : nil
    }
}

/// Something that a selective receive looks at in the queue of a managed process.
struct WaitingContent: Sendable {
    let number: Int
    /// A message or a ``Notice``.
    let content: any Sendable
    var receipt: Ask?
}

extension MessageQueue {
    /// A selective receive has begun, or ended. One that never ends, as its task is sealed, does no harm.
    func isSought(_ begins: Bool) { content.withLock { $0.state.seekers += begins ? 1 : -1 } }

    /// What waits and has come since; in the order in which it would be taken. By the process.
    func waiting(after seen: inout Int) -> [WaitingContent] {
        let all = content.withLock { content in
            content.state.isLookedAt()
            return content.state.waiting(after: seen)
        }
        seen = max(seen, all.map(\.number).max() ?? 0)
        return all
    }

    /// Takes what was looked at; nil if it is gone. By the process.
    func take(_ waiting: WaitingContent, by proc: LightProc) -> WaitingContent? {
        if waiting.content is Notice {
            let notice = content.withLock { content in
                content.poison.took(nil)
                return content.state.takeNotice(waiting.number)
            }
            guard let notice else { return nil }
            removeSurplus(of: proc)
            return notice.message(for: proc).map { WaitingContent(number: waiting.number, content: $0) }
        }
        let (take, admitted) = content.withLock { content in
            let take = content.state.take(waiting.number)
            if let entry = take.entry {
                content.counters.taken += 1
                content.lastTaken = entry.sent
            }
            return (take, take.admitted.compactMap { content.waiters.removeValue(forKey: $0) })
        }
        for done in admitted { done(.sent) }
        guard let entry = take.entry else { return nil }
        // Its token is superfluous, unless it is still on its way: then it finds nothing when it comes.
        removeSurplus(of: proc)
        return examine(entry, proc).map {
            WaitingContent(number: $0.number, content: $0.message, receipt: $0.receipt)
        }
    }

    /// Removes the tokens from the mailbox that stand for nothing. By the process.
    func removeSurplus(of proc: LightProc) {
        var isAny = content.withLock { $0.state.surplus > 0 }
        // Ends: each round removes a token.
        while isAny, proc.discardFirst(as: Envelope.self, where: { $0.message is QueueToken }) {
            isAny = content.withLock { content in
                content.state.tokenIsGone()
                return content.state.surplus > 0
            }
        }
        // What has come meanwhile may have relied on one.
        ring(content.withLock { $0.state.tokensMissing() }, .user, proc)
    }
}

extension QueueState {
    func waiting(after seen: Int) -> [WaitingContent] {
        var all: [WaitingContent] = []
        func add(_ entry: Entry) {
            guard entry.number > seen, entry.receipt?.isSettled != true else { return }
            all.append(WaitingContent(number: entry.number, content: entry.message))
        }
        for entry in control.elements { add(entry) }
        var notices = notices.elements[...]
        func add(noticesUpTo mark: Int) {
            while let first = notices.first, first.mark <= mark {
                notices.removeFirst()
                if first.number > seen { all.append(WaitingContent(number: first.number, content: first.notice)) }
            }
        }
        var mark = removed
        for entry in levels.flatMap(\.elements) {
            add(noticesUpTo: mark)
            add(entry)
            mark += 1
        }
        add(noticesUpTo: .max)
        return all
    }
}
