// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Testing

extension ModelTests {
    /// The orders of an async process: the set itself is the place in the schedule. Who must schedule it runs it here.
    @Suite struct AsyncOrders {
        /// A mutation in the lines of `LightProc.obey`.
        enum Flaw: CaseIterable {
            /// Withdraws an order before it is carried out, and leaves nothing in its place.
            case notHeld
            /// Withdraws the clean-up before the observer, which may restart the process, was told.
            case withdrawsBeforeReporting
            /// Withdraws what was ordered for dropped replies after it looked for them.
            case forgetsWhatWasDropped
            /// After a trap the clean-up is ordered whether or not the incarnation is sealed.
            case trapOrdersTheCleanUp
        }

        @Test func ordersAreObeyedOneAfterTheOtherAndNoneIsLost() {
            expectHolds("async orders, 2 dropped replies, stop") { orders($0, nil) }
        }

        @Test func aReturnAgainstAKillAndADroppedReply() {
            expectHolds("async orders, return, kill, dropped reply") { ending($0, nil, restarts: 0) }
            expectHolds("async orders, the same with restart") { ending($0, nil, restarts: 1) }
        }

        @Test func aTrapOfTheBodyAgainstAKillAndADroppedReply() {
            expectHolds("async orders, trap, kill, dropped reply") { trapping($0, nil, restarts: 0) }
            expectHolds("async orders, the same with restart") { trapping($0, nil, restarts: 1) }
        }

        @Test func aTrapOfAChildAgainstAKillAndTheDeadline() {
            expectHolds("async orders, trap of a child, kill, deadline") { trappingChild($0, nil, restarts: 0) }
            expectHolds("async orders, the same with restart") { trappingChild($0, nil, restarts: 1) }
        }

        @Test(arguments: Flaw.allCases)
        func aFlawIsFound(_ flaw: Flaw) {
            expectFound("async orders, \(flaw)") { model in
                switch flaw {
                case .notHeld: orders(model, flaw)
                case .withdrawsBeforeReporting, .forgetsWhatWasDropped: ending(model, flaw, restarts: 1)
                case .trapOrdersTheCleanUp: trapping(model, flaw, restarts: 0)
                }
            }
        }

        private func orders(_ model: Model, _ flaw: Flaw?) {
            let proc = ModelAsync(model, flaw, restarts: 0)
            for _ in 0..<2 { model.thread { proc.drop() } }
            model.thread { proc.stop() }
        }

        private func ending(_ model: Model, _ flaw: Flaw?, restarts: Int) {
            let proc = ModelAsync(model, flaw, restarts: restarts)
            model.thread { proc.returnFromBody() }
            model.thread { proc.kill() }
            model.thread { proc.drop() }
        }

        private func trapping(_ model: Model, _ flaw: Flaw?, restarts: Int) {
            let proc = ModelAsync(model, flaw, restarts: restarts)
            model.thread { proc.trap() }
            model.thread { proc.kill() }
            model.thread { proc.drop() }
        }

        /// The body awaits a child whose job traps, and another that returns.
        private func trappingChild(_ model: Model, _ flaw: Flaw?, restarts: Int) {
            let proc = ModelAsync(model, flaw, restarts: restarts, childTasks: 2)
            model.thread { proc.trap(activations: 2) }
            model.thread {
                proc.kill()
                proc.childReturns()
            }
            model.thread { proc.deadline() }
        }
    }
}

/// The lines of `LightProc` for an async process, over the real orders and the real state.
private final class ModelAsync {
    private let model: Model
    private let flaw: ModelTests.AsyncOrders.Flaw?
    private let orders = OrderWord()
    private let state: AtomicWord
    /// Touched by the consumer of the orders only.
    private let duty = PlainCell()
    /// Replies that were dropped and not settled; behind a lock in `LightProc`.
    private let dropped = Atomic<Int>(0)
    private var restartsLeft: Int

    // What the checker observes; no part of the protocol.
    private var isRun = false
    private var drops = 0
    private var settled = 0
    private var starts = 1
    private var ends = 0
    private var cleanUps = 0

    /// Its first incarnation lives, with one job: its body; or with child tasks, each with a job, that the body awaits.
    init(_ model: Model, _ flaw: ModelTests.AsyncOrders.Flaw?, restarts: Int, childTasks: Int = 0) {
        self.model = model
        self.flaw = flaw
        restartsLeft = restarts
        var first = ProcState()
        _ = first.start()
        if childTasks == 0 { _ = first.admit(1) }
        for _ in 0..<childTasks { _ = first.admit(1, 2) }
        state = AtomicWord(first.rawValue)
        model.finally { self.verdict() }
    }

    private func transition<Result>(_ change: (inout ProcState) -> Result) -> Result {
        state.update { model.step(&$0, change) }
    }

    // MARK: Any thread

    func drop() {
        drops += 1
        dropped.add(1, ordering: .acquiringAndReleasing)
        order(.settleDropped)
    }

    func stop() { if transition({ $0.requestStop() }) == .requested { order(.stop) } }

    func kill() {
        guard transition({ $0.requestStop(kill: true) }) == .requested else { return }
        decideEnd(1, cancelling: true)
    }

    func returnFromBody() {
        decideEnd(1, cancelling: false)
        if transition({ $0.retire(1) }) == .sealed { order(.cleanUp) }
    }

    /// By the reaper, as `LightProc.trapped`: of a child task also the task is lost.
    func trap(activations: UInt = 1) {
        decideEnd(1, cancelling: true)
        let isSealed = transition { $0.retire(1, activations) } == .sealed
        if isSealed || flaw == .trapOrdersTheCleanUp { order(.cleanUp) }
    }

    func childReturns() { if transition({ $0.retire(1, 2) }) == .sealed { order(.cleanUp) } }

    func deadline() {
        decideEnd(1, cancelling: false)
        if transition({ $0.seal(1) }) == .sealed { order(.cleanUp) }
    }

    private func decideEnd(_ incarnation: UInt32, cancelling: Bool) {
        let ending = transition { $0.end(incarnation, admitting: cancelling) }
        if ending == .tooLate { return }
        ends += 1
        if cancelling { order(.cancel) } else if ending == .sealed { order(.cleanUp) }
    }

    private func order(_ order: Orders) { if orders.give(order) { run() } }

    // MARK: The consumer

    private func run() {
        if isRun { model.fail("two consumers") }
        isRun = true
        obey()
        if isRun { model.fail("impossible: returned as the consumer") }
    }

    /// True if it was the last order: then the caller is the consumer no longer.
    private func withdraw(_ done: Orders, adding more: Orders = []) -> Bool {
        isRun = false
        if orders.withdraw(done, adding: more) { return true }
        isRun = true
        return false
    }

    private func work() { duty.write(duty.read() + 1) }

    private func settleDropped() { settled += dropped.exchange(0, ordering: .acquiringAndReleasing) }

    /// The async half of `LightProc.obey`.
    private func obey() {
        while true {
            let current = orders.current
            work()
            if current.contains(.cleanUp) {
                if flaw != .forgetsWhatWasDropped { _ = withdraw(.settleDropped) }
                cleanUps += 1
                settleDropped()
                let done: Orders = [.start, .stop, .finish, .cancel]
                _ = withdraw(flaw == .forgetsWhatWasDropped ? done.union(.settleDropped) : done)
                let isOver = flaw == .withdrawsBeforeReporting && withdraw(.cleanUp)
                reportEnd()
                if flaw == .withdrawsBeforeReporting ? isOver : withdraw(.cleanUp) { return }
                continue
            }
            if current.contains(.start) {
                starts += 1
                if withdraw(.start) { return }
                continue
            }
            if current.contains(.settleDropped) {
                let isEmpty = withdraw(.settleDropped, adding: flaw == .notHeld ? [] : .held)
                work()
                settleDropped()
                if flaw == .notHeld ? isEmpty : withdraw(.held) { return }
                continue
            }
            if current.contains(.cancel) {
                let isSealed = transition { $0.retire(1) } == .sealed
                let done: Orders = isSealed ? [.cancel, .stop] : .cancel
                if withdraw(done, adding: isSealed ? .cleanUp : []) { return }
            } else if !current.isDisjoint(with: .ends) {
                if withdraw(.ends) { return }
            } else {
                return model.fail("the consumer has nothing to do: \(current)")
            }
        }
    }

    private func reportEnd() {
        work()
        guard transition({ $0.isSealed ? $0.finish() : nil }) == .ended else {
            return model.fail("cleaned up before it was sealed, or twice")
        }
        guard restartsLeft > 0 else {
            _ = transition { $0.close() }
            return
        }
        restartsLeft -= 1
        if case .started = transition({ $0.start() }) { order(.start) }
    }

    private func verdict() -> String? {
        let last = ProcState(rawValue: state.settled)
        if isRun { return "the consumer has not ended" }
        if orders.word.settled != 0 { return "an order is left: \(orders.word.settled)" }
        if settled != drops { return "\(drops) replies were dropped, \(settled) settled" }
        if ends != cleanUps { return "ended \(ends) times, cleaned up \(cleanUps) times" }
        if starts != Int(last.incarnation) { return "\(last), started \(starts) times" }
        return ends == starts - (last.phase == .active ? 1 : 0) ? nil : "\(last), ended \(ends) times"
    }
}
