// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

/// What was changed of a supervisor that runs.
enum LiveChange: Sendable {
    case rules(SupervisionRules)
    /// The group of that name.
    case child(Children)
    /// Of the supervisor of that name below it.
    case nested(String, NestSpec)
}

/// What a supervisor that is a child of another is made of, at every start.
final class NestSpec: Sendable {
    let rules: SupervisionRules
    let callbacks: Callbacks?
    let children: [Children]

    init(rules: SupervisionRules, callbacks: Callbacks?, children: [Children]) {
        self.rules = rules
        self.callbacks = callbacks
        self.children = children
    }

    /// The same, changed. What was added to the running supervisor is none of it.
    func with(_ change: LiveChange) -> NestSpec {
        var (rules, children) = (rules, children)
        switch change {
        case .rules(let new):
            rules = new
        case .child(let new):
            children = children.map { $0.name == new.name ? new.inThePlace(of: $0) : $0 }
        case .nested(let name, let spec):
            for index in children.indices where children[index].name == name { children[index].nest = spec }
        }
        return NestSpec(rules: rules, callbacks: callbacks, children: children)
    }

    /// Checks all that is below, so that nothing starts where something cannot.
    func validate(name: String) throws(SupervisionError) {
        for child in children { try child.validate() }
        try Siblings.validate(children)
        try rules.validate(children, of: name)
    }
}

/// A supervisor as the child of another: the same over restarts, with a fresh supervisor inside each time.
///
/// The child is a process that does nothing itself; the supervisor belongs to its incarnation. So the supervisor above starts,
/// stops and restarts it like any child, and waits until all below has ended.
final class Nest: Sendable {
    let name: String
    /// With what the next incarnation begins: what it was made of, with all changes since.
    private let spec: Locked<NestSpec>
    private let cell: Locked<SupervisorCell>
    /// Nil once it has ended, and nobody refers to it.
    private weak let parent: SupervisorCell?

    init(_ spec: NestSpec, name: String, under parent: SupervisorCell) {
        self.spec = Locked(spec)
        self.name = name
        self.parent = parent
        cell = Locked(Self.cell(spec, name, under: parent, cores: nil) { _ in })
        // What is told to it before there is a real one must not get lost in silence.
        current.abandon()
    }

    /// Holds for this supervisor also when it, or one above it, is started again.
    private func remember(_ change: LiveChange) {
        let (before, now) = spec.withLock { spec in
            let before = spec
            spec = spec.with(change)
            return (before, spec)
        }
        // The user's is in it: not under the lock.
        withExtendedLifetime(before) {}
        parent?.changed(.nested(name, now))
    }

    /// The supervisor of the present incarnation; of one that has not begun, an empty one.
    var current: SupervisorCell { cell.withLock { $0 } }

    /// An incarnation begins: what is below starts. In the name of the child's process, when that starts.
    func begin(_ proc: LightProc, _ record: ChildRecord) throws {
        let incarnation = proc.incarnation
        let spec = spec.withLock { $0 }
        let fresh = Self.cell(spec, name, under: record.supervisor, cores: proc.cores) { [weak proc] reason in
            proc?.end(incarnation, for: reason)
        }
        fresh.onChange { [weak self] change in self?.remember(change) }
        let records = try fresh.makeGroups(spec.children, mustStart: true)
        guard record.own(fresh, incarnation: incarnation) else { return fresh.discard(records) }
        let before = cell.withLock { cell in
            defer { cell = fresh }
            return cell
        }
        withExtendedLifetime(before) {}
        // Who limits that limits it for the child; see `startsWithin`.
        let time = ShutdownTime.infinity.limit
        let ticket = StartTicket(records, isWhole: true, within: time) { [weak record, weak proc] error in
            if let error { proc?.end(incarnation, for: .error(error)) } else { record?.started(incarnation) }
        }
        fresh.begin(ticket)
    }

    /// Stops or kills it as a child of the one above, so that it stays down; where that one ends anyway, or has it no more, it ends by
    /// itself. `done` is called once all below have ended.
    func end(kills: Bool, then done: @escaping @Sendable () -> Void) {
        let answer = OneAnswer(orElse: false) { [self] isDone in
            if isDone { return done() }
            if kills { current.kill(then: done) } else { current.stop(then: done) }
        }
        guard let parent else { return answer.give(false) }
        parent.send(.call(.endNest(self, kills: kills) { answer.give($0) }))
    }

    private static func cell(
        _ spec: NestSpec,
        _ name: String,
        under parent: SupervisorCell,
        cores: CoreSet?,
        onEnd: @escaping @Sendable (ExitReason) -> Void
    ) -> SupervisorCell {
        let cell = SupervisorCell(
            name: name,
            path: "\(parent.path)/\(name)",
            parent: parent.parent,
            system: parent.system,
            rules: spec.rules,
            callbacks: spec.callbacks,
            cores: cores,
            onGivingUp: { _ in }
        )
        cell.onEnd { outcome, cause in
            switch outcome {
            // Whether it is restarted is for its restart type to say: so it is in OTP.
            case .stopped, .shutDown, .gaveUp: onEnd(.shutdown)
            case .escalated: onEnd(cause)
            }
        }
        return cell
    }
}

/// The body of the process that a nested supervisor is to the one above: it takes no messages.
struct NestBody: ReactiveBody {
    enum Message: Sendable {}

    static var isPlain: Bool { true }

    mutating func receive(_ message: consuming Message, on proc: LightProc) {}

    /// When the process starts, in its name.
    static func start() throws -> NestBody {
        guard let proc = LightProc.current, let record = proc.record, let nest = record.nest else {
            preconditionFailure("impossible: made for the process of a nested supervisor")
        }
        try nest.begin(proc, record)
        return NestBody()
    }
}
