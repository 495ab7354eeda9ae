// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc
import Testing

@testable import Supervision

extension SupervisorMachine {
    /// Adds a child, which starts alone and has started at once, at time 0.
    mutating func addStarted(_ id: ChildID, _ settings: Settings) {
        #expect(add(id, settings, at: .zero) == [.start(id)])
        #expect(childStarted(id, at: .zero) == [])
    }
}

@Suite struct SupervisorMachineTests {
    typealias Machine = SupervisorMachine

    /// A machine with children 1, 2, ... up since time 0.
    static func machine(
        _ count: UInt64,
        _ restart: RestartType = .permanent,
        backoff: Backoff = .none,
        intensity: RestartIntensity = .unlimited,
        finishesWhenEmpty: Bool = false
    ) -> Machine {
        var machine = Machine(intensity: intensity, autoShutdown: finishesWhenEmpty ? .allSignificant : .never)
        let settings = Machine.Settings(restart: restart, backoff: backoff, isSignificant: finishesWhenEmpty)
        for id in 1...count { machine.addStarted(id, settings) }
        return machine
    }

    @Test(arguments: EndKind.allCases, RestartType.allCases)
    func anEndedChildIsRestartedOrForgottenAsTheTableSays(_ end: EndKind, _ type: RestartType) {
        var machine = Self.machine(2, type)
        let actions = machine.childEnded(1, end.reason, at: .seconds(1))
        #expect(actions == [end.restarts(type) ? .start(1) : type == .temporary ? .forget(1) : .lay(1)])
        #expect(machine.childCount == (end.restarts(type) || type == .transient ? 2 : 1))
    }

    @Test func aRestartThatNobodyWaitsForCountsAsStartedAtOnce() {
        var machine = Machine(intensity: .unlimited)
        let settings = Machine.Settings(restart: .transient, backoff: .none, restartLimit: 4)
        #expect(machine.add(1, settings, at: .zero) == [.start(1)])
        #expect(machine.isStarting(1), "the first start is waited for")
        #expect(machine.childStarted(1, at: .zero) == [])
        #expect(machine.childEnded(1, .killed, at: .zero) == [.start(1)])
        #expect(machine.isUp(1))
        // It is over before it had started: that is tried again, whatever the reason.
        for _ in 0..<3 { #expect(machine.childEnded(1, .normal, hadStarted: false, at: .zero) == [.start(1)]) }
        #expect(machine.isUp(1))
        #expect(machine.childEnded(1, .killed, at: .zero) == [.lay(1)], "failed starts count for the limit")
        // Others come behind it: it is waited for again.
        var another = Machine(strategy: .restForOne, intensity: .unlimited)
        _ = another.add(1, settings, at: .zero)
        _ = another.childStarted(1, at: .zero)
        #expect(another.childEnded(1, .killed, at: .zero) == [.start(1)])
        #expect(another.isStarting(1))
    }

    /// Of a child that came while the supervisor was dynamic.
    @Test(arguments: [RestartStrategy.oneForAll, .restForOne])
    func aStartThatNobodyWaitedForIsWaitedForWhenTheStrategyChanges(_ strategy: RestartStrategy) {
        var machine = Machine(strategy: .dynamic, intensity: .unlimited)
        let settings = Machine.Settings(restart: .permanent, backoff: .none, startsUnseen: true)
        #expect(machine.add([(1, settings), (2, settings)], at: .zero) == [.start(1), .start(2)])
        #expect(machine.isUp(1) && machine.isUp(2))
        #expect(machine.change(strategy: strategy) == [])
        #expect(machine.childEnded(1, .killed, at: .zero) == [.stop(2)])
        #expect(machine.childEnded(2, .shutdown, at: .zero) == [.start(1)])
        #expect(machine.childStarted(1, at: .zero) == [.start(2)])
        #expect(machine.childStarted(2, at: .zero) == [])
    }

    @Test func onlyTheEndedChildIsRestarted() {
        var machine = Self.machine(3)
        #expect(machine.childEnded(2, .killed, at: .zero) == [.start(2)])
        #expect(machine.childEnded(2, .killed, at: .zero) == [.start(2)])
    }

    // MARK: Decisions

    /// A start that failed, the first or that of a restart, and what was decided about it.
    struct FailedStart: Sendable, CustomStringConvertible {
        let strategy: RestartStrategy
        let isFirst: Bool
        let decision: Machine.Decision?
        var description: String {
            "\(strategy), \(isFirst ? "first" : "again"), \(decision.map { "\($0)" } ?? "nothing")"
        }

        static let all = RestartStrategy.allCases.flatMap { strategy in
            [true, false].flatMap { isFirst in
                [nil, .restart, .stop, .escalate].map {
                    FailedStart(strategy: strategy, isFirst: isFirst, decision: $0)
                }
            }
        }

        /// The second of three starts, and the third does not run where others wait for it.
        var machine: Machine {
            var machine = Machine(strategy: strategy, intensity: .unlimited)
            let settings = Machine.Settings(restart: .permanent, backoff: .none)
            _ = machine.add((1...3).map { ($0, settings) }, at: .zero)
            _ = machine.childStarted(1, at: .zero)
            if isFirst { return machine }
            for id: UInt64 in 2...3 { _ = machine.childStarted(id, at: .zero) }
            _ = machine.childEnded(2, .killed, at: .zero)
            if strategy == .oneForOne || strategy == .dynamic { return machine }
            _ = machine.childEnded(3, .shutdown, at: .zero)
            if strategy == .restForOne { return machine }
            _ = machine.childEnded(1, .shutdown, at: .zero)
            _ = machine.childStarted(1, at: .zero)
            return machine
        }

        var expected: [Machine.Action] {
            // It goes on by itself, or there is no order.
            let isAlone = strategy == .dynamic || strategy == .oneForOne && !isFirst
            switch decision {
            case nil, .restart:
                switch strategy {
                case .oneForOne, .dynamic: return [.start(2)] + (isAlone ? [] : [.start(3)])
                case .restForOne: return [.start(2)]
                case .oneForAll: return [.stop(1)]
                }
            case .stop: return [strategy == .dynamic ? .forget(2) : .lay(2)] + (isAlone ? [] : [.start(3)])
            case .escalate:
                if strategy == .dynamic { return [.forget(2), .stop(3), .stop(1)] }
                return [.forget(2)] + (isAlone ? [.stop(3)] : [.forget(3), .stop(1)])
            }
        }
    }

    @Test(arguments: FailedStart.all)
    func whatWasDecidedHoldsForAStartThatFailedToo(_ row: FailedStart) {
        var machine = row.machine
        let actions = machine.childEnded(2, .error(Failure()), hadStarted: false, decision: row.decision, at: .zero)
        #expect(actions == row.expected)
        #expect((machine.outcome == .escalated(2)) == (row.decision == .escalate))
    }

    /// Whoever asked for it is told of it.
    @Test(arguments: [nil, .restart, .stop, .escalate] as [Machine.Decision?])
    func aStartThatWasAskedForIsDownWhateverWasDecided(_ decision: Machine.Decision?) throws {
        var machine = Machine(intensity: .init(0, within: .seconds(1)))
        let settings = Machine.Settings(restart: .transient, backoff: .none)
        _ = machine.add(1, settings, at: .zero)
        _ = machine.childStarted(1, at: .zero)
        #expect(machine.childEnded(1, .normal, at: .zero) == [.lay(1)])
        #expect(try machine.restart(1, at: .zero) == [.start(1)])
        let actions = machine.childEnded(1, .error(Failure()), hadStarted: false, decision: decision, at: .zero)
        #expect(actions == [.lay(1)] && machine.isRunning)
    }

    // MARK: Intensity

    @Test func restartsOlderThanThePeriodAreForgotten() {
        var machine = Self.machine(2, intensity: .init(2, within: .seconds(10)))
        for second in [0, 4, 11, 15, 22] {
            #expect(machine.childEnded(1, .killed, at: .seconds(second)) == [.start(1)])
        }
        #expect(
            machine.childEnded(1, .killed, at: .seconds(25)) == [.forget(1), .stop(2)],
            "22 and 15 still count at 25"
        )
    }

    @Test func theIntensityCountsTheRestartsOfAllChildren() {
        var machine = Self.machine(3, intensity: .init(2, within: .seconds(10)))
        #expect(machine.childEnded(1, .killed, at: .zero) == [.start(1)])
        #expect(machine.childEnded(2, .killed, at: .zero) == [.start(2)])
        #expect(machine.childEnded(3, .killed, at: .zero) == [.forget(3), .stop(2)])
    }

    @Test func endsWithoutARestartDoNotCount() {
        var machine = Self.machine(4, .transient, intensity: .init(0, within: .seconds(1)))
        for id: UInt64 in 1...3 { #expect(machine.childEnded(id, .normal, at: .zero) == [.lay(id)]) }
        let end: [Machine.Action] = [.forget(4), .forget(3), .forget(2), .forget(1), .finish(.gaveUp(4))]
        #expect(machine.childEnded(4, .killed, at: .zero) == end)
    }

    @Test func givingUpStopsTheOthersAndReportsTheLastStraw() {
        var machine = Self.machine(3, intensity: .init(0, within: .seconds(1)))
        #expect(machine.childEnded(2, .killed, at: .zero) == [.forget(2), .stop(3)])
        #expect(!machine.isRunning)
        #expect(machine.childEnded(3, .error(Failure()), at: .zero) == [.forget(3), .stop(1)])
        #expect(machine.stop(at: .zero) == [])
        #expect(machine.childEnded(1, .shutdown, at: .zero) == [.forget(1), .finish(.gaveUp(2))])
    }

    // MARK: Backoff

    @Test func aChildWithBackoffWaitsAndIsThenStarted() {
        var machine = Self.machine(1, backoff: .constant(.seconds(2)))
        let wait = machine.childEnded(1, .killed, at: .zero)
        #expect(wait == [.wait(1, generation: 1, .seconds(2))])
        #expect(machine.backoffElapsed(1, generation: 1, at: .seconds(2)) == [.start(1)])
    }

    @Test func exponentialBackoffGrowsWithFailuresInARowAndStartsOverAfterGoodUptime() {
        var machine = Self.machine(1, backoff: .exponential(.seconds(1), cap: .seconds(4)))
        var now = Duration.zero
        var delays: [Int] = []
        func fail(afterUptime uptime: Duration) {
            now += uptime
            guard case .wait(1, let generation, let delay)? = machine.childEnded(1, .killed, at: now).first else {
                Issue.record("no wait")
                return
            }
            delays.append(Int(delay / .seconds(1)))
            now += delay
            #expect(machine.backoffElapsed(1, generation: generation, at: now) == [.start(1)])
        }
        for _ in 0..<5 { fail(afterUptime: .zero) }
        fail(afterUptime: .seconds(5))
        fail(afterUptime: .seconds(5) + .nanoseconds(1))
        fail(afterUptime: .seconds(2))
        #expect(delays == [1, 2, 4, 4, 4, 4, 1, 2])
    }

    @Test func aLongRowOfFailuresStaysAtTheCap() {
        var machine = Self.machine(1, backoff: .exponential(.milliseconds(1), cap: .milliseconds(8)))
        var now = Duration.zero
        for round in 1...2000 {
            let delay = Duration.milliseconds(round < 4 ? 1 << (round - 1) : 8)
            #expect(machine.childEnded(1, .killed, at: now) == [.wait(1, generation: UInt32(round), delay)])
            now += delay
            #expect(machine.backoffElapsed(1, generation: UInt32(round), at: now) == [.start(1)])
        }
    }

    // MARK: Late events

    @Test func aBackoffThatElapsesAfterTheStopDoesNothing() {
        var machine = Self.machine(2, backoff: .constant(.seconds(1)))
        _ = machine.childEnded(1, .killed, at: .zero)
        #expect(machine.stop(at: .zero) == [.stop(2)])
        #expect(machine.backoffElapsed(1, generation: 1, at: .seconds(1)) == [])
        #expect(machine.childEnded(2, .shutdown, at: .seconds(1)) == [.forget(2), .forget(1), .finish(.stopped)])
        #expect(machine.backoffElapsed(1, generation: 1, at: .seconds(1)) == [])
    }

    @Test func aBackoffOfAnEarlierGenerationDoesNothing() {
        var machine = Self.machine(1, backoff: .constant(.seconds(1)))
        _ = machine.childEnded(1, .killed, at: .zero)
        #expect(machine.backoffElapsed(1, generation: 0, at: .seconds(1)) == [])
        #expect(machine.backoffElapsed(1, generation: 1, at: .seconds(1)) == [.start(1)])
        #expect(machine.backoffElapsed(1, generation: 1, at: .seconds(1)) == [])
        _ = machine.childEnded(1, .killed, at: .seconds(1))
        #expect(machine.backoffElapsed(1, generation: 1, at: .seconds(2)) == [])
        #expect(machine.backoffElapsed(1, generation: 2, at: .seconds(2)) == [.start(1)])
    }

    @Test func theEndOfAForgottenChildDoesNothing() {
        var machine = Self.machine(2, .temporary)
        #expect(machine.childEnded(1, .killed, at: .zero) == [.forget(1)])
        #expect(machine.childEnded(1, .killed, at: .zero) == [])
        #expect(machine.childEnded(99, .killed, at: .zero) == [])
        #expect(machine.backoffElapsed(1, generation: 1, at: .zero) == [])
    }

    @Test func nothingHappensAfterTheFinish() {
        var machine = Self.machine(1)
        _ = machine.stop(at: .zero)
        #expect(machine.childEnded(1, .shutdown, at: .zero) == [.forget(1), .finish(.stopped)])
        #expect(machine.childEnded(1, .shutdown, at: .zero) == [])
        #expect(machine.stop(at: .zero) == [])
        #expect(machine.add(2, .init(restart: .permanent, backoff: .none), at: .zero) == [.forget(2)])
    }

    // MARK: Stop

    @Test func childrenStopInReverseOrderOneAtATime() {
        var machine = Self.machine(3)
        #expect(machine.stop(at: .zero) == [.stop(3)])
        #expect(machine.childEnded(3, .shutdown, at: .zero) == [.forget(3), .stop(2)])
        #expect(machine.childEnded(2, .killed, at: .zero) == [.forget(2), .stop(1)])
        #expect(machine.childEnded(1, .normal, at: .zero) == [.forget(1), .finish(.stopped)])
    }

    @Test func aChildThatEndsByItselfDuringTheStopIsForgottenOutOfTurn() {
        var machine = Self.machine(3)
        #expect(machine.stop(at: .zero) == [.stop(3)])
        #expect(machine.childEnded(1, .error(Failure()), at: .zero) == [.forget(1)])
        #expect(machine.childEnded(3, .shutdown, at: .zero) == [.forget(3), .stop(2)])
        #expect(machine.childEnded(2, .shutdown, at: .zero) == [.forget(2), .finish(.stopped)])
    }

    @Test func childrenInBackoffAreForgottenOnStop() {
        var machine = Self.machine(3, backoff: .constant(.seconds(1)))
        _ = machine.childEnded(3, .killed, at: .zero)
        _ = machine.childEnded(1, .killed, at: .zero)
        #expect(machine.stop(at: .zero) == [.forget(3), .stop(2)])
        #expect(machine.childEnded(2, .shutdown, at: .zero) == [.forget(2), .forget(1), .finish(.stopped)])
    }

    @Test func anEmptySupervisorStopsAtOnce() {
        var machine = Machine(intensity: .default)
        #expect(machine.stop(at: .zero) == [.finish(.stopped)])
    }

    @Test func addingWhileStoppingIsRefused() {
        var machine = Self.machine(1)
        _ = machine.stop(at: .zero)
        #expect(machine.add(2, .init(restart: .permanent, backoff: .none), at: .zero) == [.forget(2)])
        #expect(machine.childEnded(1, .shutdown, at: .zero) == [.forget(1), .finish(.stopped)])
    }

    // MARK: Empty

    @Test func whoFinishesWhenEmptyFinishesWithItsLastChild() {
        var machine = Self.machine(2, .transient, finishesWhenEmpty: true)
        #expect(machine.childEnded(2, .normal, at: .zero) == [.lay(2)])
        #expect(machine.childEnded(1, .killed, at: .zero) == [.start(1)])
        #expect(machine.childEnded(1, .normal, at: .zero) == [.lay(1), .forget(2), .forget(1), .finish(.shutDown)])
    }

    @Test func otherwiseAnEmptySupervisorGoesOn() {
        var machine = Self.machine(1, .temporary)
        #expect(machine.childEnded(1, .normal, at: .zero) == [.forget(1)])
        #expect(machine.isRunning)
        #expect(machine.add(2, .init(restart: .permanent, backoff: .none), at: .zero) == [.start(2)])
    }
}
