// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import LightProc

/// Weak: who looks for a child keeps nothing alive.
struct WeakRecord: Sendable {
    private weak let weakRecord: ChildRecord?
    let id: ProcID
    init(_ record: ChildRecord) {
        weakRecord = record
        id = record.proc.id
    }
    /// Also if it has ended for good and may come back.
    var record: ChildRecord? { weakRecord }
    /// Unless it has ended for good.
    var living: ChildRecord? { weakRecord.flatMap { $0.proc.isClosed ? nil : $0 } }
}

/// The children of a supervisor as others see them: by name. Costs an entry a child.
final class Roster: Sendable {
    private struct Content {
        var children: [String: WeakRecord] = [:]
    }
    private let content = Locked(Content())

    func add(_ record: ChildRecord) { content.withLock { $0.children[record.name] = WeakRecord(record) } }

    /// A record is going; another one may have its name.
    func remove(_ name: String, _ id: ProcID) {
        // No reference is looked at under the lock: it could turn out to be the last one.
        content.withLock { if $0.children[name]?.id == id { $0.children[name] = nil } }
    }

    func child(_ name: String) -> ChildRecord? { content.withLock { $0.children[name] }?.living }

    /// The number of the child that was called so last, also when it is down.
    func id(of name: String) -> SupervisorMachine.ChildID? {
        content.withLock { $0.children[name] }?.record?.id
    }

    /// Whether there is a child that has not ended for good and meets a condition, which is not under the lock. O(children).
    func contains(where condition: (ChildRecord) -> Bool) -> Bool {
        content.withLock { Array($0.children.values) }.contains { $0.living.map(condition) ?? false }
    }

    /// Names of children that have not ended for good, and how many are left out: for people. Costs the same however many there are.
    var someNames: String {
        let limit = 64
        // No more is taken than is needed: who changes the table while it is referred to copies it.
        let (first, count) = content.withLock { (Array($0.children.prefix(limit)), $0.children.count) }
        let names = first.filter { $0.value.living != nil }.map(\.key).sorted()
        return names.joined(separator: ", ") + (count > limit ? " and \(count - limit) more" : "")
    }

    /// Some children, in the order in which they were made, those that have ended for good left out, and how many are left out beside
    /// them. Costs the same however many there are.
    func some(_ limit: Int) -> (children: [ChildRecord], others: Int) {
        // As above.
        let (first, count) = content.withLock { (Array($0.children.values.prefix(limit)), $0.children.count) }
        return (first.compactMap(\.living).sorted { $0.id < $1.id }, max(0, count - limit))
    }

    /// The children that have not ended for good, in the order in which they were made.
    var children: [ChildRecord] {
        // Copied under the lock: who changes the table while it is referred to copies it.
        let children = content.withLock { Array($0.children.values) }
        return children.compactMap(\.living).sorted { $0.id < $1.id }
    }
}

/// The supervised processes of a system by their ids, and the supervisor of those that nobody else supervises.
///
/// Costs a lock, an entry and a weak reference a supervised process, some hundred nanoseconds; other processes are not in it.
final class ProcDirectory: Sendable {
    private struct Spawned {
        var supervisor: SupervisorCell
        var count: Int
    }
    private let processes = Locked<[ProcID: WeakRecord]>([:])
    private let spawned = Locked<Spawned?>(nil)

    func add(_ record: ChildRecord) { processes.withLock { $0[record.proc.id] = WeakRecord(record) } }
    func remove(_ id: ProcID) { processes.withLock { _ = $0.removeValue(forKey: id) } }
    func process(_ id: ProcID) -> ChildRecord? { processes.withLock { $0[id] }?.living }

    /// The supervisor for one more process that nobody else supervises; it is counted until `spawnedDeparted`.
    func enterSpawned(in system: BastionSystem) -> SupervisorCell {
        let (supervisor, isNew, before) = spawned.withLock { spawned -> (SupervisorCell, Bool, Spawned?) in
            if let present = spawned, present.supervisor.outcome == nil {
                spawned?.count += 1
                return (present.supervisor, false, nil)
            }
            // Not let go of under the lock.
            let before = spawned
            let fresh = SupervisorCell(
                name: "spawned",
                path: "",
                system: system,
                rules: SupervisionRules(strategy: .dynamic, intensity: .unlimited),
                onGivingUp: { _ in }
            )
            spawned = Spawned(supervisor: fresh, count: 1)
            return (fresh, true, before)
        }
        _ = before
        if isNew { system.enroot(supervisor) }
        return supervisor
    }

    /// One of them has ended for good. With the last one the supervisor goes, which holds the system.
    func spawnedDeparted(from supervisor: SupervisorCell) {
        let last = spawned.withLock { spawned -> SupervisorCell? in
            guard spawned?.supervisor === supervisor else { return nil }
            spawned?.count -= 1
            guard spawned?.count == 0 else { return nil }
            spawned = nil
            return supervisor
        }
        last?.stop {}
    }
}

extension BastionSystem {
    /// What random numbers of a supervisor follow from: the same in each run of a simulation.
    func seed(for path: String) -> UInt64 {
        executor is WorkerPool ? UInt64.random(in: .min ... .max) : DistributionKey(path).hash
    }
}

extension SupervisorCell {
    /// Whether its children are those that nobody else supervises: they stand directly under the system.
    var isOfSpawned: Bool { path.isEmpty }

    /// What it is called in paths.
    var component: String {
        // By bytes: a combining character behind the slash belongs to the name.
        guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")) else { return "" }
        return String(Substring(path.utf8[path.utf8.index(after: slash)...]))
    }

    /// A child's record goes. What is in it was forgotten, or never came to be started.
    func departed(_ proc: LightProc, _ name: String) {
        if !proc.isClosed { proc.close() }
        roster.remove(name, proc.id)
        system.directory.remove(proc.id)
        if isOfSpawned { system.directory.spawnedDeparted(from: self) }
    }
}
