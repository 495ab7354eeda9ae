// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

package import LightProc

/// Who watches the processes of a system and may spoil their work: the test kit. A system for use has none.
///
/// All of it is called on the thread that runs the process in question, outside of locks.
package protocol SystemHooks: AnyObject, Sendable {
    /// A process was made, and has its name.
    func made(_ proc: LightProc)
    /// An incarnation is about to start. What it throws is what the start throws.
    func starting(_ proc: LightProc) throws
    /// A message is about to be handled, or to be handed to the body of an async process.
    func receiving(_ type: Any.Type, by proc: LightProc) -> InjectedFault?
    /// An incarnation is over; its supervisor, if it has one, is told next.
    func ended(_ proc: LightProc, _ reason: ExitReason)
}

/// What is to happen instead of, or before, the handling of a message.
package enum InjectedFault: Sendable {
    /// The process traps; the message is lost.
    case trap
    /// The process fails with this error; the message is lost.
    case error(any Error)
    /// An async process gets the message that much later. Reactive ones are held up before their turn instead.
    case delay(Duration)
}

/// An ask as whoever looks for deadlocks sees it.
package protocol WaitingAsk: MessageReceipt {
    /// The process that asked; nil if it was none.
    var asker: ProcID? { get }
    /// Who is to answer.
    var asked: ProcID { get }
}

/// As ``ReactiveAdapter``, in a system with hooks.
struct HookedAdapter<Body: Reactive>: ReactiveBody {
    private var body: Body
    private let hooks: any SystemHooks

    /// In the name of the process, when it starts.
    init(_ hooks: any SystemHooks, _ make: () throws -> Body) throws {
        if let proc = LightProc.current { try hooks.starting(proc) }
        body = try make()
        self.hooks = hooks
        ReactiveAdapter<Body>.begin()
    }

    init(_ body: Body, _ hooks: any SystemHooks) {
        self.body = body
        self.hooks = hooks
    }

    mutating func receive(_ message: consuming Body.Message, on proc: LightProc) throws {
        var type: Any.Type = Body.Message.self
        if ReactiveAdapter<Body>.takesAnyType {
            type = ReactiveAdapter<Body>.actualType(of: message)
            proc.handles(type)
        }
        switch hooks.receiving(type, by: proc) {
        case nil, .delay:
            try body.receive(message, in: ReactiveContext(proc))
            if Body.receiveTimeout != nil { proc.noteReceived() }
        case .error(let error): throw error
        case .trap:
            SimulatedTrap.lose((body, message))
            throw SimulatedTrap(of: proc)
        }
    }

    mutating func signalled(_ signal: UInt, on proc: LightProc) throws {
        try body.receiveTimedOut(in: ReactiveContext(proc))
    }
}

extension BastionSystem {
    /// As `spawn`, in a system with hooks.
    @usableFromInline
    func spawnHooked<Body: Reactive>(_ body: Body) -> ProcRef<Body.Message> {
        guard let hooks else { preconditionFailure("impossible: asked before") }
        let proc = LightProc.reactive(HookedAdapter(body, hooks), on: executor)
        join(proc)
        if let timeout = Body.receiveTimeout { proc.beginReceiveTimeout(timeout) }
        watch(proc, hooks)
        return ProcRef(proc)
    }

    /// Tells the hooks of a process that nobody supervises.
    package func watch(_ proc: LightProc, _ hooks: any SystemHooks) {
        hooks.made(proc)
        proc.notifyWhenEnded { [weak proc] reason in if let proc { hooks.ended(proc, reason) } }
    }
}

extension Context {
    /// Lets the hooks spoil the receiving of a message.
    func spoil(_ hooks: any SystemHooks, _ message: any Sendable) async throws {
        switch hooks.receiving(type(of: message), by: proc) {
        case nil: break
        case .delay(let time): try? await sleep(for: time)
        case .error(let error):
            // At once: who goes on in spite of the error has failed all the same.
            endNow(for: .error(error))
            throw error
        case .trap: await proc.trapHere()
        }
    }
}
