// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Synchronization
import TestSupport
import Testing

@testable import Executor
@testable import LightProc

/// Moments at a fixed rate: in virtual time, and on a pool.
@Suite struct IntervalTests {
    struct Case: Sendable {
        let start: Int64
        /// When the next moment is asked for, and what comes then.
        let steps: [Step]
        init(start: Int64, _ steps: Step...) {
            self.start = start
            self.steps = steps
        }
    }

    struct Step: Sendable {
        let now, moment: Int64
        let missed: Int
        init(_ now: Int64, _ moment: Int64, _ missed: Int) {
            self.now = now
            self.moment = moment
            self.missed = missed
        }
    }

    static let cases = [
        // Asked for in time: one after the other, however late each was.
        Case(start: 100, Step(100, 110, 0), Step(119, 120, 0), Step(121, 130, 0), Step(140, 140, 0)),
        // At the very moment it has not passed.
        Case(start: 0, Step(10, 10, 0), Step(20, 20, 0)),
        // Too late: what has passed is skipped, the rest stays on the grid.
        Case(start: 0, Step(11, 20, 1), Step(20, 30, 0), Step(45, 50, 1), Step(46, 60, 0)),
        Case(start: 0, Step(1_000_001, 1_000_010, 100_000)),
        // At the end of time.
        Case(start: .max - 5, Step(.max - 5, .max, 0), Step(0, .max, 0)),
    ]

    @Test(arguments: cases)
    func momentsLieOnAGrid(each: Case) {
        var schedule = IntervalSchedule(start: each.start, period: 10)
        for step in each.steps {
            let next = schedule.next(at: step.now)
            #expect(next.moment == step.moment)
            #expect(next.missed == step.missed)
        }
    }

    @Test func randomTimesGiveMomentsOnTheGridThatHaveNotPassed() {
        print("SEED=\(RandomRun.seed) SCALE=\(RandomRun.scale)")
        var random = SeededGenerator(seed: RandomRun.seed)
        for _ in 0..<200 * RandomRun.scale {
            let period = Int64(random.next() % 1000 + 1)
            let start = Int64(random.next() % 1000)
            var schedule = IntervalSchedule(start: start, period: period)
            var now = start
            var last = start
            for _ in 0..<50 {
                now += Int64(random.next() % UInt64(3 * period))
                let next = schedule.next(at: now)
                #expect(next.moment >= now, "SEED=\(RandomRun.seed)")
                #expect((next.moment - start) % period == 0, "SEED=\(RandomRun.seed)")
                #expect(next.moment == last + Int64(next.missed + 1) * period, "SEED=\(RandomRun.seed)")
                #expect(next.moment < max(now, last + 1) + period, "SEED=\(RandomRun.seed)")
                last = next.moment
            }
        }
    }

    @Test func ticksComeAtAFixedRateInVirtualTime() {
        let executor = SeededExecutor(seed: 7)
        let notes = Locked<[String]>([])
        let handle = executor.spawn {
            for await tick in executor.clock.ticks(every: .milliseconds(10)) {
                notes.withLock { $0.append("\(tick.instant.nanoseconds / 1_000_000) \(tick.missed)") }
                // Busy for more than two periods, once.
                if tick.instant.nanoseconds == 30_000_000 { try await executor.clock.sleep(for: .milliseconds(25)) }
            }
            notes.withLock { $0.append("ended") }
        }
        executor.advance(by: .milliseconds(75))
        #expect(notes.withLock { $0 } == ["10 0", "20 0", "30 0", "60 2", "70 0"])
        handle.cancel()
        executor.drain()
        #expect(notes.withLock { $0.last } == "ended")
    }

    @Test func aCallbackComesAtAFixedRateUntilItIsCancelled() {
        let executor = SeededExecutor(seed: 7)
        let notes = Locked<[Duration]>([])
        let token = executor.schedule(every: .seconds(1)) { missed in
            #expect(missed == 0)
            notes.withLock { $0.append(executor.now) }
        }
        executor.advance(by: .milliseconds(3500))
        token.cancel()
        executor.advance(by: .seconds(10))
        #expect(notes.withLock { $0 } == [.seconds(1), .seconds(2), .seconds(3)])
    }

    @Test func aCallbackMayCancelItself() {
        let executor = SeededExecutor(seed: 7)
        let calls = Atomic<Int>(0)
        let token = Locked<TimerToken?>(nil)
        let made = executor.schedule(every: .seconds(1)) { _ in
            if calls.add(1, ordering: .relaxed).newValue == 2 { token.withLock { $0 }?.cancel() }
        }
        token.withLock { $0 = made }
        executor.advance(by: .seconds(10))
        #expect(calls.load(ordering: .relaxed) == 2)
    }

    @Test func onAPoolTicksAreNeverEarlyNorInABunch() async throws {
        let pool = try WorkerPool(workers: 2)
        let lateAndGaps = await pool.spawn {
            var seen: [(due: Int64, at: Int64)] = []
            for await tick in pool.clock.ticks(every: .milliseconds(1)) {
                seen.append((tick.instant.nanoseconds, pool.clock.now.nanoseconds))
                if seen.count == 20 { break }
            }
            return seen
        }.outcome()
        let seen = try lateAndGaps.get()
        #expect(seen.count == 20)
        #expect(seen.allSatisfy { $0.at >= $0.due })
        for (one, next) in zip(seen, seen.dropFirst()) { #expect(next.due > one.due) }
        #expect(Set(seen.map { ($0.due - seen[0].due) % 1_000_000 }) == [0])
        await pool.shutDownElsewhere()
    }

    @Test func aCallbackOfAPoolIsCalled() async throws {
        let pool = try WorkerPool(workers: 1)
        let gate = AsyncGate()
        let calls = Atomic<Int>(0)
        let token = pool.schedule(every: .milliseconds(1)) { _ in
            if calls.add(1, ordering: .relaxed).newValue == 5 { gate.open() }
        }
        await gate.wait()
        token.cancel()
        await pool.shutDownElsewhere()
        #expect(pool.timerCounters.last?.pending == 0)
    }
}
