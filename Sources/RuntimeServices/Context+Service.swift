// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

public import ServiceLifecycle
// The only way of the package to signal a service that runs in no `ServiceGroup`; a group costs eight tasks and an actor, which
// a trap in the service would leave behind.
import ServiceLifecycleTestKit
public import Supervision

extension Context {
    /// Runs a service as this process, until it returns: a body that does nothing else is that service, supervised.
    ///
    /// ```swift
    /// @main
    /// struct Server: FortProgram {
    ///     func run(in context: Context) async throws { try await context.run(application()) }
    /// }
    /// ```
    /// When the process is asked to stop the service gets the graceful shutdown, and is cancelled only when the shutdown time is over. Everything else is
    /// the process's: what the service throws, traps, child tasks. One service at a time; for several, supervise ``Children`` of services. Returns
    /// at once when the process was asked to stop before.
    ///
    /// - Throws: What the service throws.
    public func run(_ service: any Service) async throws {
        try await runService { service }
    }

    /// As above, of a service that is made when it is known that the process was not asked to stop before.
    func runService(_ make: () async throws -> any Service) async throws {
        try await testGracefulShutdown { trigger in
            // Asked to stop before it began: nothing is there to be shut down.
            guard signalStop(by: { trigger.triggerGracefulShutdown() }) else { return }
            try await make().run()
        }
    }
}
