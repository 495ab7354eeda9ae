// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

/// Who decides which members of a dispatcher get what is broadcast.
///
/// It is shared by all that send, perhaps at the same time. Where it is called a trap in it is not the runtime's:
/// `broadcastMessage` on the thread and in the name of who sends; `notify` likewise when a process notifies, and in a process
/// of the dispatcher's own, one after the other, when members come and go. Never under a lock.
public protocol DispatcherHandler: AnyObject, Sendable {
    /// A process told the dispatcher of something, or came, or went; by default nothing happens.
    ///
    /// - Parameters:
    ///   - from: Who it is about; nil if it belongs to no process.
    ///   - entries: The members, with the change.
    func notify(from: Recipient?, entries: Recipients, notification: NotificationType)

    /// A message is to be handed to members, with ``Recipient/tell(_:)``. There is at least one.
    ///
    /// - Returns: How many took it.
    func broadcastMessage<Message: Sendable>(entries: Recipients, message: Message) -> Int
}

extension DispatcherHandler {
    /// Nothing happens.
    public func notify(from: Recipient?, entries: Recipients, notification: NotificationType) {}
}

/// The default: each message to one member, one after the other. One that cannot take it is passed over.
public final class RoundRobinHandler: DispatcherHandler {
    private let turn = AtomicWord(0)

    /// Creates a handler that begins with the first member.
    public init() {}

    /// Hands the message to the member whose turn it is.
    public func broadcastMessage<Message: Sendable>(entries: Recipients, message: Message) -> Int {
        // Each at most once.
        for _ in entries {
            // ordering: relaxed: only the counting must be atomic.
            let place = Int(turn.wrappingAdd(1, ordering: .relaxed).oldValue % UInt(entries.count))
            if entries[place].tell(message) { return 1 }
        }
        return 0
    }
}

/// Hands each message to every member.
public final class BroadcastHandler: DispatcherHandler {
    /// Creates a handler; it has no state.
    public init() {}

    /// Hands the message to all.
    public func broadcastMessage<Message: Sendable>(entries: Recipients, message: Message) -> Int {
        entries.count { $0.tell(message) }
    }
}
