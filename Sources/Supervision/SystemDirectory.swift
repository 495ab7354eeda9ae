// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

/// The systems of the program, so that what belongs to no supervisor can be counted somewhere. A list that is looked through: only
/// where something went wrong.
enum SystemDirectory {
    private struct Entry: Sendable {
        weak let system: BastionSystem?
        let id: ObjectIdentifier
    }
    private static let systems = Locked<[Entry]>([])

    static func add(_ system: BastionSystem) {
        let entry = Entry(system: system, id: ObjectIdentifier(system))
        systems.withLock { $0.append(entry) }
    }

    static func remove(_ id: ObjectIdentifier) {
        systems.withLock { $0.removeAll { $0.id == id } }
    }

    /// The first that was made of those on an executor.
    static func first(on scheduler: any ProcScheduler) -> BastionSystem? {
        // Outside of the lock: the last reference to a system may go here, and its `deinit` comes back.
        let all = systems.withLock { $0 }
        return all.lazy.compactMap(\.system).first { $0.executor === scheduler }
    }
}

extension BastionSystem {
    /// The system that counts for a process: its supervisor's, or else the oldest one on its executor. Any thread.
    static func of(_ proc: LightProc) -> BastionSystem? { proc.system ?? SystemDirectory.first(on: proc.scheduler) }
}
