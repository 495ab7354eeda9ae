// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

/// A supervisor that was started: its groups, and its end.
public struct SupervisorRef: Sendable {
    let supervisor: Supervisor
    private let groups: [String: [ChildRecord]]

    init(supervisor: Supervisor, groups: [String: [ChildRecord]]) {
        self.supervisor = supervisor
        self.groups = groups
    }

    /// Looks at specifications before anything is made for them.
    static func check(_ specs: [Children], for supervisor: String) throws(SupervisionError) {
        try ProcPath.validate(supervisor, of: "supervisor")
        var names: Set<String> = []
        for spec in specs {
            try spec.validate()
            if !names.insert(spec.name).inserted {
                throw SupervisionError(.duplicateName, "two groups of one supervisor are called \(spec.name)")
            }
        }
    }

    /// Starts children under a supervisor. The specifications have been checked.
    static func start(_ specs: [Children], under supervisor: Supervisor) throws(SupervisionError) -> SupervisorRef {
        var groups: [String: [ChildRecord]] = [:]
        let enlistment = try Enlistment(specs, under: supervisor)
        var all: [ChildRecord] = []
        do throws(SupervisionError) {
            for spec in specs {
                let records = (0..<spec.redundancy).map { record(for: spec, number: $0, under: supervisor) }
                groups[spec.name] = records
                all += records
                for (number, record) in records.enumerated() {
                    try supervisor.memberAdded(record.proc, number: number, of: spec)
                }
            }
        } catch {
            for record in all { record.proc.close() }
            enlistment.release()
            throw error
        }
        supervisor.whenFinished { enlistment.release() }
        supervisor.enroll(groups)
        supervisor.send(.add(all))
        return SupervisorRef(supervisor: supervisor, groups: groups)
    }

    private static func record(for spec: Children, number: Int, under supervisor: Supervisor) -> ChildRecord {
        let proc = spec.make(supervisor.system, spec)
        let record = ChildRecord(
            proc: proc,
            name: "\(spec.name)-\(number)",
            settings: .init(restart: spec.restart, backoff: spec.backoff),
            messageType: spec.messageType,
            supervisor: supervisor
        )
        proc.prepare(name: record.name, stack: nil, observer: record, shutdownTime: spec.shutdownTime)
        supervisor.system.hooks?.made(proc)
        return record
    }

    /// The members of a group, as takers of messages of one type.
    ///
    /// - Throws: `unknownGroup`, or `wrongMessageType` when the group is reactive and takes another type.
    public func group<Message: Sendable>(
        _ name: String,
        of type: Message.Type = Message.self
    ) throws(SupervisionError) -> Group<Message> {
        guard let records = groups[name] else {
            let known = groups.keys.sorted().joined(separator: ", ")
            throw SupervisionError(.unknownGroup, "there is no group \(name); there is: \(known)")
        }
        if let taken = records.first?.messageType, taken != type {
            throw SupervisionError(.wrongMessageType, "group \(name) takes \(taken), not \(type)")
        }
        return Group(name: name, members: records.map { ProcRef($0.proc) })
    }

    /// Stops all children in reverse order, and the supervisor; returns when they have ended.
    public func stop() async {
        await withUnsafeContinuation { continuation in
            supervisor.stop { continuation.resume() }
        }
    }
}

/// The members of a group. They stay the same over restarts.
public struct Group<Message: Sendable>: Sendable {
    /// What the group was called in its specification; its members are called `name-0`, `name-1`, ...
    public let name: String
    /// One reference per member, in the order in which they were started.
    public let members: [ProcRef<Message>]
    private let turn = Turn()

    private final class Turn: Sendable {
        let next = AtomicWord(0)
    }

    init(name: String, members: [ProcRef<Message>]) {
        self.name = name
        self.members = members
    }

    /// The member whose turn it is: round robin over all threads.
    public var next: ProcRef<Message> {
        // ordering: relaxed: only the counting must be atomic.
        members[Int(turn.next.wrappingAdd(1, ordering: .relaxed).oldValue % UInt(members.count))]
    }

    /// Sends a message to the member whose turn it is. False when that has ended for good.
    @discardableResult
    public func tell(_ message: Message) -> Bool { next.tell(message) }

    /// Asks the member whose turn it is.
    public func ask<Value: Sendable>(
        within time: Duration = .seconds(5),
        _ make: (Reply<Value>) -> Message
    ) async throws(AskError) -> Value {
        try await next.ask(within: time, make)
    }

    /// Asks the member whose turn it is, without waiting.
    public func request<Value: Sendable>(
        within time: Duration = .seconds(5),
        _ make: (Reply<Value>) -> Message
    ) -> PendingReply<Value> {
        next.request(within: time, make)
    }

    /// Sends a message to every member; returns how many took it.
    @discardableResult
    public func broadcast(_ message: Message) -> Int { members.count { $0.tell(message) } }
}

extension SupervisorRef {
    /// Calls `done` when all children have ended for good, without asking them to. On a worker; must not block.
    package func whenFinished(_ done: @escaping @Sendable () -> Void) { supervisor.whenFinished(done) }

    /// Stops without waiting.
    package func stop(then done: @escaping @Sendable () -> Void) { supervisor.stop(then: done) }

    /// Whether it ended because there were more restarts than its intensity allows.
    package var gaveUp: Bool {
        if case .gaveUp = supervisor.outcome { return true }
        return false
    }
}
