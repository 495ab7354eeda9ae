// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
public import LightProc
public import Logging

/// What an async child knows of its surroundings. Valid for one incarnation.
public struct Context: Sendable {
    @usableFromInline let proc: LightProc
    /// The system that this process lives in.
    public let system: BastionSystem
    let incarnation: UInt32

    init(proc: LightProc, system: BastionSystem) {
        self.proc = proc
        self.system = system
        incarnation = proc.incarnation
    }

    /// The identity of this process; it stays the same over restarts.
    public var id: ProcID { proc.id }
    /// What this child is called: its group's name and its number in it, as in `worker-0`.
    public var name: String { proc.name ?? "" }

    /// How many times this child was restarted before.
    public var restarts: Int { proc.restarts }

    /// Where this child stands in the tree of supervisors, as in `/shop/orders-3`.
    public var path: String { proc.path ?? "" }

    /// The system's log, with this process's name and path.
    public var log: Logger { system.log(of: proc) }

    // MARK: Messages

    /// A reference to this process that takes messages of one type.
    public func me<Message: Sendable>(as type: Message.Type = Message.self) -> ProcRef<Message> { ProcRef(proc) }

    /// Waits for the next message of a type. Those of other types become dead letters.
    ///
    /// - Throws: `CancellationError` when the process is asked to stop.
    @inlinable
    nonisolated(nonsending) public func receive<Message: Sendable>(
        _ type: Message.Type = Message.self
    ) async throws -> Message {
        if system.hasHooks { return try await receiveSpoilt(type) }
        guard let message = await next(type) else { throw CancellationError() }
        return message
    }

    /// As `receive`, in a system with hooks.
    @usableFromInline
    func receiveSpoilt<Message: Sendable>(_ type: Message.Type) async throws -> Message {
        while let node = await proc.receiveNode() {
            let envelope = node.open(as: Envelope.self).message
            proc.received(envelope.typeWord)
            guard let envelope = unbell(envelope) else { continue }
            if let hooks = system.hooks { try await spoil(hooks, envelope.message) }
            if let message = envelope.message(as: type) { return message }
            if let message = unwrap(envelope, as: type) { return message }
        }
        throw CancellationError()
    }

    @inlinable @inline(__always)
    nonisolated(nonsending) func next<Message: Sendable>(_ type: Message.Type) async -> Message? {
        while let node = await proc.receiveNode() {
            let envelope = node.open(as: Envelope.self).message
            proc.received(envelope.typeWord)
            if let message = envelope.message(as: type) { return message }
            if let message = unwrap(envelope, as: type) { return message }
        }
        return nil
    }

    /// A message that is not of the type asked for: it may stand for one that is, otherwise it becomes a dead letter.
    @usableFromInline @inline(never)
    func unwrap<Message: Sendable>(_ envelope: Envelope, as type: Message.Type) -> Message? {
        guard let envelope = unbell(envelope) else { return nil }
        if let message = envelope.message(as: type) { return message }
        if let message = standIn(for: envelope.message, as: type) { return message }
        let dynamic = envelope.message as? AnyMessage
        system.deadLetter(of: Swift.type(of: dynamic?.payload ?? envelope.message), to: proc, from: dynamic?.sender.id)
        return nil
    }

    /// What a token of a managed process's queue, or a notice, stands for; nil if that was dropped meanwhile. Other messages as
    /// they are.
    func unbell(_ envelope: Envelope) -> Envelope? {
        if let notice = envelope.message as? Notice {
            guard let message = notice.message(for: proc) else { return nil }
            proc.received(Envelope(message: message).typeWord)
            return Envelope(message: message)
        }
        guard envelope.message is QueueToken, let queue = proc.managedQueue else {
            return envelope
        }
        guard let entry = queue.take(by: proc) else { return nil }
        if let receipt = entry.receipt { proc.accept(receipt) }
        proc.received(Envelope(message: entry.message).typeWord)
        return Envelope(message: entry.message)
    }

    /// Waits for the next message of a type, for some time at most. Those of other types become dead letters.
    ///
    /// No message is lost when the time is up: what was taken out of the mailbox by then is returned.
    /// - Throws: ``DeadlineExceeded`` when none came in time; `CancellationError` when the process is asked to stop.
    public func receive<Message: Sendable>(
        _ type: Message.Type = Message.self,
        within time: Duration
    ) async throws -> Message {
        try await proc.withTimeout(time, keepingLateResult: true) { try await receive(type) }
    }

    /// The messages of a type as they come, until the process is asked to stop.
    public func messages<Message: Sendable>(of type: Message.Type = Message.self) -> Messages<Message> {
        Messages(context: self)
    }

    /// The messages of one type as an asynchronous sequence; ends when the process is asked to stop.
    public struct Messages<Message: Sendable>: AsyncSequence, Sendable {
        /// The type of message that is waited for; others become dead letters.
        public typealias Element = Message
        let context: Context

        /// Takes messages from the mailbox; several iterators share what comes.
        public struct AsyncIterator: AsyncIteratorProtocol {
            @usableFromInline let context: Context
            @usableFromInline init(context: Context) { self.context = context }
            /// Waits for the next message; nil when the process is asked to stop.
            @inlinable @inline(__always)
            public mutating func next() async -> Message? {
                if context.system.hasHooks { return try? await context.receiveSpoilt(Message.self) }
                return await context.next(Message.self)
            }
            /// The same, on the caller's actor.
            @inlinable @inline(__always)
            public mutating func next(isolation actor: isolated (any Actor)?) async -> Message? {
                if context.system.hasHooks { return try? await context.receiveSpoilt(Message.self) }
                return await context.next(Message.self)
            }
        }
        /// Returns an iterator over what is in the mailbox and what will come.
        public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(context: context) }
    }

    // MARK: Life

    /// Whether this process was asked to stop.
    public var isStopping: Bool { proc.isStopRequested }

    /// Waits until this process is asked to stop.
    public func untilStopped() async {
        let gate = SleepGate()
        await withTaskCancellationHandler {
            await gate.wait()
        } onCancel: {
            gate.open()
        }
    }

    /// Waits for a time of the executor's clock, which is virtual in tests. Never returns early.
    ///
    /// - Throws: `CancellationError` when the process is asked to stop meanwhile, or was before.
    public func sleep(for duration: Duration) async throws {
        try await proc.scheduler.sleep(for: duration)
    }

    /// The executor's time as a clock of Swift's; virtual in tests.
    public var clock: BastionClock { proc.scheduler.clock }

    /// Moments at a fixed rate, the first one period from now, until the process is asked to stop.
    ///
    /// Those that this process is too busy for are skipped, and counted in the next; see ``Ticks``.
    public func ticks(every period: Duration) -> Ticks { clock.ticks(every: period) }

    /// Runs a closure that may block its thread, while workers run others, and returns its value.
    ///
    /// It is part of this process: a trap in it ends the process, nothing interrupts it, and a kill does not wait for it
    /// longer than the shutdown time. See `blocking(_:)` of `LightProc`. In a task that belongs to no process, as
    /// `Task { }`, the closure is a process of its own, and a trap is thrown as ``ProcFailure``.
    ///
    /// - Throws: What the closure threw; `CancellationError` if the process was killed before its turn came.
    public func blocking<Output: Sendable>(_ body: @escaping @Sendable () throws -> Output) async throws -> Output {
        try await system.executor.blocking(body)
    }

    /// Registers a hook that runs when this incarnation ends, for whatever reason, also after a trap.
    ///
    /// Hooks run on a worker, in the name of the process, last registered first. On an incarnation that is over the hook
    /// runs at once, on a worker, as a process of its own. Any thread.
    /// - Returns: What takes the hook back.
    @discardableResult
    public func onExit(_ hook: @escaping @Sendable (ExitReason) -> Void) -> ExitHookToken {
        proc.onExit(of: incarnation, hook)
    }

    /// Makes a file descriptor this process's own: it is closed when this incarnation ends, for whatever reason.
    ///
    /// On a worker, in reverse order of acquisition, in one order with the exit hooks. On an incarnation that is over it is
    /// closed at once, on the calling thread. Any thread; see ``LightProc/own(fileDescriptor:)``.
    @discardableResult
    public func own(fileDescriptor: Int32) -> OwnedDescriptor {
        proc.own(fileDescriptor: fileDescriptor, of: incarnation)
    }

    /// Makes a value this process's own: `release` is called when this incarnation ends, for whatever reason.
    ///
    /// On a worker, in reverse order of acquisition, in one order with the exit hooks; one that traps ends itself only. On
    /// an incarnation that is over it is called at once, on a worker, as a process of its own. Any thread.
    @discardableResult
    public func own<Value: Sendable>(
        _ value: Value,
        release: @escaping @Sendable (Value) -> Void
    ) -> OwnedResource<Value> {
        proc.own(value, of: incarnation, release: release)
    }

    /// Ends this incarnation, whatever its code does next.
    func endNow(for reason: ExitReason) { proc.end(incarnation, for: reason) }

    /// Asks this process to stop, as its supervisor would.
    public func stop() { proc.stop() }

    // MARK: Children

    /// Starts a supervisor that belongs to this process.
    ///
    /// It ends with this incarnation, whatever the reason, before a next one starts; when it gives up, it takes this
    /// process down with it (``ExitReason/linked(_:_:)``), for whose supervisor that is a failure like any other.
    ///
    /// - Throws: ``SupervisionError`` when a specification cannot be carried out; then nothing was started.
    ///   `CancellationError` when this incarnation is over; then everything is stopped again.
    @discardableResult
    public func supervise(
        _ name: String = "supervisor",
        strategy: RestartStrategy = .oneForOne,
        intensity: RestartIntensity = .default,
        autoShutdown: AutoShutdown = .never,
        callbacks: Callbacks? = nil,
        @ChildrenBuilder _ children: () throws -> [Children]
    ) throws -> SupervisorRef {
        let specs = try children()
        try ProcPath.validate(name, of: "supervisor")
        let supervisor = supervisor(
            name,
            SupervisionRules(strategy: strategy, intensity: intensity, autoShutdown: autoShutdown),
            callbacks
        )
        let records = try supervisor.makeGroups(specs)
        // Before its children start: they may look for themselves.
        guard proc.record?.own(supervisor, incarnation: incarnation) == true else {
            supervisor.discard(records)
            throw CancellationError()
        }
        supervisor.begin(records)
        return SupervisorRef(supervisor: supervisor)
    }

    func supervisor(_ name: String, _ rules: SupervisionRules, _ callbacks: Callbacks?) -> SupervisorCell {
        let proc = self.proc
        return SupervisorCell(
            name: "\(self.name)/\(name)",
            path: proc.path.map { "\($0)/\(name)" },
            parent: proc,
            system: system,
            rules: rules,
            callbacks: callbacks,
            onGivingUp: { [incarnation] reason in proc.end(incarnation, for: reason) }
        )
    }
}
