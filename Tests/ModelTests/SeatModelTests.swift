// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Testing

extension ModelTests {
    /// A seat of the worker pool: what its thread leaves to its successor after a trap, and how it ends.
    @Suite struct Seats {
        enum Flaw: CaseIterable {
            /// The thread is on the list of trapped threads before it has put away what it had in hand.
            case publishedTooEarly
            /// Whether the pool is stopping is looked at before the worker counts as a sleeper.
            case looksBeforeItSleeps
            /// The shutdown does not look for work once all threads have left.
            case noLookAfterTheLastThread
        }

        @Test func aSuccessorGetsWhatItsPredecessorLeft() {
            expectHolds("seat, trap, successor, thief", preemptions: 3) { handingOver($0, nil) }
        }

        @Test(arguments: [Model.Mutation.noAcquire, .noRelease])
        func weakerOrderingsOfTheHandOverAreFound(_ mutation: Model.Mutation) {
            expectFound("seat, trap, successor", mutation) { handingOver($0, nil) }
        }

        @Test func aShutdownWakesWhoeverGoesToSleep() {
            expectHolds("shutdown against sleep", preemptions: 4) { sleeping($0, nil) }
        }

        @Test func whatATrapAtTheShutdownLeavesIsDone() {
            expectHolds("shutdown against trap") { trapping($0, nil) }
        }

        @Test(arguments: Flaw.allCases)
        func aFlawIsFound(_ flaw: Flaw) {
            expectFound("seat, \(flaw)") { model in
                switch flaw {
                case .publishedTooEarly: handingOver(model, flaw)
                case .looksBeforeItSleeps: sleeping(model, flaw)
                case .noLookAfterTheLastThread: trapping(model, flaw)
                }
            }
        }

        private func handingOver(_ model: Model, _ flaw: Flaw?) {
            let seat = ModelSeat(model)
            model.thread {
                for item in 1...3 { seat.add(UInt(item)) }
                // Takes 3 from `next`, puts 4 there, and traps.
                if let item = seat.take() { seat.done(item) }
                if flaw == .publishedTooEarly { seat.publishTrap() }
                seat.add(4)
                if flaw != .publishedTooEarly { seat.publishTrap() }
            }
            model.thread {
                guard seat.blockingWaitForTrap() else { return model.fail("the reaper hears of nothing") }
                seat.assignSuccessor()
                // From here on as a neighbour that looks for work.
                seat.steal()
            }
            model.thread {
                guard seat.blockingWaitForSeat() else { return model.fail("the successor gets no seat") }
                while let item = seat.take() { seat.done(item) }
            }
            model.finally { seat.verdict(items: 4) }
        }

        private func sleeping(_ model: Model, _ flaw: Flaw?) {
            let pool = ModelStopping(model, flaw)
            model.thread { if !pool.work(of: 0) { model.fail("sleeps for ever") } }
            model.thread { pool.stop() }
            model.finally { pool.verdict(done: 1) }
        }

        private func trapping(_ model: Model, _ flaw: Flaw?) {
            let pool = ModelStopping(model, flaw, traps: true)
            // The first item traps; what is queued then is to clean up after it.
            model.thread { _ = pool.work(of: 0) }
            model.thread {
                guard pool.blockingWaitForSeat() else { return }
                if !pool.work(of: 1) { model.fail("the successor sleeps for ever") }
            }
            model.thread {
                pool.stop()
                pool.joinAll()
            }
            model.finally { pool.verdict(done: 1) }
        }
    }
}

/// The lines of `Worker` around its next item, over the real ring; what a trap publishes, as in `trap.c` and
/// `WorkerThread.assign`.
private final class ModelSeat {
    private let model: Model
    private let ring = RunRing()
    private let thiefsRing = RunRing()
    private let next = AtomicWord(0)
    /// `Worker.local`: the owner's.
    private let local = PlainCell()
    private let contents = (0..<8).map { _ in PlainCell() }
    private let trapped = AtomicWord(0)
    private let assigned = Atomic<UInt32>(0)
    private var taken: [UInt] = []

    init(_ model: Model) { self.model = model }

    /// As `WorkerPool.add` on the worker's own thread.
    func add(_ item: UInt) {
        contents[Int(item)].write(item)
        let before = next.load(ordering: .relaxed)
        next.store(item, ordering: .relaxed)
        if before != 0, !ring.push(RunItem(bits: before)) { model.fail("a ring of four is full with three") }
    }

    func take() -> UInt? {
        local.write(local.read() + 1)
        let item = next.load(ordering: .relaxed)
        guard item == 0 else {
            next.store(0, ordering: .relaxed)
            return item
        }
        return ring.pop()?.bits
    }

    func done(_ item: UInt) {
        if contents[Int(item)].read() != item { model.fail("an item was taken before it was whole") }
        taken.append(item)
    }

    func publishTrap() {
        _ = trapped.compareExchange(expected: 0, desired: 1, successOrdering: .releasing, failureOrdering: .relaxed)
    }

    func blockingWaitForTrap() -> Bool {
        guard model.wait(until: { self.trapped.settled != 0 }) else { return false }
        return trapped.exchange(0, ordering: .acquiring) != 0
    }

    func assignSuccessor() { assigned.store(1, ordering: .sequentiallyConsistent) }

    func blockingWaitForSeat() -> Bool {
        guard model.wait(until: { self.assigned.settled != 0 }) else { return false }
        return assigned.load(ordering: .sequentiallyConsistent) != 0
    }

    func steal() {
        if let item = thiefsRing.steal(from: ring) { done(item.bits) }
        while let item = thiefsRing.pop() { done(item.bits) }
    }

    func verdict(items: Int) -> String? {
        taken.sorted() == (1...items).map(UInt.init) ? nil : "of 1 to \(items), \(taken) were taken"
    }
}

/// The lines of `WorkerPool` that stop it, with one seat, over the real `IdleWorkers`. What the staff's lock guards is
/// one word here.
private final class ModelStopping {
    private struct Staff {
        static let seated: UInt = 1
        static let vacant: UInt = 2
        static let stopping: UInt = 4
        static let pendingTrap: UInt = 8
    }

    private final class Word { let word = AtomicWord(0) }

    private let model: Model
    private let flaw: ModelTests.Seats.Flaw?
    private let traps: Bool
    private let idle = IdleWorkers()
    private let injected = Atomic<Int>(1)
    private let parking = Atomic<UInt32>(0)
    private let isStopping = Atomic<UInt32>(0)
    private let staff = AtomicWord(Staff.seated)
    /// 1 once the successor has the seat.
    private let assigned = Atomic<UInt32>(0)
    /// By thread: 0 while it works, 1 when it has left, 2 when it trapped.
    private let ended = [Word(), Word()]
    private var done = 0

    init(_ model: Model, _ flaw: ModelTests.Seats.Flaw?, traps: Bool = false) {
        self.model = model
        self.flaw = flaw
        self.traps = traps
    }

    /// False if it sleeps and nobody wakes it.
    func work(of thread: Int) -> Bool {
        while true {
            while takeInjected() {
                if traps, thread == 0 {
                    trapped()
                    return true
                }
                done += 1
            }
            guard let hasWork = sleep() else { return false }
            if !hasWork {
                ended[thread].word.store(1, ordering: .sequentiallyConsistent)
                return true
            }
        }
    }

    private func takeInjected() -> Bool {
        let seen = injected.load(ordering: .relaxed)
        return seen > 0
            && injected.compareExchange(
                expected: seen,
                desired: seen - 1,
                successOrdering: .sequentiallyConsistent,
                failureOrdering: .relaxed
            ).exchanged
    }

    private func exchangeParking(_ expected: UInt32, _ desired: UInt32) -> Bool {
        parking.compareExchange(
            expected: expected,
            desired: desired,
            successOrdering: .sequentiallyConsistent,
            failureOrdering: .sequentiallyConsistent
        ).exchanged
    }

    /// Whether there is work; nil if nobody wakes it. False when the pool is stopping and nothing is left.
    private func sleep() -> Bool? {
        while true {
            let early = flaw == .looksBeforeItSleeps && isStopping.load(ordering: .sequentiallyConsistent) != 0
            parking.store(1, ordering: .sequentiallyConsistent)
            idle.beginSleep()
            let stopping =
                flaw == .looksBeforeItSleeps ? early : isStopping.load(ordering: .sequentiallyConsistent) != 0
            if stopping || injected.load(ordering: .sequentiallyConsistent) != 0 {
                if exchangeParking(1, 2) { idle.endSleep(toSearch: true) }
            }
            while parking.load(ordering: .sequentiallyConsistent) == 1 {
                if !model.wait(until: { self.parking.settled != 1 }) { return nil }
            }
            if parking.exchange(0, ordering: .sequentiallyConsistent) == 2 { _ = idle.endSearch() }
            if injected.load(ordering: .relaxed) != 0 { return true }
            if stopping { return false }
        }
    }

    private func unpark() { if exchangeParking(1, 2) { idle.endSleep(toSearch: true) } }

    /// `replace`, `trapped` and `retire`: the reaper's doing; here the trapped thread's, which does nothing else.
    private func trapped() {
        let isStopping = staff.update { staff -> Bool in
            let isStopping = staff & Staff.stopping != 0
            staff += Staff.pendingTrap
            if isStopping { staff = staff & ~Staff.seated | Staff.vacant }
            return isStopping
        }
        if !isStopping { assigned.store(1, ordering: .sequentiallyConsistent) }
        ended[0].word.store(2, ordering: .sequentiallyConsistent)
        injected.add(1, ordering: .sequentiallyConsistent)
        if idle.needsWaking { unpark() }
        let isVacant = staff.update { staff -> Bool in
            let isVacant = staff & Staff.vacant != 0
            if isVacant { staff = staff & ~Staff.vacant | Staff.seated }
            return isVacant
        }
        if isVacant { assigned.store(1, ordering: .sequentiallyConsistent) }
        staff.update { $0 -= Staff.pendingTrap }
    }

    func blockingWaitForSeat() -> Bool { model.wait(until: { self.assigned.settled != 0 }) }

    func stop() {
        isStopping.store(1, ordering: .sequentiallyConsistent)
        unpark()
        staff.update { $0 |= Staff.stopping }
    }

    func joinAll() {
        while true {
            let now = staff.load(ordering: .acquiring)
            if now & Staff.seated != 0 {
                let thread = assigned.load(ordering: .sequentiallyConsistent) == 0 ? 0 : 1
                if !model.wait(until: { self.ended[thread].word.settled != 0 }) { return model.fail("joins for ever") }
                if ended[thread].word.load(ordering: .acquiring) == 1 {
                    staff.update { $0 &= ~Staff.seated }
                } else if !model.wait(until: {
                    self.assigned.settled != 0 || self.staff.settled & Staff.seated == 0
                }) {
                    return model.fail("waits for ever for a successor")
                }
            } else if now >= Staff.pendingTrap {
                if !model.wait(until: { self.staff.settled != now }) {
                    return model.fail("waits for ever for the reaper")
                }
            } else {
                if flaw == .noLookAfterTheLastThread { return }
                // A thread on the seat once more.
                if injected.load(ordering: .sequentiallyConsistent) == 0 { return }
                while takeInjected() { done += 1 }
            }
        }
    }

    func verdict(done expected: Int) -> String? {
        if injected.settled != 0 { return "an item is left in a pool that has stopped" }
        return done == expected ? nil : "\(expected) items were to be done, \(done) were"
    }
}
