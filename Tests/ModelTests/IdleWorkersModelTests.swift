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
            case debtorsAreLeftToSearchers
            case onlyTheOwnerIsWoken
        }

        @Test func aSubmissionOnAWorkerWakesASleeper() {
            expectHolds("idling, push on a worker against park", preemptions: 3) { onWorker($0, 1) }
            expectHolds("idling, 2 pushes on a worker against park") { onWorker($0, 2) }
        }

        @Test func submissionsFromOutsideWakeASleeper() {
            expectHolds("idling, 1 submitter, 2 workers") { outside($0) }
        }

        /// What is at home on one worker wakes that one, or anybody; nobody takes what another was woken for.
        @Test func anItemInAnInboxIsRun() {
            expectHolds("idling, 1 item for the inbox of one of 2 workers") { atHome($0, 1) }
            expectHolds("idling, 2 items for the inbox of one worker, which is busy ever after the first") {
                atHome($0, 2, keepsWorkers: true)
            }
            expectFound("idling, the second item wakes nobody if the owner is awake") {
                atHome($0, 2, keepsWorkers: true, flaw: .onlyTheOwnerIsWoken)
            }
        }

        /// What is set back behind a receiver is run by the receiver's worker alone, also while others search.
        @Test func aDebtorIsRunByItsReceiversWorker() {
            expectHolds("idling, a debtor") { setBack($0, flaw: nil) }
            expectFound("idling, a debtor that is left to those who search") {
                setBack($0, flaw: .debtorsAreLeftToSearchers)
            }
        }

        /// Items that never return, as those of processes that wait for each other: no worker may sleep while one is left.
        @Test func twoItemsThatKeepTheirWorkersAreRunByTwo() {
            expectHolds("idling, 2 items that keep their workers") { keeping($0, flaw: nil) }
            expectFound("idling, a riser that is no searcher") { keeping($0, flaw: .riserIsNoSearcher) }
        }

        @Test func aMissingFenceAfterThePushIsFound() {
            expectFound("idling, RunRing.push", .noStoreLoadFence) { onWorker($0, 1) }
            expectFound("idling, InjectionQueue.push", .noStoreLoadFence) { outside($0) }
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

        private func atHome(_ model: Model, _ items: Int, keepsWorkers: Bool = false, flaw: Flaw? = nil) {
            let pool = ModelPool(model, flaw: flaw, usesRings: false, usesInboxes: true, keepsWorkers: keepsWorkers)
            model.thread { for _ in 0..<items { pool.submit(toInboxOf: 0) } }
            model.thread { pool.work(0) }
            model.thread { pool.work(1) }
        }

        private func setBack(_ model: Model, flaw: Flaw?) {
            let pool = ModelPool(model, flaw: flaw, usesRings: false, usesInboxes: true)
            model.thread { pool.setBack(behind: 0) }
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

/// Stands for an `InjectionQueue` with one submitter: how many items went in and out.
private struct Queue: ~Copyable {
    private let pushed = Atomic<Int>(0)
    private let popped = Atomic<Int>(0)

    func push() {
        pushed.store(pushed.load(ordering: .relaxed) + 1, ordering: .sequentiallyConsistent)
    }

    func pop() -> Bool {
        var seen = popped.load(ordering: .relaxed)
        while seen < pushed.load(ordering: .acquiring) {
            let (done, original) = popped.weakCompareExchange(
                expected: seen,
                desired: seen + 1,
                successOrdering: .sequentiallyConsistent,
                failureOrdering: .relaxed
            )
            if done { return true }
            seen = original
        }
        return false
    }

    var isEmpty: Bool {
        pushed.load(ordering: .sequentiallyConsistent) == popped.load(ordering: .sequentiallyConsistent)
    }
}

/// The lines of `WorkerPool` that search, sleep and wake, over the real `IdleWorkers` and the real rings.
private final class ModelPool {
    private final class Seat {
        let ring = RunRing()
        let parking = Atomic<UInt32>(0)
        let inbox = Queue()
        let debtors = Queue()
        var isSearching = false
    }

    private let model: Model
    private let flaw: ModelTests.Idling.Flaw?
    /// Off where nothing is ever put into the rings: looking into them would only make schedules more.
    private let usesRings: Bool
    private let usesInboxes: Bool
    /// Whether a worker that has taken an item is busy ever after.
    private let keepsWorkers: Bool
    private let seats = [Seat(), Seat()]
    private let idle = IdleWorkers()
    private let injected = Queue()
    private var submitted = 0
    private var taken = 0

    init(
        _ model: Model,
        flaw: ModelTests.Idling.Flaw?,
        usesRings: Bool = true,
        usesInboxes: Bool = false,
        keepsWorkers: Bool = false
    ) {
        self.usesInboxes = usesInboxes
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
            injected.push()
        }
        if flaw == .submitterLooksFirst { if mustWake { wakeOne() } } else { wakeIfNeeded() }
    }

    func submit(toInboxOf index: Int) {
        submitted += 1
        seats[index].inbox.push()
        // The exchange of the parking word waits for the push: a fence of its own.
        if !unpark(seats[index]), flaw != .onlyTheOwnerIsWoken { wakeIfNeeded() }
    }

    func setBack(behind index: Int) {
        submitted += 1
        seats[index].debtors.push()
        _ = unpark(seats[index])
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

    private func take(_ seat: Seat) -> Bool {
        usesRings && seat.ring.pop() != nil || usesInboxes && seat.inbox.pop() || takeInjected()
            || usesInboxes && seat.debtors.pop()
    }

    private func takeInjected() -> Bool { !usesInboxes && injected.pop() }

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
        let victim = seats[1 - index]
        if usesRings, seats[index].ring.steal(from: victim.ring) != nil { return true }
        // Its own inbox, as at each search; then another's, unless that one was woken for it.
        return usesInboxes
            && (seats[index].inbox.pop()
                || victim.parking.load(ordering: .sequentiallyConsistent) != 2 && victim.inbox.pop())
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
                case .debtorsAreLeftToSearchers: !idle.hasSearchers && (hasWork || hasDebtors(seat))
                case .submitterLooksFirst, .riserIsNoSearcher, .onlyTheOwnerIsWoken, nil:
                    hasDebtors(seat) || !idle.hasSearchers && hasWork
                }
            let searches = flaw != .riserIsNoSearcher
            if mustRise, exchange(seat, 1, searches ? 2 : 0) { idle.endSleep(toSearch: searches) }
            while seat.parking.load(ordering: .sequentiallyConsistent) == 1 {
                if !model.wait(until: { seat.parking.settled != 1 }) { return false }
            }
            // First what it was woken for, then the word that it is awake.
            seat.isSearching = seat.parking.load(ordering: .sequentiallyConsistent) == 2
            let isTaken = take(seat)
            seat.parking.store(0, ordering: .sequentiallyConsistent)
            if isTaken {
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
        !injected.isEmpty || usesRings && seats.contains { !$0.ring.isEmpty }
            || usesInboxes
                && seats.contains {
                    !$0.inbox.isEmpty && $0.parking.load(ordering: .sequentiallyConsistent) != 2
                }
    }

    private func hasDebtors(_ seat: Seat) -> Bool {
        usesInboxes && !seat.debtors.isEmpty
    }
}
