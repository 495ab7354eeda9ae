// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc
import Testing

@testable import Supervision

/// Sweeps, departures and starts by hand that cross each other: the decisions. What random programs have found.
@Suite struct SupervisorMachineCrossingTests {
    typealias Machine = SupervisorMachine

    private static func machine(_ strategy: RestartStrategy, _ types: [RestartType]) -> Machine {
        var machine = Machine(strategy: strategy, intensity: .unlimited)
        for (index, type) in types.enumerated() {
            let id = UInt64(index + 1)
            let settings = Machine.Settings(restart: type, backoff: .none)
            machine.addStarted(id, settings)
        }
        return machine
    }

    @Test func whoIsTerminatedAndRestartedDuringASweepIsNotStoppedByIt() throws {
        var machine = Self.machine(.oneForAll, [.permanent, .permanent, .permanent])
        #expect(machine.childEnded(2, .killed, at: .zero) == [.stop(3)])
        #expect(machine.terminate([1], at: .zero) == [.stop(1)])
        #expect(machine.childEnded(1, .shutdown, at: .zero) == [.lay(1)])
        #expect(try machine.restart(1, at: .zero) == [.start(1)])
        #expect(machine.childStarted(1, at: .zero) == [])
        #expect(machine.childEnded(3, .shutdown, at: .zero) == [.start(2)])
        #expect(machine.childStarted(2, at: .zero) == [.start(3)])
        #expect(machine.childStarted(3, at: .zero) == [])
        #expect(machine.childEnded(1, .killed, at: .zero) == [.stop(3)])
    }

    @Test func aSweepThatIsTakenOverLosesNobody() {
        var machine = Self.machine(.restForOne, [.permanent, .permanent, .temporary, .permanent])
        #expect(machine.childEnded(2, .killed, at: .zero) == [.stop(4)])
        #expect(machine.childEnded(1, .killed, at: .zero) == [])
        #expect(machine.childEnded(4, .shutdown, at: .zero) == [.stop(3)])
        #expect(machine.childEnded(3, .shutdown, at: .zero) == [.forget(3), .start(1)])
        #expect(machine.childStarted(1, at: .zero) == [.start(2)])
        #expect(machine.childStarted(2, at: .zero) == [.start(4)])
    }

    @Test func aSweepThatBeginsWithinAnotherTakesOverWhatThatHasNotStopped() throws {
        var machine = Self.machine(.restForOne, [.permanent, .permanent, .permanent, .permanent])
        #expect(machine.childEnded(1, .killed, at: .zero) == [.stop(4)])
        #expect(machine.terminate([4], at: .zero) == [])
        #expect(machine.childEnded(4, .shutdown, at: .zero) == [.lay(4), .stop(3)])
        #expect(try machine.restart(4, at: .zero) == [.start(4)])
        #expect(machine.childStarted(4, at: .zero) == [])
        #expect(machine.childEnded(4, .killed, at: .zero) == [])
        #expect(machine.childEnded(3, .shutdown, at: .zero) == [.stop(2)])
        #expect(machine.childEnded(2, .shutdown, at: .zero) == [.start(1)])
        for id: UInt64 in 1...3 { #expect(machine.childStarted(id, at: .zero) == [.start(id + 1)]) }
        #expect(machine.childStarted(4, at: .zero) == [])
    }

    @Test func thoseBeforeASweepThatWaitForTheirTurnStartInIt() throws {
        var machine = Machine(strategy: .restForOne, intensity: .unlimited)
        let settings = Machine.Settings(restart: .permanent, backoff: .none)
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
        #expect(machine.childEnded(1, .shutdown, at: .zero) == [.start(1)])
        #expect(machine.childStarted(1, at: .zero) == [.start(3)])
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
        var machine = Self.machine(.oneForAll, [.permanent, .permanent])
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

    /// What a temporary child does when others are swept away.
    enum Place: CaseIterable, Sendable {
        /// It runs.
        case up
        /// It goes through its start.
        case starting
        /// It has not been started yet, as one before it has not.
        case queued
        /// It was transient when it ended, and has become temporary since.
        case down
        /// It was permanent when it failed, and has become temporary while it waits.
        case waiting
    }

    /// Children 1 and 3 are permanent, 2 is the temporary one, and 1 fails: what follows until all is at rest, where every child ends and starts
    /// as it is told.
    @Test(arguments: [RestartStrategy.oneForAll, .restForOne], Place.allCases)
    func aTemporaryChildIsSweptAwayAndNotStartedAgain(_ strategy: RestartStrategy, _ place: Place) {
        func settings(_ type: RestartType, _ backoff: Backoff = .none) -> Machine.Settings {
            Machine.Settings(restart: type, backoff: backoff)
        }
        var machine = Machine(strategy: strategy, intensity: .unlimited)
        let permanent = settings(.permanent)
        let second =
            switch place {
            case .up, .starting, .queued: settings(.temporary)
            case .down: settings(.transient)
            case .waiting: settings(.permanent, .constant(.seconds(1)))
            }
        #expect(machine.add([(1, permanent), (2, second), (3, permanent)], at: .zero) == [.start(1)])
        var actions: [Machine.Action]
        if place != .queued {
            #expect(machine.childStarted(1, at: .zero) == [.start(2)])
            if place != .starting {
                #expect(machine.childStarted(2, at: .zero) == [.start(3)])
                #expect(machine.childStarted(3, at: .zero) == [])
            }
        }
        switch place {
        case .up, .starting, .queued: break
        case .down:
            #expect(machine.childEnded(2, .normal, at: .zero) == [.lay(2)])
            machine.change(2, settings(.temporary))
        case .waiting:
            #expect(machine.childEnded(2, .killed, at: .zero) == [.stop(3)])
            if strategy == .oneForAll {
                #expect(machine.childEnded(3, .shutdown, at: .zero) == [.stop(1)])
                #expect(machine.childEnded(1, .shutdown, at: .zero) == [.wait(2, generation: 1, .seconds(1))])
            } else {
                #expect(machine.childEnded(3, .shutdown, at: .zero) == [.wait(2, generation: 1, .seconds(1))])
            }
            machine.change(2, settings(.temporary))
        }
        let isAlone = place == .waiting && strategy == .oneForAll
        // With all others swept away there is nobody left who could fail.
        actions =
            isAlone
            ? machine.backoffElapsed(2, generation: 1, at: .seconds(1)) : machine.childEnded(1, .killed, at: .zero)
        var story: [Machine.Action] = []
        while !actions.isEmpty {
            let action = actions.removeFirst()
            story.append(action)
            switch action {
            case .stop(let id): actions += machine.childEnded(id, .shutdown, at: .zero)
            case .start(let id): actions += machine.childStarted(id, at: .zero)
            case .wait(let id, let generation, _):
                actions += machine.backoffElapsed(id, generation: generation, at: .seconds(1))
            default: break
            }
        }
        switch place {
        case .up: #expect(story == [.stop(3), .stop(2), .forget(2), .start(1), .start(3)])
        case .starting: #expect(story == [.stop(2), .forget(2), .start(1), .start(3)])
        // It has not run yet, and starts like the others.
        case .queued: #expect(story == [.start(1), .start(2), .start(3)])
        case .down: #expect(story == [.stop(3), .forget(2), .start(1), .start(3)])
        // It is what the others were swept away for.
        case .waiting where isAlone: #expect(story == [.start(1), .start(2), .start(3)])
        // The time that the first sweep waits for is the second one's.
        case .waiting:
            #expect(story == [.forget(2), .wait(1, generation: 1, .seconds(1)), .start(1), .start(3)])
        }
    }
}
