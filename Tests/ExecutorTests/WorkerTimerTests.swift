// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CLightProc
import Glibc
import Synchronization
import TestSupport
import Testing

@testable import Executor
@testable import LightProc

/// Timers that are set on workers: who fires them, and that none is lost.
@Suite struct WorkerTimerTests {
    @Test func aTimerThatAWorkerHasSetIsFiredOnce() async throws {
        let pool = try WorkerPool(workers: 1)
        let start = pool.now
        let belongsToNobody = try await pool.spawn {
            await suspended { continuation in
                pool.wake(after: .milliseconds(20)) {
                    continuation.resume(returning: LightProc.current == nil)
                }
            }
        }.outcome().get()
        #expect(belongsToNobody)
        #expect(pool.now - start >= .milliseconds(20))
        let counters = pool.timerCounters
        #expect(counters.map(\.worker) == [0, nil])
        #expect(counters[0].fired == 1)
        #expect(counters[0].pending == 0)
        #expect(counters[0].lateness.reduce(0, +) == 1)
        #expect(counters[0].totalLateness == counters[0].maximumLateness)
        #expect(counters[1].fired == 0)
        await pool.shutDownElsewhere()
    }

    /// The keeper comes 2 ms later: on a machine that is busy it is first often, but not each time.
    @Test func aWorkerThatSleepsFiresItsTimers() async throws {
        let pool = try WorkerPool(workers: 1)
        var (byWorker, byKeeper) = (0, 0)
        while byWorker < 20, byKeeper < 10_000 {
            let isOnWorker = try await pool.spawn {
                await suspended { continuation in
                    pool.wake(after: .milliseconds(2)) { continuation.resume(returning: crtSeat() != nil) }
                }
            }.outcome().get()
            if isOnWorker { byWorker += 1 } else { byKeeper += 1 }
        }
        #expect(byWorker == 20, "the keeper has fired \(byKeeper)")
        #expect(pool.timerCounters[0].rescued == UInt(byKeeper))
        await pool.shutDownElsewhere()
    }

    /// A million on one worker, while others come and go. They cost nobody anything who does not wait for one.
    @Test func aMillionAreInFlight() async throws {
        let pool = try WorkerPool(workers: 2)
        let count = Sanitizer.isAny ? 100_000 : 1_000_000
        let tokens = try await pool.spawn {
            (0..<count).map { number in
                pool.wake(after: .seconds(3600 + number % 3600)) { Issue.record("an hour has not passed") }
            }
        }.outcome().get()
        #expect(pool.timerCounters.reduce(0) { $0 + $1.pending } == count)
        for _ in 0..<10 { try await pool.spawn { try await pool.sleep(for: .milliseconds(1)) }.outcome().get() }
        #expect(pool.timerCounters.reduce(0) { $0 + $1.fired } == 10)
        for token in tokens { token.cancel() }
        #expect(pool.timerCounters.reduce(0) { $0 + $1.pending } == 0)
        #expect(pool.timerCounters.reduce(0) { $0 + $1.cancelled } == UInt(count))
        await pool.shutDownElsewhere()
    }

    /// Waits for ever if nobody does.
    @Test func theKeeperFiresForAWorkerThatIsBusy() async throws {
        let pool = try WorkerPool(workers: 1)
        _ = await pool.spawn {
            let gate = BlockingGate()
            pool.wake(after: .milliseconds(1)) { gate.open() }
            gate.blockingWait()
        }.outcome()
        #expect(pool.timerCounters[0].rescued == 1)
        // The worker goes on with what is left in its wheel.
        try await pool.spawn { try await pool.sleep(for: .milliseconds(1)) }.outcome().get()
        await pool.shutDownElsewhere()
    }

    @Test func theKeeperLooksAfterTimersThatComeBeforeThoseItKnows() async throws {
        let pool = try WorkerPool(workers: 1)
        _ = await pool.spawn {
            let tokens = (1...3).map { pool.wake(after: .seconds(3600 / $0)) { Issue.record("too early") } }
            let gate = BlockingGate()
            pool.wake(after: .milliseconds(5)) { gate.open() }
            gate.blockingWait()
            for token in tokens { token.cancel() }
        }.outcome()
        let counters = pool.timerCounters[0]
        #expect(counters.cancelled == 3)
        #expect(counters.pending == 0)
        await pool.shutDownElsewhere()
    }

    @Test func aWorkerSleepsNoLongerThanUntilTheEarliest() async throws {
        let pool = try WorkerPool(workers: 2)
        let handles = [30, 10, 20, 1, 3_600_000].map { time in
            pool.spawn { try await pool.sleep(for: .milliseconds(time)) }
        }
        for handle in handles.dropLast() { try await handle.outcome().get() }
        handles[4].kill()
        _ = await handles[4].outcome()
        await pool.shutDownElsewhere()
    }

    @Test func anActionMayCancelOneThatIsDueAtTheSameMoment() async throws {
        let pool = try WorkerPool(workers: 1)
        let fired = Locked<[Int]>([])
        _ = await pool.spawn {
            await suspended { (done: UnsafeContinuation<Void, Never>) in
                let tokens = Locked<[TimerToken]>([])
                tokens.withLock { list in
                    // The keeper may come before the others are set: then it waits.
                    pool.wake(after: .milliseconds(1)) {
                        fired.withLock { $0.append(0) }
                        for token in tokens.withLock({ $0 }) { token.cancel() }
                    }
                    for number in 1...3 {
                        list.append(
                            pool.wake(after: .milliseconds(2)) { fired.withLock { $0.append(number) } }
                        )
                    }
                }
                pool.wake(after: .milliseconds(3)) { done.resume() }
                // All are due when the worker comes to look, or the keeper.
                let end = pool.now + .milliseconds(4)
                while pool.now < end { sched_yield() }
            }
        }.outcome()
        #expect(fired.withLock { $0 } == [0])
        await pool.shutDownElsewhere()
    }

    /// A worker's timers are its successor's.
    @Test func timersOutliveTheThreadThatSetThem() async throws {
        let pool = try WorkerPool(workers: 1)
        let sleepers = (1...20).map { number in
            pool.spawn { try await pool.sleep(for: .milliseconds(number)) }
        }
        for _ in 0..<5 {
            let handle = pool.spawn { _ = Misdeed.index.commit() }
            #expect(await handle.handle.exit().trapReport != nil)
        }
        for sleeper in sleepers { try await sleeper.outcome().get() }
        await pool.shutDownElsewhere()
    }

    @Test(arguments: [WorkerPool.ShutdownMode.drain, .drop])
    func nothingFiresWhileThePoolIsDown(mode: WorkerPool.ShutdownMode) async throws {
        let pool = try WorkerPool(workers: 2)
        let sleepers = (0..<10).map { _ in pool.spawn { try await pool.sleep(for: .milliseconds(50)) } }
        let fired = Atomic<Int>(0)
        let all = AsyncGate()
        for _ in 0..<10 {
            pool.schedule(after: .milliseconds(50)) {
                if fired.add(1, ordering: .sequentiallyConsistent).newValue == 10 { all.open() }
            }
        }
        let end = pool.now + .milliseconds(60)
        await pool.shutDownElsewhere(mode)
        let before = fired.load(ordering: .sequentiallyConsistent)
        while pool.now < end { await Task.yield() }
        #expect(fired.load(ordering: .sequentiallyConsistent) == before)
        pool.start()
        await all.wait()
        for sleeper in sleepers { _ = await sleeper.outcome() }
        await pool.shutDownElsewhere()
    }

    /// By workers and by other threads, cancelled by whoever comes across them: each fires once, or was cancelled.
    @Test func manyTimersThatAreSetAndCancelledByManyThreads() async throws {
        let pool = try WorkerPool(workers: 2)
        let fired = Atomic<Int>(0)
        let tokens = Locked<[TimerToken]>([])
        let count = 2000
        let set: @Sendable (UInt64) async -> Void = { seed in
            var random = SeededGenerator(seed: seed)
            for _ in 0..<count {
                let time = Duration.microseconds(Int(random.next() % 3000))
                let token = pool.wake(after: time) { fired.add(1, ordering: .relaxed) }
                if random.next() % 2 == 0 {
                    tokens.withLock { $0.append(token) }
                } else if random.next() % 2 == 0 {
                    tokens.withLock({ $0.popLast() })?.cancel()
                }
                if random.next() % 16 == 0 { await Task.yield() }
            }
        }
        let handles = (0..<4 as Range<UInt64>).map { seed in pool.spawn { await set(seed) } }
        await withTaskGroup(of: Void.self) { group in
            for seed in 4..<6 as Range<UInt64> { group.addTask { await set(seed) } }
        }
        for handle in handles { _ = await handle.outcome() }
        // Behind all others.
        let done = AsyncGate()
        pool.schedule(after: .milliseconds(4)) { done.open() }
        await done.wait()
        _ = await pool.spawn { try await pool.sleep(for: .milliseconds(4)) }.outcome()
        await pool.shutDownElsewhere()
        let counters = pool.timerCounters
        let (firedInAll, cancelled) = counters.reduce((0, 0)) { ($0.0 + Int($1.fired), $0.1 + Int($1.cancelled)) }
        let pending = counters.reduce(0) { $0 + $1.pending }
        // Besides those that were counted here: the two at the end.
        #expect(firedInAll - 2 == fired.load(ordering: .relaxed))
        #expect(firedInAll + cancelled + pending == 6 * count + 2)
        #expect(counters.allSatisfy { $0.lateness.reduce(0, +) == $0.fired })
    }

    @Test(arguments: [(0, 0), (999, 0), (1000, 1), (1999, 1), (2000, 2), (1_000_000, 10), (UInt64.max / 2, 23)])
    func latenessIsCountedByPowersOfTwoMicroseconds(nanoseconds: UInt64, number: Int) {
        #expect(TimerTally.latenessClass(nanoseconds) == number)
    }
}

/// Sleeping in processes: on the executor's clock, and on Swift's.
@Suite struct SleepTests {
    @Test func taskSleepComesBackToAWorker() async throws {
        let pool = try WorkerPool(workers: 2)
        let places = try await pool.spawn {
            let before = (LightProc.current?.id, crtSeat() != nil)
            try await Task.sleep(for: .milliseconds(2))
            let after = (LightProc.current?.id, crtSeat() != nil)
            try await ContinuousClock().sleep(for: .milliseconds(2))
            let last = (LightProc.current?.id, crtSeat() != nil)
            return (before, after, last)
        }.outcome().get()
        #expect(places.0 == places.1)
        #expect(places.0 == places.2)
        #expect(places.0.0 != nil)
        #expect(places.0.1)
        await pool.shutDownElsewhere()
    }

    enum Way: CaseIterable { case task, continuous, pool }

    @Test(arguments: Way.allCases)
    func aKillEndsASleep(way: Way) async throws {
        let pool = try WorkerPool(workers: 2)
        let sleeping = AsyncGate()
        let cancelled = AsyncGate()
        let handle = pool.spawn {
            // In a child task: the process is not sealed before that has ended.
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask {
                    sleeping.open()
                    do {
                        switch way {
                        case .task: try await Task.sleep(for: .seconds(3600))
                        case .continuous: try await ContinuousClock().sleep(for: .seconds(3600))
                        case .pool: try await pool.clock.sleep(for: .seconds(3600))
                        }
                    } catch is CancellationError {
                        if crtSeat() != nil { cancelled.open() }
                    }
                }
                try await group.waitForAll()
            }
        }
        await sleeping.wait()
        handle.kill()
        await cancelled.wait()
        _ = await handle.handle.exit()
        #expect(pool.timerCounters.allSatisfy { $0.fired == 0 })
        await pool.shutDownElsewhere()
    }

    @Test func theClockSleepsUntilItsDeadline() async throws {
        let pool = try WorkerPool(workers: 2)
        let late = try await pool.spawn {
            let clock = pool.clock
            let deadline = clock.now.advanced(by: .milliseconds(3))
            try await clock.sleep(until: deadline)
            let late = deadline.duration(to: clock.now)
            // What has passed takes no timer.
            try await clock.sleep(until: deadline)
            return late
        }.outcome().get()
        #expect(late >= .zero)
        #expect(pool.timerCounters.reduce(0) { $0 + $1.fired } == 1)
        await pool.shutDownElsewhere()
    }

    @Test func whoIsCancelledDoesNotSleep() async throws {
        let pool = try WorkerPool(workers: 1)
        let task = Task {
            while !Task.isCancelled { await Task.yield() }
            try await pool.clock.sleep(for: .seconds(3600))
        }
        task.cancel()
        await #expect(throws: CancellationError.self) { try await task.value }
        #expect(pool.timerCounters.allSatisfy { $0.pending == 0 && $0.cancelled == 0 })
        await pool.shutDownElsewhere()
    }

    /// From a thread that is no worker.
    @Test func anybodyMaySleepOnThePoolsClock() async throws {
        let pool = try WorkerPool(workers: 1)
        let start = pool.clock.now
        try await pool.clock.sleep(for: .milliseconds(2))
        #expect(start.duration(to: pool.clock.now) >= .milliseconds(2))
        await pool.shutDownElsewhere()
    }

    @Test func instantsAreArithmetic() {
        let instant = BastionClock.Instant(nanoseconds: 10)
        #expect(instant.advanced(by: .nanoseconds(5)).nanoseconds == 15)
        // Never early.
        #expect(instant.advanced(by: Duration(secondsComponent: 0, attosecondsComponent: 1)).nanoseconds == 11)
        #expect(instant.advanced(by: .seconds(Int64.max)).nanoseconds == .max)
        #expect(instant.advanced(by: .nanoseconds(-20)).nanoseconds == -10)
        #expect(instant.duration(to: .init(nanoseconds: 7)) == .nanoseconds(-3))
        #expect(instant < .init(nanoseconds: 11))
    }
}

/// The seat of the worker that the calling thread is; nil on other threads.
private func crtSeat() -> Int? { crt_self()?.pointee.seat.map { Int(bitPattern: $0) } }
