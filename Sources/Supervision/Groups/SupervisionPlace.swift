// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// Where supervisors are started: at the top of a ``BastionSystem``, or in a process, by its ``Context``.
public protocol SupervisionPlace: Sendable {
    /// Starts one group under a supervisor of its own, which has the group's name.
    ///
    /// - Throws: ``SupervisionError`` when the specification cannot be carried out; then nothing was started. In a process
    ///   `CancellationError` when the incarnation is over; then everything is stopped again.
    func supervise(_ group: Children, intensity: RestartIntensity) throws -> SupervisorRef
}

extension BastionSystem: SupervisionPlace {
    /// Starts one group at the top of the system, under a supervisor of its own, which has the group's name.
    public func supervise(_ group: Children, intensity: RestartIntensity) throws -> SupervisorRef {
        try supervise(group.name, intensity: intensity) { group }
    }
}

extension Context: SupervisionPlace {
    /// Starts one group under a supervisor of its own that belongs to this process, and has the group's name.
    public func supervise(_ group: Children, intensity: RestartIntensity) throws -> SupervisorRef {
        try supervise(group.name, intensity: intensity) { group }
    }
}

extension SupervisionPlace {
    /// Starts a group of async children, under a supervisor of its own with the same name (``Group/supervisor``).
    ///
    /// - Throws: As ``supervise(_:intensity:)``.
    @discardableResult
    public func children<Message: Sendable>(
        _ name: String = "children",
        of type: Message.Type = (any Sendable).self,
        redundancy: Int = 1,
        restart: RestartType = .permanent,
        backoff: Backoff = .none,
        intensity: RestartIntensity = .default,
        shutdownTime: ShutdownTime = .seconds(5),
        body: nonisolated(nonsending) @escaping @Sendable (Context) async throws -> Void
    ) throws -> Group<Message> {
        let group = Children(
            name,
            redundancy: redundancy,
            restart: restart,
            backoff: backoff,
            shutdownTime: shutdownTime,
            body: body
        )
        return try supervise(group, intensity: intensity).group(name)
    }

    /// Starts a group under a supervisor of its own with the same name (``Group/supervisor``).
    ///
    /// - Throws: As ``supervise(_:intensity:)``; `wrongMessageType` when the group takes messages of another type, and then nothing
    ///   was started either.
    @discardableResult
    public func children<Message: Sendable>(
        _ group: Children,
        of type: Message.Type = Message.self,
        intensity: RestartIntensity = .default
    ) throws -> Group<Message> {
        if let taken = group.messageType, taken != type {
            throw SupervisionError(.wrongMessageType, "group \(group.name) takes \(taken), not \(type)")
        }
        return try supervise(group, intensity: intensity).group(group.name)
    }
}
