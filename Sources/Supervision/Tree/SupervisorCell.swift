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
final class SupervisorCell: Sendable {
    let name: String
    /// The path of its process, as in `/shop`; its children's begin with it.
    let path: String
    let system: BastionSystem
    /// The process that the supervisor belongs to; nil for one of the system's.
    weak let parent: LightProc?
    /// What it goes by at present; changed by its process.
    let rules: Locked<SupervisionRules>
    /// What its children are pinned to, unless they say something else.
    let cores: CoreSet?
    /// Its children, for who looks from outside.
    let roster = Roster()
    /// The groups that there are, by name.
    let groups = Locked(Siblings<GroupRecord>())
    /// Ends as the supervisor does, once all is done: with `shutdown`, as in OTP also when it gave up; with what it escalated, if it did.
    let proc: LightProc
    private let finish = Locked(Finish())
    /// Supervisors that the present incarnations of children started: they end before the child counts as ended.
    let owned = Locked<[SupervisorMachine.ChildID: [SupervisorCell]]>([:])

    /// Those of them that are being stopped, as their owner has ended.
    let ending = Locked<[SupervisorMachine.ChildID: [SupervisorCell]]>([:])
    /// How children failed last.
    let failures = Locked<[SupervisorMachine.ChildID: FailureNote]>([:])
    /// What was decided about errors of children that are about to end for them.
    let decisions = Locked<[SupervisorMachine.ChildID: FailureDecision?]>([:])

    private struct Finish {
        var outcome: SupervisorMachine.Outcome?
        /// What it gave up for.
        var cause: ExitReason?
        var waiting: [@Sendable () -> Void] = []
        var onGivingUp: (@Sendable (ExitReason) -> Void)?
        var onEnd: (@Sendable (SupervisorMachine.Outcome, ExitReason) -> Void)?
        var onChange: (@Sendable (LiveChange) -> Void)?
        var callbacks: Callbacks?
        /// The child that it is, or belongs to; nil for one of the system's.
        var owner: WeakRecord?
        /// The end is being told.
        var isOver = false
    }

    init(
        name: String,
        path: String? = nil,
        parent: LightProc? = nil,
        system: BastionSystem,
        rules: SupervisionRules,
        callbacks: Callbacks? = nil,
        cores: CoreSet? = nil,
        onGivingUp: @escaping @Sendable (ExitReason) -> Void
    ) {
        self.cores = cores ?? parent?.cores
        self.name = name
        self.path = path ?? "/\(name)"
        self.system = system
        self.parent = parent
        self.rules = Locked(rules)
        var body = SupervisorBody(
            machine: SupervisorMachine(
                strategy: rules.strategy,
                intensity: rules.intensity,
                autoShutdown: rules.autoShutdown,
                seed: system.seed(for: self.path)
            )
        )
        if callbacks?.beforeStart != nil { body.machine.hold() }
        proc = LightProc.reactive(body, on: system.executor)
        proc.prepare(name: name, stack: nil, observer: nil, shutdownTime: .seconds(5))
        finish.withLock { finish in
            finish.onGivingUp = onGivingUp
            finish.callbacks = callbacks
        }
    }

    /// Its children are about to start: from now on it must not break unseen.
    func watchItself() {
        proc.whenEnded { [weak self] reason in self?.broke(reason) }
    }

    /// Its process has ended although nothing said so: what waits for it learns of the end, and nobody below is left alone.
    private func broke(_ reason: ExitReason) {
        guard outcome == nil else { return }
        system.tell(.critical) { [path] in ("a supervisor broke: \(reason)", ["supervisor": "\(path)"]) }
        for child in roster.children { kill(child) }
        finished(.gaveUp(proc.id.rawValue), cause: reason)
    }

    /// It never was: who has it learns that it is over.
    func abandon() {
        finish.withLock { $0.outcome = .stopped }
        proc.end(proc.incarnation, for: .shutdown)
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

    /// Calls `action` when all children have ended, before those who wait for it; the last that was set counts.
    func onEnd(_ action: @escaping @Sendable (SupervisorMachine.Outcome, ExitReason) -> Void) {
        finish.withLock { $0.onEnd = action }
    }

    /// Calls `action` when something was changed that is to hold for the supervisor that comes in the place of this one.
    func onChange(_ action: @escaping @Sendable (LiveChange) -> Void) { finish.withLock { $0.onChange = action } }

    func changed(_ change: LiveChange) { finish.withLock { $0.onChange }?(change) }

    var outcome: SupervisorMachine.Outcome? { finish.withLock { $0.outcome } }
    /// What it gave up for, when it has ended.
    var cause: ExitReason? { finish.withLock { $0.cause } }

    /// What is called around its start and after its end; nil once all has been.
    var callbacks: Callbacks? { finish.withLock { $0.callbacks } }

    /// The user's: who takes them has them destroyed where it does no harm.
    func takeCallbacks() -> Callbacks? {
        finish.withLock { finish in
            defer { finish.callbacks = nil }
            return finish.callbacks
        }
    }

    /// A child has it from now on: what it may take to stop is its own limit, too.
    func isOwned(by child: WeakRecord) { finish.withLock { $0.owner = child } }
    var owner: WeakRecord? { finish.withLock { $0.owner } }

    /// All children have ended. What is to be called then is called first, and not waited for longer than who owns it may take to stop.
    fileprivate func finishing(_ outcome: SupervisorMachine.Outcome, _ body: inout SupervisorBody) {
        let cause = body.lastStraw
        guard let callback = callbacks?.afterStop else { return finished(outcome, cause: cause) }
        body.undertakings.farewell = (outcome, cause)
        let reason = outcome.isFailure ? cause ?? .shutdown : .shutdown
        // Not looked at under the lock: it could be the last reference.
        let owner = self.owner
        let time = body.undertakings.isOverdue ? .zero : owner?.record?.timeLeftToStop
        let timer = time.map { time in system.executor.wake(after: time) { [weak self] in self?.send(.overdue) } }
        call(callback, reason: reason) { [self] in
            timer?.cancel()
            finished(outcome, cause: cause)
        }
    }

    fileprivate func finished(_ outcome: SupervisorMachine.Outcome, cause: ExitReason?) {
        let isFirst = finish.withLock { finish in
            defer { finish.isOver = true }
            return !finish.isOver
        }
        // Its last callback has returned after all, when nobody waited for it any more.
        guard isFirst else { return }
        letGoOfSpecs()
        let (waiting, onGivingUp, onEnd) = finish.withLock { finish in
            finish.outcome = outcome
            finish.cause = outcome.isFailure ? cause ?? .shutdown : nil
            defer {
                finish.waiting = []
                finish.onGivingUp = nil
                finish.onEnd = nil
                finish.onChange = nil
            }
            return (finish.waiting, finish.onGivingUp, finish.onEnd)
        }
        // Groups that came meanwhile; who adds one from here on learns that it is too late.
        letGoOfSpecs()
        let reason = outcome.isFailure ? cause ?? .shutdown : .shutdown
        if outcome.isFailure {
            system.tell(.error) { [name] in
                let why: Logger.Message =
                    if case .escalated = outcome {
                        "supervisor gave up: a failure was not its to deal with"
                    } else {
                        "supervisor gave up: more restarts than its intensity allows"
                    }
                return (why, ["supervisor": "\(name)"])
            }
            onGivingUp?(reason)
        }
        tell(.supervisorStopped)
        onEnd?(outcome, reason)
        for done in waiting { done() }
        if case .escalated = outcome { send(.finished(reason)) } else { send(.finished(.shutdown)) }
    }

    /// Kills all children and what is below them, at the same time. What waits for the end is called as by `stop`.
    func kill(then done: @escaping @Sendable () -> Void) {
        whenFinished(done)
        if outcome == nil { send(.kill) }
    }

    /// Kills a child, and all below it at the same time.
    ///
    /// - Parameter isOverdue: The time for that is up: the last callbacks of supervisors are not waited for.
    func kill(_ child: ChildRecord, isOverdue: Bool = false) {
        for supervisor in child.supervisorsAlsoEnding { supervisor.send(isOverdue ? .overdue : .kill) }
        child.proc.kill()
    }

    /// Asks a child to stop, or kills it; what is below it is stopped when it has ended, or killed with it.
    private func stop(_ child: ChildRecord, _ body: inout SupervisorBody) {
        child.isToEnd()
        watchStop(of: child, &body)
        // Its process ends at once: the time is that of all below, and of what is called at the end of that.
        let below = child.nest == nil ? [] : child.supervisorsAlsoEnding
        if body.undertakings.kills || child.shutdownTime.isBrutal {
            kill(child, isOverdue: body.undertakings.isOverdue)
        } else {
            child.proc.stop()
        }
        guard !below.isEmpty, !body.undertakings.isOverdue, let time = child.timeLeftToStop else { return }
        setTimer(of: child.id, after: time, &body) { for supervisor in below { supervisor.send(.overdue) } }
    }

    /// Sets the timer of a child; it has one at most, which counts until the child starts, stops or ends.
    private func setTimer(
        of id: SupervisorMachine.ChildID,
        after time: Duration,
        _ body: inout SupervisorBody,
        _ action: @escaping @Sendable () -> Void
    ) {
        body.undertakings.childTimers.updateValue(system.executor.wake(after: time, action), forKey: id)?.cancel()
    }

    func perform(_ actions: [SupervisorMachine.Action], _ body: inout SupervisorBody) {
        for action in actions {
            switch action {
            case .start(let id):
                body.undertakings.cancelTimer(of: id)
                guard var child = body.children[id] else { continue }
                if child.proc.isClosed {
                    guard let fresh = revive(child, &body) else { continue }
                    child = fresh
                } else if child.proc.restarts > 0 || child.proc.lastExit != nil {
                    system.countRestart()
                }
                child.expectStart(awaited: body.machine.isStarting(id) || system.eventHub.hasListeners)
                child.isToLive()
                // First: what the child does next is told after it.
                tell(.started, of: child)
                child.proc.restart()
            case .limitStart(let id, let generation, let time):
                setTimer(of: id, after: time, &body) { [weak self] in
                    self?.send(.startTimedOut(id, generation: generation))
                }
            case .wait(let id, let generation, let delay):
                setTimer(of: id, after: delay, &body) { [weak self] in self?.send(.elapsed(id, generation: generation))
                }
            case .stop(let id):
                body.undertakings.cancelTimer(of: id)
                guard let child = body.children[id] else { continue }
                stop(child, &body)
            case .kill(let id):
                guard let child = body.children[id] else { continue }
                let reason = ExitReason.error(StartError(timeoutOf: child))
                let isStuck = child.isStuck
                child.proc.end(child.proc.incarnation, for: reason)
                // It may come to what nothing interrupts a moment later.
                if let time = child.shutdownTime.time {
                    setTimer(of: id, after: time + Self.grace, &body) { [weak self] in self?.send(.startIsLate(id)) }
                }
                // It cannot end now: who waits for its start does not wait for that.
                if isStuck { perform(startIsStuck(child, reason, &body), &body) }
            case .retire(let id):
                body.undertakings.cancelTimer(of: id)
                guard let child = body.children[id] else { continue }
                retire(child, &body)
            case .lay(let id):
                body.undertakings.cancelTimer(of: id)
                guard let child = body.children[id] else { continue }
                withExtendedLifetime(child) { child.proc.close() }
                lay(child, &body)
            case .forget(let id):
                body.undertakings.cancelTimer(of: id)
                guard let child = body.children.removeValue(forKey: id) else { continue }
                // The record is the observer that counts what is left in the mailbox.
                withExtendedLifetime(child) { child.proc.close() }
                forget(child, &body)
            case .linger:
                linger()
            case .finish(let outcome):
                startIsOver(&body)
                finishing(outcome, &body)
            }
        }
    }
}

/// What happens to a supervisor.
enum SupervisorEvent: Sendable {
    case add([ChildRecord])
    /// What was to be called before anything starts has been called.
    case release
    /// The callback of the supervisor has returned that comes after the start of all its children.
    case allStarted
    /// Start children one after the other, each when the one before has started.
    case start(StartTicket)
    /// An incarnation of a child has started.
    case started(SupervisorMachine.ChildID, Incarnation)
    /// The time for a start is up, nobody waits for it any more, or one of its children is over.
    case abandon(StartTicket, StartError.Code)
    case ended(SupervisorMachine.ChildID, ExitReason)
    /// What is to be done about an end has been decided; nil: what the restart type says.
    case decided(SupervisorMachine.ChildID, ExitReason, SupervisorMachine.Decision?)
    case elapsed(SupervisorMachine.ChildID, generation: UInt32)
    case startTimedOut(SupervisorMachine.ChildID, generation: UInt32)
    /// A child whose time to start was up has not ended since.
    case startIsLate(SupervisorMachine.ChildID)
    /// A child that is being stopped has not ended in time, or is a supervisor to whose children that has happened.
    case stopIsLate(SupervisorMachine.ChildID)
    /// Whether there is such a child.
    case lookForLate
    case retired(SupervisorMachine.ChildID)
    /// Something of one group.
    case group(GroupRecord, GroupEvent)
    /// Somebody asks for something, or has something done.
    case call(SupervisorCall)
    case stop
    case kill
    /// The time that it may take to stop is up: all is killed, and its last callback not waited for.
    case overdue
    /// All is done, and told: the supervisor's process ends.
    case finished(ExitReason)
}

/// The state of a supervisor's process. The shell travels with the events, so that the process does not own it.
struct SupervisorBody: ReactiveBody {
    typealias Message = (SupervisorCell, SupervisorEvent)

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
        switch event {
        case .add(let records):
            actions = shell.add(records, &self)
        case .release:
            actions = shell.release(&self)
        case .allStarted:
            shell.allStarted(&self)
            return
        case .start(let ticket):
            actions = shell.start(ticket, &self)
        case .started(let id, let incarnation):
            // One that was given up may say so when its end is dealt with, and the next one is started already.
            guard machine.lives(id), children[id]?.isLast(incarnation) == true else { return }
            actions = shell.started(id, &self)
        case .abandon(let ticket, let code):
            actions = shell.abandon(ticket, code, &self)
        case .retired(let id):
            undertakings.farewells.removeValue(forKey: id)?.cancel()
            actions = machine.childRetired(id, at: now)
        case .group(let group, let event):
            actions = shell.handle(event, of: group, &self)
        case .finished(let reason):
            proc.end(proc.incarnation, for: reason)
            return
        case .ended(let id, let reason):
            undertakings.cancelTimer(of: id)
            guard let child = children[id] else { return }
            let isOpen = machine.isRunning && machine.isWanted(id)
            guard let decision = shell.decision(about: child, reason, isOpen: isOpen) else { return }
            actions = ended(child, reason, decision, shell)
        case .decided(let id, let reason, let decision):
            guard let child = children[id] else { return }
            actions = ended(child, reason, decision, shell)
        case .startTimedOut(let id, let generation):
            actions = machine.startTimedOut(id, generation: generation)
        case .startIsLate(let id):
            // Told to stop meanwhile: that has a time of its own.
            actions = machine.hasFailedToStart(id) ? shell.stopIsLate(id, &self) : []
        case .stopIsLate(let id):
            actions = shell.stopIsLate(id, &self)
        case .lookForLate:
            actions = shell.lookForLate(&self)
        case .call(let call):
            actions = shell.answer(call, &self)
        case .elapsed(let id, let generation):
            actions = machine.backoffElapsed(id, generation: generation, at: now)
        case .stop:
            actions = machine.stop(last: stuck(among: machine.starting), at: now)
        case .kill:
            undertakings.kills = true
            actions = machine.stopAtOnce(at: now)
        case .overdue:
            (undertakings.kills, undertakings.isOverdue) = (true, true)
            if let (outcome, cause) = undertakings.farewell { return shell.finished(outcome, cause: cause) }
            actions = machine.stopAtOnce(at: now)
        }
        if !undertakings.timers.isEmpty, !machine.isRunning { shell.cancelTimers(&self) }
        shell.perform(actions, &self)
        shell.lookForNobody(&self)
    }

    /// Children that are in the middle of a start that nothing interrupts: nobody is to wait for their end.
    func stuck(among ids: [SupervisorMachine.ChildID]) -> Set<SupervisorMachine.ChildID> {
        Set(ids.filter { children[$0]?.isStuck == true })
    }

    private mutating func ended(
        _ child: ChildRecord,
        _ reason: ExitReason,
        _ decision: SupervisorMachine.Decision?,
        _ shell: SupervisorCell
    ) -> [SupervisorMachine.Action] {
        let actions =
            shell.startFailed(child.id, reason, &self)
            ?? machine.childEnded(
                child.id,
                reason,
                hadStarted: child.hadStarted,
                decision: decision,
                at: shell.system.executor.now
            )
        let next = machine.prospect(of: child.id)
        if next == .supervisorEnds, lastStraw == nil { lastStraw = .linked(child.proc.id, reason) }
        tell(child, reason, next, shell)
        return actions
    }

    /// Tells who listens, and the log, of an end.
    private func tell(
        _ child: ChildRecord,
        _ reason: ExitReason,
        _ next: SupervisorMachine.Prospect,
        _ shell: SupervisorCell
    ) {
        if shell.system.eventHub.hasListeners {
            let failure = reason.isFailure ? child.failure(reason) : nil
            shell.tell(failure.map { .failed($0) } ?? .ended(reason), of: child)
            if case .restarted(let delay) = next { shell.tell(.restarting(in: delay), of: child) }
            if next == .supervisorEnds, let lastStraw { shell.tell(.escalated(lastStraw)) }
        }
        guard reason.isFailure, shell.system.log.logLevel <= .warning else { return }
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
            system.tell(.warning, of: report, line)
        } else {
            system.tell(.warning, line)
        }
    }
}
