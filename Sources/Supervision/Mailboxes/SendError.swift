// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

public import LightProc

/// What became of a message that was sent.
enum SendOutcome<Message: Sendable>: Sendable {
    /// It is in the mailbox, or was dropped there as the policy says.
    case sent
    case full(Message)
    case closed(Message)
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
        case .full(let message): throw .full(message, id)
        case .closed(let message): throw .closed(message, id)
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
        switch await wait(message, holding: ticket, in: queue) {
        case .sent: break
        case .full(let message): throw Task.isCancelled ? .cancelled(message, id) : .full(message, id)
        case .closed(let message): throw .closed(message, id)
        }
    }

    /// What has become of the messages of the process's mailbox, and how long they wait; nil for one without a policy.
    public var mailboxCounters: MailboxCounters? { proc.managedQueue?.counters }

    /// Lets messages that were set aside as poisonous be handled after all, before those that wait; returns how many.
    @discardableResult
    public func releaseParked() -> Int { proc.managedQueue?.releaseParked(of: proc) ?? 0 }

    func offer(_ message: Message) -> SendOutcome<Message> {
        if let queue = proc.managedQueue { return offer(message, receipt: nil, lane: .user, to: queue) }
        if proc.isReactive {
            let node = MessageNode.make(message)
            return proc.push(node) ? .sent : .closed(node.open(as: Message.self).message)
        }
        let node = MessageNode.make(Envelope(message: message))
        return proc.push(node) ? .sent : .closed(own(node.open(as: Envelope.self).message.message))
    }

    // MARK: Managed processes

    /// Hands a message to the queue of a managed process.
    func offer(
        _ message: Message,
        receipt: AnyAsk?,
        lane: MessageLane,
        to queue: any ManagedQueue
    ) -> SendOutcome<Message> {
        switch queue {
        case let queue as MessageQueue<Message>:
            return queue.offer(message, receipt: receipt, lane: lane, to: proc)
        case let queue as MessageQueue<any Sendable>:
            return own(queue.offer(message, receipt: receipt, lane: lane, to: proc))
        default: preconditionFailure("impossible: references are made for the type of the messages")
        }
    }

    /// Hands a message over, waiting for room if the policy says so; then `done` is called once, on any thread.
    func offerOrWait(
        _ message: Message,
        receipt: AnyAsk?,
        holding ticket: MessageReceipt? = nil,
        to queue: any ManagedQueue,
        _ done: @escaping @Sendable (SendOutcome<Message>) -> Void
    ) -> (outcome: SendOutcome<Message>?, number: Int) {
        switch queue {
        case let queue as MessageQueue<Message>:
            return queue.offerOrWait(message, receipt: receipt, holding: ticket, to: proc, done)
        case let queue as MessageQueue<any Sendable>:
            let (outcome, number) = queue.offerOrWait(message, receipt: receipt, holding: ticket, to: proc) {
                done(own($0))
            }
            return (outcome.map(own), number)
        default: preconditionFailure("impossible: references are made for the type of the messages")
        }
    }

    func withdraw(_ number: Int, from queue: any ManagedQueue) -> Message? {
        switch queue {
        case let queue as MessageQueue<Message>: queue.withdraw(number)
        case let queue as MessageQueue<any Sendable>: queue.withdraw(number).map(own)
        default: preconditionFailure("impossible: references are made for the type of the messages")
        }
    }

    private func wait(
        _ message: Message,
        holding ticket: MessageReceipt?,
        in queue: any ManagedQueue
    ) async -> SendOutcome<Message> {
        let place = WaitingPlace<Message>()
        let (outcome, number) = offerOrWait(message, receipt: nil, holding: ticket, to: queue) { place.settle($0) }
        if let outcome { return outcome }
        return await withTaskCancellationHandler {
            await withUnsafeContinuation { place.wait($0) }
        } onCancel: {
            if let message = withdraw(number, from: queue) { place.settle(.full(message)) }
        }
    }

    private func own(_ outcome: SendOutcome<any Sendable>) -> SendOutcome<Message> {
        switch outcome {
        case .sent: .sent
        case .full(let message): .full(own(message))
        case .closed(let message): .closed(own(message))
        }
    }

    private func own(_ message: any Sendable) -> Message {
        guard let message = Envelope(message: message).message(as: Message.self) else {
            preconditionFailure("impossible: it was sent as this type")
        }
        return message
    }
}

/// Where a sender waits for room: settled once.
private final class WaitingPlace<Message: Sendable>: Sendable {
    private enum State {
        case open
        case waiting(UnsafeContinuation<SendOutcome<Message>, Never>)
        case settled(SendOutcome<Message>)
    }
    private let state = Locked(State.open)

    func wait(_ continuation: UnsafeContinuation<SendOutcome<Message>, Never>) {
        let outcome = state.withLock { state -> SendOutcome<Message>? in
            if case .settled(let outcome) = state { return outcome }
            state = .waiting(continuation)
            return nil
        }
        if let outcome { continuation.resume(returning: outcome) }
    }

    func settle(_ outcome: SendOutcome<Message>) {
        let waiting = state.withLock { state -> UnsafeContinuation<SendOutcome<Message>, Never>? in
            defer { state = .settled(outcome) }
            if case .waiting(let continuation) = state { return continuation }
            return nil
        }
        waiting?.resume(returning: outcome)
    }
}

extension LightProc {
    /// The queue that the process's messages go through; nil if its mailbox takes them as they are.
    var managedQueue: (any ManagedQueue)? { tag.isManaged ? Companion.existing(of: self)?.queue : nil }
}
