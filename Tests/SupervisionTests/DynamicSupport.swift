// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

@testable import Supervision

/// The kinds of process and of mailbox: everything that messages can do works with all four.
enum Receiver: String, CaseIterable, Sendable {
    case reactive, managedReactive, async, managedAsync

    var isAsync: Bool { self == .async || self == .managedAsync }

    /// A group whose members call `handle` for each message of any type.
    func children(
        _ name: String,
        redundancy: Int = 1,
        restart: RestartType = .permanent,
        _ handle: @escaping @Sendable (AnyMessage, ActorContext) throws -> Void
    ) -> Children {
        let children =
            isAsync
            ? Children(name, redundancy: redundancy, restart: restart) { context in
                while true { try handle(try await context.receive(), .async(context)) }
            }
            : Children(name, Handler(handle), redundancy: redundancy, restart: restart)
        switch self {
        case .reactive, .async: return children
        case .managedReactive, .managedAsync: return children.mailbox(.bounded(1_000, .fail))
        }
    }
}

/// What both kinds of context can do, for handlers that are written once.
enum ActorContext: Sendable {
    case async(Context)
    case reactive(LightProc)

    var proc: LightProc {
        switch self {
        case .async(let context): context.ref.proc
        case .reactive(let proc): proc
        }
    }

    func forward(_ message: AnyMessage, to ref: AnyRef) -> Bool {
        switch self {
        case .async(let context): context.forward(message, to: ref)
        case .reactive(let proc): ReactiveContext<Handler>(proc).forward(message, to: ref)
        }
    }

    func start(_ key: String, after time: Duration, _ value: any Sendable) {
        switch self {
        case .async(let context): context.timers.start(key, after: time, value)
        case .reactive(let proc): ReactiveContext<Handler>(proc).timers.start(key, after: time, AnyMessage(value))
        }
    }

    func start(_ key: String, every time: Duration, _ value: any Sendable) {
        switch self {
        case .async(let context): context.timers.start(key, every: time, value)
        case .reactive(let proc): ReactiveContext<Handler>(proc).timers.start(key, every: time, AnyMessage(value))
        }
    }

    func cancel(_ key: String) -> Bool {
        switch self {
        case .async(let context): context.timers.cancel(key)
        case .reactive(let proc): ReactiveContext<Handler>(proc).timers.cancel(key)
        }
    }

    func isActive(_ key: String) -> Bool {
        switch self {
        case .async(let context): context.timers.isActive(key)
        case .reactive(let proc): ReactiveContext<Handler>(proc).timers.isActive(key)
        }
    }

    func stash(_ message: AnyMessage, capacity: Int = 1_000) throws {
        switch self {
        case .async(let context): try context.stash(message, capacity: capacity)
        case .reactive(let proc): try ReactiveContext<Handler>(proc).stash(message, capacity: capacity)
        }
    }

    @discardableResult
    func unstash(_ count: Int = .max) -> Int {
        switch self {
        case .async(let context): context.unstash(count)
        case .reactive(let proc): ReactiveContext<Handler>(proc).unstash(count)
        }
    }
}

/// A reactive process of the dynamic kind.
struct Handler: Reactive {
    typealias Message = AnyMessage
    let handle: @Sendable (AnyMessage, ActorContext) throws -> Void
    init(_ handle: @escaping @Sendable (AnyMessage, ActorContext) throws -> Void) { self.handle = handle }
    mutating func receive(_ message: consuming AnyMessage, in context: borrowing ReactiveContext<Self>) throws {
        try handle(message, .reactive(context.ref.proc))
    }
}

extension SupervisorRef {
    /// The members of a group, as takers of anything.
    func refs(_ name: String) throws -> [AnyRef] { try group(name, of: AnyMessage.self).dynamic }
}
