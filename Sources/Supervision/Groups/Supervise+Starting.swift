// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

public import LightProc

extension BastionSystem {
    /// Starts supervised children at the top of the system, one after the other, and returns when the last has started.
    ///
    /// A reactive child has started when it was made, an async one when its body begins, or calls ``Context/ready()`` if its group says
    /// so (``Children/signalsReady()``); in both cases after the callbacks of the start.
    ///
    /// - Parameters:
    ///   - time: How long all of that may take.
    ///   - callbacks: Called around the start and after the end of all of them together; see ``Callbacks``.
    ///   - onGivingUp: Called when there were more restarts than the intensity allows, or a failure was escalated, and all have been stopped. By
    ///     default that is the system's to deal with: a program behind a `Fort` ends.
    /// - Throws: ``StartError`` when a child could not be started: those that had been are stopped again, in reverse order, and the
    ///   supervisor has ended. A child that fails to start is not tried again. ``SupervisionError`` when a specification cannot be carried
    ///   out. `CancellationError` when the calling task was cancelled meanwhile; then it is undone likewise.
    @discardableResult
    public func supervise(
        _ name: String = "root",
        startingWithin time: Duration,
        strategy: RestartStrategy = .oneForOne,
        intensity: RestartIntensity = .default,
        autoShutdown: AutoShutdown = .never,
        callbacks: Callbacks? = nil,
        onGivingUp: (@Sendable (ExitReason) -> Void)? = nil,
        @ChildrenBuilder _ children: () throws -> [Children]
    ) async throws -> SupervisorRef {
        try ProcPath.validate(name, of: "supervisor")
        let rules = SupervisionRules(strategy: strategy, intensity: intensity, autoShutdown: autoShutdown)
        let supervisor = rootSupervisor(name, rules, callbacks, onGivingUp)
        return try await supervisor.start(children(), within: time) { _ in enroot(supervisor) }
    }
}

extension BastionSystem {
    /// Starts a described tree at the top of the system.
    ///
    /// - Parameters:
    ///   - tree: Its restart type, backoff and shutdown time have no effect, as nobody is above it.
    ///   - onGivingUp: As above.
    /// - Throws: ``SupervisionError`` when something cannot be carried out; then nothing was started.
    @discardableResult
    public func supervise(
        _ tree: Supervisor,
        onGivingUp: (@Sendable (ExitReason) -> Void)? = nil
    ) throws(SupervisionError) -> SupervisorRef {
        _ = try tree.validate()
        guard let nest = tree.children.nest else { preconditionFailure("impossible: made with one") }
        let supervisor = rootSupervisor(tree.children.name, nest.rules, nest.callbacks, onGivingUp)
        return try start(nest.children, under: supervisor)
    }

    /// Starts a described tree at the top of the system, and returns when all of it has started.
    ///
    /// - Throws: As where the children are listed.
    @discardableResult
    public func supervise(
        _ tree: Supervisor,
        startingWithin time: Duration,
        onGivingUp: (@Sendable (ExitReason) -> Void)? = nil
    ) async throws -> SupervisorRef {
        _ = try tree.validate()
        guard let nest = tree.children.nest else { preconditionFailure("impossible: made with one") }
        let supervisor = rootSupervisor(tree.children.name, nest.rules, nest.callbacks, onGivingUp)
        return try await supervisor.start(nest.children, within: time) { _ in enroot(supervisor) }
    }
}

extension Context {
    /// Starts a supervisor that belongs to this process, and its children one after the other; returns when the last has started.
    ///
    /// Otherwise as ``supervise(_:intensity:callbacks:_:)``. The children end with this incarnation also while they are being started.
    ///
    /// - Parameter time: How long all of that may take.
    /// - Throws: ``StartError``, ``SupervisionError`` and `CancellationError` as `supervise` of the system.
    @discardableResult
    public func supervise(
        _ name: String = "supervisor",
        startingWithin time: Duration,
        strategy: RestartStrategy = .oneForOne,
        intensity: RestartIntensity = .default,
        autoShutdown: AutoShutdown = .never,
        callbacks: Callbacks? = nil,
        @ChildrenBuilder _ children: () throws -> [Children]
    ) async throws -> SupervisorRef {
        try ProcPath.validate(name, of: "supervisor")
        let rules = SupervisionRules(strategy: strategy, intensity: intensity, autoShutdown: autoShutdown)
        let supervisor = supervisor(name, rules, callbacks)
        return try await supervisor.start(children(), within: time) { records in
            guard proc.record?.own(supervisor, incarnation: incarnation) == true else {
                supervisor.discard(records)
                throw CancellationError()
            }
        }
    }
}

extension SupervisorCell {
    /// Starts it with its first children; returns when the last has started.
    ///
    /// - Parameter place: Gives it its place, before anything starts.
    fileprivate func start(
        _ children: [Children],
        within time: Duration,
        place: (_ records: [ChildRecord]) throws -> Void
    ) async throws -> SupervisorRef {
        let records = try makeGroups(children, mustStart: true)
        try place(records)
        try await start(records, isWhole: true, within: time)
        return SupervisorRef(supervisor: self)
    }
}
