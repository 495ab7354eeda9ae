// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

public import LightProc
public import ServiceLifecycle
public import Supervision

/// A tree of supervised children as a service: beside others in a `ServiceGroup`, or supervised in its turn.
///
/// `run()` starts the tree and returns when its supervisor has ended: by itself, or because it was stopped.
///
/// | what happens | the tree | `run()` |
/// |---|---|---|
/// | graceful shutdown | is stopped in reverse order, each child with its shutdown time | returns |
/// | the task is cancelled | all children are killed at a time, each has its shutdown time | throws `CancellationError` |
/// | the supervisor gives up | has stopped all | throws ``SupervisorGaveUp`` |
/// | somebody stops the supervisor, or it ends by itself | has ended | returns |
///
/// In all cases it returns when all children have ended. A `ServiceGroup` takes a service that returns before its shutdown for a failure
/// of the group, unless its configuration says otherwise (`successTerminationBehavior`).
public struct SupervisionService: Service, CustomStringConvertible {
    private let start: @Sendable () throws -> SupervisorRef
    /// What the supervisor is called.
    public let description: String

    /// Describes a tree at the top of a system; each `run()` starts it anew.
    ///
    /// - Parameters:
    ///   - system: Where it is started. The system goes on when the tree has ended.
    ///   - name: What the supervisor is called.
    ///   - strategy: Which children share the fate of one that failed.
    ///   - autoShutdown: Whether it ends when significant children have.
    ///   - intensity: How many restarts make the supervisor give up.
    ///   - callbacks: Called around the start and after the end of all children together; see ``Callbacks``.
    ///   - children: Called by `run()`, which throws what it throws, and ``SupervisionError`` when a specification cannot be carried out.
    public init(
        _ system: BastionSystem = .shared,
        name: String = "root",
        strategy: RestartStrategy = .oneForOne,
        intensity: RestartIntensity = .default,
        autoShutdown: AutoShutdown = .never,
        callbacks: Callbacks? = nil,
        @ChildrenBuilder _ children: @escaping @Sendable () throws -> [Children]
    ) {
        description = name
        start = {
            // Giving up is thrown by `run()`, and nobody else's business.
            let givingUp: @Sendable (ExitReason) -> Void = { _ in }
            return try system.supervise(
                name,
                strategy: strategy,
                intensity: intensity,
                autoShutdown: autoShutdown,
                callbacks: callbacks,
                onGivingUp: givingUp,
                children
            )
        }
    }

    /// Describes a tree that was started already: `run()` waits for its end, and ends it.
    public init(_ supervisor: SupervisorRef) {
        description = supervisor.description
        start = { supervisor }
    }

    /// Starts the tree, and returns when its supervisor has ended.
    ///
    /// - Throws: ``SupervisorGaveUp``; `CancellationError` when the task was cancelled, and the tree therefore ended;
    ///   ``SupervisionError`` when a specification cannot be carried out.
    public func run() async throws {
        try Task.checkCancellation()
        let supervisor = try start()
        let givenUpFor = await withTaskCancellationHandler {
            await withGracefulShutdownHandler {
                await suspended { continuation in
                    supervisor.whenEnded { continuation.resume(returning: $0) }
                }
            } onGracefulShutdown: {
                supervisor.stop {}
            }
        } onCancel: {
            supervisor.kill(then: {})
        }
        if let givenUpFor { throw SupervisorGaveUp(supervisor: supervisor.path, reason: givenUpFor) }
        try Task.checkCancellation()
    }
}

/// A supervisor ended because there were more restarts than its intensity allows.
public struct SupervisorGaveUp: Error, Sendable, CustomStringConvertible {
    /// Where it stood.
    public let supervisor: ProcPath
    /// What it gave up for: `linked`, with the id and the reason of the last child that failed.
    public let reason: ExitReason

    /// One line: which supervisor, and why.
    public var description: String { "supervisor \(supervisor) gave up: \(reason)" }
}
