// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import LightProc

/// A child as its supervisor knows it, and the one to whom the process reports its end.
final class ChildRecord: ProcObserver {
    let proc: LightProc
    let name: String
    private let traits: MemberTraits
    /// The group that it is a member of, and its number there.
    let group: GroupRecord
    let number: Int
    /// Whether it is made of something else than the others of its group.
    private let isOwn: Bool
    /// Its supervisor knows it by this; a process that comes in the place of another is the same child.
    let id: SupervisorMachine.ChildID
    /// The supervisor that it is, if it is one.
    let nest: Nest?
    /// A ``StartWord``. Written by the supervisor while the process is down, by incarnations while they run, also by one that was given up.
    private let startWord = AtomicWord(0)
    /// When the present incarnation was told to stop, or else ended: nanoseconds of the executor's clock, and one; 0 while neither.
    private let endBegan = AtomicWord(0)
    /// A cycle, through the supervisor's process, which is broken when the child is forgotten.
    let supervisor: SupervisorCell

    /// Makes a member of a group, without starting it; from then on it is found by its id, and by name when it is introduced.
    ///
    /// - Parameters:
    ///   - proc: Made as `spec` says.
    ///   - traits: Those of `spec`.
    ///   - predecessor: Whose place it takes, who has ended for good.
    ///   - isOwn: Whether `spec` is not that of the group.
    ///   - named: What it is called; by default after its group, with its number.
    init(
        _ proc: LightProc,
        of spec: Children,
        _ traits: MemberTraits,
        number: Int,
        in group: GroupRecord,
        under supervisor: SupervisorCell,
        after predecessor: ChildRecord? = nil,
        isOwn: Bool = false,
        named: ((LightProc) -> String)? = nil
    ) {
        self.proc = proc
        self.traits = traits
        id = predecessor?.id ?? proc.id.rawValue
        name = named?(proc) ?? (spec.nest == nil ? "\(spec.name)-\(number)" : spec.name)
        self.isOwn = isOwn
        nest = spec.nest.map { predecessor?.nest ?? Nest($0, name: spec.name, under: supervisor) }
        self.group = group
        self.number = number
        self.supervisor = supervisor
        proc.prepare(name: name, stack: nil, observer: self, shutdownTime: traits.shutdownTime.limit)
        supervisor.system.directory.add(self)
        supervisor.system.hooks?.made(proc)
    }

    var settings: SupervisorMachine.Settings { traits.settings }
    /// What its supervisor is to go by at present, as the group may have been changed. By its supervisor.
    var presentSettings: SupervisorMachine.Settings {
        let present = group.traits.settings
        // The next process is made of what the group is made of.
        return proc.isClosed ? present : present.ofProcess(madeWith: settings)
    }

    /// Changes with the group's.
    var shutdownTime: ShutdownTime { isOwn ? traits.shutdownTime : group.traits.shutdownTime }
    var features: GroupFeatures { traits.features }

    /// The type of its messages; nil for an async child, which takes any.
    var messageType: Any.Type? { group.messageType }

    /// A supervisor belongs to this child from now on: it ends with it, and takes it down when it gives up.
    ///
    /// - Returns: False when that incarnation is over; the supervisor is then stopped.
    func own(_ supervisor: SupervisorCell, incarnation: UInt32) -> Bool {
        let isOver = self.supervisor.owned.withLock { owned in
            // Who comes to the lock before `procEnded` is found there, who comes after it finds the incarnation ended.
            if proc.isOver(incarnation) { return true }
            owned[id, default: []].append(supervisor)
            return false
        }
        supervisor.isOwned(by: WeakRecord(self))
        if isOver {
            supervisor.stop {}
        } else {
            // One that has ended by itself is none any more.
            supervisor.whenFinished { [id, above = self.supervisor, weak supervisor] in
                above.owned.withLock { $0[id]?.removeAll { $0 === supervisor } }
            }
        }
        return !isOver
    }

    /// The supervisors of the child's present incarnation.
    var supervisors: [SupervisorCell] { supervisor.owned.withLock { $0[id] } ?? [] }

    /// These, and those of the incarnation before that are being stopped, as it has ended.
    var supervisorsAlsoEnding: [SupervisorCell] {
        // Under both locks: none is on its way from one to the other.
        supervisor.owned.withLock { owned in (owned[id] ?? []) + supervisor.ending.withLock { $0[id] ?? [] } }
    }

    deinit { supervisor.departed(proc, name) }

    /// It is about to start. By its supervisor.
    func expectStart(awaited: Bool) {
        let word = StartWord(after: proc.incarnation, isAwaited: awaited)
        // ordering: relaxed: the process begins behind this.
        startWord.store(word.rawValue, ordering: .relaxed)
    }

    private func updateStart<Result>(_ change: (inout StartWord) -> Result) -> Result {
        startWord.update { raw in
            var word = StartWord(rawValue: raw)
            defer { raw = word.rawValue }
            return change(&word)
        }
    }

    private var start: StartWord {
        // ordering: relaxed: who looks meanwhile acts on what may be over a moment later; the supervisor reads for certain after an end.
        StartWord(rawValue: startWord.load(ordering: .relaxed))
    }

    /// Code of the user's runs that belongs to the start, and that nothing interrupts; or not any more. In its name.
    ///
    /// - Returns: False if that incarnation is over.
    func set(isInStart: Bool, _ incarnation: UInt32) -> Bool {
        updateStart { $0.set(isInStart: isInStart, incarnation) }
    }

    /// Whether it cannot be ended at this moment, as it, or something below it, is in the middle of a start that nothing interrupts. Any
    /// thread; O(what is below).
    var isStuck: Bool {
        if start.isInStart, !proc.isClosed { return true }
        return supervisorsAlsoEnding.contains { $0.roster.contains(where: \.isStuck) }
    }

    /// An incarnation has started; its supervisor is told if that waits for it. In its name.
    func started(_ incarnation: UInt32) {
        guard updateStart({ $0.start(incarnation) }) else { return }
        supervisor.send(.started(id, Incarnation(proc: proc.id, number: incarnation)))
    }

    /// Whether an incarnation is the last that the supervisor has started of this child.
    func isLast(_ incarnation: Incarnation) -> Bool {
        proc.id == incarnation.proc && start.incarnation == incarnation.number
    }

    /// Whether the present or last incarnation has started, of one that runs as seen at this moment.
    var hadStarted: Bool { start.hasStarted(proc.incarnation) }

    /// An incarnation says that it is ready. True if that is asked of it, and the first time.
    func isReady(_ incarnation: UInt32) -> Bool {
        features.signalsReady && updateStart { $0.sayReady(incarnation) }
    }

    /// It is started. By its supervisor.
    func isToLive() {
        // ordering: relaxed: the process begins behind this.
        endBegan.store(0, ordering: .relaxed)
    }

    /// It is told to stop, or has ended: the time that this may take counts from the first such moment.
    func isToEnd() {
        let now = UInt(max(0, supervisor.system.executor.now.inNanoseconds)) + 1
        // ordering: relaxed: who is told to stop because of it looks later.
        _ = endBegan.compareExchange(expected: 0, desired: now, ordering: .relaxed)
    }

    /// When the time is up that it may take to stop; nil: never. All of it is left while it is not stopping.
    var stopLimit: Duration? {
        guard let time = shutdownTime.time else { return nil }
        // ordering: relaxed: as above.
        let began = endBegan.load(ordering: .relaxed)
        return time + (began == 0 ? supervisor.system.executor.now : .nanoseconds(began - 1))
    }

    /// How much of that time is left; nil: it may take for ever.
    var timeLeftToStop: Duration? { stopLimit.map { max(.zero, $0 - supervisor.system.executor.now) } }

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
        updateStart { $0.end() }
        isToEnd()
        noteEnd(reason)
        let below = supervisor.owned.withLock { owned in
            let below = owned.removeValue(forKey: id) ?? []
            // Under the lock: who kills finds them in one place or the other.
            if !below.isEmpty { supervisor.ending.withLock { $0[id] = below } }
            return below
        }
        stop(below[...]) { [self] in
            if !below.isEmpty { supervisor.ending.withLock { $0[id] = nil } }
            supervisor.send(.ended(id, reason))
        }
    }

    /// One after the other, the last started first.
    private func stop(_ supervisors: ArraySlice<SupervisorCell>, then done: @escaping @Sendable () -> Void) {
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
