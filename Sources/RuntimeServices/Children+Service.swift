// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

public import LightProc
public import ServiceLifecycle
public import Supervision

extension Children {
    /// Describes children that run a service each: an async child whose body is the service's `run()`.
    ///
    /// A member that is asked to stop is not cancelled: its service gets the graceful shutdown (`withGracefulShutdownHandler`,
    /// `gracefulShutdown()` and the like, in its child tasks too), handlers of which run on a worker, in the name of the process.
    /// When the shutdown time is over the member is killed: its task is cancelled, and has that time once more.
    ///
    /// | `run()` | the member ends with |
    /// |---|---|
    /// | returns | `normal`, or `shutdown` if it was asked to stop |
    /// | throws | `error`; a `CancellationError` after it was asked to stop is `shutdown` |
    /// | traps, in its own task or a child task | `trap`; what other threads run for it, as event loops, is not contained |
    ///
    /// - Parameters:
    ///   - name: Members are called `name-0`, `name-1`, ...
    ///   - service: Called at each start, in the process: a service that was run once cannot be run again. What it throws ends the
    ///     member as `run()` would have.
    ///   - redundancy: How many; at least one.
    ///   - shutdownTime: How long the graceful shutdown may take, and after it the cancellation.
    ///   - containment: What becomes of a trap of a member; nil: what the system says.
    ///   - priority: How urgent the members are.
    ///   - deadline: How long an incarnation may live before it is ended with `deadlineExceeded`, a failure.
    public init(
        _ name: String,
        service: @autoclosure @escaping @Sendable () throws -> any Service,
        redundancy: Int = 1,
        restart: RestartType = .permanent,
        backoff: Backoff = .none,
        shutdownTime: ShutdownTime = .seconds(5),
        containment: ContainmentPolicy? = nil,
        priority: ProcPriority = .normal,
        deadline: Duration? = nil
    ) {
        self.init(
            service: name,
            redundancy: redundancy,
            restart: restart,
            backoff: backoff,
            shutdownTime: shutdownTime,
            containment: containment,
            priority: priority,
            deadline: deadline
        ) { _ in try service() }
    }

    /// As above, for a service that takes time to make, or is made of its process's context: with what the process owns
    /// (``Context/own(fileDescriptor:)``), or what is to be done at its end (``Context/onExit(_:)``), also after a trap.
    public init(
        service name: String,
        redundancy: Int = 1,
        restart: RestartType = .permanent,
        backoff: Backoff = .none,
        shutdownTime: ShutdownTime = .seconds(5),
        containment: ContainmentPolicy? = nil,
        priority: ProcPriority = .normal,
        deadline: Duration? = nil,
        _ make: @escaping @Sendable (Context) async throws -> any Service
    ) {
        self.init(
            name,
            redundancy: redundancy,
            restart: restart,
            backoff: backoff,
            shutdownTime: shutdownTime,
            containment: containment,
            priority: priority,
            deadline: deadline
        ) { context in
            try await context.runService { try await make(context) }
        }
    }
}
