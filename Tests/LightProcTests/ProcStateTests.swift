// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc
import Testing

/// The lifecycle word against its table, and against random sequences of events.
@Suite struct ProcStateTests {
    private func active() -> ProcState {
        var state = ProcState()
        _ = state.start()
        return state
    }

    private func ending(activations: Int) -> ProcState {
        var state = active()
        for _ in 0..<activations { _ = state.admit(1) }
        _ = state.end(1)
        return state
    }

    @Test func aFreshStateIsCreatedAndHasNoIncarnation() {
        let state = ProcState()
        #expect(state.phase == .created)
        #expect(state.incarnation == 0)
        #expect(state.activations == 0)
    }

    @Test func startCountsIncarnations() {
        var state = ProcState()
        #expect(state.start() == .started(incarnation: 1))
        #expect(state.end(1) == .sealed)
        state.finish()
        #expect(state.start() == .started(incarnation: 2))
        #expect(state.phase == .active)
    }

    @Test func aClosedProcessIsNotStarted() {
        var state = ProcState()
        #expect(state.close() == .closed)
        #expect(state.start() == .refused)
        #expect(state.phase == .closed)
    }

    @Test func theEndIsDecidedOnce() {
        var state = active()
        #expect(state.end(1) == .sealed)
        #expect(state.end(1) == .tooLate)
    }

    @Test func anEndWithJobsLeftDrainsAndTheLastJobSeals() {
        var state = active()
        #expect(state.admit(1) == .admitted)
        #expect(state.admit(1) == .admitted)
        #expect(state.end(1) == .draining)
        #expect(state.retire(1) == .nothing)
        #expect(state.retire(1) == .sealed)
        #expect(state.admit(1) == .refused)
    }

    @Test func jobsAreAdmittedWhileTheTaskUnwinds() {
        var state = ending(activations: 1)
        #expect(state.admit(1) == .admitted)
        #expect(state.retire(1) == .nothing)
        #expect(state.retire(1) == .sealed)
    }

    @Test func aChildTaskCountsBesideItsJobs() {
        var state = active()
        #expect(state.admit(1, 2) == .admitted)
        #expect(state.activations == 2)
        // Its first job returns: the task is suspended.
        #expect(state.retire(1) == .nothing)
        #expect(state.end(1, admitting: true) == .draining)
        #expect(state.retire(1) == .nothing, "cancelled, and still suspended")
        #expect(state.admit(1) == .admitted)
        #expect(state.retire(1) == .nothing, "its last job, in which it completed")
        #expect(state.retire(1) == .sealed)
        #expect(state.admit(1, 2) == .refused)
    }

    @Test func aLostJobAndTheTasksThatAwaitItsTaskGoTogether() {
        var state = active()
        // A child in a child, and a sibling; the inner one's job runs and traps.
        for _ in 0..<3 { #expect(state.admit(1, 2) == .admitted) }
        for _ in 0..<2 { #expect(state.retire(1) == .nothing) }
        #expect(state.end(1) == .draining)
        #expect(state.retire(1, 3) == .nothing, "the job, its task, and its parent")
        #expect(state.activations == 1)
        #expect(state.retire(1, 0) == .nothing)
        #expect(state.retire(1) == .sealed)
    }

    @Test func whatWasNeverCountedIsNotGivenBack() async {
        await #expect(processExitsWith: .failure) {
            var state = ProcState()
            _ = state.start()
            _ = state.admit(1)
            _ = state.retire(1, 2)
        }
    }

    @Test func cancellingCountsAsAJob() {
        var state = active()
        #expect(state.end(1, admitting: true) == .draining)
        #expect(state.retire(1) == .sealed)
    }

    @Test func aSealedIncarnationRunsNothing() {
        var state = ending(activations: 3)
        #expect(state.seal(1) == .sealed)
        #expect(state.seal(1) == .tooLate)
        #expect(!state.mayRun(1))
        #expect(state.retire(1) == .nothing)
        state.finish()
        #expect(state.phase == .ended)
        #expect(state.activations == 0)
    }

    @Test func jobsOfAnEarlierIncarnationAreRefused() {
        var state = active()
        _ = state.end(1)
        state.finish()
        _ = state.start()
        #expect(state.admit(1) == .refused)
        #expect(state.retire(1) == .nothing)
        #expect(state.end(1) == .tooLate)
        #expect(state.seal(1) == .tooLate)
        #expect(state.mayRun(2))
    }

    @Test func aStopIsRequestedOnceAndForgottenByTheNextIncarnation() {
        var state = active()
        #expect(state.requestStop() == .requested)
        #expect(state.requestStop() == .nothing)
        _ = state.end(1)
        state.finish()
        _ = state.start()
        #expect(!state.isStopRequested)
        #expect(state.requestStop() == .requested)
    }

    @Test func onlyAProcessThatIsDownIsClosed() {
        var state = active()
        #expect(state.close() == .refused)
        _ = state.end(1)
        #expect(state.close() == .refused)
        state.finish()
        #expect(state.close() == .closed)
        #expect(state.close() == .refused)
    }

    @Test(arguments: [ProcState.Phase.active, .ending])
    func startingWhatRunsIsImpossible(phase: ProcState.Phase) async {
        // One exit test per phase, as exit tests capture only what they can encode.
        if phase == .active {
            await #expect(processExitsWith: .failure) {
                var state = ProcState()
                _ = state.start()
                _ = state.start()
            }
        } else {
            await #expect(processExitsWith: .failure) {
                var state = ProcState()
                _ = state.start()
                _ = state.admit(1)
                _ = state.end(1)
                _ = state.start()
            }
        }
    }

    /// A 30-line reference model: plain fields instead of bits.
    private struct Model: Equatable {
        var phase = ProcState.Phase.created
        var incarnation: UInt32 = 0
        var jobs = 0
        var sealed = false
        var stop = false
        func lives(_ i: UInt32) -> Bool { i == incarnation && !sealed && (phase == .active || phase == .ending) }
    }

    @Test func randomSequencesAgreeWithTheModel() {
        print("SEED=\(RandomCases.seed) SCALE=\(RandomCases.scale)")
        var random = SeededGenerator(state: RandomCases.seed)
        for _ in 0..<2000 * RandomCases.scale {
            var state = ProcState()
            var model = Model()
            for _ in 0..<60 {
                let incarnation = model.incarnation &- UInt32(random.next() % 8 == 0 ? 1 : 0)
                switch random.next() % 8 {
                case 0 where [.created, .ended].contains(model.phase):
                    model = Model(phase: .active, incarnation: model.incarnation + 1)
                    #expect(state.start() == .started(incarnation: model.incarnation))
                case 1:
                    let expected: ProcState.Admission = model.lives(incarnation) ? .admitted : .refused
                    let count = random.next() % 4 == 0 ? 2 : 1
                    if expected == .admitted { model.jobs += count }
                    #expect(state.admit(incarnation, UInt(count)) == expected)
                case 2 where model.jobs > 0 || !model.lives(incarnation):
                    var expected = ProcState.Retirement.nothing
                    let count = random.next() % 4 == 0 ? min(model.jobs, 3) : 1
                    if count > 0, model.lives(incarnation) {
                        model.jobs -= count
                        if model.phase == .ending, model.jobs == 0 {
                            model.sealed = true
                            expected = .sealed
                        }
                    }
                    #expect(state.retire(incarnation, UInt(count)) == expected)
                case 3:
                    var expected = ProcState.Ending.tooLate
                    if incarnation == model.incarnation, model.phase == .active {
                        model.phase = .ending
                        model.sealed = model.jobs == 0
                        expected = model.sealed ? .sealed : .draining
                    }
                    #expect(state.end(incarnation) == expected)
                case 4:
                    let seals = incarnation == model.incarnation && model.phase == .ending && !model.sealed
                    if seals { model.sealed = true }
                    #expect(state.seal(incarnation) == (seals ? .sealed : .tooLate))
                case 5 where model.phase == .ending && model.sealed:
                    model = Model(phase: .ended, incarnation: model.incarnation)
                    state.finish()
                case 6:
                    let requests = model.phase == .active && !model.stop
                    if requests { model.stop = true }
                    #expect(state.requestStop() == (requests ? .requested : .nothing))
                case 7 where random.next() % 16 == 0:
                    let closes = [.created, .ended].contains(model.phase)
                    if closes { model.phase = .closed }
                    #expect(state.close() == (closes ? .closed : .refused))
                default:
                    continue
                }
                #expect(state.phase == model.phase, "SEED=\(RandomCases.seed)")
                #expect(state.incarnation == model.incarnation)
                #expect(state.isSealed == model.sealed)
                #expect(model.sealed || state.activations == model.jobs)
                #expect(state.isStopRequested == model.stop)
            }
        }
    }
}
