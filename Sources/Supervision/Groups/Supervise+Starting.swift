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
    ///   - onGivingUp: Called when there were more restarts than the intensity allows and all have been stopped.
    /// - Throws: ``StartError`` when a child could not be started: those that had been are stopped again, in reverse order, and the
    ///   supervisor has ended. A child that fails to start is not tried again. ``SupervisionError`` when a specification cannot be carried
    ///   out. `CancellationError` when the calling task was cancelled meanwhile; then it is undone likewise.
    @discardableResult
    public func supervise(
        _ name: String = "root",
        startingWithin time: Duration,
        intensity: RestartIntensity = .default,
        callbacks: Callbacks? = nil,
        onGivingUp: @escaping @Sendable (ExitReason) -> Void = { _ in },
        @ChildrenBuilder _ children: () throws -> [Children]
    ) async throws -> SupervisorRef {
        try ProcPath.validate(name, of: "supervisor")
        let supervisor = rootSupervisor(name, intensity, callbacks, onGivingUp)
        let records = try supervisor.makeGroups(children(), mustStart: true)
        enroot(supervisor)
        try await supervisor.start(records, isWhole: true, within: time)
        return SupervisorRef(supervisor: supervisor)
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
        intensity: RestartIntensity = .default,
        callbacks: Callbacks? = nil,
        @ChildrenBuilder _ children: () throws -> [Children]
    ) async throws -> SupervisorRef {
        try ProcPath.validate(name, of: "supervisor")
        let supervisor = supervisor(name, intensity, callbacks)
        let records = try supervisor.makeGroups(children(), mustStart: true)
        guard proc.record?.own(supervisor, incarnation: incarnation) == true else {
            supervisor.discard(records)
            throw CancellationError()
        }
        try await supervisor.start(records, isWhole: true, within: time)
        return SupervisorRef(supervisor: supervisor)
    }
}
