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
        _ = state.finish()
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
        #expect(state.finish() == .ended)
        #expect(state.phase == .ended)
        #expect(state.activations == 0)
    }

    @Test func jobsOfAnEarlierIncarnationAreRefused() {
        var state = active()
        _ = state.end(1)
        _ = state.finish()
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
        _ = state.finish()
        _ = state.start()
        #expect(!state.isStopRequested)
        #expect(state.requestStop() == .requested)
    }

    @Test func onlyAProcessThatIsDownIsClosed() {
        var state = active()
        #expect(state.close() == .refused)
        _ = state.end(1)
        #expect(state.close() == .refused)
        _ = state.finish()
        #expect(state.close() == .closed)
        #expect(state.close() == .refused)
    }

    // MARK: The list of legal states and the table of transitions

    /// The states of the list. A sealed one is the phase `ending`, too.
    enum Name: String, CaseIterable, Codable, Sendable {
        case created, active, draining, sealed, ended, closed

        init(_ state: ProcState) {
            switch state.phase {
            case .created: self = .created
            case .active: self = .active
            case .ending: self = state.isSealed ? .sealed : .draining
            case .ended: self = .ended
            case .closed: self = .closed
            }
        }

        /// The shortest way there.
        func make() -> ProcState {
            var state = ProcState()
            if self == .created { return state }
            if self == .closed { _ = state.close() }
            if self == .closed { return state }
            _ = state.start()
            if self == .draining { _ = state.admit(1) }
            if self != .active { _ = state.end(1) }
            if self == .ended { _ = state.finish() }
            return state
        }
    }

    enum Transition: String, CaseIterable, Codable, Sendable {
        case start, admit, retire, requestStop, requestKill, end, endAdmitting, seal, finish, close

        /// In the name of the living incarnation. Returns the name of the answer.
        func apply(to state: inout ProcState) -> String { apply(to: &state, for: state.incarnation) }

        func apply(to state: inout ProcState, for incarnation: UInt32) -> String {
            switch self {
            case .start: if case .started = state.start() { "started" } else { "refused" }
            case .admit: "\(state.admit(incarnation))"
            case .retire: "\(state.retire(incarnation))"
            case .requestStop: "\(state.requestStop())"
            case .requestKill: "\(state.requestStop(kill: true))"
            case .end: "\(state.end(incarnation))"
            case .endAdmitting: "\(state.end(incarnation, admitting: true))"
            case .seal: "\(state.seal(incarnation))"
            case .finish: "\(state.finish())"
            case .close: "\(state.close())"
            }
        }

        /// By state, in the order of ``Name``; none where it is impossible.
        var answers: [Set<String>] {
            switch self {
            case .start: [["started"], [], [], [], ["started"], ["refused"]]
            case .admit: [["refused"], ["admitted"], ["admitted"], ["refused"], ["refused"], ["refused"]]
            case .retire: [["nothing"], ["nothing"], ["nothing", "sealed"], ["nothing"], ["nothing"], ["nothing"]]
            case .requestStop, .requestKill:
                [["nothing"], ["requested", "nothing"], ["nothing"], ["nothing"], ["nothing"], ["nothing"]]
            case .end: [["tooLate"], ["draining", "sealed"], ["tooLate"], ["tooLate"], ["tooLate"], ["tooLate"]]
            case .endAdmitting: [["tooLate"], ["draining"], ["tooLate"], ["tooLate"], ["tooLate"], ["tooLate"]]
            case .seal: [[], [], ["sealed"], ["tooLate"], ["tooLate"], ["tooLate"]]
            case .finish: [[], [], [], ["ended"], [], []]
            case .close: [["closed"], ["refused"], ["refused"], ["refused"], ["closed"], ["refused"]]
            }
        }

        func answers(in name: Name) -> Set<String> { answers[Name.allCases.firstIndex(of: name)!] }
    }

    private static let most: UInt = 0xff_ffff

    /// The list as it stands in the documentation: phase; stop, kill and seal bits; activations; incarnation.
    private static let legal: [(phase: UInt, bits: Set<UInt>, activations: ClosedRange<UInt>, incarnation: UInt)] = [
        (0, [0], 0...0, 0),
        (1, [0, 0b001, 0b101], 0...most, 1),
        (2, [0, 0b001, 0b101], 1...most, 1),
        (2, [0b010, 0b011, 0b111], 0...most, 1),
        (3, [0], 0...0, 1),
        (4, [0], 0...0, 0), (4, [0], 0...0, 1),
    ]

    @Test func theLegalStatesAreThoseOfTheList() {
        for low in UInt(0)..<256 {
            for activations in [0, 1, 2, Self.most] {
                for incarnation in [0, 1, 2, UInt(UInt32.max)] {
                    let isListed = Self.legal.contains {
                        $0.phase == low & 0b111 && $0.bits.contains(low >> 3) && $0.activations.contains(activations)
                            && $0.incarnation == min(incarnation, 1)
                    }
                    let word = low | activations << 8 | incarnation << 32
                    #expect(ProcState.isLegal(word) == isListed, "\(low), \(activations), \(incarnation)")
                }
            }
        }
    }

    /// All that is reached from a fresh state, with up to two activations and incarnations, is legal; all that is legal is
    /// reached; and each transition answers as the table says.
    @Test func fromLegalStatesTransitionsLeadToLegalOnesAndToAllOfThem() {
        var reached: Set<UInt> = [0]
        var open: [UInt] = [0]
        var answers: [Transition: [Name: Set<String>]] = [:]
        while let word = open.popLast() {
            for transition in Transition.allCases {
                let before = ProcState(rawValue: word)
                let name = Name(before)
                if transition.answers(in: name).isEmpty { continue }
                if transition == .retire, before.activations == 0, [.active, .draining].contains(name) { continue }
                var state = before
                let answer = transition.apply(to: &state)
                answers[transition, default: [:]][name, default: []].insert(answer)
                #expect(ProcState.isLegal(state.rawValue), "\(transition) leads from \(before) to \(state)")
                let isRefusal = ["refused", "tooLate"].contains(answer)
                #expect(!isRefusal || state == before, "\(transition) was \(answer) and changed \(before)")
                if state.activations <= 2, state.incarnation <= 2, reached.insert(state.rawValue).inserted {
                    open.append(state.rawValue)
                }
            }
        }
        for transition in Transition.allCases {
            for name in Name.allCases {
                #expect(answers[transition]?[name] ?? [] == transition.answers(in: name), "\(transition) where \(name)")
            }
        }
        for low in UInt(0)..<256 {
            for activations in UInt(0)...2 {
                for incarnation in UInt(0)...2 {
                    let word = low | activations << 8 | incarnation << 32
                    #expect(ProcState.isLegal(word) == reached.contains(word), "\(low), \(activations), \(incarnation)")
                }
            }
        }
    }

    /// Whoever names an incarnation that is over changes nothing, whatever state the process is in now.
    @Test(arguments: Name.allCases)
    func anIncarnationThatIsOverIsAnsweredAsEnded(name: Name) {
        for transition in [Transition.admit, .retire, .end, .endAdmitting, .seal] {
            let before = name.make()
            var state = before
            let answer = transition.apply(to: &state, for: before.incarnation &- 1)
            #expect([answer] == transition.answers(in: .ended), "\(transition)")
            #expect(state == before, "\(transition)")
        }
    }

    @Test func afterTheLastNumberIncarnationsAreCountedFromOneAgain() {
        var state = ProcState(rawValue: 3 | UInt(UInt32.max) << 32)
        #expect(state.start() == .started(incarnation: 1))
    }

    // MARK: What is impossible

    /// A transition in a state in which nothing legal asks for it.
    struct Impossible: Codable, Sendable, CustomStringConvertible {
        let transition: Transition
        let name: Name
        var description: String { "\(transition) where \(name)" }

        static let all = Transition.allCases.flatMap { transition in
            Name.allCases.filter { transition.answers(in: $0).isEmpty }.map {
                Impossible(transition: transition, name: $0)
            }
        }
    }

    /// In release builds a failure has no words.
    private func expectImpossible(_ result: ExitTest.Result?) {
        #if DEBUG
        let said = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
        #expect(said.contains("impossible: "), "\(said)")
        #endif
    }

    @Test(arguments: Impossible.all)
    func theImpossibleEndsTheProgram(pair: Impossible) async {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) { [pair] in
            var state = pair.name.make()
            _ = pair.transition.apply(to: &state)
        }
        expectImpossible(result)
    }

    @Test(arguments: [Name.active, .draining])
    func whatWasNeverCountedIsNotGivenBack(name: Name) async {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) { [name] in
            var state = name.make()
            _ = state.admit(1)
            _ = state.retire(1, 3)
        }
        expectImpossible(result)
    }

    @Test func moreJobsThanCanBeCountedAreNotAdmitted() async {
        await #expect(processExitsWith: .failure) {
            var state = Name.active.make()
            _ = state.admit(1, 0xff_ffff)
            _ = state.admit(1)
        }
    }

    /// A word with a phase that is none; whatever is asked.
    @Test(arguments: UInt(5)...7)
    func aPhaseThatIsNoneIsFound(number: UInt) async {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) { [number] in
            _ = ProcState(rawValue: 1 << 32 | number).phase
        }
        expectImpossible(result)
    }

    #if DEBUG
    /// Killed but not asked to stop; active and sealed; ended with jobs; a bit that means nothing.
    private static let noStates: [UInt] = [0x1_0000_0021, 0x1_0000_0011, 0x1_0000_0103, 0x1_0000_0041]

    @Test(arguments: Self.noStates)
    func aWordThatIsNoStateIsFoundInDebugBuilds(word: UInt) async {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) { [word] in
            _ = ProcState(rawValue: word)
        }
        expectImpossible(result)
    }
    #endif

    // MARK: Random sequences

    /// A 30-line reference model: plain fields instead of bits.
    private struct Model: Equatable {
        var phase = ProcState.Phase.created
        var incarnation: UInt32 = 0
        var jobs = 0
        var sealed = false
        var stop = false
        var kill = false
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
                case 4 where incarnation != model.incarnation || ![.created, .active].contains(model.phase):
                    let seals = incarnation == model.incarnation && model.phase == .ending && !model.sealed
                    if seals { model.sealed = true }
                    #expect(state.seal(incarnation) == (seals ? .sealed : .tooLate))
                case 5 where model.phase == .ending && model.sealed:
                    model = Model(phase: .ended, incarnation: model.incarnation)
                    #expect(state.finish() == .ended)
                case 6:
                    let kill = random.next() % 4 == 0
                    let requests = model.phase == .active && !(model.stop && (model.kill || !kill))
                    if requests { (model.stop, model.kill) = (true, model.kill || kill) }
                    #expect(state.requestStop(kill: kill) == (requests ? .requested : .nothing))
                case 7 where random.next() % 16 == 0:
                    let closes = [.created, .ended].contains(model.phase)
                    if closes { model.phase = .closed }
                    #expect(state.close() == (closes ? .closed : .refused))
                default:
                    continue
                }
                #expect(ProcState.isLegal(state.rawValue), "\(state), SEED=\(RandomCases.seed)")
                #expect(state.phase == model.phase, "SEED=\(RandomCases.seed)")
                #expect(state.incarnation == model.incarnation)
                #expect(state.isSealed == model.sealed)
                #expect(model.sealed || state.activations == model.jobs)
                #expect(state.isStopRequested == model.stop)
                #expect(state.isKillRequested == model.kill)
            }
        }
    }
}
