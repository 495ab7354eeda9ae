// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

/// Where an async child stands among others.
extension Context {
    /// Where this process stands, as a value; see ``path``.
    public var procPath: ProcPath { ProcPath(path) ?? .root }

    /// The supervisor of this process; nil of one that nobody restarts, which stands directly under the system.
    public var supervisor: SupervisorRef? { proc.record?.supervisor.ref }

    /// The process that this one's supervisor belongs to; nil if that is one of the system's.
    ///
    /// - Parameter type: Of the messages of the reference.
    public func parent<Message: Sendable>(of type: Message.Type = (any Sendable).self) -> ProcRef<Message>? {
        proc.record?.supervisor.parent.map { ProcRef($0) }
    }

    /// The members of this process's own group, itself among them; those that have ended for good are left out.
    ///
    /// - Throws: `unknownGroup` of a process that is in none, as nobody restarts it.
    public func group<Message: Sendable>(
        of type: Message.Type = Message.self
    ) throws(SupervisionError) -> Group<Message> {
        try SupervisorRef.ownGroup(of: proc.record)
    }
}

/// Where a reactive process stands among others: nowhere, if nobody supervises it.
extension ReactiveContext {
    /// Where this process stands; nil if nobody supervises it.
    public var procPath: ProcPath? { proc.path.flatMap(ProcPath.init) }

    /// The supervisor of this process; nil if nobody supervises it.
    public var supervisor: SupervisorRef? { proc.record?.supervisor.ref }

    /// The process that this one's supervisor belongs to; nil if that is one of the system's, or nobody supervises this one.
    ///
    /// - Parameter type: Of the messages of the reference.
    public func parent<Message: Sendable>(of type: Message.Type = (any Sendable).self) -> ProcRef<Message>? {
        proc.record?.supervisor.parent.map { ProcRef($0) }
    }

    /// The members of this process's own group, itself among them; those that have ended for good are left out.
    ///
    /// - Throws: `unknownGroup` if nobody supervises it.
    public func group() throws(SupervisionError) -> Group<Body.Message> { try SupervisorRef.ownGroup(of: proc.record) }
}

extension SupervisorCell {
    /// For its own children; nil for those that nobody restarts.
    fileprivate var ref: SupervisorRef? {
        isOfSpawned ? nil : SupervisorRef(supervisor: self)
    }
}

extension SupervisorRef {
    fileprivate static func ownGroup<Message: Sendable>(
        of record: ChildRecord?
    ) throws(SupervisionError) -> Group<Message> {
        guard let record, let ref = record.supervisor.ref else {
            throw SupervisionError(.unknownGroup, "this process is in no group: nobody restarts it")
        }
        return try ref.group(record.group.name)
    }
}

extension ProcRef {
    /// Where the process stands; nil if nobody supervises it.
    public var path: ProcPath? { proc.path.flatMap(ProcPath.init) }
}
