// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

/// A ``Reactive`` whose messages go through a queue: what the process itself takes out of its mailbox are tokens.
struct ManagedAdapter<Body: Reactive>: ReactiveBody {
    private var body: Body
    private let queue: MessageQueue
    private let middleware: Middleware?
    private let hooks: (any SystemHooks)?

    /// In the name of the process, when it starts.
    init(
        queue: MessageQueue,
        middleware: Middleware?,
        hooks: (any SystemHooks)?,
        _ make: () throws -> Body
    ) throws {
        if let hooks, let proc = LightProc.current { try hooks.starting(proc) }
        body = try make()
        self.queue = queue
        self.middleware = middleware
        self.hooks = hooks
        ReactiveAdapter<Body>.begin()
    }

    mutating func receive(_ token: consuming QueueToken, on proc: LightProc) throws {
        // Nil when the message was dropped meanwhile; of another type may only be a notice.
        guard let entry = queue.take(by: proc),
            let message = Envelope(message: entry.message).message(as: Body.Message.self)
        else { return }
        if ReactiveAdapter<Body>.takesAnyType { ReactiveAdapter<Body>.note(message, on: proc) }
        if let receipt = entry.receipt { proc.accept(receipt) }
        switch hooks?.receiving(Body.Message.self, by: proc) {
        case nil, .delay: try handle(message, entry, on: proc)
        case .error(let error): throw error
        case .trap:
            SimulatedTrap.lose((body, entry))
            throw SimulatedTrap(of: proc)
        }
        if entry.receipt != nil { proc.askWasHandled() }
        if Body.receiveTimeout != nil { proc.noteReceived() }
    }

    mutating func signalled(_ signal: UInt, on proc: LightProc) throws {
        try body.receiveTimedOut(in: ReactiveContext(proc))
    }

    private mutating func handle(
        _ message: Body.Message,
        _ entry: QueueEntry,
        on proc: LightProc
    ) throws {
        guard let middleware, let system = proc.system else {
            return try body.receive(message, in: ReactiveContext(proc))
        }
        do {
            try middleware.now(Middleware.Handling(entry, by: proc, in: system)) {
                try body.receive(message, in: ReactiveContext(proc))
            }
        } catch let error as DroppedMessage {
            queue.drop(entry, for: error.reason, proc)
        }
    }
}

extension Middleware.Handling {
    init(_ entry: QueueEntry, by proc: LightProc, in system: BastionSystem) {
        self.init(
            type(of: entry.message),
            sent: entry.sent,
            deadline: entry.receipt?.deadline,
            by: proc,
            in: system
        )
    }

    init(_ messageType: Any.Type, sent: Duration, deadline: Duration?, by proc: LightProc, in system: BastionSystem) {
        let now = proc.scheduler.now
        process = proc.id
        processName = proc.name ?? ""
        path = proc.path ?? ""
        self.messageType = messageType
        queueDelay = max(.zero, now - sent)
        remainingTime = deadline.map { $0 - now }
        self.system = system
        self.proc = proc
    }
}
