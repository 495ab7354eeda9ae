// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Testing

@testable import Executor
@testable import LightProc

/// Deadlines come out in order, whatever went in and was taken out again.
@Suite struct TimerQueueTests {
    @Test func equalDeadlinesComeOutInTheOrderTheyWentIn() {
        var queue = TimerQueue<Int>()
        for number in 0..<20 { _ = queue.insert(number, at: .seconds(number % 2)) }
        let order = (0..<20).compactMap { _ in queue.popDue(at: .seconds(5)) }
        #expect(order == Array(stride(from: 0, to: 20, by: 2)) + Array(stride(from: 1, to: 20, by: 2)))
        #expect(queue.isEmpty)
    }

    @Test func nothingIsDueBeforeItsTime() {
        var queue = TimerQueue<Int>()
        _ = queue.insert(1, at: .seconds(1))
        #expect(queue.popDue(at: .milliseconds(999)) == nil)
        #expect(queue.nextDeadline == .seconds(1))
        #expect(queue.popDue(at: .seconds(1)) == 1)
        #expect(queue.nextDeadline == nil)
    }

    @Test func removingWhatIsGoneDoesNothing() {
        var queue = TimerQueue<Int>()
        let id = queue.insert(1, at: .seconds(1))
        #expect(queue.remove(id) == 1)
        #expect(queue.remove(id) == nil)
        let other = queue.insert(2, at: .seconds(1))
        #expect(queue.popDue(at: .seconds(1)) == 2)
        #expect(queue.remove(other) == nil)
    }

    /// The reference: a list that is searched.
    @Test func randomSequencesAgreeWithTheModel() {
        print("SEED=\(RandomRun.seed) SCALE=\(RandomRun.scale)")
        var random = SeededGenerator(seed: RandomRun.seed)
        for _ in 0..<100 * RandomRun.scale {
            var queue = TimerQueue<Int>()
            var model: [(deadline: Duration, number: Int, id: TimerQueue<Int>.ID)] = []
            var gone: [TimerQueue<Int>.ID] = []
            for number in 0..<200 {
                switch random.next() % 8 {
                case 0...3:
                    let deadline = Duration.milliseconds(Int(random.next() % 50))
                    model.append((deadline, number, queue.insert(number, at: deadline)))
                case 4, 5:
                    let now = Duration.milliseconds(Int(random.next() % 50))
                    let first = model.indices.min {
                        (model[$0].deadline, model[$0].number) < (model[$1].deadline, model[$1].number)
                    }
                    if let first, model[first].deadline <= now {
                        let entry = model.remove(at: first)
                        #expect(queue.popDue(at: now) == entry.number, "SEED=\(RandomRun.seed)")
                        gone.append(entry.id)
                    } else {
                        #expect(queue.popDue(at: now) == nil, "SEED=\(RandomRun.seed)")
                    }
                case 6:
                    guard let place = model.indices.randomElement(using: &random) else { continue }
                    let entry = model.remove(at: place)
                    #expect(queue.remove(entry.id) == entry.number, "SEED=\(RandomRun.seed)")
                    gone.append(entry.id)
                default:
                    guard let id = gone.randomElement(using: &random) else { continue }
                    #expect(queue.remove(id) == nil, "SEED=\(RandomRun.seed)")
                }
                #expect(queue.count == model.count)
                #expect(queue.nextDeadline == model.map(\.deadline).min())
            }
        }
    }
}

/// Timers of the pool: real time, in order, cancellable.
@Suite struct TimerThreadTests {
    @Test func timersFireInOrderAndNotBeforeTheirTime() async {
        let timers = TimerThread()
        timers.start()
        let fired = Locked<[Int]>([])
        let done = AsyncGate()
        // Far enough away that all are set before the first is due, also on a machine that is busy.
        let start = MonotonicClock.now + .milliseconds(200)
        for number in [3, 1, 2] {
            _ = timers.schedule(at: start + .milliseconds(5 * number)) {
                fired.withLock { $0.append(number) }
                if number == 3 { done.open() }
            }
        }
        await done.wait()
        #expect(fired.withLock { $0 } == [1, 2, 3])
        #expect(MonotonicClock.now - start >= .milliseconds(15))
        await Task.detached { timers.stop() }.value
    }

    @Test func anEarlierTimerOvertakesTheOneThatIsSleptTowards() async throws {
        let pool = try WorkerPool(workers: 1)
        let hour = pool.schedule(after: .seconds(3600)) { Issue.record("an hour has not passed") }
        let done = AsyncGate()
        pool.schedule(after: .zero) { done.open() }
        await done.wait()
        hour.cancel()
        await shutDown(pool)
    }

    @Test func aCancelledTimerDoesNotFire() async throws {
        let pool = try WorkerPool(workers: 1)
        let done = AsyncGate()
        let token = pool.schedule(after: .milliseconds(2)) { Issue.record("it was cancelled") }
        token.cancel()
        token.cancel()
        pool.schedule(after: .milliseconds(5)) { done.open() }
        await done.wait()
        token.cancel()
        await shutDown(pool)
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
        await shutDown(pool)
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
        await shutDown(pool)
    }

    @Test func timersLeftAtTheShutdownAreNotCalled() async throws {
        let pool = try WorkerPool(workers: 1)
        pool.schedule(after: .seconds(3600)) { Issue.record("an hour has not passed") }
        await shutDown(pool)
    }
}
