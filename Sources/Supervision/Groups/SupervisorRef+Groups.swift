// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

extension SupervisorRef {
    /// Adds groups to a supervisor that runs. They start after those that are there, and stop before them.
    ///
    /// Returns at once; senders may use the members from then on.
    /// - Throws: ``SupervisionError`` when a specification cannot be carried out, as a name that is taken, or the supervisor has ended;
    ///   then nothing was added. If it is stopping the members are closed at once.
    public func children(@ChildrenBuilder _ children: () throws -> [Children]) throws {
        supervisor.send(.add(try supervisor.makeGroups(children())))
    }

    /// Adds groups, one member after the other, and returns when the last has started.
    ///
    /// - Parameter time: How long all of that may take.
    /// - Throws: ``StartError`` when a member could not be started: those of these groups that had are stopped again, in reverse
    ///   order, and the groups are gone. ``SupervisionError`` as above. `CancellationError` when the calling task was cancelled meanwhile;
    ///   then it is undone likewise.
    public func children(
        startingWithin time: Duration,
        @ChildrenBuilder _ children: () throws -> [Children]
    ) async throws {
        let records = try supervisor.makeGroups(children(), mustStart: true)
        try await supervisor.start(records, isWhole: false, within: time)
    }

    /// Adds one child, and returns when it has started: OTP's `start_child`.
    ///
    /// Under a supervisor with the strategy `dynamic` the name need not be new: the child becomes another member of the group of that
    /// name, made of what is given here; so one closure or value may carry what this child is for.
    ///
    /// - Parameters:
    ///   - child: What it is; with a redundancy of 1.
    ///   - type: Of the messages of the reference.
    ///   - time: How long the start may take.
    /// - Throws: ``StartError``, ``SupervisionError`` and `CancellationError` as ``children(startingWithin:_:)``.
    @discardableResult
    public func start<Message: Sendable>(
        child: Children,
        of type: Message.Type = (any Sendable).self,
        within time: Duration = .seconds(5)
    ) async throws -> ProcRef<Message> {
        if child.redundancy != 1 {
            throw SupervisionError(
                .badRedundancy,
                "group \(child.name): start(child:) starts one child, got \(child.redundancy); use children(startingWithin:)"
            )
        }
        if let taken = child.messageType, taken != type {
            throw SupervisionError(.wrongMessageType, "group \(child.name) takes \(taken), not \(type)")
        }
        let records = try supervisor.makeMember(child).map { [$0] } ?? supervisor.makeGroups([child], mustStart: true)
        try await supervisor.start(records, isWhole: false, within: time)
        return ProcRef(records[0].proc)
    }

    /// Ends a group for good: its members are stopped in reverse order, one after the other; returns when they have ended.
    ///
    /// The others go on. Afterwards the name may be used again.
    /// - Throws: `unknownGroup`.
    public func terminate(group name: String) async throws(SupervisionError) {
        let group = try supervisor.group(name)
        await suspended { continuation in
            supervisor.send(.group(group, .terminate(kills: false, done: OneCall { continuation.resume() })))
        }
    }

    /// Ends a group for good as ``terminate(group:)`` does, but its members are killed, all at the same time.
    ///
    /// - Throws: `unknownGroup`.
    public func kill(group name: String) async throws(SupervisionError) {
        let group = try supervisor.group(name)
        await suspended { continuation in
            supervisor.send(.group(group, .terminate(kills: true, done: OneCall { continuation.resume() })))
        }
    }

    /// Gives a group so many members from now on; what a resizer does by itself.
    ///
    /// Returns at once. Who is added starts after all that there are. Who leaves, the last first, gets no more messages through
    /// ``Group``, handles those that it has, and is stopped then. With a mailbox policy no message that was taken is lost; without
    /// one, what is sent to it directly at the moment of its stop is a dead letter.
    /// - Throws: `badRedundancy` when the size is not positive; `unknownGroup`.
    public func resize(group name: String, to size: Int) throws(SupervisionError) {
        if size < 1 {
            throw SupervisionError(
                .badRedundancy,
                "group \(name): a group has at least one member, got \(size); terminate(group:) ends it"
            )
        }
        let group = try supervisor.group(name)
        supervisor.send(.group(group, .resize(size)))
    }
}

extension SupervisorCell {
    func group(_ name: String) throws(SupervisionError) -> GroupRecord {
        if let group = groups.withLock({ $0[name] }) { return group }
        let known = groups.withLock { $0.names(atMost: 64) }
        throw SupervisionError(.unknownGroup, "there is no group \(name); there is: \(known.joined(separator: ", "))")
    }
}
