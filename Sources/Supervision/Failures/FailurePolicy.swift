// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

/// What is done about one failure of a child.
public enum FailureDecision: Sendable, Hashable, CaseIterable {
    /// It is restarted, whatever its restart type and limit; this counts for the intensity, and the strategy holds.
    case restart
    /// It goes on with the state that it has and the next message: for errors that the handler of a reactive child threw, or the one of
    /// `Children(_:handling:)`. Others cannot go on, after a trap nobody knows the state: these are restarted.
    case resume
    /// It is not restarted, whatever its restart type. The supervisor goes on.
    case stop
    /// The supervisor gives up, at once: the failure is the business of the one above, or of the program.
    case escalate
}

/// What is done about failures of a child, by what they were. A value: rules are tried in the order in which they were added; where none
/// fits the restart type decides. Starts that fail are failures, too, unless somebody waits for them, who is told instead.
///
/// ```swift
/// Children("orders", Orders()).onFailure(
///     FailurePolicy().on(OutOfStock.self, .resume).on(ConfigurationError.self, .escalate).onTrap(.restart)
/// )
/// Children("feed", Feed()).onFailure { failure in failure.timesInARow > 3 ? .stop : .restart }
/// ```
public struct FailurePolicy: Sendable {
    private enum Rule: Sendable {
        case matching(@Sendable (ExitReason) -> Bool, FailureDecision)
        case closure(@Sendable (ChildFailure) -> FailureDecision?)
    }
    private var rules: [Rule] = []
    /// How long a closure in a process of its own may take.
    static let timeToDecide = Duration.seconds(5)

    /// A policy without rules.
    public init() {}

    /// A policy of one closure; see ``deciding(_:)``.
    public init(_ decide: @escaping @Sendable (ChildFailure) -> FailureDecision?) {
        rules = [.closure(decide)]
    }

    /// Decides about errors of a type.
    public func on<Failure: Error>(_ type: Failure.Type, _ decision: FailureDecision) -> FailurePolicy {
        adding(
            .matching(
                { reason in
                    if case .error(let error) = reason { return error is Failure }
                    return false
                },
                decision
            )
        )
    }

    /// Decides about traps.
    public func onTrap(_ decision: FailureDecision) -> FailurePolicy {
        adding(.matching({ $0.trapReport != nil }, decision))
    }

    /// Decides about what no rule before fits.
    public func otherwise(_ decision: FailureDecision) -> FailurePolicy {
        adding(.matching({ _ in true }, decision))
    }

    /// Has a closure decide; nil leaves it to the rules behind.
    ///
    /// About what a handler or body threw it is called in the name of the child, before the incarnation ends, and may take as long as the handler
    /// itself; about other failures in a process of its own, which has 5 s. If it traps, or the incarnation or the time is over before it returns, the
    /// restart type decides: it is not asked about its own trap.
    public func deciding(_ decide: @escaping @Sendable (ChildFailure) -> FailureDecision?) -> FailurePolicy {
        adding(.closure(decide))
    }

    private func adding(_ rule: Rule) -> FailurePolicy {
        var policy = self
        policy.rules.append(rule)
        return policy
    }

    /// Whether a decision may run code of the user's.
    var hasClosures: Bool {
        rules.contains { if case .closure = $0 { true } else { false } }
    }

    func decision(about failure: ChildFailure) -> FailureDecision? {
        for rule in rules {
            switch rule {
            case .matching(let fits, let decision): if fits(failure.reason) { return decision }
            case .closure(let decide): if let decision = decide(failure) { return decision }
            }
        }
        return nil
    }
}

extension Children {
    /// Decides about failures of members by what they were.
    public func onFailure(_ policy: FailurePolicy) -> Children {
        var children = self
        children.features.failurePolicy = policy
        return children
    }

    /// Has a closure decide about failures of members; see ``FailurePolicy/deciding(_:)``.
    public func onFailure(_ decide: @escaping @Sendable (ChildFailure) -> FailureDecision?) -> Children {
        onFailure(FailurePolicy(decide))
    }
}

/// An error that was decided about.
struct DecidedError: Error {
    let error: any Error
    init(_ error: any Error) { self.error = error }
}

/// A handler whose errors are decided about before they end the process.
struct Resuming<Body: Reactive>: Reactive {
    private var body: Body

    init(_ body: Body) { self.body = body }

    static var receiveTimeout: Duration? { Body.receiveTimeout }

    mutating func receive(_ message: consuming Body.Message, in context: borrowing ReactiveContext<Self>) throws {
        let proc = context.proc
        do {
            try body.receive(message, in: ReactiveContext<Body>(proc))
        } catch {
            guard proc.record?.decide(about: error, proc.incarnation) == .resume else { throw error }
        }
    }

    mutating func receiveTimedOut(in context: borrowing ReactiveContext<Self>) throws {
        let proc = context.proc
        do {
            try body.receiveTimedOut(in: ReactiveContext<Body>(proc))
        } catch {
            guard proc.record?.decide(about: error, proc.incarnation) == .resume else { throw error }
        }
    }
}

extension ChildRecord {
    /// Decides about an error that an incarnation threw, in its name. What is not `resume` is kept for its end.
    ///
    /// - Parameter canResume: False where the code that threw is over.
    func decide(about error: any Error, _ incarnation: UInt32, canResume: Bool = true) -> FailureDecision? {
        // Of the test kit, in the place of a trap.
        guard let policy = features.failurePolicy, !(error is SimulatedTrap), !proc.isStopRequested else { return nil }
        let failure = failureInHand(.error(error))
        // If it ends before there is a decision, perhaps by a trap of the closure: nobody is asked about that.
        if policy.hasClosures { keep(.some(nil), incarnation) }
        var decision = policy.decision(about: failure)
        if decision == .resume, !canResume { decision = .restart }
        if decision == .resume {
            if policy.hasClosures { keep(nil, incarnation) }
            supervisor.tell(.resumed(failure), of: self)
        } else {
            keep(.some(decision), incarnation)
        }
        return decision
    }

    /// Keeps what is decided about the end of an incarnation, or that the restart type decides; nil: nothing is.
    private func keep(_ decision: FailureDecision??, _ incarnation: UInt32) {
        supervisor.decisions.withLock { decisions in
            // What comes too late is not about the next one.
            if !proc.isOver(incarnation) { decisions[id] = decision }
        }
    }
}

extension SupervisorCell {
    /// What is to be done about the end of a child, where that is known by now; nil if it is being decided: `decided` follows.
    ///
    /// - Parameter isOpen: Whether anything depends on it: the child was not to end anyway.
    func decision(about child: ChildRecord, _ reason: ExitReason, isOpen: Bool) -> SupervisorMachine.Decision?? {
        guard let policy = child.features.failurePolicy else { return .some(nil) }
        let made = decisions.withLock { $0.removeValue(forKey: child.id) }
        guard reason.isFailure, isOpen else { return .some(nil) }
        if let decision = made {
            return .some(decision.map(SupervisorMachine.Decision.init))
        }
        let failure = child.failure(reason) ?? child.failureInHand(reason)
        guard policy.hasClosures else {
            return .some(policy.decision(about: failure).map(SupervisorMachine.Decision.init))
        }
        let answer = Locked<FailureDecision?>(nil)
        let (caller, _) = LightProc.recoverableBlocking(
            on: system.executor,
            stack: ProcStack(name: "failure policy of \(child.name)")
        ) {
            let decision = policy.decision(about: failure)
            answer.withLock { $0 = decision }
        }
        let id = child.id
        let done = OneCall { [self] in
            send(.decided(id, reason, answer.withLock { $0 }.map(SupervisorMachine.Decision.init)))
        }
        caller.notifyWhenEnded { _ in done() }
        let timer = system.executor.wake(after: FailurePolicy.timeToDecide) { done() }
        caller.notifyWhenEnded { _ in timer.cancel() }
        caller.restart()
        return nil
    }
}

extension SupervisorMachine.Decision {
    init(_ decision: FailureDecision) {
        switch decision {
        case .restart, .resume: self = .restart
        case .stop: self = .stop
        case .escalate: self = .escalate
        }
    }
}
