// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

public import LightProc

/// A supervisor that was started: its groups, and its end.
///
/// Keeps its process, and what its children are made of until it ends. Equal if it is the same supervisor.
public struct SupervisorRef: Sendable, Hashable, CustomStringConvertible {
    private enum Target {
        case cell(SupervisorCell)
        case nest(Nest)
    }
    private let target: Target

    init(supervisor: SupervisorCell) { target = .cell(supervisor) }

    init(nest: Nest) { target = .nest(nest) }

    /// Of a nested supervisor, the present one.
    var supervisor: SupervisorCell {
        switch target {
        case .cell(let cell): cell
        case .nest(let nest): nest.current
        }
    }

    /// The nested supervisor that it is, or is the present incarnation of; nil if nothing above would start it again.
    private var nest: Nest? {
        switch target {
        case .nest(let nest): return nest
        case .cell(let cell):
            guard let nest = cell.owner?.record?.nest, nest.current === cell else { return nil }
            return nest
        }
    }

    func end(kills: Bool, then done: @escaping @Sendable () -> Void) {
        if let nest { return nest.end(kills: kills, then: done) }
        if kills { supervisor.kill(then: done) } else { supervisor.stop(then: done) }
    }

    private var identity: ObjectIdentifier {
        switch target {
        case .cell(let cell): ObjectIdentifier(cell)
        case .nest(let nest): ObjectIdentifier(nest)
        }
    }

    /// The identity of the supervisor's own process, as ``Down`` and ``Exit`` tell it. That of a nested one changes with each restart.
    public var id: ProcID { supervisor.proc.id }

    /// Where it stands, as in `/shop` or `/shop/orders-3/below`.
    public var path: ProcPath { ProcPath(supervisor.path) ?? .root }

    /// Its path.
    public var description: String { supervisor.path }

    /// Whether both are the same supervisor.
    public static func == (lhs: SupervisorRef, rhs: SupervisorRef) -> Bool { lhs.identity == rhs.identity }
    /// By its identity.
    public func hash(into hasher: inout Hasher) { hasher.combine(identity) }

    /// The members of a group, as takers of messages of one type.
    ///
    /// - Throws: `unknownGroup`, or `wrongMessageType` when the group is reactive and takes another type.
    public func group<Message: Sendable>(
        _ name: String,
        of type: Message.Type = Message.self
    ) throws(SupervisionError) -> Group<Message> {
        let group = try supervisor.group(name)
        if let taken = group.messageType, taken != type {
            throw SupervisionError(.wrongMessageType, "group \(name) takes \(taken), not \(type)")
        }
        return Group(group, under: self)
    }

    /// Stops all children in reverse order, and the supervisor; returns when they have ended.
    ///
    /// With a nested one the supervisor above does it, as by ``terminate(child:)``: it stays down until ``restart(child:)``, or is gone if it
    /// is temporary or the one above dynamic. That is no failure, counts as no restart, and shuts nobody down. While the one above ends itself it
    /// does not wait for its turn.
    public func stop() async {
        await suspended { continuation in
            end(kills: false) { continuation.resume() }
        }
    }

    /// Kills all children, and all below them, at the same time, and ends the supervisor; returns when they have ended.
    ///
    /// Also while it stops. What a kill cannot interrupt is waited for: a message in the hands of a reactive child. A nested one stays down
    /// as after ``stop()``.
    public func kill() async {
        await suspended { continuation in
            end(kills: true) { continuation.resume() }
        }
    }
}

/// The members of a group. They stay the same over restarts; members may be added and leave, which is seen here at once.
public struct Group<Message: Sendable>: Sendable {
    private let record: GroupRecord
    /// The members when this was made, which is nearly always still true: then no lock is needed.
    private let first: [ProcRef<Message>]
    private let version: UInt
    private let turn = Turn()
    /// Whose group it is; one that was started with `children` of a system or a context has a supervisor of its own.
    public let supervisor: SupervisorRef

    private final class Turn: Sendable {
        let next = AtomicWord(0)
    }

    init(_ record: GroupRecord, under supervisor: SupervisorRef) {
        self.record = record
        self.supervisor = supervisor
        let (members, version) = record.snapshot
        first = members.map { ProcRef($0) }
        self.version = version
    }

    /// What the group was called in its specification; its members are called `name-0`, `name-1`, ...
    public var name: String { record.name }

    /// One reference per member, in the order in which they were started.
    ///
    /// Those that have ended for good, or are leaving, are not among them; when the supervisor stops they stay. Costs nothing while the members are those that were there
    /// when this value was made, otherwise a lock and a copy.
    public var members: [ProcRef<Message>] {
        if record.version == version { return first }
        return record.snapshot.members.map { ProcRef($0) }
    }

    /// The member whose turn it is: round robin over all threads. When none is left, the one that was there last.
    ///
    /// Costs a lock once members have come or gone since this value was made.
    public var next: ProcRef<Message> {
        // ordering: relaxed: only the counting must be atomic.
        let turn = turn.next.wrappingAdd(1, ordering: .relaxed).oldValue
        if record.version == version, !first.isEmpty { return first[Int(turn % UInt(first.count))] }
        return ProcRef(record.member(turn))
    }

    /// Sends a message to the member whose turn it is; if that is leaving at this moment, to the next one.
    ///
    /// - Returns: False when no member took it: all have ended for good, or the mailbox was full. It is then gone.
    @discardableResult
    public func tell(_ message: Message) -> Bool {
        let member = next
        return member.tell(message) || record.version != version && tellAnother(message, than: member)
    }

    /// Asks the member whose turn it is; if that is leaving at this moment, the next one.
    public func ask<Value: Sendable>(
        within time: Duration = .seconds(5),
        _ make: (Reply<Value>) -> Message
    ) async throws(AskError) -> Value {
        var left = first.count + 1
        while true {
            let member = next
            do {
                return try await member.ask(within: time, make)
            } catch {
                left -= 1
                guard error.code == .refused, left > 0, !record.contains(member.proc) else { throw error }
            }
        }
    }

    /// Asks the member whose turn it is, without waiting. One that is leaving at this moment refuses.
    public func request<Value: Sendable>(
        within time: Duration = .seconds(5),
        _ make: (Reply<Value>) -> Message
    ) -> PendingReply<Value> {
        next.request(within: time, make)
    }

    /// Sends a message to every member; returns how many took it.
    @discardableResult
    public func broadcast(_ message: Message) -> Int { members.count { $0.tell(message) } }

    /// A member did not take a message, perhaps because it is leaving. False if there is no other reason to believe in.
    private func tellAnother(_ message: Message, than member: ProcRef<Message>) -> Bool {
        var member = member
        // Ends: so many members leave in a row at most.
        for _ in 0...max(first.count, 8) {
            if record.contains(member.proc), !member.proc.isClosed { return false }
            member = next
            if member.tell(message) { return true }
        }
        return false
    }
}

extension SupervisorRef {
    /// Calls `done` when all children have ended for good, without asking them to. On a worker; must not block.
    package func whenFinished(_ done: @escaping @Sendable () -> Void) { supervisor.whenFinished(done) }

    /// Stops without waiting.
    package func stop(then done: @escaping @Sendable () -> Void) { end(kills: false, then: done) }

    /// Whether it ended because there were more restarts than its intensity allows.
    package var gaveUp: Bool {
        supervisor.outcome?.isFailure ?? false
    }
}
