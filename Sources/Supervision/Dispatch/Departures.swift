// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

/// Something that keeps processes until they end: the registry, a process group, a topic, a distributor, a dispatcher.
protocol Roll: AnyObject, Sendable {
    /// A process has ended for good. On any thread, outside of locks; must not block. It may be on the roll no more.
    func departed(_ id: ProcID)
}

/// Who has to be told when a process ends for good: one registration with the process, however many keep it.
///
/// Each time that a process is put on a roll, `watch` follows, and each time that it is taken off, `unwatch`, both outside of
/// the roll's lock. They are counted, so that they may come in another order than the changes of the roll did.
final class Departures: Sendable {
    private struct Watched {
        let roll: any Roll
        var count = 0
        /// Rolls are told in the order in which they first kept the process, so that runs of a simulation are equal.
        let number: Int
    }
    private struct State {
        var table: [ProcID: [ObjectIdentifier: Watched]] = [:]
        var watches = 0
    }
    /// A process that was watched once stays here until it ends or is dropped, also if no roll keeps it.
    private let state = Locked(State())

    /// How many processes are known; of interest to tests.
    var count: Int { state.withLock { $0.table.count } }

    /// A process was put on a roll. If it has ended the roll is told at once, on this thread.
    func watch(_ proc: LightProc, for roll: any Roll) {
        let isFirst = state.withLock { state in
            let isFirst = state.table[proc.id] == nil
            state.watches += 1
            let fresh = Watched(roll: roll, number: state.watches)
            state.table[proc.id, default: [:]][ObjectIdentifier(roll), default: fresh].count += 1
            return isFirst
        }
        guard isFirst else { return }
        let trace = Trace(id: proc.id, departures: self)
        proc.whenEnded { _ in trace.ended() }
    }

    /// A process was taken off a roll. One time too few is harmless: the roll is then told of an end that is none of its.
    func unwatch(_ proc: LightProc, for roll: any Roll) {
        let last = state.withLock { state -> Watched? in
            guard var watched = state.table[proc.id]?[ObjectIdentifier(roll)] else { return nil }
            watched.count -= 1
            state.table[proc.id]?[ObjectIdentifier(roll)] = watched.count > 0 ? watched : nil
            return watched
        }
        // The roll may die with it: not under the lock.
        withExtendedLifetime(last) {}
    }

    private func remove(_ id: ProcID) -> [any Roll] {
        let watched = state.withLock { $0.table.removeValue(forKey: id) } ?? [:]
        return watched.values.sorted { $0.number < $1.number }.map(\.roll)
    }

    /// What a process keeps until its end. One that is dropped without an end lets go of it: nobody keeps it then.
    private final class Trace: Sendable {
        let id: ProcID
        weak let departures: Departures?
        private let isOver = AtomicWord(0)

        init(id: ProcID, departures: Departures) {
            self.id = id
            self.departures = departures
        }

        func ended() {
            // ordering: relaxed: read by `deinit` only, which is ordered behind this by the count of references.
            isOver.store(1, ordering: .relaxed)
            guard let departures else { return }
            for roll in departures.remove(id) { roll.departed(id) }
        }

        deinit {
            // ordering: relaxed: as above. After the end somebody may have begun to watch anew, with another trace.
            if isOver.load(ordering: .relaxed) == 0, let departures { _ = departures.remove(id) }
        }
    }
}
