// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Testing

@testable import Executor

@Suite struct TurnOrderTests {
    @Test func mostTurnsAreUrgentAndNoQueueIsForgotten() {
        let order = TurnOrder()
        let firsts = (1...640).map { order.first(at: $0) }
        #expect(firsts.count { $0 == .urgent } == 600)
        #expect(firsts.count { $0 == .inbox } == 20)
        #expect(firsts.count { $0 == .node } == 10)
        #expect(firsts.count { $0 == .low } == 10)
        for (turn, first) in zip(1..., firsts) { #expect(order.isSpecial(UInt(turn)) == (first != .urgent)) }
    }

    @Test func longTurnsLookOutsideMoreOften() {
        var order = TurnOrder()
        order.resume(0, at: 1_000)
        order.measure(64, at: 1_000 + 64 * 50_000)
        #expect(order.meanTurn == 50_000)
        let firsts = (65...128).map { order.first(at: $0) }
        #expect(firsts.count { $0 == .urgent } == 32)
        #expect(firsts.count { $0 == .inbox } == 16)
        #expect(firsts.count { $0 == .node } == 15)
        #expect(firsts.count { $0 == .low } == 1)
        // And not any more when they are short again.
        order.measure(128, at: 1_000 + 64 * 50_000 + 64 * 100)
        #expect(order.meanTurn == 100)
        #expect(!order.isSpecial(130))
    }

    @Test func whatToExpectGrowsAtOnceAndFallsByHalves() {
        var order = TurnOrder()
        #expect(order.expectedTurn == TurnOrder.longestExpected, "nothing is known: long")
        order.resume(0, at: 1_000)
        var now: UInt64 = 1_000
        func measure(_ turn: UInt, each nanoseconds: UInt64) {
            now += 64 * nanoseconds
            order.measure(turn, at: now)
        }
        measure(64, each: 100)
        #expect(order.expectedTurn == 100)
        measure(128, each: 80_000)
        #expect(order.expectedTurn == 80_000)
        measure(192, each: 100)
        #expect(order.expectedTurn == 40_000)
        measure(256, each: 30_000)
        #expect(order.expectedTurn == 30_000)
        measure(320, each: 10_000_000_000)
        #expect(order.expectedTurn == TurnOrder.longestExpected)
    }

    @Test func aFewTurnsBeforeASleepTellWhatToExpectButNotWhoseTurnItIs() {
        var order = TurnOrder()
        order.resume(0, at: 1_000)
        order.rest(2, at: 1_000 + 2 * 30_000)
        #expect(order.expectedTurn == 30_000)
        #expect(order.meanTurn == nil)
        #expect((1...64).count { order.isSpecial($0) } == 4)
        // Time in which it slept is no part of a turn.
        order.rest(10, at: 1_000_000_000)
        #expect(order.expectedTurn == 30_000)
    }

    @Test func whoWasSetBackIsNotForgotten() {
        #expect((1...640).count { TurnOrder.isForDebtors($0) } == 10)
        // Those turns look outside of the ring, whether turns are long or short.
        var long = TurnOrder()
        long.resume(0, at: 1_000)
        long.measure(64, at: 1_000 + 64 * 50_000)
        for turn: UInt in 1...640 where TurnOrder.isForDebtors(turn) {
            #expect(TurnOrder().isSpecial(turn) && long.isSpecial(turn))
            #expect(TurnOrder().first(at: turn) != .low)
        }
    }

    @Test func sleepIsNoPartOfATurn() {
        var order = TurnOrder()
        order.resume(0, at: 1_000)
        order.measure(64, at: 1_000 + 64 * 100)
        order.resume(70, at: 10_000_000_000)
        order.measure(128, at: 10_000_000_000 + 58 * 100)
        #expect(order.meanTurn == 100)
        // Nothing was measured yet, or the clock stands: no mean is made up.
        var fresh = TurnOrder()
        fresh.measure(64, at: 5_000)
        #expect(fresh.meanTurn == nil)
    }
}

@Suite struct WakeTargetTests {
    private typealias Place = WakeTarget.Place

    struct Case: Sendable, CustomTestStringConvertible {
        var waker: (worker: Int, node: Int)?
        var last: (worker: Int, node: Int)?
        var lastSleeps = false
        var lastIsAway = false
        var someoneSleeps = false
        var target: String
        var testDescription: String { target }
    }

    @Test(arguments: [
        Case(waker: (0, 0), last: nil, target: "here"),
        Case(waker: (0, 0), last: (0, 0), target: "here"),
        // The waker's cache holds the message: also when the other one sleeps.
        Case(waker: (0, 0), last: (1, 0), lastSleeps: true, someoneSleeps: true, target: "here"),
        // From another node it goes back.
        Case(waker: (0, 0), last: (2, 1), lastSleeps: true, someoneSleeps: true, target: "inbox(2)"),
        Case(waker: (0, 0), last: (2, 1), someoneSleeps: true, target: "node(1)"),
        Case(waker: (0, 0), last: (2, 1), target: "node(1)"),
        // From outside.
        Case(waker: nil, last: nil, someoneSleeps: true, target: "node(7)"),
        Case(waker: nil, last: nil, target: "node(7)"),
        Case(waker: nil, last: (2, 1), lastSleeps: true, someoneSleeps: true, target: "inbox(2)"),
        Case(waker: nil, last: (2, 1), someoneSleeps: true, target: "node(1)"),
        Case(waker: nil, last: (2, 1), target: "inbox(2)"),
        // Not to one that is stuck, or has left.
        Case(waker: nil, last: (2, 1), lastIsAway: true, target: "node(1)"),
        Case(waker: nil, last: (2, 1), lastSleeps: true, lastIsAway: true, someoneSleeps: true, target: "node(1)"),
        Case(waker: (0, 0), last: (2, 1), lastIsAway: true, target: "node(1)"),
        Case(waker: (0, 0), last: (1, 0), lastIsAway: true, target: "here"),
    ])
    func aProcessGoesWhereItWasUntilThatIsBusyAndAnotherIdles(_ test: Case) {
        let target = WakeTarget.choose(
            waker: test.waker.map { Place(worker: $0.worker, node: $0.node) },
            last: test.last.map { Place(worker: $0.worker, node: $0.node) },
            lastSleeps: test.lastSleeps,
            lastIsAway: test.lastIsAway,
            someoneSleeps: test.someoneSleeps,
            nearNode: 7
        )
        #expect("\(target)" == test.target)
    }
}
