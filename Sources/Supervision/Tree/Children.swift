// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

public import LightProc

/// A group of like children: how many, what they do, and when they are restarted.
public struct Children: Sendable {
    /// What the group is called; unique under its supervisor, not empty. No supervisor there may be called as a member is, now or ever: `name-0`, `name-1`, ...
    public let name: String
    /// How many members the group has; at least one.
    public internal(set) var redundancy: Int
    /// After which ends a member is started again.
    public internal(set) var restart: RestartType
    /// How long a member waits before it is started again.
    public internal(set) var backoff: Backoff
    /// How long an async child may take to return after it was asked to stop.
    public internal(set) var shutdownTime: ShutdownTime
    /// What becomes of a trap of a member; nil: what the system says.
    public let containment: ContainmentPolicy?
    /// How urgent the members are: whose turn is next, not for how long.
    public let priority: ProcPriority
    /// How long an incarnation of a member may live; nil: as long as it likes. See ``LightProc/ProcStack/deadline``.
    public let deadline: Duration?
    var dispatch = DispatchSpec()
    let messageType: Any.Type?
    /// How the members' mailboxes take messages; nil: any number, at no cost.
    public internal(set) var mailbox: MailboxPolicy?
    /// What happens to messages that members have failed on again and again; nil: nothing.
    public private(set) var poison: PoisonPolicy?
    private(set) var middleware: Middleware?
    private let takesMiddleware: Bool
    /// What else the group has; see Groups/.
    var features = GroupFeatures()
    /// The supervisor that the only member is; nil: it is none.
    var nest: NestSpec?
    /// Gives what makes the members' processes, which share what it holds.
    let maker: @Sendable (BastionSystem, Children) -> @Sendable () -> LightProc

    /// Whether messages go through a queue of this layer.
    private var isManaged: Bool { mailbox != nil || poison != nil || middleware != nil }

    /// Describes async children: each runs `body` in a task of its own.
    ///
    /// - Parameters:
    ///   - name: Members are called `name-0`, `name-1`, ...
    ///   - redundancy: How many; at least one.
    ///   - containment: What becomes of a trap of a member; nil: what the system says.
    ///   - priority: How urgent the members are.
    ///   - deadline: How long an incarnation may live before it is ended with `deadlineExceeded`, a failure.
    public init(
        _ name: String,
        redundancy: Int = 1,
        restart: RestartType = .permanent,
        backoff: Backoff = .none,
        shutdownTime: ShutdownTime = .seconds(5),
        containment: ContainmentPolicy? = nil,
        priority: ProcPriority = .normal,
        deadline: Duration? = nil,
        body: nonisolated(nonsending) @escaping @Sendable (Context) async throws -> Void
    ) {
        self.init(
            name,
            redundancy: redundancy,
            restart: restart,
            backoff: backoff,
            shutdownTime: shutdownTime,
            containment: containment,
            priority: priority,
            deadline: deadline,
            messageType: nil
        ) { context, _ in try await body(context) }
    }

    /// Describes async children that handle messages of one type, one after the other, until they are asked to stop.
    ///
    /// What `handler` throws ends the member. A group like this can have a ``middleware(_:)``.
    public init<Message: Sendable>(
        _ name: String,
        handling type: Message.Type,
        redundancy: Int = 1,
        restart: RestartType = .permanent,
        backoff: Backoff = .none,
        shutdownTime: ShutdownTime = .seconds(5),
        containment: ContainmentPolicy? = nil,
        priority: ProcPriority = .normal,
        deadline: Duration? = nil,
        handler: nonisolated(nonsending) @escaping @Sendable (Message, Context) async throws -> Void
    ) {
        self.init(
            name,
            redundancy: redundancy,
            restart: restart,
            backoff: backoff,
            shutdownTime: shutdownTime,
            containment: containment,
            priority: priority,
            deadline: deadline,
            messageType: Message.self
        ) { context, spec in
            for await message in context.messages(of: Message.self) {
                do {
                    if let middleware = spec.middleware {
                        try await context.handle(message, under: middleware, by: handler)
                    } else {
                        try await handler(message, context)
                    }
                } catch {
                    let decision = context.proc.record?.decide(about: error, context.incarnation)
                    guard decision == .resume else { throw DecidedError(error) }
                }
            }
        }
    }

    private init(
        _ name: String,
        redundancy: Int,
        restart: RestartType,
        backoff: Backoff,
        shutdownTime: ShutdownTime,
        containment: ContainmentPolicy?,
        priority: ProcPriority,
        deadline: Duration?,
        messageType: Any.Type?,
        run: nonisolated(nonsending) @escaping @Sendable (Context, Children) async throws -> Void
    ) {
        self.name = name
        self.redundancy = redundancy
        self.restart = restart
        self.backoff = backoff
        self.shutdownTime = shutdownTime
        self.containment = containment
        self.priority = priority
        self.deadline = deadline
        self.messageType = messageType
        takesMiddleware = messageType != nil
        maker = { system, spec in
            let hooks = system.hooks
            let watch = spec.features.startWatch
            let body: nonisolated(nonsending) @Sendable (LightProc) async throws -> Void = { proc in
                // First: what comes before the body may take longer than the incarnation lives.
                let context = Context(proc: proc, system: system)
                try hooks?.starting(proc)
                watch.begins(proc, context.incarnation)
                guard watch.made(proc, context.incarnation, isAsync: true) else { throw CancellationError() }
                do {
                    try await run(context, spec)
                } catch let error as DecidedError {
                    throw error.error
                } catch {
                    _ = proc.record?.decide(about: error, context.incarnation, canResume: false)
                    throw error
                }
            }
            return {
                let proc = LightProc.async(on: system.executor, body)
                proc.declareMessages(of: Envelope.self)
                if spec.isManaged {
                    let queue = MessageQueue(spec.mailbox ?? .unbounded, poison: spec.poison, in: system)
                    proc.manageMessages(of: Envelope.self, by: Companion(queue: queue))
                }
                proc.join(system.domain(for: containment))
                if let deadline { proc.limitLifetime(to: deadline) }
                if priority != .normal { proc.priority = priority }
                spec.pin(proc)
                return proc
            }
        }
    }

    /// Describes reactive children: each start makes a fresh value.
    ///
    /// Inlinable, so that the handler is specialised for its type of message: three times as fast.
    @inlinable
    public init<Body: Reactive>(
        _ name: String,
        _ behavior: @autoclosure @escaping @Sendable () throws -> Body,
        redundancy: Int = 1,
        restart: RestartType = .permanent,
        backoff: Backoff = .none,
        containment: ContainmentPolicy? = nil,
        priority: ProcPriority = .normal,
        deadline: Duration? = nil
    ) {
        self.init(
            name,
            redundancy: redundancy,
            restart: restart,
            backoff: backoff,
            containment: containment,
            priority: priority,
            deadline: deadline,
            messageType: Body.Message.self
        ) { system, spec in
            let behavior = spec.watched(behavior)
            return spec.specialReactive(behavior, in: system)
                ?? LightProc.reactiveMaker(on: system.executor) {
                    let adapter = try ReactiveAdapter(behavior())
                    ReactiveAdapter<Body>.begin()
                    return adapter
                }
        }
    }

    /// As above, around what gives what makes processes.
    @usableFromInline
    init(
        _ name: String,
        redundancy: Int,
        restart: RestartType,
        backoff: Backoff,
        shutdownTime: ShutdownTime = .seconds(5),
        containment: ContainmentPolicy?,
        priority: ProcPriority,
        deadline: Duration?,
        messageType: Any.Type,
        reactive: @escaping @Sendable (BastionSystem, Children) -> @Sendable () -> LightProc
    ) {
        self.name = name
        self.redundancy = redundancy
        self.restart = restart
        self.backoff = backoff
        self.shutdownTime = shutdownTime
        self.containment = containment
        self.priority = priority
        self.deadline = deadline
        self.messageType = messageType
        takesMiddleware = true
        maker = { system, spec in
            let make = reactive(system, spec)
            return {
                let proc = make()
                proc.join(system.domain(for: containment))
                if let deadline { proc.limitLifetime(to: deadline) }
                if priority != .normal { proc.priority = priority }
                spec.pin(proc)
                return proc
            }
        }
    }

    /// What makes the body, with what the group does around a start.
    @usableFromInline
    func watched<Body: Reactive>(
        _ behavior: @escaping @Sendable () throws -> Body
    ) -> @Sendable () throws -> Body {
        let watch = features.startWatch
        return { try watch.make(behavior) }
    }

    /// What makes processes with something around their handlers; nil if there is nothing.
    @usableFromInline
    func specialReactive<Body: Reactive>(
        _ behavior: @escaping @Sendable () throws -> Body,
        in system: BastionSystem
    ) -> (@Sendable () -> LightProc)? {
        if features.failurePolicy != nil {
            let resuming: @Sendable () throws -> Resuming<Body> = { try Resuming(behavior()) }
            return special(resuming, in: system)
                ?? LightProc.reactiveMaker(on: system.executor) {
                    let adapter = try ReactiveAdapter(resuming())
                    ReactiveAdapter<Resuming<Body>>.begin()
                    return adapter
                }
        }
        return special(behavior, in: system)
    }

    private func special<Body: Reactive>(
        _ behavior: @escaping @Sendable () throws -> Body,
        in system: BastionSystem
    ) -> (@Sendable () -> LightProc)? {
        let hooks = system.hooks
        guard isManaged else {
            return hooks.map { hooks in
                LightProc.reactiveMaker(on: system.executor) { try HookedAdapter(hooks, behavior) }
            }
        }
        let (mailbox, poison, middleware) = (mailbox ?? .unbounded, poison, middleware)
        return {
            let queue = MessageQueue(mailbox, poison: poison, in: system)
            let proc = LightProc.reactive(on: system.executor) {
                try ManagedAdapter(queue: queue, middleware: middleware, hooks: hooks, behavior)
            }
            proc.manageMessages(of: Body.Message.self, by: Companion(queue: queue))
            return proc
        }
    }

    /// Gives the members mailboxes with a policy: a bound, levels of urgency, a limit to how long messages wait.
    public func mailbox(_ policy: MailboxPolicy) -> Children {
        var children = self
        children.mailbox = policy
        return children
    }

    /// Sets aside, drops, or stops at messages on which members have failed again and again.
    public func poison(_ policy: PoisonPolicy) -> Children {
        var children = self
        children.poison = policy
        return children
    }

    /// Puts something around the handling of each message: the first outermost, inside of what was put before.
    ///
    /// For reactive groups, and those with a `handler`; a body that receives by itself has no handler to put it around.
    public func middleware(_ middleware: Middleware...) -> Children {
        var children = self
        children.middleware = middleware.reduce(children.middleware ?? .none) { $0.then($1) }
        return children
    }

    func validate() throws(SupervisionError) {
        if name.isEmpty {
            throw SupervisionError(.emptyName, "a group of children needs a name that is not empty")
        }
        try ProcPath.validate(name, of: "group")
        if redundancy < 1 {
            throw SupervisionError(.badRedundancy, "group \(name): redundancy must be at least 1, got \(redundancy)")
        }
        if shutdownTime.limit < .zero {
            throw SupervisionError(
                .badShutdownTime,
                "group \(name): the shutdown time must not be negative, got \(shutdownTime)"
            )
        }
        if features.isSignificant, restart == .permanent {
            throw SupervisionError(
                .significantPermanent,
                "group \(name): a permanent child is always restarted, and so never significant; make it transient or temporary"
            )
        }
        if let limit = features.restartLimit, limit < 0 {
            throw SupervisionError(
                .badRestartLimit,
                "group \(name): the number of restarts must not be negative, got \(limit)"
            )
        }
        if let flaw = backoff.flaw { throw SupervisionError(.badBackoff, "group \(name): \(flaw)") }
        if let time = features.startDeadline, time <= .zero {
            throw SupervisionError(.badStartTime, "group \(name): the time for a start must be positive, got \(time)")
        }
        if let deadline, deadline <= .zero {
            throw SupervisionError(.badDeadline, "group \(name): the deadline must be positive, got \(deadline)")
        }
        try mailbox?.validate(group: name)
        try poison?.validate(group: name)
        if middleware != nil, !takesMiddleware {
            throw SupervisionError(
                .noHandler,
                "group \(name): middleware needs a handler to go around; describe the group with `handling:`"
            )
        }
        try features.validate(group: name, redundancy: redundancy)
        try dispatch.validate(group: name)
        try nest?.validate(name: name)
    }
}

/// Lists groups of children, in the order in which they start.
@resultBuilder
public enum ChildrenBuilder {
    /// Joins the groups of all statements, in order.
    public static func buildBlock(_ groups: [Children]...) -> [Children] { groups.flatMap { $0 } }
    /// Takes one group as a list of one.
    public static func buildExpression(_ group: Children) -> [Children] { [group] }
    /// Takes the groups of an `if` without `else`: none when the condition does not hold.
    public static func buildOptional(_ groups: [Children]?) -> [Children] { groups ?? [] }
    /// Takes the groups of the branch of an `if` or `switch` that was chosen.
    public static func buildEither(first groups: [Children]) -> [Children] { groups }
    /// Takes the groups of the other branch.
    public static func buildEither(second groups: [Children]) -> [Children] { groups }
    /// Joins the groups that the rounds of a `for` loop made, in order.
    public static func buildArray(_ groups: [[Children]]) -> [Children] { groups.flatMap { $0 } }
}

/// A specification that cannot be carried out, or a name that is not there.
public struct SupervisionError: Error, Sendable, CustomStringConvertible {
    /// What is wrong; compare with the static members, more of which may be added.
    public struct Code: Hashable, Sendable {
        private let name: String
        /// A group of children has an empty name.
        public static let emptyName = Code(name: "emptyName")
        /// A name cannot stand in a path: see ``ProcPath``.
        public static let badName = Code(name: "badName")
        /// Two groups under one supervisor have the same name, or a supervisor is called as members of a group beside it: `a-0` beside `a`.
        public static let duplicateName = Code(name: "duplicateName")
        /// A group has less than one member, or was to have.
        public static let badRedundancy = Code(name: "badRedundancy")
        /// The time that a child may take to stop is negative.
        public static let badShutdownTime = Code(name: "badShutdownTime")
        /// A significant child is permanent.
        public static let significantPermanent = Code(name: "significantPermanent")
        /// A child is significant under a supervisor that never shuts itself down.
        public static let significantWithoutAutoShutdown = Code(name: "significantWithoutAutoShutdown")
        /// The number of restarts that a child may have is negative.
        public static let badRestartLimit = Code(name: "badRestartLimit")
        /// The number of restarts that a supervisor tolerates is negative, or the period is not positive.
        public static let badIntensity = Code(name: "badIntensity")
        /// The backoff has a time or number that makes no sense.
        public static let badBackoff = Code(name: "badBackoff")
        /// The time that a start may take is not positive.
        public static let badStartTime = Code(name: "badStartTime")
        /// The supervisor has no child of this name.
        public static let unknownChild = Code(name: "unknownChild")
        /// The child is running.
        public static let childRunning = Code(name: "childRunning")
        /// The child is about to be restarted.
        public static let childRestarting = Code(name: "childRestarting")
        /// The child is being stopped.
        public static let childStopping = Code(name: "childStopping")
        /// The supervisor is dynamic: its children are not restarted or deleted by name.
        public static let dynamicSupervisor = Code(name: "dynamicSupervisor")
        /// The policy of the mailbox has a number that makes no sense.
        public static let badMailbox = Code(name: "badMailbox")
        /// The group has a middleware, but receives its messages by itself.
        public static let noHandler = Code(name: "noHandler")
        /// The time that an incarnation of a child may live is not positive.
        public static let badDeadline = Code(name: "badDeadline")
        /// The supervisor has no group of this name.
        public static let unknownGroup = Code(name: "unknownGroup")
        /// The group takes messages of another type.
        public static let wrongMessageType = Code(name: "wrongMessageType")
        /// The name that a member of the group was to have belongs to another process.
        public static let nameTaken = Code(name: "nameTaken")
        /// The distributor exists, with another strategy.
        public static let conflictingStrategy = Code(name: "conflictingStrategy")
        /// The dispatcher exists, with another handler.
        public static let conflictingDispatcher = Code(name: "conflictingDispatcher")
        /// The heartbeat has a time or number that makes no sense.
        public static let badHeartbeat = Code(name: "badHeartbeat")
        /// The group is pinned to processors, or a NUMA node, on which the executor has no worker.
        public static let badPinning = Code(name: "badPinning")
        /// The resizer has bounds or numbers that make no sense.
        public static let badResizer = Code(name: "badResizer")
        /// The supervisor has ended, or is stopping.
        public static let supervisorStopped = Code(name: "supervisorStopped")
    }
    /// What is wrong, for programs.
    public let code: Code
    /// What is wrong and how to mend it, for humans.
    public let description: String

    init(_ code: Code, _ description: String) {
        self.code = code
        self.description = description
    }
}
