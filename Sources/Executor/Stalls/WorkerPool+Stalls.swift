// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CLightProc
import LightProc

/// Somebody's wish to be told of stalls; lasts until it is taken back.
public struct StallObservation: Sendable {
    fileprivate let number: Int
    fileprivate weak var pool: WorkerPool?

    /// Ends it: no call begins after this returns. Any thread.
    public func cancel() { pool?.forgetStallObserver(number) }
}

/// Workers that stand in for others that are stuck: as many as there are seats, at most.
///
/// Each belongs to the seat of its number, whose place, memory and queues it shares. It stands in for the worker there;
/// for another one, also for one that stands in itself, if that one's own is not free and none is nearer.
struct StandIns {
    /// By stand-in, counted from 0: for whom.
    private var workers: [Int?]
    /// By seat: all seats, the nearest first, itself before the others.
    private let nearest: [[Int]]

    init(_ seats: [Seat]) {
        workers = Array(repeating: nil, count: seats.count)
        nearest = seats.map { [$0.index] + $0.steal.joined() }
    }

    var count: Int { workers.count { $0 != nil } }

    /// Takes the nearest that is free; nil if there is none, or if somebody stands in for the worker already.
    mutating func take(for worker: Int) -> Int? {
        guard !workers.contains(worker), let free = nearest[worker % workers.count].first(where: { workers[$0] == nil })
        else { return nil }
        workers[free] = worker
        return free
    }

    /// Who stands in for a worker, if anybody does.
    func standIn(for worker: Int) -> Int? { workers.firstIndex(of: worker) }

    /// It has left.
    mutating func free(_ standIn: Int) { workers[standIn] = nil }
}

extension WorkerPool {
    /// Tells of workers that are stuck in one turn for longer than the threshold, and of their getting on.
    ///
    /// In order. The action runs on a worker, each time in a process of its own: a trap in it ends nothing else. Symbols of a report
    /// have been looked up when it is called. Costs nothing while nothing
    /// is stuck.
    @discardableResult
    public func observeStalls(_ action: @escaping @Sendable (StallReport) -> Void) -> StallObservation {
        let number = stallObservers.withLock { observers in
            observers.last += 1
            observers.actions[observers.last] = OrderedCalls(action)
            return observers.last
        }
        return StallObservation(number: number, pool: self)
    }

    fileprivate func forgetStallObserver(_ number: Int) {
        _ = stallObservers.withLock { $0.actions.removeValue(forKey: number) }
    }

    struct StallObservers {
        var last = 0
        var actions: [Int: OrderedCalls<StallReport>] = [:]
    }
}

extension WorkerPool: StallWatch.Workplace {
    var seatedThreads: [WorkerThread?] { staff.withLock { staff in workers.indices.map { staff.seated[$0] } } }

    func look(at worker: Int, _ thread: WorkerThread?) -> StallDetector.Look {
        .init(
            turns: workers[worker].turns.pointee.known,
            isBusy: thread.map { crt_seemsToRun($0.record) } ?? false
        )
    }

    var isAtRest: Bool {
        let standIns = staff.withLock { $0.standIns.count }
        return standIns == 0 && queues.idle.sleeperCount >= placement.seats.count
    }

    func hasNext(_ worker: Int) -> Bool { crt_seemsToHaveNext(workers[worker].nodes) }

    func standIn(for worker: Int) {
        let free = staff.withLock { staff in staff.isStopping ? nil : staff.standIns.take(for: worker) }
        guard let free else { return }
        let index = placement.seats.count + free
        // ordering: relaxed: the thread that reads it is made, or woken, after this.
        workers[index].isLeaving.store(false, ordering: .relaxed)
        // ordering: relaxed: a hint.
        workers[index].isAway.store(false, ordering: .relaxed)
        // One that stands in for one that stands in: for the seat of that.
        let seat = worker < placement.seats.count ? worker : queues.pinned.seat(ofStandIn: worker)
        queues.pinned.standIn(workers[index], forSeat: seat ?? free)
        seatThread(on: index)
    }

    func takeBack(_ worker: Int) {
        // ordering: relaxed: a hint; one that leaves is away for good, and says so itself.
        let isLeaving = workers[worker].isLeaving.load(ordering: .relaxed)
        workers[worker].isAway.store(isLeaving, ordering: .relaxed)
        guard let standIn = staff.withLock({ $0.standIns.standIn(for: worker) }) else { return }
        let index = placement.seats.count + standIn
        // ordering: relaxed: a hint.
        workers[index].isAway.store(true, ordering: .relaxed)
        // ordering: sequentiallyConsistent: set before it is woken; read by it before it sleeps.
        workers[index].isLeaving.store(true, ordering: .sequentiallyConsistent)
        queues.unpark(workers[index])
        // Ends: it leaves at the end of its turn, or is stuck in its turn itself: then it is joined when the pool is
        // looked at next, by `reapStandIns`.
        reapStandIns()
    }

    /// Joins those that have left, and gives to others what came for one of them too late.
    func reapStandIns() {
        for standIn in workers.indices.dropFirst(placement.seats.count) {
            // ordering: relaxed: written by the calling thread.
            if workers[standIn].isAway.load(ordering: .relaxed) { queues.evict(workers[standIn]) }
            let left = staff.withLock { staff -> WorkerThread? in
                guard let thread = staff.seated[standIn], thread.hasReturned else { return nil }
                staff.seated[standIn] = nil
                staff.standIns.free(standIn - placement.seats.count)
                return thread
            }
            guard let left else { continue }
            left.join()
            staff.withLock { $0.stacks.put(left.stack, afterTrap: false) }
        }
    }

    var hasHelpers: Bool {
        let sleepers = queues.idle.sleeperCount
        return sleepers > 0 && sleepers < placement.seats.count
    }

    func offer(_ item: RunItem?, from worker: Int, after nanoseconds: UInt64) {
        let owner = workers[worker]
        owner.expect(turnsOf: nanoseconds)
        if let item { owner.queues.normal.push(item) }
        if item != nil || !owner.isIdle { queues.wakeIfNeeded(near: owner) }
        queues.sharePinned(of: owner, always: true)
    }

    func rescue(_ item: RunItem?, from worker: Int) {
        // ordering: relaxed: a hint; what is put there all the same is found at the next look.
        workers[worker].isAway.store(true, ordering: .relaxed)
        if let item {
            workers[worker].queues.normal.push(item)
            queues.wakeIfNeeded(near: workers[worker])
        }
        queues.evict(workers[worker])
        queues.sharePinned(of: workers[worker], always: true)
    }

    func tell(_ report: StallReport) {
        let observers = stallObservers.withLock { Array($0.actions.values) }
        if observers.isEmpty { return }
        // In order, and with the names known, so that the worker that tells an observer waits for no files.
        ReportThread.shared.perform { [self] in
            _ = report.frames()
            for calls in observers { calls.call(report, on: self) }
        }
    }

    /// Gives what waits for a worker that leaves to the others.
    func handOver(_ worker: Worker) {
        // Ends: the owner puts nothing in any more.
        while let item = worker.takeOwn() { worker.queues.normal.push(item) }
        queues.wakeIfNeeded(near: worker)
        queues.sharePinned(of: worker, always: true)
    }
}
