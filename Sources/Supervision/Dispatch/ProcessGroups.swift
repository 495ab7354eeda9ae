// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

/// Named groups of processes, of any types, in one system: join, leave, members, and who wants to know of changes.
///
/// As Erlang's `pg`, with one difference: a process is in a group or not, however often it joined. Processes here survive
/// their restarts, and a body that joins when it starts would otherwise count once more each time.
///
/// A process leaves when it ends for good, not at a restart; until then its groups hold it. Any thread; no code of yours runs
/// under the lock. Joining costs O(1), leaving O(members).
public final class ProcessGroups: Sendable {
    private struct State {
        var table = GroupTable()
        var monitors: [String: [UInt64: Monitor]] = [:]
        /// Of processes that are told by messages: one for each group.
        var monitorsOfProcess: [ProcID: [String: UInt64]] = [:]
        var nextMonitor: UInt64 = 0
        /// What monitors are to be told, in the order in which it happened.
        var outbox = Outbox<(change: GroupChange, monitors: [Monitor])>()
    }
    private struct Monitor: Sendable {
        let tell: @Sendable (GroupChange) -> Void
        let end: @Sendable () -> Void
    }
    private let state = Locked(State())
    private let departures: Departures
    private let relays: RelayHost

    init(_ departures: Departures, relays: RelayHost) {
        self.departures = departures
        self.relays = relays
    }

    /// Makes a process a member of a group. False if it is one already, or has ended for good.
    @discardableResult
    public func join<Message: Sendable>(_ group: String, _ ref: ProcRef<Message>) -> Bool {
        let proc = ref.proc
        if proc.hasEnded { return false }
        let recipient = Recipient(proc)
        let isNew = change { state in
            guard state.table.join(group, recipient) else { return [] }
            return [(group, .joined(recipient))]
        }
        // Told at once if it has ended meanwhile.
        if isNew { departures.watch(proc, for: self) }
        return isNew
    }

    /// Ends the membership of a process. False if it was no member.
    @discardableResult
    public func leave<Message: Sendable>(_ group: String, _ ref: ProcRef<Message>) -> Bool {
        let hasLeft = change { state in
            state.table.leave(group, ref.id).map { [(group, .left($0))] } ?? []
        }
        if hasLeft { departures.unwatch(ref.proc, for: self) }
        return hasLeft
    }

    /// The members of a group, in the order in which they joined; none of a group that nobody joined. O(1).
    public func members(of group: String) -> Recipients { Recipients(state.withLock { $0.table.members(of: group) }) }

    /// The members of a group that take messages of a type, in the order in which they joined.
    public func members<Message: Sendable>(of group: String, as type: Message.Type) -> [ProcRef<Message>] {
        members(of: group).compactMap { $0.ref(as: type) }
    }

    /// The groups that have members, in order.
    public var names: [String] { state.withLock { $0.table.names } }

    /// The changes of a group, from now on; first a `joined` for each member that is there.
    ///
    /// Each change is there exactly once, in the order in which they happened; perhaps a moment after `join` has returned.
    public func changes(of group: String) -> GroupChanges {
        let (stream, continuation) = AsyncStream.makeStream(of: GroupChange.self)
        let (id, _) = addMonitor(of: group, Monitor(tell: { continuation.yield($0) }, end: { continuation.finish() }))
        continuation.onTermination = { [weak self] _ in self?.removeMonitor(id, of: group) }
        return GroupChanges(stream: stream)
    }

    /// Tells a process of the changes of a group, by messages of its own; first a `joined` for each member that is there.
    ///
    /// A process has one such monitor of a group: a second one, as after a restart, takes the place of the first. It ends when
    /// the process ends for good. Costs a process, in whose name `make` runs: if that traps, the change is not told.
    ///
    /// - Parameter make: Makes the message.
    public func monitor<Message: Sendable>(
        _ group: String,
        telling ref: ProcRef<Message>,
        _ make: @escaping @Sendable (GroupChange) -> Message
    ) {
        if ref.proc.hasEnded { return }
        let relay = Relay<GroupChange>("monitor of \(group)", on: relays) { ref.tell(make($0)) }
        let monitor = Monitor(tell: { relay.send($0) }, end: { relay.stop() })
        let (_, hadOne) = addMonitor(of: group, monitor, process: ref.id)
        if !hadOne { departures.watch(ref.proc, for: self) }
    }

    /// Ends what `monitor` began.
    public func stopMonitoring<Message: Sendable>(_ group: String, telling ref: ProcRef<Message>) {
        guard let id = state.withLock({ $0.monitorsOfProcess[ref.id]?[group] }) else { return }
        if removeMonitor(id, of: group, process: ref.id) { departures.unwatch(ref.proc, for: self) }
    }

    /// How many monitors there are; of interest to tests.
    var monitorCount: Int { state.withLock { $0.monitors.values.reduce(0) { $0 + $1.count } } }

    /// - Parameter process: Of which there is one monitor of a group: another one ends.
    private func addMonitor(
        of group: String,
        _ monitor: Monitor,
        process: ProcID? = nil
    ) -> (id: UInt64, hadOne: Bool) {
        let (id, former) = state.withLock { state -> (UInt64, Monitor?) in
            state.nextMonitor += 1
            let before = process.flatMap { state.monitorsOfProcess[$0]?[group] }
            let former = before.flatMap { state.monitors[group]?.removeValue(forKey: $0) }
            state.monitors[group, default: [:]][state.nextMonitor] = monitor
            if let process { state.monitorsOfProcess[process, default: [:]][group] = state.nextMonitor }
            for member in state.table.members(of: group) { state.outbox.post((.joined(member), [monitor])) }
            return (state.nextMonitor, former)
        }
        former?.end()
        deliver()
        return (id, former != nil)
    }

    @discardableResult
    private func removeMonitor(_ id: UInt64, of group: String, process: ProcID? = nil) -> Bool {
        let monitor = state.withLock { state in
            let monitor = state.monitors[group]?.removeValue(forKey: id)
            if state.monitors[group]?.isEmpty == true { state.monitors[group] = nil }
            if let process, state.monitorsOfProcess[process]?[group] == id {
                state.monitorsOfProcess[process]?[group] = nil
                if state.monitorsOfProcess[process]?.isEmpty == true { state.monitorsOfProcess[process] = nil }
            }
            return monitor
        }
        monitor?.end()
        return monitor != nil
    }

    /// Changes the table and tells the monitors. False if nothing changed.
    private func change(_ make: (inout State) -> [(group: String, change: GroupChange)]) -> Bool {
        // Returned, as the last reference to a process may be in them.
        let changes = state.withLock { state in
            let changes = make(&state)
            for (group, change) in changes {
                guard let monitors = state.monitors[group] else { continue }
                // In the order in which they came, so that runs of a simulation are equal.
                state.outbox.post((change, monitors.sorted { $0.key < $1.key }.map(\.value)))
            }
            return changes
        }
        if changes.isEmpty { return false }
        deliver()
        return true
    }

    /// Tells the monitors what is in the outbox.
    private func deliver() {
        // Ends: when the outbox is empty, or another thread is at it.
        while let batch = state.withLock({ $0.outbox.collect() }) {
            for (change, monitors) in batch { for monitor in monitors { monitor.tell(change) } }
            state.withLock { $0.outbox.delivered() }
        }
    }
}

extension ProcessGroups: Roll {
    func departed(_ id: ProcID) {
        for (group, monitor) in state.withLock({ $0.monitorsOfProcess[id] ?? [:] }) {
            removeMonitor(monitor, of: group, process: id)
        }
        _ = change { state in state.table.ended(id).map { (group: $0.group, change: .left($0.member)) } }
    }
}
