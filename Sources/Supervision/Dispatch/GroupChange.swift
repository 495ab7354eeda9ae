// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// What happened in a process group.
public enum GroupChange: Sendable, Hashable {
    /// A process is a member from now on.
    case joined(Recipient)
    /// A process is a member no more: it left, or has ended for good.
    case left(Recipient)

    /// Which process it is.
    public var member: Recipient {
        switch self {
        case .joined(let member), .left(let member): member
        }
    }
}

/// The changes of a process group as they happen; begins with a `joined` for each member that is there.
///
/// Keeps what has not been taken yet, without a bound. Ends when the task is cancelled that waits for the next.
public struct GroupChanges: AsyncSequence, Sendable {
    /// A process that joined or left.
    public typealias Element = GroupChange
    let stream: AsyncStream<GroupChange>

    /// Takes the changes, oldest first.
    public struct AsyncIterator: AsyncIteratorProtocol {
        var base: AsyncStream<GroupChange>.Iterator
        /// Waits for the next change; nil when the task is cancelled.
        public mutating func next() async -> GroupChange? { await base.next() }
        /// The same, on the caller's actor.
        public mutating func next(isolation actor: isolated (any Actor)?) async -> GroupChange? {
            await base.next(isolation: actor)
        }
    }

    /// Returns an iterator; one only, as several would share what comes.
    public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(base: stream.makeAsyncIterator()) }
}
