// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

/// Weak: who looks for a child keeps nothing alive.
struct WeakRecord: Sendable {
    private weak let record: ChildRecord?
    let id: ProcID
    init(_ record: ChildRecord) {
        self.record = record
        id = record.proc.id
    }
    /// Unless it has ended for good.
    var living: ChildRecord? { record.flatMap { $0.proc.isClosed ? nil : $0 } }
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

    /// The names of the children that have not ended for good.
    var names: [String] {
        let children = content.withLock { $0.children }
        return children.filter { $0.value.living != nil }.keys.sorted()
    }

    /// The children that have not ended for good, in the order in which they were made.
    var children: [ChildRecord] {
        let children = content.withLock { $0.children }
        return children.values.compactMap(\.living).sorted { $0.id < $1.id }
    }
}

/// The supervised processes of a system by their ids, and the supervisor of those that nobody else supervises.
///
/// Costs a lock, an entry and a weak reference a supervised process, some hundred nanoseconds; other processes are not in it.
final class ProcDirectory: Sendable {
    private struct Spawned {
        var supervisor: Supervisor
        var count: Int
    }
    private let processes = Locked<[ProcID: WeakRecord]>([:])
    private let spawned = Locked<Spawned?>(nil)

    func add(_ record: ChildRecord) { processes.withLock { $0[record.proc.id] = WeakRecord(record) } }
    func remove(_ id: ProcID) { processes.withLock { _ = $0.removeValue(forKey: id) } }
    func process(_ id: ProcID) -> ChildRecord? { processes.withLock { $0[id] }?.living }

    /// The supervisor for one more process that nobody else supervises; it is counted until `spawnedDeparted`.
    func enterSpawned(in system: BastionSystem) -> Supervisor {
        let (supervisor, isNew, before) = spawned.withLock { spawned -> (Supervisor, Bool, Spawned?) in
            if let present = spawned, present.supervisor.outcome == nil {
                spawned?.count += 1
                return (present.supervisor, false, nil)
            }
            // Not let go of under the lock.
            let before = spawned
            let fresh = Supervisor(
                name: "spawned",
                path: "",
                system: system,
                intensity: .unlimited,
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
    func spawnedDeparted(from supervisor: Supervisor) {
        let last = spawned.withLock { spawned -> Supervisor? in
            guard spawned?.supervisor === supervisor else { return nil }
            spawned?.count -= 1
            guard spawned?.count == 0 else { return nil }
            spawned = nil
            return supervisor
        }
        last?.stop {}
    }
}

extension Supervisor {
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
