// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

public import LightProc

/// A supervisor in a tree: stands beside ``Children`` where a supervisor's children are listed.
///
/// ```swift
/// try await system.supervise("shop", startingWithin: .seconds(5), strategy: .restForOne) {
///     Children("prices", PriceFeed())
///     Supervisor("orders", strategy: .oneForAll, intensity: .init(3, within: .seconds(10))) {
///         Children("intake", Intake())
///         Children("workers", redundancy: 8) { context in ... }
///     }
/// }
/// ```
///
/// It is a child like others: it starts when its turn has come, has started when the last of its children has, is stopped with all that is below
/// it, in reverse order, and restarted as its type says, which makes everything below anew. It ends with `shutdown` when it has given
/// up or shut itself down, as in OTP: then only a permanent one is restarted. When its children fail to start it has failed to start.
public struct Supervisor: Sendable {
    var children: Children

    /// Describes a supervisor.
    ///
    /// - Parameters:
    ///   - name: Unique among its siblings; the last component of its path.
    ///   - strategy: Which children share the fate of one that failed.
    ///   - intensity: How many restarts it tolerates before it gives up.
    ///   - autoShutdown: Whether it ends when significant children have.
    ///   - restart: After which of its own ends it is started again.
    ///   - backoff: How long it then waits before.
    ///   - shutdownTime: How long all below may take to stop before it is killed.
    ///   - callbacks: Called around the start and after the end of all children together; see ``Callbacks``.
    public init(
        _ name: String,
        strategy: RestartStrategy = .oneForOne,
        intensity: RestartIntensity = .default,
        autoShutdown: AutoShutdown = .never,
        restart: RestartType = .permanent,
        backoff: Backoff = .none,
        shutdownTime: ShutdownTime = .infinity,
        callbacks: Callbacks? = nil,
        @ChildrenBuilder children: () throws -> [Children]
    ) rethrows {
        let rules = SupervisionRules(strategy: strategy, intensity: intensity, autoShutdown: autoShutdown)
        self.children = Children(
            name,
            restart: restart,
            backoff: backoff,
            shutdownTime: shutdownTime,
            nest: NestSpec(rules: rules, callbacks: callbacks, children: try children())
        )
    }

    /// Makes it significant to the supervisor above; see ``Children/significant(_:)``.
    public func significant(_ isSignificant: Bool = true) -> Supervisor {
        var supervisor = self
        supervisor.children = children.significant(isSignificant)
        return supervisor
    }

    /// Limits how long its start may take, with all that is below; see ``Children/startsWithin(_:)``.
    public func startsWithin(_ time: Duration) -> Supervisor {
        var supervisor = self
        supervisor.children = children.startsWithin(time)
        return supervisor
    }

    /// Pins all below, as far as it is not pinned itself; see ``Children/pinned(to:)``.
    public func pinned(to cores: CoreSet) -> Supervisor {
        var supervisor = self
        supervisor.children = children.pinned(to: cores)
        return supervisor
    }

    /// Limits how many times it is restarted; see ``Children/restartedAtMost(_:)``.
    public func restartedAtMost(_ times: Int) -> Supervisor {
        var supervisor = self
        supervisor.children = children.restartedAtMost(times)
        return supervisor
    }
}

extension Children {
    /// The one member is a supervisor.
    fileprivate init(
        _ name: String,
        restart: RestartType,
        backoff: Backoff,
        shutdownTime: ShutdownTime,
        nest: NestSpec
    ) {
        self.init(
            name,
            redundancy: 1,
            restart: restart,
            backoff: backoff,
            shutdownTime: shutdownTime,
            containment: nil,
            priority: .normal,
            deadline: nil,
            messageType: NestBody.Message.self
        ) { system, _ in LightProc.reactiveMaker(on: system.executor, make: NestBody.start) }
        self.nest = nest
        // It has started when what is below has, and says so.
        features.isStartAwaited = true
    }
}

extension ChildrenBuilder {
    /// Takes a nested supervisor as a child.
    public static func buildExpression(_ supervisor: Supervisor) -> [Children] { [supervisor.children] }
}
