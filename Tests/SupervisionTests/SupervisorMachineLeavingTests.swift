// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc
import Testing

@testable import Supervision

/// Children that leave while others stay, that must start, and that have a farewell: the decisions.
@Suite struct SupervisorMachineLeavingTests {
    typealias Machine = SupervisorMachine

    private static func machine(
        _ count: UInt64,
        _ restart: RestartType = .permanent,
        backoff: Backoff = .none,
        hasFarewell: Bool = false,
        intensity: RestartIntensity = .unlimited,
        finishesWhenEmpty: Bool = false
    ) -> Machine {
        var machine = Machine(intensity: intensity, autoShutdown: finishesWhenEmpty ? .allSignificant : .never)
        let settings = Machine.Settings(
            restart: restart,
            backoff: backoff,
            isSignificant: finishesWhenEmpty,
            hasFarewell: hasFarewell
        )
        for id in 1...count { machine.addStarted(id, settings) }
        return machine
    }

    @Test func whoLeavesIsStoppedInReverseOrderAndNotRestarted() {
        var machine = Self.machine(4)
        #expect(machine.remove([1, 3], at: .zero) == [.stop(3)])
        #expect(machine.childEnded(2, .killed, at: .zero) == [.start(2)], "the others go on")
        #expect(machine.childEnded(3, .killed, at: .zero) == [.forget(3), .stop(1)])
        #expect(machine.childEnded(1, .shutdown, at: .zero) == [.forget(1)])
        #expect(machine.childCount == 2 && machine.isRunning)
    }

    @Test func whoLeavesDoesNotCountAsARestart() {
        var machine = Self.machine(2, intensity: .init(0, within: .seconds(1)))
        #expect(machine.remove([1], at: .zero) == [.stop(1)])
        #expect(machine.childEnded(1, .killed, at: .zero) == [.forget(1)])
        #expect(machine.isRunning)
    }

    @Test func oneThatIsToLeaveAndEndsBeforeItsTurnIsGone() {
        var machine = Self.machine(3)
        #expect(machine.remove([1, 2, 3], at: .zero) == [.stop(3)])
        #expect(machine.childEnded(1, .killed, at: .zero) == [.forget(1)])
        #expect(machine.childEnded(3, .shutdown, at: .zero) == [.forget(3), .stop(2)])
        #expect(machine.childEnded(2, .shutdown, at: .zero) == [.forget(2)])
    }

    @Test func oneThatWaitsForItsBackoffLeavesAtOnceWhenItsTurnComes() {
        var machine = Self.machine(2, backoff: .constant(.seconds(1)))
        #expect(machine.childEnded(1, .killed, at: .zero) == [.wait(1, generation: 1, .seconds(1))])
        #expect(machine.remove([1, 2], at: .zero) == [.stop(2)])
        #expect(machine.backoffElapsed(1, generation: 1, at: .seconds(1)) == [], "it is not started any more")
        #expect(machine.childEnded(2, .shutdown, at: .seconds(1)) == [.forget(2), .forget(1)])
        var alone = Self.machine(1, backoff: .constant(.seconds(1)))
        _ = alone.childEnded(1, .killed, at: .zero)
        #expect(alone.remove([1], at: .zero) == [.forget(1)])
    }

    @Test func twoPartiesDoNotWaitForEachOther() {
        var machine = Self.machine(4)
        #expect(machine.remove([3, 4], at: .zero) == [.stop(4)])
        #expect(machine.remove([1, 2, 3], at: .zero) == [.stop(2)])
        #expect(machine.childEnded(2, .shutdown, at: .zero) == [.forget(2), .stop(1)])
        #expect(machine.childEnded(4, .shutdown, at: .zero) == [.forget(4), .stop(3)])
    }

    @Test func aStopGoesOnWithThoseThatAreLeaving() {
        var machine = Self.machine(3)
        #expect(machine.remove([2], at: .zero) == [.stop(2)])
        #expect(machine.stop(at: .zero) == [.stop(3)])
        #expect(machine.remove([1], at: .zero) == [], "it stops anyway")
        #expect(machine.childEnded(3, .shutdown, at: .zero) == [.forget(3)])
        #expect(machine.childEnded(2, .shutdown, at: .zero) == [.forget(2), .stop(1)])
        #expect(machine.childEnded(1, .shutdown, at: .zero) == [.forget(1), .finish(.stopped)])
    }

    @Test func unknownOnesDoNotLeave() {
        var machine = Self.machine(1)
        #expect(machine.remove([], at: .zero) == [] && machine.remove([9], at: .zero) == [])
        #expect(machine.childEnded(1, .killed, at: .zero) == [.start(1)])
    }

    @Test func aSignificantOneThatIsTakenOutDoesNotEndItsSupervisor() {
        var machine = Self.machine(1, .transient, finishesWhenEmpty: true)
        #expect(machine.remove([1], at: .zero) == [.stop(1)])
        #expect(machine.childEnded(1, .shutdown, at: .zero) == [.forget(1)])
        #expect(machine.isRunning)
    }

    // MARK: Farewells

    @Test func aFarewellComesBeforeTheChildIsForgotten() {
        var machine = Self.machine(2, .temporary, hasFarewell: true)
        #expect(machine.childEnded(1, .killed, at: .zero) == [.retire(1)])
        #expect(machine.childEnded(2, .normal, at: .zero) == [.retire(2)])
        #expect(machine.childRetired(1, at: .zero) == [.forget(1)])
        #expect(machine.childRetired(1, at: .zero) == [])
        #expect(machine.childRetired(2, at: .zero) == [.forget(2)])
    }

    @Test func aStopWaitsForEachFarewell() {
        var machine = Self.machine(3, backoff: .constant(.seconds(1)), hasFarewell: true)
        _ = machine.childEnded(2, .killed, at: .zero)
        #expect(machine.stop(at: .zero) == [.stop(3)])
        #expect(machine.childEnded(3, .shutdown, at: .zero) == [.retire(3)])
        #expect(machine.childRetired(3, at: .zero) == [.forget(3), .retire(2)])
        #expect(machine.childRetired(2, at: .zero) == [.forget(2), .stop(1)])
        #expect(machine.childEnded(1, .shutdown, at: .zero) == [.retire(1)])
        #expect(machine.childRetired(1, at: .zero) == [.forget(1), .finish(.stopped)])
    }

    @Test func givingUpWaitsForTheFarewellOfTheLastStraw() {
        var machine = Self.machine(2, hasFarewell: true, intensity: .init(0, within: .seconds(1)))
        #expect(machine.childEnded(2, .killed, at: .zero) == [.retire(2)])
        #expect(!machine.isRunning)
        #expect(machine.childRetired(2, at: .zero) == [.forget(2), .stop(1)])
        #expect(machine.childEnded(1, .shutdown, at: .zero) == [.retire(1)])
        #expect(machine.childRetired(1, at: .zero) == [.forget(1), .finish(.gaveUp(2))])
        var first = Self.machine(2, hasFarewell: true, intensity: .init(0, within: .seconds(1)))
        #expect(first.childEnded(1, .killed, at: .zero) == [.retire(1), .stop(2)])
    }

    @Test func aRestartHasNoFarewell() {
        var machine = Self.machine(1, hasFarewell: true)
        #expect(machine.childEnded(1, .killed, at: .zero) == [.start(1)])
        #expect(machine.childRetired(1, at: .zero) == [])
    }

    // MARK: Starts

    @Test func aStartThatIsUndoneIsNoRestart() {
        var machine = Machine(intensity: .init(0, within: .seconds(1)))
        let settings = Machine.Settings(restart: .permanent, backoff: .none)
        #expect(machine.add((1...4).map { ($0, settings) }, at: .zero) == [.start(1)])
        #expect(machine.childStarted(1, at: .zero) == [.start(2)])
        #expect(machine.childStarted(9, at: .zero) == [])
        #expect(machine.childStarted(2, at: .zero) == [.start(3)])
        #expect(machine.undo([1, 2, 3, 4], failed: 3, at: .zero) == [.forget(3), .forget(4), .stop(2)])
        #expect(machine.childEnded(2, .shutdown, at: .zero) == [.forget(2), .stop(1)])
        #expect(machine.childEnded(1, .shutdown, at: .zero) == [.forget(1)])
        #expect(machine.isRunning && machine.childCount == 0)
    }
}
