// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc
import Supervision

/// What a child is told to do.
enum Order: Sendable {
    case end(Event.Kind.End)
    case bond(Event.Kind.Bond, ProcRef<Order>)
    case exit(Exit)
    case down(Down)
}

/// How a child ends with `crash`.
struct Crash: Error {}

/// How the start of a child fails.
struct Refused: Error {}

/// A child of a scenario: does as it is told, and says so.
struct Puppet: Sendable {
    let spec: ChildSpec
    let witness: Witness

    var children: Children {
        let shutdownTime: ShutdownTime =
            switch spec.shutdown {
            case .time(let milliseconds): .milliseconds(milliseconds)
            case .kill: .brutalKill
            case .infinity: .infinity
            }
        return Children(spec.name, restart: spec.restart.kind.restartType, shutdownTime: shutdownTime) { context in
            try await run(context)
        }
        .significant(spec.restart.isSignificant)
        .signalsReady()
    }

    private func run(_ context: Context) async throws {
        let (name, witness) = (spec.name, witness)
        if witness.refuses(name) {
            witness.note("startfail \(name)")
            throw Refused()
        }
        let incarnation = witness.arrived(name, context.me())
        context.onExit { _ in witness.left(name, incarnation) }
        if spec.manner != .plain { context.trapExits { Order.exit($0) } }
        context.ready()

        var monitors: [ProcID: MonitorRef] = [:]
        for await order in context.messages(of: Order.self) {
            switch order {
            case .end(let end):
                if try obey(end, context) { return }
            case .bond(.link, let other):
                context.link(other)
            case .bond(.unlink, let other):
                context.unlink(other)
            case .bond(.monitor, let other):
                if monitors[other.id] == nil { monitors[other.id] = context.monitor(other) { Order.down($0) } }
            case .bond(.demonitor, let other):
                if let monitor = monitors.removeValue(forKey: other.id) { context.demonitor(monitor, flush: true) }
            case .exit(let exit):
                witness.told(name, incarnation, "exit", of: exit.process, exit.reason)
            case .down(let down):
                monitors[down.process] = nil
                witness.told(name, incarnation, "down", of: down.process, down.reason)
            }
        }
        await stop(context)
    }

    private func obey(_ end: Event.Kind.End, _ context: Context) throws -> Bool {
        switch end {
        case .crash:
            witness.note("exit \(spec.name) crash")
            throw Crash()
        case .exit:
            witness.note("exit \(spec.name) normal")
        case .shutdown:
            witness.note("exit \(spec.name) shutdown")
            context.stop()
        }
        return true
    }

    /// There are no more messages: it was told to stop, or is killed, when it may run on for a while.
    private func stop(_ context: Context) async {
        if spec.manner == .plain || LightProc.current?.look.phase != .active { return }
        witness.noteStop(of: spec.name)
        switch spec.manner {
        case .obeys, .plain:
            return
        case .stubborn:
            // Never resumed: it is killed.
            await withUnsafeContinuation { (_: UnsafeContinuation<Void, Never>) in }
        case .slow(let milliseconds):
            await withUnsafeContinuation { continuation in
                context.system.executor.schedule(after: .milliseconds(milliseconds)) { continuation.resume() }
            }
        }
    }
}
