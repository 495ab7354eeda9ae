// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc
import Synchronization

/// A set of workers that processes are pinned to, with the queues of what is ready of those: nobody else looks into them.
final class PinnedSet: Sendable {
    /// By which tags of processes name it.
    let number: Int
    let cores: CoreSet
    let place: PinnedPlace
    let queues: NodeQueues

    /// - Parameter memory: Where the queues lie.
    init(_ cores: CoreSet, number: Int, place: PinnedPlace, memory: NodeMemory) {
        self.number = number
        self.cores = cores
        self.place = place
        queues = NodeQueues(memory)
    }

    func push(_ item: RunItem, _ priority: ProcPriority) {
        switch priority {
        case .high: queues.high.push(item)
        case .normal: queues.normal.push(item)
        case .low: queues.low.push(item)
        }
    }
}

/// The sets that one worker serves. A value that is replaced as a whole.
final class PinnedLanes: Sendable {
    let sets: [PinnedSet]
    init(_ sets: [PinnedSet]) { self.sets = sets }

    /// Whether nothing waits in them; may be out of date.
    var isEmpty: Bool { sets.allSatisfy { $0.queues.isEmpty } }

    /// Whether something may wait in them that is not of low priority; a hint.
    var mayHaveSome: Bool { sets.contains { $0.queues.high.mayHaveSome || $0.queues.normal.mayHaveSome } }

    func popHigh(from first: UInt) -> RunItem? { pop(first) { $0.high.pop() } }
    /// The most urgent, but for those of low priority.
    func pop(from first: UInt) -> RunItem? { pop(first) { $0.high.pop() } ?? pop(first) { $0.normal.pop() } }
    func popNormal(from first: UInt) -> RunItem? { pop(first) { $0.normal.pop() } }
    func popLow(from first: UInt) -> RunItem? { pop(first) { $0.low.pop() } }

    /// Another set is the first each time, so that none has to wait for the others for ever.
    @inline(__always)
    private func pop(_ first: UInt, _ take: (NodeQueues) -> RunItem?) -> RunItem? {
        for offset in sets.indices {
            if let item = take(sets[(Int(first % UInt(sets.count)) + offset) % sets.count].queues) { return item }
        }
        return nil
    }
}

/// The sets that processes of a pool are pinned to: made when first asked for, and kept as long as the pool.
final class PinnedSets: Sendable {
    /// All sets, by number; replaced as a whole when there is a new one.
    private final class Table: Sendable {
        let sets: [PinnedSet]
        init(_ sets: [PinnedSet]) { self.sets = sets }
    }

    private struct State {
        var numbers: [CoreSet: Int] = [:]
        var sets: [PinnedSet] = []
        /// Tables and lanes that were published: somebody may still be reading.
        var kept: [AnyObject] = []
        /// By worker that stands in for others: for which seat.
        var standIns: [Int: Int] = [:]
    }
    private let state = Locked(State())
    /// The table, as a pointer; 0: nothing is pinned.
    private let table = Atomic<UInt>(0)
    private let placement: Placement
    private let memory: [NodeMemory]

    init(_ placement: Placement, memory: [NodeMemory]) {
        self.placement = placement
        self.memory = memory
    }

    /// The number of a set, which is made if there is none for these processors.
    func number(of cores: CoreSet, among workers: [Worker]) throws(PinningError) -> Int {
        try state.withLock { state throws(PinningError) in
            if let known = state.numbers[cores] { return known }
            let place = try placement.place(of: cores)
            let number = state.sets.count
            guard number < ProcTag.pinCount else {
                throw PinningError(
                    .tooManySets,
                    "cannot pin to \(cores): processes are pinned to \(number) different sets of processors already"
                )
            }
            // Where the first of its workers has its queues, if all have them there.
            let nodes = Set(place.seats.map { workers[$0].node })
            let set = PinnedSet(
                cores,
                number: number,
                place: place,
                memory: nodes.count == 1 ? memory[place.seats[0]] : .anywhere
            )
            state.sets.append(set)
            state.numbers[cores] = number
            let fresh = Table(state.sets)
            state.kept.append(fresh)
            // ordering: releasing: pairs with `set(_:)`; before anybody knows the number.
            table.store(UInt(bitPattern: Unmanaged.passUnretained(fresh).toOpaque()), ordering: .releasing)
            for seat in place.seats { publish(workers[seat], seat, &state) }
            for (standIn, seat) in state.standIns where place.seats.contains(seat) {
                publish(workers[standIn], seat, &state)
            }
            return number
        }
    }

    /// A worker stands in for one on a seat: it serves what that one serves.
    func standIn(_ worker: Worker, forSeat seat: Int) {
        state.withLock { state in
            state.standIns[worker.index] = seat
            publish(worker, seat, &state)
        }
    }

    /// For which seat a worker stands that is none on a seat; its own number's if it never did for any.
    func seat(ofStandIn worker: Int) -> Int? { state.withLock { $0.standIns[worker] } }

    private func publish(_ worker: Worker, _ seat: Int, _ state: inout State) {
        let lanes = PinnedLanes(state.sets.filter { $0.place.seats.contains(seat) })
        if lanes.sets.isEmpty, worker.lanes == nil { return }
        state.kept.append(lanes)
        worker.serve(lanes)
    }

    /// The set of a number.
    @inline(__always)
    func withSet<Result>(_ number: Int, _ body: (PinnedSet) -> Result) -> Result {
        // ordering: acquiring: see `number(of:among:)`.
        guard let pointer = UnsafeRawPointer(bitPattern: table.load(ordering: .acquiring)) else {
            preconditionFailure("impossible: a set has a number once it is in the table")
        }
        // safety: tables are kept as long as this object.
        return Unmanaged<Table>.fromOpaque(pointer)._withUnsafeGuaranteedRef { body($0.sets[number]) }
    }

    /// All sets. Any thread; takes no lock.
    var sets: [PinnedSet] {
        // ordering: acquiring: as above.
        guard let pointer = UnsafeRawPointer(bitPattern: table.load(ordering: .acquiring)) else { return [] }
        // safety: as above.
        return Unmanaged<Table>.fromOpaque(pointer)._withUnsafeGuaranteedRef { $0.sets }
    }
}
