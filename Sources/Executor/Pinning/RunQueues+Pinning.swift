// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

/// How what is pinned gets into the queues of its set, and who is woken for it.
///
/// It is nowhere else: not in a ring, an inbox or a node's queue, nor the next of a worker, so nobody else can take it. No item is left
/// lying while a worker of its set sleeps, by the protocol of `IdleWorkers`, for each set by itself: who submits puts it into the queue
/// first and then looks who sleeps; who lies down says so first and then looks into the queues of its sets. Searchers are not
/// relied on, as they may not be of the set; but one of the set that was woken is: when it has got up it looks again, and wakes
/// the next if there is more than it will be done with soon.
extension RunQueues {
    /// Queues what is ready of a pinned process, behind the others of its set and priority.
    @inline(never)
    func addPinned(_ item: RunItem, _ tag: ProcTag, _ own: Worker?) {
        guard let number = tag.pin else { preconditionFailure("impossible: only for those that are pinned") }
        pinned.withSet(number) { set in
            set.push(item, tag.priority)
            guard let own, own.serves(set) else { return wake(for: set) }
            // It comes to it itself, and looks before it lies down.
            own.notePinned()
            if takesLong(set, own) { wake(for: set) }
        }
    }

    /// Whether what waits for a set will take a worker so long that others should have some of it.
    private func takesLong(_ set: PinnedSet, _ worker: Worker) -> Bool {
        worker.expects(UInt(set.queues.count), toTake: sharing.wakingPays)
    }

    /// Wakes a worker of a set, unless one was woken and is on the way.
    func wake(for set: PinnedSet) {
        if idle.sleeperCount == 0 { return }
        let choice = PinnedWake.choose(
            among: set.place.seats.lazy.map { (worker: $0, state: self.workers[$0].parking.value) }
        )
        switch choice {
        case .nobody: return
        case .oneOf(let first):
            for seat in set.place.seats where seat >= first && unpark(workers[seat]) { return }
        case .standIns: break
        }
        // ordering: relaxed: a hint; the stall watch wakes them for what comes meanwhile.
        guard set.place.seats.contains(where: { workers[$0].isAway.load(ordering: .relaxed) }) else { return }
        for worker in workers[seatCount...] where worker.isParked && worker.serves(set) && unpark(worker) { return }
    }

    /// Wakes others for what waits in the sets of a worker that has just taken something, or does not get on.
    ///
    /// - Parameter always: Also if it would be done with that soon.
    func sharePinned(of worker: Worker, always: Bool = false) {
        guard worker.hasLanes, idle.sleeperCount > 0, let lanes = worker.lanes else { return }
        for set in lanes.sets where !set.queues.isEmpty && (always || takesLong(set, worker)) { wake(for: set) }
    }

    /// What is pinned to sets of a worker, for one that has nothing else to do.
    func findPinned(_ worker: Worker) -> RunItem? {
        guard worker.hasLanes, let item = worker.takePinned() else { return nil }
        sharePinned(of: worker)
        return item
    }

    /// The processors that an item is pinned to; nil: to none.
    func place(of item: RunItem) -> [Int]? {
        let tag: ProcTag? =
            switch item.content {
            case .proc(let proc): proc._withUnsafeGuaranteedRef { $0.tag }
            case .job(_, let executor): executor._withUnsafeGuaranteedRef { $0.proc.tag }
            case .plain, .global: nil
            }
        return tag?.pin.map { pinned.withSet($0) { $0.place.osPUs } }
    }

    /// A seat of a set in whose queues something waits, if there is any.
    var seatOfPinnedWork: Int? { pinned.sets.first { !$0.queues.isEmpty }?.place.seats.first }
}

/// Who is to be woken for something that is pinned. Pure.
enum PinnedWake: Equatable {
    /// One is on the way, and looks for more when it is there.
    case nobody
    /// A worker of the set that sleeps: the first of them.
    case oneOf(Int)
    /// All on the seats are awake, and will look; one may be stuck, and who stands in for it sleep.
    case standIns

    /// - Parameter workers: Those of the set, each with what its parking word says: 0: awake, 1: sleeps, 2: was woken.
    static func choose(among workers: some Sequence<(worker: Int, state: UInt32)>) -> PinnedWake {
        var first: Int?
        for (worker, state) in workers {
            if state == 2 { return .nobody }
            if state == 1, first == nil { first = worker }
        }
        return first.map { .oneOf($0) } ?? .standIns
    }
}
