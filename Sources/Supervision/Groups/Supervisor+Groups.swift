// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import LightProc
import Logging

/// What a supervisor's process has under way besides what its machine decides.
struct Undertakings {
    typealias ChildID = SupervisorMachine.ChildID

    /// A callback is called before anything starts: what is to start waits here.
    var early: [SupervisorEvent]?
    /// When a farewell is not waited for any longer.
    var farewells: [ChildID: TimerToken] = [:]
    /// Who waits for children to be gone.
    var removals: [(left: Set<ChildID>, done: @Sendable () -> Void)] = []
    /// Starts that somebody waits for.
    var starts: [StartTicket] = []
    /// The first children that have not started yet; nil when all have, or before there are any.
    var unstarted: Set<ChildID>?
    var hasStarted = false
    /// By group.
    var monitors: [ObjectIdentifier: HeartbeatMonitor] = [:]
    var sizes: [ObjectIdentifier: GroupSize] = [:]
    var timers: [ObjectIdentifier: [GroupEvent.Kind: TimerToken]] = [:]
}

/// Something to be called once: at the latest when nobody is left who would call it, as the supervisor has ended.
final class OneCall: Sendable {
    private let action: Locked<(@Sendable () -> Void)?>

    /// - Parameter action: On any thread; must not block.
    init(_ action: @escaping @Sendable () -> Void) { self.action = Locked(action) }

    deinit { self() }

    func callAsFunction() {
        let action = action.withLock { action in
            defer { action = nil }
            return action
        }
        action?()
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
    /// The group is to end.
    case terminate(done: OneCall)

    /// Timers of a group: one of each kind at most.
    enum Kind: Hashable, Sendable { case beat, sample, drain }
}

extension Supervisor {
    // MARK: Groups

    /// Makes groups and their members, without starting them. All specifications are checked first.
    func makeGroups(_ specs: [Children], mustStart: Bool = false) throws(SupervisionError) -> [ChildRecord] {
        var names: Set<String> = []
        for spec in specs {
            try spec.validate()
            if !names.insert(spec.name).inserted { throw Self.duplicate(spec.name) }
        }
        if outcome != nil { throw hasEnded }
        let enlistments = try enlist(specs)
        let reportsStarts = mustStart || callbacks?.afterStart != nil
        let made = zip(specs, enlistments).map { spec, enlistment in
            var spec = spec
            spec.features.reportsStarts = reportsStarts
            // Members are taken out without losing messages only where a queue can be closed.
            if spec.features.resizer != nil, spec.mailbox == nil { spec.mailbox = .unbounded }
            let group = GroupRecord(spec, enlistment)
            return (group, group.makeMembers(spec.redundancy, under: self, mustStart: mustStart))
        }
        let clash = groups.withLock { groups -> String? in
            if let clash = names.first(where: { groups[$0] != nil }) { return clash }
            for (group, _) in made { groups[group.name] = group }
            return nil
        }
        let records = made.flatMap { $0.1 }
        do throws(SupervisionError) {
            if let clash { throw Self.duplicate(clash) }
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

    private var hasEnded: SupervisionError {
        SupervisionError(.supervisorStopped, "supervisor \(name) has ended: nothing can be added to it")
    }

    private static func duplicate(_ name: String) -> SupervisionError {
        SupervisionError(.duplicateName, "two groups of one supervisor are called \(name)")
    }

    /// Gets rid of members that will never be started.
    func discard(_ records: [ChildRecord]) {
        for record in records {
            withExtendedLifetime(record) { record.proc.close() }
            record.group.forget(record.proc, number: record.number, supervisorStops: false)
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
        groups.withLock { if $0[group.name] === group { $0[group.name] = nil } }
        if let spec = group.close() { LightProc.runOnce(on: system.executor) { _ = spec } }
    }

    // MARK: Callbacks

    /// Starts the first children, after `beforeStart`.
    func begin(_ records: [ChildRecord]) {
        guard let callback = callbacks?.beforeStart else { return send(.add(records)) }
        call(callback, reason: nil) { [self] in send(.begin(.add(records))) }
    }

    /// Calls a callback of the supervisor in a process of its own, then goes on; at once if there is none.
    func call(_ callback: Callbacks.Callback?, reason: ExitReason?, then next: @escaping @Sendable () -> Void) {
        guard let callback else { return next() }
        let occasion = Callbacks.Occasion(process: nil, name: name, path: path, reason: reason, restarts: 0)
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
        let now = system.executor.now
        return records.flatMap { body.machine.add($0.id, $0.settings, at: now) }
    }

    func started(_ id: SupervisorMachine.ChildID, _ body: inout SupervisorBody) -> [SupervisorMachine.Action] {
        body.machine.childStarted(id)
        if body.undertakings.unstarted?.remove(id) != nil { allHaveStarted(&body) }
        return startGoesOn(id, &body)
    }

    private func allHaveStarted(_ body: inout SupervisorBody) {
        guard body.undertakings.unstarted?.isEmpty == true else { return }
        body.undertakings.unstarted = nil
        if body.machine.isRunning { call(callbacks?.afterStart, reason: nil) {} }
    }

    /// A child that is not started again has its farewell.
    func retire(_ child: ChildRecord, _ body: inout SupervisorBody) {
        let id = child.id
        // Whoever hangs in `afterStop` must not hold up the stop for ever.
        body.undertakings.farewells[id] = system.executor.wake(after: child.shutdownTime) { [weak self] in
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
        let left = Set(ids.filter { body.children[$0] != nil })
        if left.isEmpty {
            done()
            return []
        }
        body.undertakings.removals.append((left, done))
        return body.machine.remove(ids)
    }

    /// A child is gone.
    func forget(_ child: ChildRecord, _ body: inout SupervisorBody) {
        child.group.forget(child.proc, number: child.number, supervisorStops: !body.machine.isRunning)
        if body.undertakings.unstarted?.remove(child.id) != nil { allHaveStarted(&body) }
        let key = ObjectIdentifier(child.group)
        body.undertakings.monitors[key]?.remove(child.id)
        body.undertakings.sizes[key]?.leaving.removeValue(forKey: child.id)
        for index in body.undertakings.removals.indices { body.undertakings.removals[index].left.remove(child.id) }
        let done = body.undertakings.removals.filter(\.left.isEmpty)
        body.undertakings.removals.removeAll { $0.left.isEmpty }
        for removal in done { removal.done() }
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
        case .terminate(let done):
            let key = ObjectIdentifier(group)
            body.undertakings.monitors[key] = nil
            body.undertakings.sizes[key] = nil
            for timer in body.undertakings.timers.removeValue(forKey: key) ?? [:] { timer.value.cancel() }
            let ids = body.children.values.filter { $0.group === group }.map(\.id)
            return remove(
                ids,
                then: { [self] in
                    forgetGroup(group)
                    done()
                },
                &body
            )
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
