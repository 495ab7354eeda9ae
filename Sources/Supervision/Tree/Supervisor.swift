// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import LightProc
import Logging

/// The shell around ``SupervisorMachine``: a reactive process that performs what the machine decides.
///
/// Runs no user code: children are made and started in their own processes, and what is told to the log (errors describe
/// themselves, log handlers are the user's) is told by processes made for that. So it is never blocked, and cannot trap.
final class Supervisor: Sendable {
    let name: String
    /// The path of its process, as in `/shop`; its children's begin with it.
    let path: String
    let system: BastionSystem
    private let proc: LightProc
    private let finish = Locked(Finish())
    /// The children, for those who look from outside: from when they are made until they are forgotten.
    let roster = Locked<[SupervisorMachine.ChildID: ChildRecord]>([:])

    private struct Finish {
        var outcome: SupervisorMachine.Outcome?
        var waiting: [@Sendable () -> Void] = []
        var onGivingUp: (@Sendable (ExitReason) -> Void)?
    }

    init(
        name: String,
        path: String? = nil,
        system: BastionSystem,
        intensity: RestartIntensity,
        finishesWhenEmpty: Bool = false,
        onGivingUp: @escaping @Sendable (ExitReason) -> Void
    ) {
        self.name = name
        self.path = path ?? "/\(name)"
        self.system = system
        let machine = SupervisorMachine(intensity: intensity, finishesWhenEmpty: finishesWhenEmpty)
        proc = LightProc.reactive(SupervisorBody(machine: machine), on: system.executor)
        proc.prepare(name: name, stack: nil, observer: nil, shutdownTime: .seconds(5))
        finish.withLock { $0.onGivingUp = onGivingUp }
    }

    func send(_ event: SupervisorEvent) {
        if case .add(let records) = event {
            roster.withLock { roster in for record in records { roster[record.id] = record } }
        }
        let node = MessageNode.make((self, event))
        if !proc.push(node) { node.refuse(as: SupervisorBody.Message.self) }
    }

    /// Stops the children in reverse order, then itself. `done` is called once all have ended; at once if they have.
    func stop(then done: @escaping @Sendable () -> Void) {
        let isFinished = finish.withLock { finish in
            if finish.outcome == nil { finish.waiting.append(done) }
            return finish.outcome != nil
        }
        if isFinished { done() } else { send(.stop) }
    }

    /// Calls `done` when all children have ended, without asking them to.
    func whenFinished(_ done: @escaping @Sendable () -> Void) {
        let isFinished = finish.withLock { finish in
            if finish.outcome == nil { finish.waiting.append(done) }
            return finish.outcome != nil
        }
        if isFinished { done() }
    }

    var outcome: SupervisorMachine.Outcome? { finish.withLock { $0.outcome } }

    fileprivate func finished(_ outcome: SupervisorMachine.Outcome, cause: ExitReason?) {
        let (waiting, onGivingUp) = finish.withLock { finish in
            finish.outcome = outcome
            defer {
                finish.waiting = []
                finish.onGivingUp = nil
            }
            return (finish.waiting, finish.onGivingUp)
        }
        if case .gaveUp = outcome {
            system.tell(.error) { [name] in
                ("supervisor gave up: more restarts than its intensity allows", ["supervisor": "\(name)"])
            }
            onGivingUp?(cause ?? .shutdown)
        }
        for done in waiting { done() }
        proc.finish()
    }

    fileprivate func perform(_ actions: [SupervisorMachine.Action], _ body: inout SupervisorBody) {
        for action in actions {
            switch action {
            case .start(let id):
                guard let child = body.children[id] else { continue }
                if child.proc.restarts > 0 || child.proc.lastExit != nil { system.countRestart() }
                child.proc.restart()
            case .wait(let id, let generation, let delay):
                system.executor.wake(after: delay) { [self] in send(.elapsed(id, generation: generation)) }
            case .stop(let id):
                body.children[id]?.proc.stop()
            case .forget(let id):
                guard let child = body.children.removeValue(forKey: id) else { continue }
                _ = roster.withLock { $0.removeValue(forKey: id) }
                // The record is the observer that counts what is left in the mailbox.
                withExtendedLifetime(child) { child.proc.close() }
            case .finish(let outcome):
                finished(outcome, cause: body.lastStraw)
            }
        }
    }
}

/// What happens to a supervisor.
enum SupervisorEvent: Sendable {
    case add([ChildRecord])
    case ended(SupervisorMachine.ChildID, ExitReason)
    case elapsed(SupervisorMachine.ChildID, generation: Int)
    case stop
}

/// The state of a supervisor's process. The shell travels with the events, so that the process does not own it.
struct SupervisorBody: ReactiveBody {
    typealias Message = (Supervisor, SupervisorEvent)

    var machine: SupervisorMachine
    var children: [SupervisorMachine.ChildID: ChildRecord] = [:]
    /// Why the supervisor gives up, if it does: how the child ended that was the last straw.
    var lastStraw: ExitReason?

    init(machine: SupervisorMachine) { self.machine = machine }

    /// Nothing of the user's is in it when it is done.
    static var isPlain: Bool { true }

    mutating func receive(_ message: consuming Message, on proc: LightProc) {
        let (shell, event) = message
        let now = shell.system.executor.now
        let actions: [SupervisorMachine.Action]
        switch event {
        case .add(let records):
            for record in records { children[record.id] = record }
            actions = records.flatMap { machine.add($0.id, $0.settings, at: now) }
        case .ended(let id, let reason):
            actions = machine.childEnded(id, reason, at: now)
            report(id, reason, actions, shell)
        case .elapsed(let id, let generation):
            actions = machine.backoffElapsed(id, generation: generation, at: now)
        case .stop:
            actions = machine.stop()
        }
        shell.perform(actions, &self)
    }

    private mutating func report(
        _ id: SupervisorMachine.ChildID,
        _ reason: ExitReason,
        _ actions: [SupervisorMachine.Action],
        _ shell: Supervisor
    ) {
        guard let child = children[id] else { return }
        if case .forget? = actions.first, !machine.isRunning, lastStraw == nil {
            lastStraw = .linked(child.proc.id, reason)
        }
        guard reason.isFailure else { return }
        let next: String =
            switch actions.first {
            case .start: "restarted"
            case .wait(_, _, let delay): "restarted in \(delay)"
            case .forget: "not restarted"
            case .stop, .finish, nil: "the supervisor is stopping"
            }
        let (proc, name, restarts) = (child.proc, shell.name, child.proc.restarts)
        let system = shell.system
        let line: @Sendable () -> (Logger.Message, Logger.Metadata) = {
            var metadata: Logger.Metadata = [
                "child": "\(proc)", "supervisor": "\(name)", "restarts": "\(restarts)", "next": "\(next)",
            ]
            if let place = reason.trapReport?.place { metadata["at"] = "\(place)" }
            return ("child ended: \(reason)", metadata)
        }
        // The symbols of a report are looked up elsewhere first, so that no worker waits for files.
        if let report = reason.trapReport {
            report.whenResolved { system.tell(.warning, line) }
        } else {
            system.tell(.warning, line)
        }
    }
}
