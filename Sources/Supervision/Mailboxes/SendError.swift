// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

public import LightProc

/// What became of a message that was sent.
enum SendOutcome: Sendable {
    /// It is in the mailbox, or was dropped there as the policy says.
    case sent
    case full
    case closed
}

/// Why a message was not taken. The message comes back with it.
public enum SendError<Message: Sendable>: Error, Sendable, CustomStringConvertible {
    /// The mailbox has no room, and its policy does not make any.
    case full(Message, ProcID)
    /// The process has ended for good.
    case closed(Message, ProcID)
    /// The sending task was cancelled while it waited for room.
    case cancelled(Message, ProcID)
    /// The process takes messages of another type.
    case wrongType(Message, ProcID)

    /// The message that was not taken.
    public var message: Message {
        switch self {
        case .full(let message, _), .closed(let message, _), .cancelled(let message, _), .wrongType(let message, _):
            message
        }
    }

    /// One line: which process, and why; never the message.
    public var description: String {
        switch self {
        case .full(_, let id): "\(id) takes no more messages for now: its mailbox is full"
        case .closed(_, let id): "\(id) has ended for good"
        case .cancelled(_, let id): "the sending task was cancelled while it waited for room in the mailbox of \(id)"
        case .wrongType(_, let id): "\(id) takes no messages of type \(Message.self)"
        }
    }
}

extension ProcRef {
    /// Sends a message, or says why it was not taken and gives it back. Any thread; never blocks.
    ///
    /// A message that the mailbox drops by its policy (`dropNewest`) counts as taken.
    /// - Throws: `full` or `closed`.
    public func trySend(_ message: Message) throws(SendError<Message>) {
        switch offer(message) {
        case .sent: break
        case .full: throw .full(message, id)
        case .closed: throw .closed(message, id)
        }
    }

    /// Sends a message; waits for room if the mailbox is full and its policy is to suspend senders.
    ///
    /// Senders get room in the order in which they came. Messages of one sender keep their order if it sends one after the other.
    /// - Throws: `closed`, also while it waits; `full` if the policy is to fail; `cancelled`. The message was not taken then.
    public func send(_ message: Message) async throws(SendError<Message>) { try await send(message, holding: nil) }

    /// As above; what comes with the message is let go of when that is taken out of a managed mailbox, or dropped there.
    func send(_ message: Message, holding ticket: MessageReceipt?) async throws(SendError<Message>) {
        guard let queue = proc.managedQueue else { return try trySend(message) }
        switch await proc.wait(message, holding: ticket, in: queue) {
        case .sent: break
        case .full: throw Task.isCancelled ? .cancelled(message, id) : .full(message, id)
        case .closed: throw .closed(message, id)
        }
    }

    /// What has become of the messages of the process's mailbox, and how long they wait; nil for one without a policy.
    public var mailboxCounters: MailboxCounters? { proc.managedQueue?.counters }

    /// Lets messages that were set aside as poisonous be handled after all, before those that wait; returns how many.
    @discardableResult
    public func releaseParked() -> Int { proc.managedQueue?.releaseParked(of: proc) ?? 0 }

    func offer(_ message: Message) -> SendOutcome {
        if let queue = proc.managedQueue { return queue.offer(message, to: proc) }
        if proc.isReactive {
            let node = MessageNode.make(message)
            if proc.push(node) { return .sent }
            node.refuse(as: Message.self)
        } else {
            let node = MessageNode.make(Envelope(message: message))
            if proc.push(node) { return .sent }
            node.refuse(as: Envelope.self)
        }
        return .closed
    }
}

/// Where a sender waits for room: settled once.
private final class WaitingPlace: Sendable {
    private enum State {
        case open
        case waiting(UnsafeContinuation<SendOutcome, Never>)
        case settled(SendOutcome)
    }
    private let state = Locked(State.open)

    func wait(_ continuation: UnsafeContinuation<SendOutcome, Never>) {
        let outcome = state.withLock { state -> SendOutcome? in
            if case .settled(let outcome) = state { return outcome }
            state = .waiting(continuation)
            return nil
        }
        if let outcome { continuation.resume(returning: outcome) }
    }

    func settle(_ outcome: SendOutcome) {
        let waiting = state.withLock { state -> UnsafeContinuation<SendOutcome, Never>? in
            defer { state = .settled(outcome) }
            if case .waiting(let continuation) = state { return continuation }
            return nil
        }
        waiting?.resume(returning: outcome)
    }
}

extension LightProc {
    /// The queue that the process's messages go through; nil if its mailbox takes them as they are.
    var managedQueue: MessageQueue? { tag.isManaged ? Companion.existing(of: self)?.queue : nil }

    /// Hands a message to the process's queue, and waits for room if the policy says so.
    fileprivate func wait(
        _ message: any Sendable,
        holding ticket: MessageReceipt?,
        in queue: MessageQueue
    ) async -> SendOutcome {
        let place = WaitingPlace()
        let (outcome, number) = queue.offerOrWait(message, holding: ticket, to: self) { place.settle($0) }
        if let outcome { return outcome }
        return await withTaskCancellationHandler {
            await suspended { place.wait($0) }
        } onCancel: {
            if queue.withdraw(number, of: self) { place.settle(.full) }
        }
    }
}
