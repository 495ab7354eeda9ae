// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

extension Context {
    /// Handles a message under a middleware; one that is dropped becomes a dead letter.
    func handle<Message: Sendable>(
        _ message: Message,
        under middleware: Middleware,
        by handler: @escaping @Sendable (Message, Context) async throws -> Void
    ) async throws {
        let now = proc.scheduler.now
        let handling = Middleware.Handling(
            Message.self,
            sent: (proc.managedQueue?.lastTaken).map { Swift.min($0, now) } ?? now,
            deadline: proc.deadlineInHand,
            by: proc,
            in: system
        )
        do {
            try await middleware.later(handling) { try await handler(message, self) }
        } catch let error as DroppedMessage {
            proc.askInHand?.fail(.dropped)
            system.deadLetter(of: Message.self, to: proc, error.reason)
        }
    }
}
