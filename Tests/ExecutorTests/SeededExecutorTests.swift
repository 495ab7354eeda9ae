// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Testing

@testable import Executor
@testable import LightProc

/// The executor for tests: the seed decides the order, and time passes when told to.
@Suite struct SeededExecutorTests {
    /// A trace of processes of both kinds that yield, send to each other, and wait.
    private func trace(seed: UInt64) -> [String] {
        let executor = SeededExecutor(seed: seed)
        let notes = Notes()
        let board = LightProc.reactive(Doer(), on: executor)
        for name in ["a", "b", "c"] {
            executor.spawn {
                for number in 0..<3 {
                    board.tell { _ in notes.add("\(name)\(number)") }
                    await Task.yield()
                }
                notes.add("\(name) ends")
            }
            let reactive = LightProc.reactive(Doer(), on: executor)
            for number in 0..<3 { reactive.tell { _ in board.tell { _ in notes.add("\(name)'\(number)") } } }
            executor.schedule(after: .seconds(1)) { reactive.tell { _ in notes.add("\(name) timer") } }
        }
        executor.drain()
        executor.advance(by: .seconds(2))
        return notes.list
    }

    @Test(arguments: [1, 42, 0xffff_ffff_ffff_ffff])
    func equalSeedsGiveEqualRuns(seed: UInt64) {
        let first = trace(seed: seed)
        #expect(first.count == 24)
        #expect(trace(seed: seed) == first)
    }

    @Test func differentSeedsGiveDifferentRuns() {
        let traces = (0..<50 as Range<UInt64>).map { trace(seed: $0) }
        #expect(Set(traces).count > 40)
        // The same things happen in each.
        #expect(Set(traces.map { $0.sorted() }).count == 1)
    }

    @Test func nothingRunsByItself() {
        let executor = SeededExecutor(seed: 1)
        let notes = Notes()
        executor.spawn { notes.add("ran") }
        #expect(notes.list == [])
        executor.drain()
        #expect(notes.list == ["ran"])
        #expect(executor.steps > 0)
        #expect(!executor.step())
    }

    @Test func timePassesOnlyWhenToldTo() {
        let executor = SeededExecutor(seed: 1)
        let notes = Notes()
        executor.schedule(after: .seconds(10)) { notes.add("ten at \(executor.now)") }
        executor.drain()
        #expect(executor.now == .zero)
        executor.advance(by: .milliseconds(9_999))
        #expect(notes.list == [])
        #expect(executor.now == .milliseconds(9_999))
        executor.advance(by: .seconds(5))
        #expect(notes.list == ["ten at \(Duration.seconds(10))"])
        #expect(executor.now == .milliseconds(14_999))
    }

    @Test func timersFireInOrderAndWhatEachMakesReadyRunsBeforeTheNext() {
        let executor = SeededExecutor(seed: 3)
        let notes = Notes()
        let proc = LightProc.reactive(Doer(), on: executor)
        for second in [3, 1, 2] {
            executor.schedule(after: .seconds(second)) {
                notes.add("timer \(second)")
                proc.tell { _ in notes.add("message \(second)") }
            }
        }
        let token = executor.schedule(after: .seconds(2)) { notes.add("cancelled") }
        token.cancel()
        executor.advance(by: .seconds(3))
        #expect(notes.list == (1...3).flatMap { ["timer \($0)", "message \($0)"] })
    }

    @Test func timersThatTimersSetFireWithinTheSameAdvance() {
        let executor = SeededExecutor(seed: 3)
        let notes = Notes()
        @Sendable func tick(_ left: Int) {
            notes.add("\(executor.now.components.seconds)")
            if left > 0 { executor.schedule(after: .seconds(1)) { tick(left - 1) } }
        }
        executor.schedule(after: .seconds(1)) { tick(10) }
        executor.advance(by: .seconds(5))
        #expect(notes.list == ["1", "2", "3", "4", "5"])
    }

    @Test func theBlockingSchedulerIsItself() {
        let executor = SeededExecutor(seed: 1)
        let notes = Notes()
        executor.spawnBlocking { notes.add("blocking") }
        executor.drain()
        #expect(notes.list == ["blocking"])
    }

    @Test func whatNeverComesToRestIsAFailure() async {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
            let executor = SeededExecutor(seed: 77)
            executor.spawn { while true { await Task.yield() } }
            executor.drain(limit: 1_000)
        }
        let said = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
        #expect(said.contains("seed 77: still not at rest after 1000 steps"))
    }

    @Test func defaultActorsFollow() throws {
        actor Account {
            var balance = 0
            func deposit(_ amount: Int) { balance += amount }
        }
        let executor = SeededExecutor(seed: 5)
        let account = Account()
        for amount in 1...10 { executor.spawn { await account.deposit(amount) } }
        let total = executor.spawn { await account.balance }
        executor.drain()
        let after = executor.spawn { await account.balance }
        executor.drain()
        #expect(try after.knownOutcome.get() == 55)
        #expect(try total.knownOutcome.get() <= 55)
    }
}

/// What happened, in order.
private final class Notes: Sendable {
    private let notes = Locked<[String]>([])
    var list: [String] { notes.withLock { $0 } }
    func add(_ note: String) { notes.withLock { $0.append(note) } }
}
