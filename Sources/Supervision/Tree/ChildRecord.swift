// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import LightProc

/// A child as its supervisor knows it, and the one to whom the process reports its end.
final class ChildRecord: ProcObserver {
    let proc: LightProc
    let name: String
    let settings: SupervisorMachine.Settings
    /// The type of its messages; nil for an async child, which takes any.
    let messageType: Any.Type?
    /// Supervisors that the child's present incarnation started: they end before the child counts as ended.
    private let owned = Locked(Owned())
    /// A cycle, through the supervisor's process, which is broken when the child is forgotten.
    let supervisor: Supervisor

    private struct Owned {
        var supervisors: [Supervisor] = []
        /// The last incarnation that has ended.
        var lastEnded: UInt32 = 0
    }

    init(
        proc: LightProc,
        name: String,
        settings: SupervisorMachine.Settings,
        messageType: Any.Type?,
        supervisor: Supervisor
    ) {
        self.proc = proc
        self.name = name
        self.settings = settings
        self.messageType = messageType
        self.supervisor = supervisor
    }

    var id: SupervisorMachine.ChildID { proc.id.rawValue }

    /// A supervisor belongs to this child from now on: it ends with it, and takes it down when it gives up.
    ///
    /// - Returns: False when that incarnation is over; the supervisor is then stopped.
    func own(_ supervisor: Supervisor, incarnation: UInt32) -> Bool {
        let isOver = owned.withLock { owned in
            if incarnation > owned.lastEnded { owned.supervisors.append(supervisor) }
            return incarnation <= owned.lastEnded
        }
        if isOver { supervisor.stop {} }
        return !isOver
    }

    /// The supervisors that its present incarnation has started.
    var supervisorsBelow: [Supervisor] { owned.withLock { $0.supervisors } }

    func procEnded(_ proc: LightProc, reason: ExitReason) {
        supervisor.system.hooks?.ended(proc, reason)
        let below = owned.withLock { owned in
            defer { owned.supervisors = [] }
            owned.lastEnded = proc.incarnation
            return owned.supervisors
        }
        stop(below[...]) { [self] in supervisor.send(.ended(id, reason)) }
    }

    /// One after the other, the last started first.
    private func stop(_ supervisors: ArraySlice<Supervisor>, then done: @escaping @Sendable () -> Void) {
        guard let last = supervisors.last else { return done() }
        last.stop { [self] in stop(supervisors.dropLast(), then: done) }
    }

    func path(of proc: LightProc) -> String? { "\(supervisor.path)/\(name)" }

    func procDiscarded(messageOf type: Any.Type, by proc: LightProc) {
        // What a managed process had is told of by its queue.
        if proc.tag.isManaged { return }
        supervisor.system.deadLetter(of: type, to: proc, .closed)
    }
}
