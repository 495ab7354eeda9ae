// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import TestSupport
import Testing

@testable import Executor
@testable import LightProc

/// Timers of the pool: real time, in order, cancellable.
@Suite struct PoolTimerTests {
    @Test func timersFireInOrderAndNotBeforeTheirTime() async throws {
        let pool = try WorkerPool(workers: 1)
        var isInTime = false
        while !isInTime {
            let fired = Locked<[Int]>([])
            let done = Rendezvous(3)
            let start = pool.now
            for number in [3, 1, 2] {
                pool.schedule(after: .milliseconds(100 * number)) {
                    fired.withLock { $0.append(number) }
                    done.arrive()
                }
            }
            // Otherwise, on a machine that is busy, the order in which they are set may count: then once more.
            isInTime = pool.now - start < .milliseconds(100)
            done.everybody.blockingWait()
            #expect(pool.now - start >= .milliseconds(300))
            if isInTime { #expect(fired.withLock { $0 } == [1, 2, 3]) }
        }
        await pool.shutDownElsewhere()
    }

    @Test func anEarlierTimerOvertakesTheOneThatIsSleptTowards() async throws {
        let pool = try WorkerPool(workers: 1)
        let hour = pool.schedule(after: .seconds(3600)) { Issue.record("an hour has not passed") }
        let done = AsyncGate()
        pool.schedule(after: .zero) { done.open() }
        await done.wait()
        hour.cancel()
        await pool.shutDownElsewhere()
    }

    @Test func aCancelledTimerDoesNotFire() async throws {
        let pool = try WorkerPool(workers: 1)
        let done = AsyncGate()
        // On the timer's thread, which fires nothing meanwhile.
        pool.schedule(after: .zero) {
            let token = pool.schedule(after: .milliseconds(2)) { Issue.record("it was cancelled") }
            token.cancel()
            token.cancel()
            pool.schedule(after: .milliseconds(5)) {
                token.cancel()
                done.open()
            }
        }
        await done.wait()
        await pool.shutDownElsewhere()
    }

    @Test func anActionMayScheduleAndCancelTimers() async throws {
        let pool = try WorkerPool(workers: 1)
        let done = AsyncGate()
        let doomed = pool.schedule(after: .seconds(3600)) { Issue.record("it was cancelled") }
        pool.schedule(after: .zero) {
            doomed.cancel()
            pool.schedule(after: .zero) { done.open() }
        }
        await done.wait()
        await pool.shutDownElsewhere()
    }

    @Test func whatACancelledTimerHeldIsGone() async throws {
        let pool = try WorkerPool(workers: 1)
        final class Load: Sendable {}
        weak var watched: Load?
        do {
            let load = Load()
            watched = load
            let token = pool.schedule(after: .seconds(3600)) { _ = load }
            token.cancel()
        }
        #expect(watched == nil)
        await pool.shutDownElsewhere()
    }

    @Test func timersLeftAtTheShutdownAreNotCalled() async throws {
        let pool = try WorkerPool(workers: 1)
        pool.schedule(after: .seconds(3600)) { Issue.record("an hour has not passed") }
        await pool.shutDownElsewhere()
    }
}
