// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

/// What Erlang/OTP's `supervisor` module does with single children. A child is called as in `orders-3`; the only member of a
/// group, and a nested supervisor, also by the name of the group.
///
/// The supervisor answers between two events of its own, also while children start, stop or wait. Any thread.
extension SupervisorRef {
    /// Stops a child; returns when it has ended.
    ///
    /// It stays specified, and can be started by ``restart(child:)``, unless it is temporary or its supervisor dynamic: then it is gone. References
    /// to its process are refused from then on. No failure: nothing is restarted because of it, and it does not count for an auto-shutdown. With
    /// a supervisor everything below it is stopped. Of a child that is down already nothing is to be done.
    /// - Throws: `unknownChild`, `supervisorStopped`.
    public func terminate(child name: String) async throws(SupervisionError) {
        try await call { .terminate(name, kills: false, $0) }
    }

    /// Kills a child, and all below it at the same time; returns when it has ended. Otherwise as ``terminate(child:)``.
    ///
    /// A child that is being terminated already is killed as well.
    /// - Throws: `unknownChild`, `supervisorStopped`.
    public func kill(child name: String) async throws(SupervisionError) {
        try await call { .terminate(name, kills: true, $0) }
    }

    /// Starts a child that is down; returns when it has started.
    ///
    /// It is a new process, under the old name.
    /// - Throws: ``SupervisionError``: `dynamicSupervisor`, as in OTP, `unknownChild`, `childRunning`, `childRestarting`, `childStopping`, `supervisorStopped`. ``StartError`` when it ended before
    ///   it had started: it is down then, and that does not count as a restart.
    public func restart(child name: String) async throws {
        typealias Problem = SupervisorCall.RestartProblem
        let problem = await suspended { (continuation: UnsafeContinuation<Problem?, Never>) in
            let answer = OneAnswer<Problem?>(orElse: .ended(nil)) { continuation.resume(returning: $0) }
            supervisor.send(.call(.restart(name, answer)))
        }
        switch problem {
        case nil: return
        case .refused(let error): throw error
        case .ended(nil):
            throw SupervisionError(.supervisorStopped, "supervisor \(supervisor.path) has ended, or is stopping")
        case .ended(let reason):
            throw StartError(code: .failed, child: name, path: "\(supervisor.path)/\(name)", reason: reason)
        }
    }

    /// Forgets a child that is down.
    ///
    /// - Throws: `dynamicSupervisor`, as in OTP, `unknownChild`, `childRunning`, `childRestarting`, `childStopping`, `supervisorStopped`.
    public func delete(child name: String) async throws(SupervisionError) {
        try await call { .delete(name, $0) }
    }

    /// The children, in the order in which they start; none when the supervisor has ended. O(children).
    public func whichChildren() async -> [ChildInfo] {
        await suspended { continuation in
            let answer = OneAnswer<[ChildInfo]>(orElse: []) { continuation.resume(returning: $0) }
            supervisor.send(.call(.list { answer.give($0) }))
        }
    }

    /// How many children there are. O(children).
    public func countChildren() async -> ChildCounts {
        await suspended { continuation in
            let answer = OneAnswer(orElse: ChildCounts()) { continuation.resume(returning: $0) }
            supervisor.send(.call(.count { answer.give($0) }))
        }
    }

    /// What a group is made of at present.
    ///
    /// - Throws: `unknownGroup`.
    public func spec(of group: String) throws(SupervisionError) -> Children {
        let record = try supervisor.group(group)
        if let spec = record.spec { return spec }
        throw SupervisionError(.unknownGroup, "the group \(group) has ended")
    }

    /// Changes how the supervisor decides, from now on; what is nil stays. Restarts that were counted go on counting.
    ///
    /// Of a nested supervisor it holds over restarts, also of those above.
    ///
    /// What is under way (children that are stopped together, to be started again) goes on as it began. Under a supervisor that becomes dynamic
    /// nobody is down: children that are, or come to be, are gone.
    /// - Throws: `badIntensity`, `significantWithoutAutoShutdown`, `supervisorStopped`.
    public func change(
        strategy: RestartStrategy? = nil,
        intensity: RestartIntensity? = nil,
        autoShutdown: AutoShutdown? = nil
    ) async throws(SupervisionError) {
        try await call { .change(strategy, intensity, autoShutdown, $0) }
    }

    /// Changes what a group is made of; the group of that name must be there, and its number of members stays.
    ///
    /// Restart type, shutdown time, backoff, limits and significance count from now on. What it runs, and the rest, as callbacks, count for processes that are made from
    /// now on: those that are started after they were down, or added; but one that was started with a specification of its own
    /// (``start(child:of:within:)``) is made of that again. Of a nested supervisor it holds over restarts, also of those above.
    /// - Throws: As when a group is added; `unknownGroup`.
    public func change(_ group: Children) async throws(SupervisionError) {
        try await call { .changeSpec(group, $0) }
    }

    /// Changes how a nested supervisor is dealt with as a child of this one, from the next decision about it on; what is nil stays.
    ///
    /// What is below it goes on. The change holds over restarts, also of those above. What the nested supervisor itself goes by is changed by
    /// its own reference (``supervisor(_:)``).
    /// - Parameters:
    ///   - restart: After which of its ends it is started again.
    ///   - backoff: How long it then waits before.
    ///   - shutdownTime: How long all below may take to stop; a stop that is under way keeps its own.
    ///   - isSignificant: Whether its end may end this one.
    /// - Throws: `unknownChild` when there is no supervisor of this name; as when it is added, as `badBackoff` or `significantPermanent`;
    ///   `supervisorStopped`. Then nothing was changed.
    public func change(
        supervisor name: String,
        restart: RestartType? = nil,
        backoff: Backoff? = nil,
        shutdownTime: ShutdownTime? = nil,
        isSignificant: Bool? = nil
    ) async throws(SupervisionError) {
        let change = NestChange(
            restart: restart,
            backoff: backoff,
            shutdownTime: shutdownTime,
            isSignificant: isSignificant
        )
        try await call { .changeNest(name, change, $0) }
    }

    /// The nested supervisor of a name; the reference stays valid over its restarts.
    ///
    /// - Throws: `unknownChild` when there is none.
    public func supervisor(_ name: String) throws(SupervisionError) -> SupervisorRef {
        if let nest = supervisor.roster.child(name)?.nest { return SupervisorRef(nest: nest) }
        throw SupervisionError(.unknownChild, "supervisor \(supervisor.path) has no supervisor \(name) below it")
    }

    private func call(
        _ make: (@escaping @Sendable (SupervisionError?) -> Void) -> SupervisorCall
    ) async throws(SupervisionError) {
        let hasEnded = SupervisionError(.supervisorStopped, "supervisor \(supervisor.path) has ended, or is stopping")
        let error = await suspended { (continuation: UnsafeContinuation<SupervisionError?, Never>) in
            let answer = OneAnswer<SupervisionError?>(orElse: hasEnded) { continuation.resume(returning: $0) }
            supervisor.send(.call(make { answer.give($0) }))
        }
        if let error { throw error }
    }
}
