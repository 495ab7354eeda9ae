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
    /// The process that the supervisor belongs to; nil for one of the system's.
    weak let parent: LightProc?
    /// Its children, for who looks from outside.
    let roster = Roster()
    /// The groups that there are, by name.
    let groups = Locked<[String: GroupRecord]>([:])
    /// Ends as the supervisor does, once all is done: with `shutdown`, or what it gave up for.
    let proc: LightProc
    private let finish = Locked(Finish())
    /// Supervisors that the present incarnations of children started: they end before the child counts as ended.
    let owned = Locked<[SupervisorMachine.ChildID: [Supervisor]]>([:])

    private struct Finish {
        var outcome: SupervisorMachine.Outcome?
        var waiting: [@Sendable () -> Void] = []
        var onGivingUp: (@Sendable (ExitReason) -> Void)?
        var callbacks: Callbacks?
    }

    init(
        name: String,
        path: String? = nil,
        parent: LightProc? = nil,
        system: BastionSystem,
        intensity: RestartIntensity,
        finishesWhenEmpty: Bool = false,
        callbacks: Callbacks? = nil,
        onGivingUp: @escaping @Sendable (ExitReason) -> Void
    ) {
        self.name = name
        self.path = path ?? "/\(name)"
        self.system = system
        self.parent = parent
        let machine = SupervisorMachine(intensity: intensity, finishesWhenEmpty: finishesWhenEmpty)
        var body = SupervisorBody(machine: machine)
        if callbacks?.beforeStart != nil { body.undertakings.early = [] }
        proc = LightProc.reactive(body, on: system.executor)
        proc.prepare(name: name, stack: nil, observer: nil, shutdownTime: .seconds(5))
        finish.withLock { finish in
            finish.onGivingUp = onGivingUp
            finish.callbacks = callbacks
        }
    }

    deinit { letGoOfSpecs() }

    func send(_ event: SupervisorEvent) {
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

    /// What is called around its start and after its end; nil once all has been.
    var callbacks: Callbacks? { finish.withLock { $0.callbacks } }

    /// The user's: who takes them has them destroyed where it does no harm.
    func takeCallbacks() -> Callbacks? {
        finish.withLock { finish in
            defer { finish.callbacks = nil }
            return finish.callbacks
        }
    }

    /// All children have ended. What is to be called then is called first.
    fileprivate func finishing(_ outcome: SupervisorMachine.Outcome, cause: ExitReason?) {
        var reason = ExitReason.shutdown
        if case .gaveUp = outcome, let cause { reason = cause }
        call(callbacks?.afterStop, reason: reason) { [self] in finished(outcome, cause: cause) }
    }

    private func finished(_ outcome: SupervisorMachine.Outcome, cause: ExitReason?) {
        letGoOfSpecs()
        let (waiting, onGivingUp) = finish.withLock { finish in
            finish.outcome = outcome
            defer {
                finish.waiting = []
                finish.onGivingUp = nil
            }
            return (finish.waiting, finish.onGivingUp)
        }
        // Groups that came meanwhile; who adds one from here on learns that it is too late.
        letGoOfSpecs()
        if case .gaveUp = outcome {
            system.tell(.error) { [name] in
                ("supervisor gave up: more restarts than its intensity allows", ["supervisor": "\(name)"])
            }
            onGivingUp?(cause ?? .shutdown)
        }
        for done in waiting { done() }
        var reason = ExitReason.shutdown
        if case .gaveUp = outcome { reason = cause ?? .shutdown }
        send(.finished(reason))
    }

    func perform(_ actions: [SupervisorMachine.Action], _ body: inout SupervisorBody) {
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
            case .retire(let id):
                guard let child = body.children[id] else { continue }
                retire(child, &body)
            case .forget(let id):
                guard let child = body.children.removeValue(forKey: id) else { continue }
                // The record is the observer that counts what is left in the mailbox.
                withExtendedLifetime(child) { child.proc.close() }
                forget(child, &body)
            case .finish(let outcome):
                finishing(outcome, cause: body.lastStraw)
            }
        }
    }
}

/// What happens to a supervisor.
enum SupervisorEvent: Sendable {
    case add([ChildRecord])
    /// What was to be called before anything starts has been called: this comes first.
    indirect case begin(SupervisorEvent)
    /// Start children one after the other, each when the one before has started.
    case start(StartTicket)
    case started(SupervisorMachine.ChildID)
    /// The time for a start is up, or nobody waits for it any more.
    case abandon(StartTicket, StartError.Code)
    case ended(SupervisorMachine.ChildID, ExitReason)
    case elapsed(SupervisorMachine.ChildID, generation: Int)
    case retired(SupervisorMachine.ChildID)
    /// Something of one group.
    case group(GroupRecord, GroupEvent)
    case stop
    /// All is done, and told: the supervisor's process ends.
    case finished(ExitReason)
}

/// The state of a supervisor's process. The shell travels with the events, so that the process does not own it.
struct SupervisorBody: ReactiveBody {
    typealias Message = (Supervisor, SupervisorEvent)

    var machine: SupervisorMachine
    var children: [SupervisorMachine.ChildID: ChildRecord] = [:]
    /// Why the supervisor gives up, if it does: how the child ended that was the last straw.
    var lastStraw: ExitReason?
    /// What goes on besides; see Groups/.
    var undertakings = Undertakings()

    init(machine: SupervisorMachine) { self.machine = machine }

    /// Nothing of the user's is in it when it is done.
    static var isPlain: Bool { true }

    mutating func receive(_ message: consuming Message, on proc: LightProc) {
        let (shell, event) = message
        let now = shell.system.executor.now
        var actions: [SupervisorMachine.Action]
        if undertakings.early != nil, isHeldBack(event) { return }
        switch event {
        case .add(let records):
            actions = shell.add(records, &self)
        case .begin(let first):
            let early = undertakings.early ?? []
            undertakings.early = nil
            for event in [first] + early { receive((shell, event), on: proc) }
            return
        case .start(let ticket):
            actions = shell.start(ticket, &self)
        case .started(let id):
            actions = shell.started(id, &self)
        case .abandon(let ticket, let code):
            actions = shell.abandon(ticket, code, &self)
        case .retired(let id):
            undertakings.farewells.removeValue(forKey: id)?.cancel()
            actions = machine.childRetired(id)
        case .group(let group, let event):
            actions = shell.handle(event, of: group, &self)
        case .finished(let reason):
            proc.end(proc.incarnation, for: reason)
            return
        case .ended(let id, let reason):
            actions = machine.childEnded(id, reason, at: now)
            report(id, reason, actions, shell)
            shell.perform(actions, &self)
            actions = shell.startFailed(id, reason, &self)
        case .elapsed(let id, let generation):
            actions = machine.backoffElapsed(id, generation: generation, at: now)
        case .stop:
            actions = machine.stop()
        }
        if !undertakings.timers.isEmpty, !machine.isRunning { shell.cancelTimers(&self) }
        shell.perform(actions, &self)
    }

    /// What is to start waits while a callback is called that is to come first.
    private mutating func isHeldBack(_ event: SupervisorEvent) -> Bool {
        switch event {
        case .add, .start, .group:
            undertakings.early?.append(event)
            return true
        case .begin, .started, .abandon, .ended, .elapsed, .retired, .stop, .finished:
            return false
        }
    }

    private mutating func report(
        _ id: SupervisorMachine.ChildID,
        _ reason: ExitReason,
        _ actions: [SupervisorMachine.Action],
        _ shell: Supervisor
    ) {
        guard let child = children[id] else { return }
        switch actions.first {
        case .forget, .retire:
            if !machine.isRunning, lastStraw == nil { lastStraw = .linked(child.proc.id, reason) }
        case .start, .wait, .stop, .finish, nil: break
        }
        guard reason.isFailure else { return }
        let next: String =
            switch actions.first {
            case .start: "restarted"
            case .wait(_, _, let delay): "restarted in \(delay)"
            case .forget, .retire: "not restarted"
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
