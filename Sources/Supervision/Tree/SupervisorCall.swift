// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

public import LightProc

/// What a supervisor is asked for, or to do, by its reference. Answers are given by its process, and must not block it.
enum SupervisorCall: Sendable {
    /// Stop a child and leave it specified; kill it, if so.
    case terminate(String, kills: Bool, @Sendable (SupervisionError?) -> Void)
    /// The same with a supervisor below it, whoever has its name by now; false if there is nothing to be done about it.
    case endNest(Nest, kills: Bool, @Sendable (Bool) -> Void)
    /// Start a child that is down.
    case restart(String, OneAnswer<RestartProblem?>)
    /// Forget a child that is down.
    case delete(String, @Sendable (SupervisionError?) -> Void)
    case list(@Sendable ([ChildInfo]) -> Void)
    case count(@Sendable (ChildCounts) -> Void)
    case change(RestartStrategy?, RestartIntensity?, AutoShutdown?, @Sendable (SupervisionError?) -> Void)
    case changeSpec(Children, @Sendable (SupervisionError?) -> Void)
    case changeNest(String, NestChange, @Sendable (SupervisionError?) -> Void)

    /// Why a child that was to be started again is not up.
    enum RestartProblem: Sendable {
        case refused(SupervisionError)
        /// It ended before it had started; nil: its supervisor has.
        case ended(ExitReason?)
    }
}

/// How a supervisor is to be dealt with as a child; what is nil stays.
struct NestChange: Sendable {
    let restart: RestartType?
    let backoff: Backoff?
    let shutdownTime: ShutdownTime?
    let isSignificant: Bool?
}

/// A child as its supervisor sees it at one moment.
public struct ChildInfo: Sendable {
    /// What it does.
    public enum State: Sendable, Hashable {
        /// It is specified, and does not run: it ended without being restarted, or was terminated.
        case down
        /// Others start before it.
        case waitingForOthers
        /// It was started, and has not said yet that it has.
        case starting
        /// It runs.
        case running
        /// It failed, and is started again after its backoff.
        case restarting
        /// It was asked to stop, or has its last callback called.
        case stopping
    }

    /// What it is.
    public enum Kind: Sendable, Hashable {
        /// A process with work of its own.
        case worker
        /// A supervisor.
        case supervisor
    }

    /// What it is called, as in `orders-3`.
    public let name: String
    /// The group that it is a member of.
    public let group: String
    /// Where it stands, as in `/shop/orders-3`.
    public let path: String
    /// Its process; of a child that is down, the last one.
    public let process: ProcID
    /// What it is.
    public let kind: Kind
    /// What it does.
    public let state: State
    /// After which ends it is restarted.
    public let restart: RestartType
    /// Whether its end may end its supervisor.
    public let isSignificant: Bool
    /// How many times it was restarted.
    public let restarts: Int
    /// How its last incarnation ended; nil in the first.
    public let lastExit: ExitReason?
    /// Whether its last incarnation was a supervisor that gave up: as in OTP it ended with `shutdown`.
    public let gaveUp: Bool

    /// Whether it is down, or about to be, as somebody wanted it.
    let wasTerminated: Bool

    /// Its last incarnation did not end as it should have.
    var hasFailed: Bool { !wasTerminated && (gaveUp || lastExit?.isFailure == true) }
}

/// How many children a supervisor has at one moment; as OTP's `count_children`.
public struct ChildCounts: Sendable, Hashable {
    /// All that are specified.
    public var specified = 0
    /// Those that run, start or are being stopped.
    public var active = 0
    /// Supervisors, whether they run or not.
    public var supervisors = 0
    /// Those that are no supervisors, whether they run or not.
    public var workers = 0
}

extension SupervisorCell {
    // MARK: In the supervisor's process

    func answer(_ call: SupervisorCall, _ body: inout SupervisorBody) -> [SupervisorMachine.Action] {
        let now = system.executor.now
        switch call {
        case .terminate(let name, let kills, let done):
            guard body.machine.isRunning, let records = records(named: name, body) else {
                done(body.machine.isRunning ? unknown(name) : isStopping)
                return []
            }
            return terminate(records, kills: kills, &body) { done(nil) }
        case .endNest(let nest, let kills, let done):
            guard body.machine.isRunning, let id = roster.id(of: nest.name), let record = body.children[id],
                record.nest === nest
            else {
                done(false)
                return []
            }
            return terminate([record], kills: kills, &body) { done(true) }
        case .restart(let name, let answer):
            if body.machine.isRunning, body.machine.strategy == .dynamic {
                answer.give(.refused(isDynamic(name)))
                return []
            }
            guard body.machine.isRunning, let record = records(named: name, body)?.first else {
                answer.give(.refused(body.machine.isRunning ? unknown(name) : isStopping))
                return []
            }
            do throws(SupervisorMachine.RefusalError) {
                let actions = try body.machine.restart(record.id, at: now)
                body.undertakings.comebacks[record.id] = answer
                return actions
            } catch {
                answer.give(.refused(refusal(error, name)))
                return []
            }
        case .delete(let name, let done):
            if body.machine.isRunning, body.machine.strategy == .dynamic {
                done(isDynamic(name))
                return []
            }
            guard body.machine.isRunning, let record = records(named: name, body)?.first else {
                done(body.machine.isRunning ? unknown(name) : isStopping)
                return []
            }
            do throws(SupervisorMachine.RefusalError) {
                let actions = try body.machine.delete(record.id)
                whenGone([record.id], &body) { done(nil) }
                return actions
            } catch {
                done(refusal(error, name))
                return []
            }
        case .list(let done):
            done(list(body))
            return []
        case .count(let done):
            done(count(body))
            return []
        case .change(let strategy, let intensity, let autoShutdown, let done):
            guard body.machine.isRunning else {
                done(isStopping)
                return []
            }
            do throws(SupervisionError) {
                let actions = try change(strategy, intensity, autoShutdown, &body)
                done(nil)
                return actions
            } catch {
                done(error)
                return []
            }
        case .changeSpec(let spec, let done):
            done(body.machine.isRunning ? change(spec, &body) : isStopping)
            return []
        case .changeNest(let name, let change, let done):
            done(body.machine.isRunning ? self.change(name, change, &body) : isStopping)
            return []
        }
    }

    private func terminate(
        _ records: [ChildRecord],
        kills: Bool,
        _ body: inout SupervisorBody,
        then done: @escaping @Sendable () -> Void
    ) -> [SupervisorMachine.Action] {
        let left = records.map(\.id).filter { !body.machine.isDown($0) }
        whenGone(left, &body, done)
        let actions = body.machine.terminate(left, at: system.executor.now)
        if kills { for record in records { kill(record) } }
        return actions
    }

    /// The child of a name, or the only member of a group of that name, unless members of another group are called so.
    private func records(named name: String, _ body: SupervisorBody) -> [ChildRecord]? {
        if let id = roster.id(of: name), let record = body.children[id] { return [record] }
        let number = groups.withLock { $0.isNameOfMember(name) ? nil : $0[name]?.onlyNumber }
        guard let number, let id = roster.id(of: "\(name)-\(number)") else { return nil }
        return body.children[id].map { [$0] }
    }

    private func list(_ body: SupervisorBody) -> [ChildInfo] {
        let children = body.machine.children
        return children.indices(from: children.first).compactMap { index in
            body.children[children[index].id].map { info($0, children[index]) }
        }
    }

    private func info(_ record: ChildRecord, _ child: ChildList.Child) -> ChildInfo {
        let state: ChildInfo.State =
            switch child.state {
            case .down: .down
            case .queued: .waitingForOthers
            case .starting: .starting
            case .up: record.hadStarted ? .running : .starting
            case .waiting: .restarting
            case .stopping, .retiring: .stopping
            }
        return ChildInfo(
            name: record.name,
            group: record.group.name,
            path: "\(path)/\(record.name)",
            process: record.proc.id,
            kind: record.nest == nil ? .worker : .supervisor,
            state: state,
            restart: child.settings.restart,
            isSignificant: child.settings.isSignificant,
            restarts: Int(child.restarts),
            lastExit: record.proc.lastExit,
            gaveUp: record.nest?.current.outcome?.isFailure ?? false,
            wasTerminated: child.wasTerminated
        )
    }

    private func count(_ body: SupervisorBody) -> ChildCounts {
        var counts = ChildCounts()
        let children = body.machine.children
        for index in children.indices(from: children.first) {
            counts.specified += 1
            switch children[index].state {
            case .starting, .up, .stopping: counts.active += 1
            case .down, .queued, .waiting, .retiring: break
            }
            if body.children[children[index].id]?.nest == nil { counts.workers += 1 } else { counts.supervisors += 1 }
        }
        return counts
    }

    private func change(
        _ strategy: RestartStrategy?,
        _ intensity: RestartIntensity?,
        _ autoShutdown: AutoShutdown?,
        _ body: inout SupervisorBody
    ) throws(SupervisionError) -> [SupervisorMachine.Action] {
        var rules = self.rules.withLock { $0 }
        rules.strategy = strategy ?? rules.strategy
        rules.intensity = intensity ?? rules.intensity
        rules.autoShutdown = autoShutdown ?? rules.autoShutdown
        try rules.validate(groups.withLock { $0.values }.compactMap(\.spec), of: name)
        self.rules.withLock { $0 = rules }
        changed(.rules(rules))
        return body.machine.change(strategy: strategy, intensity: intensity, autoShutdown: autoShutdown)
    }

    private func change(_ spec: Children, _ body: inout SupervisorBody) -> SupervisionError? {
        do throws(SupervisionError) {
            let spec = spec.pinned(byDefault: cores)
            try spec.validate()
            try spec.validatePinning(in: system)
            let group = try group(spec.name)
            try rules.withLock { $0 }.validate([spec], of: name)
            try group.change(to: spec)
            for id in group.ids {
                guard let child = body.children[id] else { continue }
                body.machine.change(id, child.presentSettings)
                child.proc.changeShutdownTime(to: spec.shutdownTime.limit)
            }
            changed(.child(spec))
            return nil
        } catch {
            return error
        }
    }

    private func change(_ name: String, _ change: NestChange, _ body: inout SupervisorBody) -> SupervisionError? {
        guard var spec = groups.withLock({ $0[name] })?.spec, spec.nest != nil else {
            return SupervisionError(.unknownChild, "supervisor \(path) has no supervisor \(name) below it")
        }
        spec.restart = change.restart ?? spec.restart
        spec.backoff = change.backoff ?? spec.backoff
        spec.shutdownTime = change.shutdownTime ?? spec.shutdownTime
        spec.features.isSignificant = change.isSignificant ?? spec.features.isSignificant
        return self.change(spec, &body)
    }

    private func unknown(_ name: String) -> SupervisionError {
        SupervisionError(
            .unknownChild,
            "supervisor \(path) has no child \(name); it has: \(roster.someNames)"
        )
    }

    private func isDynamic(_ name: String) -> SupervisionError {
        SupervisionError(
            .dynamicSupervisor,
            "supervisor \(path) is dynamic: its children are gone when they have ended, and \(name) can be terminated, or started anew, only"
        )
    }

    private var isStopping: SupervisionError {
        SupervisionError(.supervisorStopped, "supervisor \(path) has ended, or is stopping")
    }

    private func refusal(_ error: SupervisorMachine.RefusalError, _ name: String) -> SupervisionError {
        switch error.refusal {
        case .unknown: unknown(name)
        case .running:
            SupervisionError(.childRunning, "\(path)/\(name) is running; terminate it first")
        case .restarting:
            SupervisionError(.childRestarting, "\(path)/\(name) is about to be restarted; terminate it first")
        case .stopping:
            SupervisionError(.childStopping, "\(path)/\(name) is being stopped; try again when it has ended")
        }
    }
}
