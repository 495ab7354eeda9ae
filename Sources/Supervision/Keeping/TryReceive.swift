// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

extension Context {
    /// Takes the next message of a type if one waits. Those of other types that are before it become dead letters.
    ///
    /// Does not wait; it suspends only to let others have their turn, when this process has spent its reductions.
    /// - Returns: Nil when none waits.
    /// - Throws: `CancellationError` when the process is asked to stop.
    public nonisolated(nonsending) func tryReceive<Message: Sendable>(
        _ type: Message.Type = Message.self
    ) async throws -> Message? {
        if !LightProc.mayGoOn { await Task.yield() }
        // Ends: each round takes a message.
        while !Task.isCancelled, !proc.isStopRequested {
            guard let node = proc.takeNode() else { return nil }
            let envelope = node.open(as: Envelope.self).message
            proc.received(envelope.typeWord)
            // Not before the hooks have seen what it stands for.
            guard let envelope = unbell(envelope) else { continue }
            if let hooks = system.hooks { try await spoil(hooks, envelope.message) }
            if let message = envelope.message(as: type) ?? unwrap(envelope, as: type) { return message }
        }
        throw CancellationError()
    }

    /// As ``tryReceive(_:)``, of whatever type and however it was sent.
    public nonisolated(nonsending) func tryReceive() async throws -> AnyMessage? {
        try await tryReceive(AnyMessage.self)
    }
}
