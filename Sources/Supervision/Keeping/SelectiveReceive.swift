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
        // Ends: each round looks at what is new, or waits for that.
        search: while !Task.isCancelled, !proc.isStopRequested {
            if !LightProc.mayGoOn { await Task.yield() }
            guard let candidates = proc.candidates(&selection, as: Envelope.self) else { break }
            for candidate in candidates {
                guard let message = fitting(candidate.message, type, fits) else { continue }
                guard let node = proc.take(candidate, selection) else { continue search }
                proc.received(node.open(as: Envelope.self).message.typeWord)
                return message
            }
            // Of a managed process what was looked at until here are tokens, and what a timer sent.
            for (number, message) in queue?.waiting(after: &seen) ?? [] {
                guard let message = fitting(Envelope(message: message), type, fits) else { continue }
                guard let entry = queue?.take(number, by: proc) else { continue }
                if let receipt = entry.receipt { proc.accept(receipt) }
                proc.received(Envelope(message: entry.message).typeWord)
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
        guard let message = envelope.message(as: type) ?? standIn(for: envelope.message, as: type) else { return nil }
        return fits(message) ? message : nil
    }
}

extension MessageQueue {
    /// What waits and has come since; in the order in which it would be taken. By the process.
    func waiting(after seen: inout Int) -> [(number: Int, message: any Sendable)] {
        let all = content.withLock { $0.state.waiting(after: seen) }
        seen = max(seen, all.map(\.number).max() ?? 0)
        return all
    }

    /// Takes a message that was looked at; nil if it is gone. By the process.
    func take(_ number: Int, by proc: LightProc) -> Entry? {
        let (take, admitted) = content.withLock { content in
            let take = content.state.take(number)
            if let entry = take.entry {
                content.counters.taken += 1
                content.lastTaken = entry.sent
            }
            return (take, take.admitted.compactMap { content.waiters.removeValue(forKey: $0) })
        }
        for done in admitted { done(.sent) }
        if take.entry != nil {
            // Its token is superfluous, unless it is still on its way: then it finds nothing when it comes.
            let isGone = proc.discardFirst(as: Envelope.self) { $0.message is QueueToken }
            let tokens = content.withLock { content -> Int in
                if isGone { content.state.tokenIsGone() }
                return content.state.tokensToRing()
            }
            ring(tokens, .user, proc)
        }
        return take.entry.flatMap { examine($0, proc) }
    }
}

extension QueueState {
    func waiting(after seen: Int) -> [(number: Int, message: any Sendable)] {
        ([control] + levels).flatMap { ring in
            ring.elements.filter { $0.number > seen && $0.receipt?.isSettled != true }.map { ($0.number, $0.message) }
        }
    }
}
