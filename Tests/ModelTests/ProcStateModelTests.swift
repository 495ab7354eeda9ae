// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Testing

extension ModelTests {
    /// The state word of an async process, changed by its jobs, by who ends it, and by the deadline.
    @Suite struct ProcStates {
        enum Flaw {
            case updateByLoadAndStore
            case sealsAgain
            case completesBeforeItWakes
        }

        @Test func anIncarnationIsSealedOnce() {
            expectHolds("state word, 2 jobs, end and deadline") { life($0, restarts: false, flaw: nil) }
        }

        @Test func jobsOfAnIncarnationThatIsOverDoNotTouchTheNext() {
            expectHolds("state word with restart") { life($0, restarts: true, flaw: nil) }
        }

        @Test func theLastChildTaskThatCompletesSeals() {
            expectHolds("state word, child tasks and a kill") { family($0, flaw: nil) }
        }

        @Test func aTrapLeavesOnlyTheSiblingsToWaitFor() {
            expectHolds("state word, a trap beside a sibling") { model in
                let proc = ModelState(model, restarts: false, flaw: nil)
                // Two children that have begun, and their parent, which waits for both.
                proc.child()
                proc.child()
                model.thread { proc.trap() }
                model.thread { proc.job { proc.childCompleted {} } }
                model.thread { proc.deadline() }
            }
        }

        @Test func aTaskThatCountsAsCompleteBeforeItWokeItsParentIsFound() {
            expectFound("state word, \(Flaw.completesBeforeItWakes)") { family($0, flaw: .completesBeforeItWakes) }
        }

        /// A child that is suspended is resumed by a thread of nobody's, completes there, and wakes its parent.
        private func family(_ model: Model, flaw: Flaw?) {
            let proc = ModelState(model, restarts: false, flaw: flaw)
            proc.mustUnwind = true
            proc.child()
            model.thread { proc.childCompleted { proc.job { proc.unwinds() } } }
            model.thread { proc.decideEnd(cancelling: true) }
        }

        @Test(arguments: [Flaw.updateByLoadAndStore, .sealsAgain])
        func whatSealsTwiceIsFound(_ flaw: Flaw) {
            expectFound("state word, \(flaw)") { life($0, restarts: false, flaw: flaw) }
        }

        private func life(_ model: Model, restarts: Bool, flaw: Flaw?) {
            let proc = ModelState(model, restarts: restarts, flaw: flaw)
            model.thread {
                // The task: a job that queues another.
                proc.job { proc.job {} }
                proc.decideEnd(cancelling: false)
            }
            model.thread { proc.decideEnd(cancelling: true) }
            model.thread {
                proc.job {}
                proc.deadline()
            }
        }
    }
}

extension Model {
    /// One transition of a state word, from a legal state to a legal one.
    func step<Result>(_ word: inout UInt, _ change: (inout ProcState) -> Result) -> Result {
        var state = ProcState(rawValue: word)
        let result = change(&state)
        word = state.rawValue
        if !ProcState.isLegal(word) { fail("no state of a process is \(word)") }
        return result
    }
}

/// The lines of `LightProc` that order the clean-up, over the real state and the real `update`.
private final class ModelState {
    private let model: Model
    private let restarts: Bool
    private let flaw: ModelTests.ProcStates.Flaw?
    private let word: AtomicWord
    private var cleanUps = 0
    private var hasUnwound = false
    /// Whether the parent of a child that completes must have its turn.
    var mustUnwind = false
    private var ends = 0

    init(_ model: Model, restarts: Bool, flaw: ModelTests.ProcStates.Flaw?) {
        self.model = model
        self.restarts = restarts
        self.flaw = flaw
        var state = ProcState()
        _ = state.start()
        word = AtomicWord(state.rawValue)
        model.finally { self.verdict() }
    }

    private func transition<Result>(_ change: (inout ProcState) -> Result) -> Result {
        if flaw == .updateByLoadAndStore {
            var raw = word.load(ordering: .acquiring)
            let result = model.step(&raw, change)
            word.store(raw, ordering: .sequentiallyConsistent)
            return result
        }
        return word.update { model.step(&$0, change) }
    }

    func job(_ body: () -> Void) {
        guard transition({ $0.admit(1) }) == .admitted else { return }
        body()
        retire()
    }

    private func retire() { if transition({ $0.retire(1) }) == .sealed { cleanUp() } }

    /// A child task has begun, and is suspended.
    func child() {
        _ = transition { $0.admit(1, 2) }
        retire()
    }

    /// As the stand-in for the runtime's function: whoever waits is woken first.
    func childCompleted(_ wake: () -> Void) {
        if flaw == .completesBeforeItWakes {
            retire()
            wake()
        } else {
            wake()
            retire()
        }
    }

    func unwinds() { hasUnwound = true }

    /// One child traps in a job.
    func trap() {
        guard transition({ $0.admit(1) }) == .admitted else { return }
        decideEnd(cancelling: true)
        if transition({ $0.retire(1, 2) }) == .sealed { cleanUp() }
    }

    func decideEnd(cancelling: Bool) {
        let ending = transition { $0.end(1, admitting: cancelling) }
        if ending == .tooLate { return }
        ends += 1
        if cancelling { retire() } else if ending == .sealed { cleanUp() }
    }

    /// As `LightProc.deadlinePassed`.
    func deadline() {
        decideEnd(cancelling: false)
        if flaw == .sealsAgain {
            // Without the look whether it is sealed already.
            let isEnding = transition { state in
                if state.phase == .ending { _ = state.seal(1) }
                return state.phase == .ending
            }
            if isEnding { cleanUp() }
        } else if transition({ state -> ProcState.Seal in
            // An end that was overwritten is what that flaw is about, and to seal before it is impossible.
            if flaw == .updateByLoadAndStore, state.phase == .active { return .tooLate }
            return state.seal(1)
        }) == .sealed {
            cleanUp()
        }
    }

    private func cleanUp() {
        cleanUps += 1
        guard restarts else { return }
        guard transition({ $0.finish() }) == .ended else { return }
        _ = transition { $0.start() }
    }

    private func verdict() -> String? {
        let state = ProcState(rawValue: word.settled)
        if ends != 1 { return "the end was decided \(ends) times" }
        if cleanUps != 1 { return "cleaned up \(cleanUps) times" }
        if mustUnwind, !hasUnwound { return "sealed before the parent had its turn" }
        if restarts {
            return state.phase == .active && state.incarnation == 2 && state.activations == 0
                ? nil : "the next incarnation was touched: \(state)"
        }
        return state.phase == .ending && state.isSealed ? nil : "not sealed at the end: \(state)"
    }
}
