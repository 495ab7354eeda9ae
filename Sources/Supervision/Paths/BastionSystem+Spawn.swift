// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

/// Async processes that nobody restarts.
extension BastionSystem {
    /// Starts an async process that nobody restarts: its first end is its last. It runs until it returns, is ended, or the system is stopped,
    /// whether anybody holds its reference or not.
    ///
    /// It stands directly under the system: its path is `/name`. Its end is told in the log if it is a failure. Costs some
    /// microseconds more than a reactive process.
    /// - Parameters:
    ///   - name: What it is called; nil: `process-` and its number. Names may be used again; who looks one up finds one of them.
    ///   - type: Of the messages of the reference; the process takes others, too.
    ///   - shutdownTime: How long it may take to return after it was asked to stop.
    /// - Precondition: The name can stand in a path: see ``ProcPath``.
    @discardableResult
    public func spawn<Message: Sendable>(
        _ name: String? = nil,
        of type: Message.Type = (any Sendable).self,
        shutdownTime: ShutdownTime = .seconds(5),
        body: @escaping @Sendable (Context) async throws -> Void
    ) -> ProcRef<Message> {
        let record = prepareProcess(name, shutdownTime, body)
        start(record)
        return ProcRef(record.proc)
    }

    /// Makes a process that is not started yet; closed if the record is dropped.
    func prepareProcess(
        _ name: String?,
        _ shutdownTime: ShutdownTime,
        _ body: @escaping @Sendable (Context) async throws -> Void
    ) -> ChildRecord {
        do throws(SupervisionError) {
            if let name { try ProcPath.validate(name, of: "process") }
        } catch {
            preconditionFailure(error.description)
        }
        precondition(shutdownTime.limit >= .zero, "the shutdown time must not be negative, got \(shutdownTime)")
        let spec = Children(name ?? "process", restart: .temporary, shutdownTime: shutdownTime, body: body)
        let supervisor = directory.enterSpawned(in: self)
        let group = GroupRecord(spec)
        let proc = spec.maker(self, spec)()
        let record = ChildRecord(proc, of: spec, group.traits, number: 0, in: group, under: supervisor) { proc in
            name ?? "process-\(proc.id.rawValue)"
        }
        supervisor.roster.add(record)
        // It is made once: the process itself holds what it is made of.
        _ = group.close()
        return record
    }

    func start(_ record: ChildRecord) { record.supervisor.send(.add([record])) }
}
