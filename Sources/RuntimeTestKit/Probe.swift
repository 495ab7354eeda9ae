// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

public import LightProc
public import Supervision

extension Simulation {
    /// Makes a probe: a process that keeps what it gets.
    public func probe<Message: Sendable>(of type: Message.Type = Message.self, name: String = "probe") -> Probe<Message>
    {
        Probe(self, name: name)
    }
}

/// A process of a test: hand its ``ref`` to the code under test, and expect what comes.
///
/// Every expectation comes in two forms. The one without `await` drives the simulation from outside, in virtual time; the one
/// with `await` may also be used by code that runs in the simulation, and waits there. Faults spare probes.
public final class Probe<Message: Sendable>: Sendable {
    /// Takes the messages.
    public let ref: ProcRef<Message>
    private let simulation: Simulation
    private let inbox: ProbeInbox<Message>

    init(_ simulation: Simulation, name: String) {
        self.simulation = simulation
        let inbox = ProbeInbox<Message>()
        self.inbox = inbox
        let proc = LightProc.reactive(ProbeBody(inbox: inbox), on: simulation.executor)
        proc.prepare(name: name, stack: nil, observer: nil, shutdownTime: .zero)
        simulation.director.made(proc)
        ref = ProcRef(proc)
    }

    /// What has come and was not expected yet, oldest first.
    public var messages: [Message] { inbox.state.withLock { $0.messages } }

    /// Has every message that comes from now on answered, or looked at, as it comes; it is kept as well.
    ///
    /// - Parameter handler: Called on a worker of the simulation, in the name of the probe.
    public func onMessage(_ handler: @escaping @Sendable (Message) -> Void) {
        inbox.state.withLock { $0.handler = handler }
    }

    // MARK: From outside

    /// The next message.
    ///
    /// - Throws: ``SimulationError`` when none comes within the time.
    @discardableResult
    public func expect(within time: Duration = .seconds(5)) throws -> Message {
        if let message = inbox.take() { return message }
        let inbox = self.inbox
        try simulation.drive(until: { inbox.hasSome }, within: time, waitingFor: expected)
        guard let message = inbox.take() else { throw nothing(time) }
        return message
    }

    /// The next message, which is to be this one.
    ///
    /// - Throws: ``SimulationError`` when none comes within the time, or another.
    public func expect(_ message: Message, within time: Duration = .seconds(5)) throws where Message: Equatable {
        try check(try expect(within: time), message)
    }

    /// Lets so much time pass, in which nothing is to come.
    ///
    /// - Throws: ``SimulationError`` when something comes, or is there already.
    public func expectNoMessage(for time: Duration = .seconds(1)) throws {
        try simulation.advance(by: time)
        try checkNothing()
    }

    /// The next end of an incarnation of a process that was not over when ``watch(_:)`` was called.
    ///
    /// - Throws: ``SimulationError`` when it does not end within the time.
    @discardableResult
    public func expectEnd<Other>(of ref: ProcRef<Other>, within time: Duration = .seconds(5)) throws -> ExitReason {
        let (inbox, id) = (self.inbox, ref.id)
        watch(ref)
        try simulation.drive(until: { inbox.hasEnd(of: id) }, within: time, waitingFor: notEnded(ref.proc))
        guard let reason = inbox.takeEnd(of: id) else { throw nothing(time) }
        return reason
    }

    // MARK: From inside, or outside

    /// The next message; see ``expect(within:)``.
    @discardableResult
    public func expect(within time: Duration = .seconds(5)) async throws -> Message {
        guard simulation.isInside else { return try driven { try $0.expect(within: time) } }
        let inbox = self.inbox
        await wait(within: time) { inbox.hasSome }
        guard let message = inbox.take() else { throw nothing(time) }
        return message
    }

    /// The next message, which is to be this one; see ``expect(_:within:)``.
    public func expect(_ message: Message, within time: Duration = .seconds(5)) async throws where Message: Equatable {
        try check(try await expect(within: time), message)
    }

    /// Lets so much time pass, in which nothing is to come; see ``expectNoMessage(for:)``.
    public func expectNoMessage(for time: Duration = .seconds(1)) async throws {
        guard simulation.isInside else { return try driven { try $0.expectNoMessage(for: time) } }
        try await simulation.clock.sleep(for: time)
        try checkNothing()
    }

    /// The next end of an incarnation; see ``expectEnd(of:within:)``.
    @discardableResult
    public func expectEnd<Other>(of ref: ProcRef<Other>, within time: Duration = .seconds(5)) async throws -> ExitReason
    {
        guard simulation.isInside else { return try driven { try $0.expectEnd(of: ref, within: time) } }
        let (inbox, id) = (self.inbox, ref.id)
        watch(ref)
        await wait(within: time) { inbox.hasEnd(of: id) }
        guard let reason = inbox.takeEnd(of: id) else { throw nothing(time) }
        return reason
    }

    // MARK: Watching

    /// Begins to watch a process of the system: its next end is kept for ``expectEnd(of:within:)``. Watching one twice makes no
    /// difference until it has ended.
    public func watch<Other>(_ ref: ProcRef<Other>) {
        let (inbox, id) = (self.inbox, ref.id)
        guard inbox.beginWatching(id) else { return }
        if ref.proc.isClosed {
            inbox.ended(id, ref.proc.lastExit ?? .shutdown)
        } else {
            simulation.director.watch(ref.proc) { inbox.ended(id, $0) }
        }
    }

    // MARK: Parts

    private func driven<Result>(_ body: (Probe) throws -> Result) rethrows -> Result { try body(self) }

    private func wait(within time: Duration, until condition: @escaping @Sendable () -> Bool) async {
        let clock = simulation.clock
        let end = clock.now.advanced(by: time)
        // Ends: each round waits for something to come, or for the time to be over.
        while !condition(), clock.now < end {
            let gate = SleepGate()
            let timer = simulation.executor.schedule(after: clock.now.duration(to: end)) { gate.open() }
            inbox.state.withLock { $0.gates.append(gate) }
            await gate.wait()
            timer.cancel()
        }
    }

    private var expected: String { "\(ref.proc.name ?? "the probe") expects a \(Message.self)" }

    private func notEnded(_ proc: LightProc) -> String { "\(simulation.director.label(of: proc.id)) has not ended" }

    private func nothing(_ time: Duration) -> SimulationError {
        simulation.failure(.timeLimit, "\(time) have passed, and \(expected)")
    }

    private func check(_ message: Message, _ wanted: Message) throws where Message: Equatable {
        guard message == wanted else {
            throw simulation.failure(
                .unexpected,
                "\(ref.proc.name ?? "the probe") expects \(wanted), got \(message); unread: \(messages)"
            )
        }
    }

    private func checkNothing() throws {
        let messages = self.messages
        if messages.isEmpty { return }
        throw simulation.failure(.unexpected, "\(ref.proc.name ?? "the probe") expects nothing, got \(messages)")
    }
}

/// What a probe got.
final class ProbeInbox<Message: Sendable>: Sendable {
    struct State {
        var messages: [Message] = []
        var handler: (@Sendable (Message) -> Void)?
        /// Ends that were not expected yet.
        var ends: [(ProcID, ExitReason)] = []
        var watched: Set<ProcID> = []
        var gates: [SleepGate] = []
    }
    let state = Locked(State())

    var hasSome: Bool { state.withLock { !$0.messages.isEmpty } }

    func hasEnd(of id: ProcID) -> Bool { state.withLock { $0.ends.contains { $0.0 == id } } }

    func take() -> Message? { state.withLock { $0.messages.isEmpty ? nil : $0.messages.removeFirst() } }

    func takeEnd(of id: ProcID) -> ExitReason? {
        state.withLock { state in
            state.ends.firstIndex { $0.0 == id }.map { state.ends.remove(at: $0).1 }
        }
    }

    /// False if it is watched, or has ended and nobody asked for that yet.
    func beginWatching(_ id: ProcID) -> Bool {
        state.withLock { state in
            !state.ends.contains { $0.0 == id } && state.watched.insert(id).inserted
        }
    }

    func ended(_ id: ProcID, _ reason: ExitReason) {
        let gates = state.withLock { state in
            state.watched.remove(id)
            state.ends.append((id, reason))
            return state.takeGates()
        }
        for gate in gates { gate.open() }
    }

    func came(_ message: Message) {
        let (handler, gates) = state.withLock { state in
            state.messages.append(message)
            return (state.handler, state.takeGates())
        }
        handler?(message)
        for gate in gates { gate.open() }
    }
}

extension ProbeInbox.State {
    mutating func takeGates() -> [SleepGate] {
        defer { gates = [] }
        return gates
    }
}

private struct ProbeBody<Message: Sendable>: ReactiveBody {
    let inbox: ProbeInbox<Message>

    mutating func receive(_ message: consuming Message, on proc: LightProc) { inbox.came(message) }
}
