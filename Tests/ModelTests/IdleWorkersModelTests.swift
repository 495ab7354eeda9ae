// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Testing

extension ModelTests {
    /// The protocol by which no item is left lying while a worker sleeps.
    @Suite struct Idling {
        enum Flaw {
            case submitterLooksFirst
            case sleeperLooksFirst
            case noLastLook
            case riserIsNoSearcher
        }

        @Test func aSubmissionOnAWorkerWakesASleeper() {
            expectHolds("idling, push on a worker against park", preemptions: 3) { onWorker($0, 1) }
            expectHolds("idling, 2 pushes on a worker against park") { onWorker($0, 2) }
        }

        @Test func submissionsFromOutsideWakeASleeper() {
            expectHolds("idling, 1 submitter, 2 workers") { outside($0) }
        }

        /// Items that never return, as those of processes that wait for each other: no worker may sleep while one is left.
        @Test func twoItemsThatKeepTheirWorkersAreRunByTwo() {
            expectHolds("idling, 2 items that keep their workers") { keeping($0, flaw: nil) }
            expectFound("idling, a riser that is no searcher") { keeping($0, flaw: .riserIsNoSearcher) }
        }

        @Test func aMissingFenceAfterThePushIsFound() {
            expectFound("idling, RunRing.push", .noStoreLoadFence) { onWorker($0, 1) }
        }

        @Test(arguments: [Flaw.submitterLooksFirst, .sleeperLooksFirst, .noLastLook])
        func lookingInTheWrongOrderIsFound(_ flaw: Flaw) {
            expectFound("idling, \(flaw)") { onWorker($0, 1, flaw: flaw) }
        }

        /// Worker 0 pushes items to its ring and is busy ever after; worker 1 has to run them.
        private func onWorker(_ model: Model, _ items: Int, flaw: Flaw? = nil) {
            let pool = ModelPool(model, flaw: flaw)
            model.thread { for _ in 0..<items { pool.submit(toRing: 0) } }
            model.thread { pool.work(1) }
        }

        private func keeping(_ model: Model, flaw: Flaw?) {
            let pool = ModelPool(model, flaw: flaw, usesRings: false, keepsWorkers: true)
            model.thread { for _ in 0..<2 { pool.submit(toRing: nil) } }
            model.thread { pool.work(0) }
            model.thread { pool.work(1) }
        }

        private func outside(_ model: Model) {
            let pool = ModelPool(model, flaw: nil, usesRings: false)
            model.thread { pool.submit(toRing: nil) }
            model.thread { pool.work(0) }
            model.thread { pool.work(1) }
        }
    }
}

/// The lines of `WorkerPool` that search, sleep and wake, over the real `IdleWorkers` and the real rings.
private final class ModelPool {
    private final class Seat {
        let ring = RunRing()
        let parking = Atomic<UInt32>(0)
        var isSearching = false
    }

    private let model: Model
    private let flaw: ModelTests.Idling.Flaw?
    /// Off where nothing is ever put into the rings: looking into them would only make schedules more.
    private let usesRings: Bool
    /// Whether a worker that has taken an item is busy ever after.
    private let keepsWorkers: Bool
    private let seats = [Seat(), Seat()]
    private let idle = IdleWorkers()
    /// Stands for the injection queue: how many items are in it.
    private let injected = Atomic<Int>(0)
    private var submitted = 0
    private var taken = 0

    init(_ model: Model, flaw: ModelTests.Idling.Flaw?, usesRings: Bool = true, keepsWorkers: Bool = false) {
        self.keepsWorkers = keepsWorkers
        self.model = model
        self.flaw = flaw
        self.usesRings = usesRings
        model.finally { self.taken == self.submitted ? nil : "an item is left, and everybody sleeps" }
    }

    func submit(toRing seat: Int?) {
        submitted += 1
        let mustWake = flaw == .submitterLooksFirst && idle.needsWaking
        if let seat {
            if !seats[seat].ring.push(RunItem(bits: 1)) { model.fail("a ring of four is full with two") }
        } else {
            injected.add(1, ordering: .sequentiallyConsistent)
        }
        if flaw == .submitterLooksFirst { if mustWake { wakeOne() } } else { wakeIfNeeded() }
    }

    private func wakeIfNeeded() { if idle.needsWaking { wakeOne() } }

    private func wakeOne() { for seat in seats where unpark(seat) { return } }

    private func unpark(_ seat: Seat) -> Bool {
        guard exchange(seat, 1, 2) else { return false }
        idle.endSleep(toSearch: true)
        return true
    }

    private func exchange(_ seat: Seat, _ expected: UInt32, _ desired: UInt32) -> Bool {
        seat.parking.compareExchange(
            expected: expected,
            desired: desired,
            successOrdering: .sequentiallyConsistent,
            failureOrdering: .sequentiallyConsistent
        ).exchanged
    }

    func work(_ index: Int) {
        let seat = seats[index]
        while take(seat) || search(index) || sleep(index) {
            taken += 1
            if keepsWorkers { return }
        }
    }

    private func take(_ seat: Seat) -> Bool { usesRings && seat.ring.pop() != nil || takeInjected() }

    private func takeInjected() -> Bool {
        var seen = injected.load(ordering: .relaxed)
        while seen > 0 {
            let (done, original) = injected.weakCompareExchange(
                expected: seen,
                desired: seen - 1,
                successOrdering: .sequentiallyConsistent,
                failureOrdering: .relaxed
            )
            if done { return true }
            seen = original
        }
        return false
    }

    private func search(_ index: Int) -> Bool {
        if !seats[index].isSearching {
            guard idle.beginSearch(of: 2) else { return false }
            seats[index].isSearching = true
        }
        let found = takeInjected() || steal(index)
        seats[index].isSearching = false
        if idle.endSearch(), found { wakeIfNeeded() }
        return found
    }

    private func steal(_ index: Int) -> Bool {
        usesRings && seats[index].ring.steal(from: seats[1 - index].ring) != nil
    }

    /// False if nothing comes any more.
    private func sleep(_ index: Int) -> Bool {
        let seat = seats[index]
        while true {
            let early = flaw == .sleeperLooksFirst && !idle.hasSearchers && hasWork
            seat.parking.store(1, ordering: .sequentiallyConsistent)
            idle.beginSleep()
            let mustRise =
                switch flaw {
                case .noLastLook: false
                case .sleeperLooksFirst: early
                case .submitterLooksFirst, .riserIsNoSearcher, nil: !idle.hasSearchers && hasWork
                }
            let searches = flaw != .riserIsNoSearcher
            if mustRise, exchange(seat, 1, searches ? 2 : 0) { idle.endSleep(toSearch: searches) }
            while seat.parking.load(ordering: .sequentiallyConsistent) == 1 {
                if !model.wait(until: { seat.parking.settled != 1 }) { return false }
            }
            seat.isSearching = seat.parking.exchange(0, ordering: .sequentiallyConsistent) == 2
            if take(seat) {
                if seat.isSearching {
                    seat.isSearching = false
                    if idle.endSearch() { wakeIfNeeded() }
                }
                return true
            }
            if search(index) { return true }
        }
    }

    private var hasWork: Bool {
        injected.load(ordering: .sequentiallyConsistent) != 0 || usesRings && seats.contains { !$0.ring.isEmpty }
    }
}
