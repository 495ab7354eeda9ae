// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

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

    /// Ends a group for good: its members are stopped in reverse order, one after the other; returns when they have ended.
    ///
    /// The others go on. Afterwards the name may be used again.
    /// - Throws: `unknownGroup`.
    public func terminate(group name: String) async throws(SupervisionError) {
        let group = try supervisor.group(name)
        await withUnsafeContinuation { continuation in
            supervisor.send(.group(group, .terminate(done: OneCall { continuation.resume() })))
        }
    }

    /// Gives a group so many members from now on; what a resizer does by itself.
    ///
    /// Returns at once. Who is added starts after all that there are. Who leaves, the last first, gets no more messages through
    /// ``Group``, handles those that it has, and is stopped then. With a mailbox policy no message that was taken is lost; without
    /// one, what is sent to it directly at the moment of its stop is a dead letter.
    /// - Precondition: The size is positive.
    /// - Throws: `unknownGroup`.
    public func resize(group name: String, to size: Int) throws(SupervisionError) {
        precondition(size > 0, "a group has at least one member, got \(size); terminate(group:) ends it")
        let group = try supervisor.group(name)
        supervisor.send(.group(group, .resize(size)))
    }
}

extension Supervisor {
    func group(_ name: String) throws(SupervisionError) -> GroupRecord {
        let (group, known) = groups.withLock { ($0[name], $0.keys.sorted()) }
        if let group { return group }
        throw SupervisionError(.unknownGroup, "there is no group \(name); there is: \(known.joined(separator: ", "))")
    }
}
