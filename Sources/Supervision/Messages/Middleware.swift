// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

public import LightProc

/// Something around the handling of each message of a group: it may look at it, wait, try again, or drop it.
///
/// A value; several are composed with ``then(_:)`` or ``Children/middleware(_:)``, the first of them outermost. It sees what a
/// message is, never the message. It runs in the name of the process, on its worker: what it throws ends the process as if the
/// handler had thrown it, except ``DroppedMessage``.
public struct Middleware: Sendable {
    /// A message that is about to be handled.
    public struct Handling: Sendable {
        /// Who handles it.
        public let process: ProcID
        /// What that process is called.
        public let processName: String
        /// Where it stands in the tree.
        public let path: String
        /// The type of the message.
        public let messageType: Any.Type
        /// How long it has waited in the mailbox, on the executor's clock.
        public let queueDelay: Duration
        /// What is left until the answer is too late; nil if it is no ask.
        public let remainingTime: Duration?
        let system: BastionSystem
        let proc: LightProc
    }

    /// What around a synchronous handler runs, of a reactive process. It must not block.
    public typealias Now = @Sendable (_ handling: Handling, _ next: () throws -> Void) throws -> Void
    /// What around an asynchronous handler runs, of a group that is ``Children/init(_:handling:redundancy:restart:backoff:shutdownTime:containment:priority:deadline:handler:)``.
    public typealias Later =
        @Sendable (_ handling: Handling, _ next: @escaping @Sendable () async throws -> Void) async throws -> Void

    let now: Now
    let later: Later

    /// Creates a middleware of what it does around handlers of both kinds.
    public init(now: @escaping Now, later: @escaping Later) {
        self.now = now
        self.later = later
    }

    /// Both in one, this one outside.
    public func then(_ inner: Middleware) -> Middleware {
        Middleware(
            now: { handling, next in try now(handling) { try inner.now(handling, next) } },
            later: { handling, next in try await later(handling) { try await inner.later(handling, next) } }
        )
    }

    /// The one that does nothing.
    public static let none = Middleware(now: { try $1() }, later: { try await $1() })
}

/// Thrown by a middleware, or a handler under one: the message is not handled, and the process goes on.
///
/// The message becomes a dead letter for this reason, and its asker is told `dropped`.
public struct DroppedMessage: Error, Sendable, CustomStringConvertible {
    /// Why it is not handled.
    public let reason: DeadLetter.Reason
    /// Creates one for a reason.
    public init(_ reason: DeadLetter.Reason = .unhandled) { self.reason = reason }
    /// One line.
    public var description: String { "the message is dropped: \(reason)" }
}
