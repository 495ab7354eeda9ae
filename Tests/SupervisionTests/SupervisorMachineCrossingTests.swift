// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc
import Testing

@testable import Supervision

/// Sweeps, departures and starts by hand that cross each other: the decisions. What random programs have found.
@Suite struct SupervisorMachineCrossingTests {
    typealias Machine = SupervisorMachine

    private static func machine(
        _ strategy: RestartStrategy,
        _ types: [RestartType],
        reportsStart: Bool = false
    ) -> Machine {
        var machine = Machine(strategy: strategy, intensity: .unlimited)
        for (index, type) in types.enumerated() {
            let id = UInt64(index + 1)
            let settings = Machine.Settings(restart: type, backoff: .none, reportsStart: reportsStart)
            #expect(machine.add(id, settings, at: .zero) == [.start(id)])
            if reportsStart { #expect(machine.childStarted(id, at: .zero) == []) }
        }
        return machine
    }

    @Test func whoIsTerminatedAndRestartedDuringASweepIsNotStoppedByIt() throws {
        var machine = Self.machine(.oneForAll, [.permanent, .permanent, .permanent])
        #expect(machine.childEnded(2, .killed, at: .zero) == [.stop(3)])
        #expect(machine.terminate([1], at: .zero) == [.stop(1)])
        #expect(machine.childEnded(1, .shutdown, at: .zero) == [.lay(1)])
        #expect(try machine.restart(1, at: .zero) == [.start(1)])
        #expect(machine.childEnded(3, .shutdown, at: .zero) == [.start(2), .start(3)])
        #expect(machine.childEnded(1, .killed, at: .zero) == [.stop(3)])
    }

    @Test func aSweepThatIsTakenOverLosesNobody() {
        var machine = Self.machine(.restForOne, [.permanent, .permanent, .temporary, .permanent])
        #expect(machine.childEnded(2, .killed, at: .zero) == [.stop(4)])
        #expect(machine.childEnded(1, .killed, at: .zero) == [])
        #expect(machine.childEnded(4, .shutdown, at: .zero) == [.stop(3)])
        #expect(machine.childEnded(3, .shutdown, at: .zero) == [.forget(3), .start(1), .start(2), .start(4)])
    }

    @Test func aSweepThatBeginsWithinAnotherTakesOverWhatThatHasNotStopped() throws {
        var machine = Self.machine(.restForOne, [.permanent, .permanent, .permanent, .permanent])
        #expect(machine.childEnded(1, .killed, at: .zero) == [.stop(4)])
        #expect(machine.terminate([4], at: .zero) == [])
        #expect(machine.childEnded(4, .shutdown, at: .zero) == [.lay(4), .stop(3)])
        #expect(try machine.restart(4, at: .zero) == [.start(4)])
        #expect(machine.childEnded(4, .killed, at: .zero) == [])
        #expect(machine.childEnded(3, .shutdown, at: .zero) == [.stop(2)])
        #expect(machine.childEnded(2, .shutdown, at: .zero) == [.start(1), .start(2), .start(3), .start(4)])
    }

    @Test func thoseBeforeASweepThatWaitForTheirTurnStartInIt() throws {
        var machine = Machine(strategy: .restForOne, intensity: .unlimited)
        let settings = Machine.Settings(restart: .permanent, backoff: .none, reportsStart: true)
        #expect(machine.add((1...3).map { ($0, settings) }, at: .zero) == [.start(1)])
        #expect(machine.terminate([3], at: .zero) == [.lay(3)])
        #expect(try machine.restart(3, at: .zero) == [.start(3)])
        #expect(machine.childStarted(3, at: .zero) == [])
        #expect(machine.childEnded(3, .killed, at: .zero) == [], "the first has not started yet")
        #expect(machine.childStarted(1, at: .zero) == [.start(2)])
        #expect(machine.childStarted(2, at: .zero) == [.start(3)])
        #expect(machine.childStarted(3, at: .zero) == [])
    }

    @Test func aSweepWaitsForThoseThatAreLeaving() {
        var machine = Self.machine(.oneForAll, [.permanent, .permanent, .permanent])
        #expect(machine.terminate([2], at: .zero) == [.stop(2)])
        #expect(machine.childEnded(3, .killed, at: .zero) == [])
        #expect(machine.childEnded(2, .shutdown, at: .zero) == [.lay(2), .stop(1)])
        #expect(machine.childEnded(1, .shutdown, at: .zero) == [.start(1), .start(3)])
    }

    @Test func whoLeavesWhenTheSupervisorStopsWaitsForItsTurn() {
        var machine = Self.machine(.oneForOne, [.permanent, .permanent, .permanent, .permanent])
        #expect(machine.remove([1, 2], at: .zero) == [.stop(2)])
        #expect(machine.stop(at: .zero) == [.stop(4)])
        #expect(machine.childEnded(2, .shutdown, at: .zero) == [.forget(2)])
        #expect(machine.childEnded(4, .shutdown, at: .zero) == [.forget(4), .stop(3)])
        #expect(machine.childEnded(3, .shutdown, at: .zero) == [.forget(3), .stop(1)])
        #expect(machine.childEnded(1, .shutdown, at: .zero) == [.forget(1), .finish(.stopped)])
    }

    @Test func aStartByHandThatWasCutShortIsNoneAfterwards() throws {
        var machine = Self.machine(.oneForAll, [.permanent, .permanent], reportsStart: true)
        for _ in 0..<2 {
            #expect(machine.terminate([2], at: .zero) == [.stop(2)])
            #expect(machine.childEnded(2, .shutdown, at: .zero) == [.lay(2)])
            #expect(try machine.restart(2, at: .zero) == [.start(2)])
        }
        #expect(machine.terminate([2], at: .zero) == [.stop(2)])
        #expect(machine.childEnded(2, .shutdown, at: .zero) == [.lay(2)])
        #expect(machine.childEnded(1, .killed, at: .zero) == [.start(1)])
        #expect(machine.childStarted(1, at: .zero) == [.start(2)])
        #expect(machine.childEnded(2, .killed, at: .zero) == [.stop(1)], "it is tried again, with the others")
    }

    @Test func whoIsAboutToBeGoneIsNotRestarted() {
        var machine = Self.machine(.oneForOne, [.transient, .permanent])
        #expect(machine.childEnded(1, .normal, at: .zero) == [.lay(1)])
        #expect(machine.remove([1, 2], at: .zero) == [.stop(2)])
        let error = #expect(throws: Machine.RefusalError.self) { try machine.restart(1, at: .zero) }
        #expect(error?.refusal == .stopping)
        #expect(machine.childEnded(2, .shutdown, at: .zero) == [.forget(2), .forget(1)])
    }
}
