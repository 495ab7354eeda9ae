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
    /// The group that it is a member of, and its number there.
    let group: GroupRecord
    let number: Int
    let shutdownTime: Duration
    let features: GroupFeatures
    /// The last incarnation that said that it was ready.
    private let lastReady = AtomicWord(0)
    /// A cycle, through the supervisor's process, which is broken when the child is forgotten.
    let supervisor: Supervisor

    /// Makes a member of a group, without starting it; from then on it is found by name and id.
    ///
    /// - Parameter named: What it is called; by default after its group, with its number.
    init(
        of spec: Children,
        number: Int,
        in group: GroupRecord,
        under supervisor: Supervisor,
        mustStart: Bool,
        named: ((LightProc) -> String)? = nil
    ) {
        proc = spec.make(supervisor.system, spec)
        name = named?(proc) ?? "\(spec.name)-\(number)"
        settings = .init(
            restart: spec.restart,
            backoff: spec.backoff,
            mustStart: mustStart,
            hasFarewell: spec.features.callbacks?.afterStop != nil
        )
        self.group = group
        self.number = number
        shutdownTime = spec.shutdownTime
        features = spec.features
        self.supervisor = supervisor
        proc.prepare(name: name, stack: nil, observer: self, shutdownTime: spec.shutdownTime)
        supervisor.roster.add(self)
        supervisor.system.directory.add(self)
        supervisor.system.hooks?.made(proc)
    }

    /// The type of its messages; nil for an async child, which takes any.
    var messageType: Any.Type? { group.messageType }

    var id: SupervisorMachine.ChildID { proc.id.rawValue }

    /// A supervisor belongs to this child from now on: it ends with it, and takes it down when it gives up.
    ///
    /// - Returns: False when that incarnation is over; the supervisor is then stopped.
    func own(_ supervisor: Supervisor, incarnation: UInt32) -> Bool {
        let isOver = self.supervisor.owned.withLock { owned in
            // Who comes to the lock before `procEnded` is found there, who comes after it finds the incarnation ended.
            if proc.isOver(incarnation) { return true }
            owned[id, default: []].append(supervisor)
            return false
        }
        if isOver { supervisor.stop {} }
        return !isOver
    }

    /// The supervisors of the child's present incarnation.
    var supervisors: [Supervisor] { supervisor.owned.withLock { $0[id] } ?? [] }

    deinit { supervisor.departed(proc, name) }

    /// It has started; its supervisor is told if that waits for it. In its name.
    func started() {
        if features.reportsStarts { supervisor.send(.started(id)) }
    }

    /// An incarnation says that it is ready. True if that is asked of it, and the first time.
    func isReady(_ incarnation: UInt32) -> Bool {
        guard features.signalsReady, proc.incarnation == incarnation else { return false }
        // ordering: relaxed: only that one caller comes first matters.
        return lastReady.exchange(UInt(incarnation), ordering: .relaxed) != UInt(incarnation)
    }

    /// Closes the process, calls `afterStop` in its name, and then `done`. By the supervisor, which does not start it again.
    func sayFarewell(then done: @escaping @Sendable () -> Void) {
        let occasion = Callbacks.Occasion(proc, reason: proc.lastExit)
        // The last registered is called first, and one that traps does not keep the others from being called.
        proc.onExit { _ in done() }
        if let callback = features.callbacks?.afterStop { proc.onExit { _ in callback(occasion) } }
        withExtendedLifetime(self) { proc.close() }
    }

    func procEnded(_ proc: LightProc, reason: ExitReason) {
        supervisor.system.hooks?.ended(proc, reason)
        let below = supervisor.owned.withLock { $0.removeValue(forKey: id) } ?? []
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
