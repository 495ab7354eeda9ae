// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Testing

extension ModelTests {
    /// The protocols by which no timer is slept through.
    @Suite struct Timers {
        enum Flaw {
            case keeperLooksOnce
            case setterLooksFirst
            case keeperRousesFirst
            case workerLooksFirst
        }

        @Test func theKeeperIsThereForEachTimer() {
            expectHolds("timers, 2 setters against the keeper") { setting($0, [30], [20]) }
            expectHolds("timers, a setter against the keeper that was awaited", preemptions: 3) {
                setting($0, [30, 20], alarm: 10)
            }
            expectHolds("timers, 2 setters against the keeper that was awaited") { setting($0, [30], [20], alarm: 10) }
        }

        @Test(arguments: [Flaw.keeperLooksOnce, .setterLooksFirst])
        func aTimerThatIsSleptThroughIsFound(_ flaw: Flaw) {
            expectFound("timers, \(flaw)") { setting($0, [20], alarm: 10, flaw: flaw) }
        }

        @Test func aMissingFenceAfterTheStoreIsFound() {
            expectFound("timers, TimerAlarm", .noStoreLoadFence) { setting($0, [20], alarm: 10) }
        }

        @Test func aWorkerThatGoesToSleepSeesWhatTheKeeperLeft() {
            expectHolds("timers, keeper against park", preemptions: 4) { rousing($0) }
            expectFound("timers, a keeper that rouses first") { rousing($0, flaw: .keeperRousesFirst) }
            expectFound("timers, a worker that looks first") { rousing($0, flaw: .workerLooksFirst) }
            expectFound("timers, keeper against park", .noStoreLoadFence) { rousing($0) }
        }

        /// Each setter sets timers in its own wheel. At the end the keeper must sleep no longer than until the earliest.
        ///
        /// - Parameter alarm: Until when it slept before it comes to look; of a timer that has fired, or was cancelled.
        private func setting(_ model: Model, _ lists: [UInt]..., alarm: UInt = .max, flaw: Flaw? = nil) {
            let shell = ModelKeeper(model, wheels: lists.count, alarm: alarm, flaw: flaw)
            for (wheel, moments) in lists.enumerated() {
                model.thread { for moment in moments { shell.insert(moment, into: wheel) } }
            }
            model.thread { shell.keep() }
            let earliest = lists.flatMap { $0 }.min()
            model.finally {
                shell.sleepsUntil == earliest ? nil : "the keeper sleeps until \(shell.sleepsUntil ?? 0)"
            }
        }

        /// The keeper fires a worker's wheel while the worker goes to sleep: it must not sleep without a time.
        private func rousing(_ model: Model, flaw: Flaw? = nil) {
            let next = Atomic<UInt>(.max)
            let parking = Atomic<UInt32>(0)
            var sleepsUntil: UInt?
            model.thread {
                // `TimerShard.fire` at its end, then `PoolTimers.keep`.
                func rouse() {
                    _ = parking.compareExchange(
                        expected: 1,
                        desired: 2,
                        successOrdering: .sequentiallyConsistent,
                        failureOrdering: .sequentiallyConsistent
                    )
                }
                if flaw == .keeperRousesFirst { rouse() }
                next.store(50, ordering: .sequentiallyConsistent)
                if flaw != .keeperRousesFirst { rouse() }
            }
            model.thread {
                // `WorkerPool.sleep`.
                var seen = next.load(ordering: .sequentiallyConsistent)
                parking.store(1, ordering: .sequentiallyConsistent)
                if flaw != .workerLooksFirst { seen = next.load(ordering: .sequentiallyConsistent) }
                if parking.load(ordering: .sequentiallyConsistent) == 1, seen == .max {
                    if !model.wait(until: { parking.settled != 1 }) { return }
                }
                sleepsUntil = next.load(ordering: .sequentiallyConsistent)
            }
            model.finally { sleepsUntil == 50 ? nil : "the worker sleeps without a time" }
        }
    }
}

/// The lines of `TimerShard` and `PoolTimers` that set and keep, over the real `TimerAlarm`.
private final class ModelKeeper {
    private let model: Model
    private let flaw: ModelTests.Timers.Flaw?
    private let alarm = TimerAlarm()
    private final class Word {
        let next = Atomic<UInt>(.max)
    }
    private let wheels: [Word]
    private let changes = Atomic<UInt32>(0)
    /// Until when the keeper sleeps at last.
    private(set) var sleepsUntil: UInt?

    init(_ model: Model, wheels: Int, alarm: UInt, flaw: ModelTests.Timers.Flaw?) {
        self.model = model
        self.flaw = flaw
        self.wheels = (0..<wheels).map { _ in Word() }
        _ = self.alarm.set { alarm }
    }

    func insert(_ moment: UInt, into wheel: Int) {
        let word = wheels[wheel]
        // Under the wheel's lock in the real one.
        guard moment < word.next.load(ordering: .relaxed) else { return }
        if flaw == .setterLooksFirst {
            let mustWake = alarm.mustWake(for: moment)
            word.next.store(moment, ordering: .sequentiallyConsistent)
            if mustWake { wake() }
            return
        }
        word.next.store(moment, ordering: .sequentiallyConsistent)
        if alarm.mustWake(for: moment) { wake() }
    }

    private func wake() { changes.add(1, ordering: .sequentiallyConsistent) }

    func keep() {
        while true {
            let seen = changes.load(ordering: .sequentiallyConsistent)
            let time = set()
            guard let time else { continue }
            sleepsUntil = time
            // The times here never come: the keeper sleeps until it is woken.
            if !model.wait(until: { self.changes.settled != seen }) { return }
        }
    }

    private func set() -> UInt? {
        var looks = 0
        return alarm.set {
            looks += 1
            return flaw == .keeperLooksOnce && looks > 1 ? .max : earliest
        }
    }

    private var earliest: UInt {
        var earliest = UInt.max
        for wheel in wheels { earliest = min(earliest, wheel.next.load(ordering: .sequentiallyConsistent)) }
        return earliest
    }
}
