// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

public import LightProc

extension Context {
    /// Runs `body` in a child task of this process and cancels that when its time is up.
    ///
    /// Code that does not suspend, or ignores cancellation, is not interrupted: this returns when `body` has. Of two
    /// deadlines, one in the other, the nearer counts. Asks in `body` wait no longer than the deadline. Costs a task and a
    /// timer.
    ///
    /// - Parameter timeout: How long `body` may take, on the executor's clock, which is virtual in tests.
    /// - Throws: ``DeadlineExceeded`` when the time was up before `body` had returned, whatever it returned or threw after that;
    ///   otherwise what `body` threw. A result that must not get lost, as a message: ``receive(_:within:)``.
    public func withTimeout<Result: Sendable>(
        _ timeout: Duration,
        _ body: @escaping @Sendable () async throws -> Result
    ) async throws -> Result {
        try await proc.withTimeout(timeout, body)
    }

    /// Runs `body` in a child task of this process and cancels that when the deadline has come; see ``withTimeout(_:_:)``.
    public func withDeadline<Result: Sendable>(
        _ deadline: Deadline,
        _ body: @escaping @Sendable () async throws -> Result
    ) async throws -> Result {
        try await proc.withDeadline(deadline, body)
    }

    /// The nearest deadline of the calling task in this process, or of its incarnation; nil if there is none.
    public var deadline: Deadline? { proc.deadline }

    /// What is left until ``deadline``; never negative, nil if there is none.
    public var remainingTime: Duration? { proc.remainingTime }

    /// The deadline that is so far away from now, on the executor's clock.
    public func deadline(after duration: Duration) -> Deadline { Deadline(instant: proc.scheduler.now + duration) }
}

extension BastionSystem {
    /// Starts a reactive process that nobody supervises and that lives no longer than a time.
    ///
    /// It is then ended with ``ExitReason/deadlineExceeded(_:)``, after the message in hand. Costs a timer.
    public func spawn<Body: Reactive>(_ body: Body, deadline: Duration) -> ProcRef<Body.Message> {
        let proc =
            hooks.map { LightProc.reactive(HookedAdapter(body, $0), on: executor) }
            ?? LightProc.reactive(ReactiveAdapter(body), on: executor)
        proc.limitLifetime(to: deadline)
        if let timeout = Body.receiveTimeout { proc.beginReceiveTimeout(timeout) }
        if let hooks { watch(proc, hooks) }
        return ProcRef(proc)
    }
}
