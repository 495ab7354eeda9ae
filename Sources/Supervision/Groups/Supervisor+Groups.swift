// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import LightProc
import Logging

/// What a supervisor's process has under way besides what its machine decides.
struct Undertakings {
    typealias ChildID = SupervisorMachine.ChildID

    /// Timers of children: for a start, a backoff, a stop.
    var childTimers: [ChildID: TimerToken] = [:]
    /// When it is looked for children that are late to stop.
    var lateLook: (due: Duration, timer: TimerToken)?
    /// When a farewell is not waited for any longer.
    var farewells: [ChildID: TimerToken] = [:]
    /// Who waits for children to be over.
    var waiters: [ChildID: [Waiter]] = [:]
    /// Starts that somebody waits for, by the children that have not started yet.
    var starts: [ChildID: StartTicket] = [:]
    /// The start of the supervisor, when its children have started, as far as it has any: a callback is still to return.
    var wholeStart: StartTicket?
    /// Who waits for children that were down to be up again.
    var comebacks: [ChildID: OneAnswer<SupervisorCall.RestartProblem?>] = [:]
    /// The first children that have not started yet; nil when all have, or before there are any.
    var unstarted: Set<ChildID>?
    var hasStarted = false
    /// Nobody is asked to stop any more, but killed.
    var kills = false
    /// The time to stop is up: no last callback is waited for any more.
    var isOverdue = false
    /// All children have ended, and the last callback is being called.
    var farewell: (outcome: SupervisorMachine.Outcome, cause: ExitReason?)?
    /// By group.
    var monitors: [ObjectIdentifier: HeartbeatMonitor] = [:]
    var sizes: [ObjectIdentifier: GroupSize] = [:]
    var timers: [ObjectIdentifier: [GroupEvent.Kind: TimerToken]] = [:]

    /// A child starts, stops or has ended.
    mutating func cancelTimer(of id: ChildID) {
        if childTimers.isEmpty { return }
        childTimers.removeValue(forKey: id)?.cancel()
    }

    /// Something to be called when several children are over.
    final class Waiter {
        var left: Int
        let done: @Sendable () -> Void

        init(_ left: Int, _ done: @escaping @Sendable () -> Void) {
            self.left = left
            self.done = done
        }
    }
}

/// Something that happens to one group of a supervisor.
enum GroupEvent: Sendable {
    /// The heartbeat's turn to ask a member.
    case beat
    /// Whether a member has given a sign of life by now.
    case look(SupervisorMachine.ChildID)
    /// The resizer's turn to look at the group.
    case sample
    /// Whether members that are to leave are done with what they have.
    case drain
    /// The group is to have so many members.
    case resize(Int)
    /// The group is to end; its members are killed, if so.
    case terminate(kills: Bool, done: OneCall)

    /// Timers of a group: one of each kind at most.
    enum Kind: Hashable, Sendable { case beat, sample, drain }
}

extension SupervisorCell {
    // MARK: Groups

    /// Makes groups and their members, without starting them. All specifications are checked first.
    func makeGroups(_ specs: [Children], mustStart: Bool = false) throws(SupervisionError) -> [ChildRecord] {
        let rules = self.rules.withLock { $0 }
        let specs = specs.map { $0.pinned(byDefault: cores) }
        for spec in specs {
            try spec.validate()
            try spec.validatePinning(in: system)
        }
        try Siblings.validate(specs)
        try DispatchCheck.validate(specs)
        try rules.validate(specs, of: name)
        if outcome != nil { throw hasEnded }
        let enlistments = try enlist(specs)
        for warning in rules.warnings(specs, path: path) {
            system.tell(.warning) { ("\(warning)", ["supervisor": "\(warning.path)"]) }
        }
        // Of children that come and go nobody waits for the start, unless it was asked for.
        let isStartAwaited = mustStart || callbacks?.afterStart != nil || rules.strategy != .dynamic
        let made = zip(specs, enlistments).map { spec, enlistment in
            var spec = spec
            spec.features.isStartAwaited = isStartAwaited
            // Members are taken out without losing messages only where a queue can be closed.
            if spec.features.resizer != nil, spec.mailbox == nil { spec.mailbox = .unbounded }
            let group = GroupRecord(spec, enlistment)
            return (group, group.makeMembers(spec.redundancy, under: self))
        }
        let records = made.flatMap { $0.1 }
        do throws(SupervisionError) {
            for (group, _) in made {
                try groups.withLock { groups throws(SupervisionError) in
                    try groups.add(group, group.name, isSupervisor: group.isSupervisor)
                }
            }
            // It may have ended meanwhile, and let go of the groups that there were then.
            if outcome != nil { throw hasEnded }
            for record in records { try introduce(record) }
        } catch {
            for (group, _) in made { forgetGroup(group) }
            discard(records)
            throw error
        }
        return records
    }

    /// Makes one more member of a group of a dynamic supervisor, of what is given. Nil if there is no such group, or it is another strategy.
    func makeMember(_ spec: Children) throws(SupervisionError) -> ChildRecord? {
        guard rules.withLock({ $0.strategy }) == .dynamic, let group = groups.withLock({ $0[spec.name] }) else {
            return nil
        }
        var spec = spec.pinned(byDefault: cores)
        spec.features.isStartAwaited = true
        try spec.validate()
        try spec.validatePinning(in: system)
        try rules.withLock { $0 }.validate([spec], of: name)
        if outcome != nil { throw hasEnded }
        guard group.messageType == spec.messageType else {
            throw SupervisionError(
                .wrongMessageType,
                "group \(spec.name) takes \(group.messageType ?? Any.self), not \(spec.messageType ?? Any.self)"
            )
        }
        guard let record = group.makeMember(of: spec, under: self) else { return nil }
        do throws(SupervisionError) {
            try introduce(record)
        } catch {
            discard([record])
            throw error
        }
        return record
    }

    private var hasEnded: SupervisionError {
        SupervisionError(.supervisorStopped, "supervisor \(name) has ended: nothing can be added to it")
    }

    /// Gets rid of members that will never be started.
    func discard(_ records: [ChildRecord]) {
        for record in records {
            withExtendedLifetime(record) { record.proc.close() }
            letGo(of: record.group.forget(record.proc, number: record.number, supervisorStops: false))
        }
    }

    /// Nothing is made or called any more: what members were made of, and callbacks, are the user's, and are destroyed in a
    /// process of their own.
    func letGoOfSpecs() {
        let left = (specs: groups.withLock { $0.values }.compactMap { $0.close() }, callbacks: takeCallbacks())
        if left.specs.isEmpty, left.callbacks == nil { return }
        LightProc.runOnce(on: system.executor) { _ = left }
    }

    func forgetGroup(_ group: GroupRecord) {
        groups.withLock { if $0[group.name] === group { $0.remove(group.name) } }
        letGo(of: group.close())
    }

    /// What is the user's is destroyed in a process of its own.
    private func letGo<Specs: Sendable>(of specs: Specs?) {
        if let specs { LightProc.runOnce(on: system.executor) { _ = specs } }
    }

    // MARK: Callbacks

    /// Starts the first children, after `beforeStart`.
    func begin(_ records: [ChildRecord]) {
        watchItself()
        send(.add(records))
        callBeforeStart()
    }

    /// What was added starts when the callback has returned. Nothing waits if there is none.
    func callBeforeStart() {
        guard let callback = callbacks?.beforeStart else { return }
        call(callback, reason: nil) { [self] in send(.release) }
    }

    /// Calls a callback of the supervisor in a process of its own, then goes on; at once if there is none.
    func call(_ callback: Callbacks.Callback?, reason: ExitReason?, then next: @escaping @Sendable () -> Void) {
        guard let callback else { return next() }
        let occasion = Callbacks.Occasion(
            process: nil,
            name: name,
            path: path,
            reason: reason,
            restarts: 0,
            failure: nil
        )
        let (caller, _) = LightProc.recoverableBlocking(
            on: system.executor,
            stack: ProcStack(name: "callbacks of \(name)")
        ) { callback(occasion) }
        caller.notifyWhenEnded { [self] end in
            if end.isFailure {
                system.tell(.error) { [path] in ("a callback of a supervisor failed: \(end)", ["supervisor": "\(path)"])
                }
            }
            next()
        }
        caller.restart()
    }

    // MARK: In the supervisor's process

    func add(_ records: [ChildRecord], _ body: inout SupervisorBody) -> [SupervisorMachine.Action] {
        for record in records { body.children[record.id] = record }
        if !body.undertakings.hasStarted {
            body.undertakings.hasStarted = true
            if callbacks?.afterStart != nil {
                body.undertakings.unstarted = Set(records.map(\.id))
                allHaveStarted(&body)
            }
        }
        for record in records { follow(record, &body) }
        return body.machine.add(records.map { ($0.id, $0.settings) }, at: system.executor.now)
    }

    /// What was to be called before anything starts has been called.
    func release(_ body: inout SupervisorBody) -> [SupervisorMachine.Action] {
        let actions = body.machine.release(at: system.executor.now)
        allHaveStarted(&body)
        if body.machine.isRunning, let ticket = body.undertakings.wholeStart {
            body.undertakings.wholeStart = nil
            done(ticket, &body)
        }
        return actions
    }

    func started(_ id: SupervisorMachine.ChildID, _ body: inout SupervisorBody) -> [SupervisorMachine.Action] {
        // Else the timer is another one: of what came after an end that this one had not heard of.
        if body.machine.isStarting(id) { body.undertakings.cancelTimer(of: id) }
        let actions = body.machine.childStarted(id, at: system.executor.now)
        if body.machine.isUp(id), let child = body.children[id] { tell(.ready, of: child) }
        if body.undertakings.unstarted?.remove(id) != nil { allHaveStarted(&body) }
        startGoesOn(id, &body)
        if body.machine.isUp(id) { body.undertakings.comebacks.removeValue(forKey: id)?.give(nil) }
        return actions
    }

    private func allHaveStarted(_ body: inout SupervisorBody) {
        guard body.undertakings.unstarted?.isEmpty == true, !body.machine.isHeld else { return }
        body.undertakings.unstarted = nil
        if body.machine.isRunning { call(callbacks?.afterStart, reason: nil) {} }
    }

    /// A child that is not started again has its farewell.
    func retire(_ child: ChildRecord, _ body: inout SupervisorBody) {
        let id = child.id
        // Whoever hangs in `afterStop` must not hold up the stop for ever.
        body.undertakings.farewells[id] = system.executor.wake(after: child.shutdownTime.limit) { [weak self] in
            self?.send(.retired(id))
        }
        child.sayFarewell { [self] in send(.retired(id)) }
    }

    /// Takes children out; `done` is called when they are gone, on the supervisor's worker.
    func remove(
        _ ids: [SupervisorMachine.ChildID],
        then done: @escaping @Sendable () -> Void,
        _ body: inout SupervisorBody
    ) -> [SupervisorMachine.Action] {
        whenGone(ids, &body, done)
        return body.machine.remove(ids, at: system.executor.now)
    }

    /// Calls `done` when children are over; at once if none of them is there.
    func whenGone(
        _ ids: [SupervisorMachine.ChildID],
        _ body: inout SupervisorBody,
        _ done: @escaping @Sendable () -> Void
    ) {
        let present = ids.filter { body.children[$0] != nil }
        if present.isEmpty { return done() }
        let waiter = Undertakings.Waiter(present.count, done)
        for id in present { body.undertakings.waiters[id, default: []].append(waiter) }
    }

    /// A child is gone.
    func forget(_ child: ChildRecord, _ body: inout SupervisorBody) {
        letGo(of: child.group.forget(child.proc, number: child.number, supervisorStops: !body.machine.isRunning))
        let key = ObjectIdentifier(child.group)
        body.undertakings.monitors[key]?.remove(child.id)
        body.undertakings.sizes[key]?.leaving.removeValue(forKey: child.id)
        isOver(child, &body)
        if body.machine.isRunning, child.group.isDeserted { forgetGroup(child.group) }
    }

    /// A child is over, and stays specified.
    func lay(_ child: ChildRecord, _ body: inout SupervisorBody) {
        child.group.withdraw(child.proc, number: child.number)
        let key = ObjectIdentifier(child.group)
        body.undertakings.monitors[key]?.remove(child.id)
        // Its process is closed: what comes in its place is made as the group is by now.
        body.machine.change(child.id, child.presentSettings)
        isOver(child, &body)
        // Of a group that changes its size by itself, and of those that were leaving, nobody comes back.
        if child.features.resizer != nil || body.undertakings.sizes[key]?.leaving[child.id] != nil {
            perform(body.machine.remove([child.id], at: system.executor.now), &body)
        }
    }

    private func isOver(_ child: ChildRecord, _ body: inout SupervisorBody) {
        tell(.stopped(child.proc.lastExit), of: child)
        failures.withLock { if !$0.isEmpty { $0[child.id] = nil } }
        decisions.withLock { if !$0.isEmpty { $0[child.id] = nil } }
        if body.undertakings.unstarted?.remove(child.id) != nil { allHaveStarted(&body) }
        startIsOver(child, &body)
        body.undertakings.comebacks.removeValue(forKey: child.id)?.give(.ended(child.proc.lastExit))
        for waiter in body.undertakings.waiters.removeValue(forKey: child.id) ?? [] {
            waiter.left -= 1
            if waiter.left == 0 { waiter.done() }
        }
    }

    /// A child that is over is to start again: as a new process with the same name, in the same place.
    func revive(_ child: ChildRecord, _ body: inout SupervisorBody) -> ChildRecord? {
        guard let fresh = child.group.makeSuccessor(of: child, under: self) else { return nil }
        body.children[child.id] = fresh
        do throws(SupervisionError) {
            try introduce(fresh)
        } catch {
            system.tell(.warning) { [path] in ("\(error)", ["supervisor": "\(path)"]) }
        }
        if fresh.features.heartbeat != nil {
            body.undertakings.monitors[ObjectIdentifier(fresh.group)]?.add(fresh.id)
        }
        return fresh
    }

    /// A child is about to be added: the heartbeat and the resizer of its group go on with it.
    private func follow(_ child: ChildRecord, _ body: inout SupervisorBody) {
        let key = ObjectIdentifier(child.group)
        if let heartbeat = child.features.heartbeat {
            let isFirst = body.undertakings.monitors[key] == nil
            body.undertakings.monitors[key, default: HeartbeatMonitor(heartbeat)].add(child.id)
            if isFirst { setTimer(.beat, for: child.group, after: heartbeat.every, &body) }
        }
        if let resizer = child.features.resizer, body.undertakings.sizes[key] == nil {
            body.undertakings.sizes[key] = GroupSize(machine: ResizerMachine(resizer))
            setTimer(.sample, for: child.group, after: resizer.interval, &body)
        }
    }

    /// Sets the group's timer of a kind.
    func setTimer(_ kind: GroupEvent.Kind, for group: GroupRecord, after time: Duration, _ body: inout SupervisorBody) {
        let token = system.executor.wake(after: time) { [weak self, weak group] in
            guard let self, let group else { return }
            switch kind {
            case .beat: send(.group(group, .beat))
            case .sample: send(.group(group, .sample))
            case .drain: send(.group(group, .drain))
            }
        }
        body.undertakings.timers[ObjectIdentifier(group), default: [:]].updateValue(token, forKey: kind)?.cancel()
    }

    func handle(
        _ event: GroupEvent,
        of group: GroupRecord,
        _ body: inout SupervisorBody
    ) -> [SupervisorMachine.Action] {
        switch event {
        case .beat:
            beat(group, &body)
            return []
        case .look(let id):
            look(id, group, &body)
            return []
        case .sample: return sample(group, &body)
        case .drain: return drain(group, &body)
        case .resize(let size): return resize(group, to: size, &body)
        case .terminate(let kills, let done):
            let key = ObjectIdentifier(group)
            body.undertakings.monitors[key] = nil
            body.undertakings.sizes[key] = nil
            for timer in body.undertakings.timers.removeValue(forKey: key) ?? [:] { timer.value.cancel() }
            let members = kills ? group.ids.compactMap { body.children[$0] } : []
            let actions = remove(
                group.ids,
                then: { [self] in
                    forgetGroup(group)
                    done()
                },
                &body
            )
            for member in members { kill(member) }
            return actions
        }
    }

    /// The supervisor stops: nothing that recurs goes on.
    func cancelTimers(_ body: inout SupervisorBody) {
        for timers in body.undertakings.timers.values { for timer in timers.values { timer.cancel() } }
        body.undertakings.timers = [:]
        body.undertakings.monitors = [:]
        body.undertakings.sizes = [:]
    }
}
