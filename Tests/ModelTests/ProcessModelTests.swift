// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Testing

extension ModelTests {
    /// A whole reactive process: schedule against run against stop against trap against handle drop.
    @Suite struct Processes {
        /// A mutation in the lines of `LightProc` that stand outside the types under test.
        enum Flaw: CaseIterable {
            /// The orders are withdrawn after the observer, which may restart the process, was told.
            case reportsBeforeWithdrawing
            /// What was ordered is withdrawn by a load and a store.
            case withdrawsByLoadAndStore
            /// The consumer does not look at the orders once more when it has gone idle.
            case noLastLook
            /// The schedule does not keep the process alive.
            case schedulesWithoutHolding
            /// After a trap the order to clean up is given as by anybody, who has to claim the mailbox.
            case trapOrdersAsAnybody
            /// The reaper lets go of the process of the thread that trapped before it gives the order to clean up.
            case reaperLetsGoFirst
            /// Who stops a process lets go of it before the order is given.
            case stopperLetsGoFirst
        }

        @Test func aStopAgainstMessagesEndsOnceAndLosesNothing() {
            expectHolds("process, messages, stop, worker") { stopping($0, nil) }
        }

        @Test func aStopAndAKillEndAnIncarnationOnceEach() {
            expectHolds("process, stop, kill, 2 workers, restart", preemptions: 1) { twoEnds($0, nil) }
        }

        @Test func aTrapLosesTheMessageInHandAndNoOther() {
            expectHolds("process, trap, message, worker") { trapping($0, nil, restarts: 0) }
            expectHolds("process, trap, 2 workers, restart", preemptions: 1) { trapping($0, nil, restarts: 1) }
        }

        @Test func aTrapAgainstAStop() {
            expectHolds("process, trap, stop, worker, restart") { trapAgainstStop($0, nil) }
        }

        @Test func whoDropsTheLastHandleFreesTheProcessOnce() {
            expectHolds("process, 2 handles dropped, worker") { dropping($0, nil) }
        }

        @Test func aTrapOfAProcessWhoseHandlesAreDropped() {
            expectHolds("process, trap, 2 handles dropped, worker") { droppingATrap($0, nil) }
        }

        @Test func whoStopsOrKillsDropsTheLastHandle() {
            expectHolds("process, stop, 2 handles dropped, worker") { droppingAStop($0, nil, kill: false) }
            expectHolds("process, kill, 2 handles dropped, worker") { droppingAStop($0, nil, kill: true) }
            expectHolds("process, stop, kill, 2 handles dropped, 2 workers", preemptions: 1) { model in
                let proc = ModelProcess(model, nil, restarts: 0, handles: 2)
                model.thread {
                    proc.send(0)
                    proc.stop()
                    proc.release()
                    proc.work()
                }
                model.thread {
                    proc.stop(kill: true)
                    proc.release()
                }
                model.thread { proc.work() }
                model.finally { proc.verdict(isClosed: true) }
            }
        }

        @Test(arguments: Flaw.allCases)
        func aFlawIsFound(_ flaw: Flaw) {
            expectFound("process, \(flaw)") { model in
                switch flaw {
                case .reportsBeforeWithdrawing, .withdrawsByLoadAndStore: twoEnds(model, flaw)
                case .noLastLook: stopping(model, flaw)
                case .schedulesWithoutHolding: dropping(model, flaw)
                case .trapOrdersAsAnybody: trapping(model, flaw, restarts: 0)
                case .reaperLetsGoFirst: droppingATrap(model, flaw)
                case .stopperLetsGoFirst: droppingAStop(model, flaw, kill: true)
                }
            }
        }

        private func stopping(_ model: Model, _ flaw: Flaw?) {
            let proc = ModelProcess(model, flaw, restarts: 0)
            model.thread { for number in 0..<2 { proc.send(number) } }
            model.thread { proc.stop() }
            model.thread { proc.work() }
            model.finally { proc.verdict(isClosed: true) }
        }

        private func twoEnds(_ model: Model, _ flaw: Flaw?) {
            let proc = ModelProcess(model, flaw, restarts: 1)
            model.thread {
                proc.send(0)
                proc.stop()
            }
            model.thread {
                proc.stop(kill: true)
                proc.work()
            }
            model.thread { proc.work() }
            model.finally { proc.verdict(isClosed: nil) }
        }

        private func trapping(_ model: Model, _ flaw: Flaw?, restarts: Int) {
            let proc = ModelProcess(model, flaw, restarts: restarts, trapsAt: 1)
            model.thread { for number in 0..<3 { proc.send(number) } }
            model.thread { proc.work() }
            if restarts > 0 { model.thread { proc.work() } }
            model.finally { proc.verdict(isClosed: restarts == 0) }
        }

        private func trapAgainstStop(_ model: Model, _ flaw: Flaw?) {
            let proc = ModelProcess(model, flaw, restarts: 1, trapsAt: 0)
            model.thread { for number in 0..<2 { proc.send(number) } }
            model.thread { proc.stop() }
            model.thread { proc.work() }
            model.finally { proc.verdict(isClosed: nil) }
        }

        private func dropping(_ model: Model, _ flaw: Flaw?) {
            let proc = ModelProcess(model, flaw, restarts: 0, handles: 2)
            for sender in 0..<2 {
                model.thread {
                    proc.send(sender)
                    proc.release()
                }
            }
            model.thread { proc.work() }
            model.finally { proc.verdict(isClosed: false) }
        }

        /// The second sender's message traps.
        private func droppingATrap(_ model: Model, _ flaw: Flaw?) {
            let proc = ModelProcess(model, flaw, restarts: 0, trapsAt: 1, handles: 2)
            for sender in 0..<2 {
                model.thread {
                    proc.send(sender)
                    proc.release()
                }
            }
            model.thread { proc.work() }
            model.finally { proc.verdict(isClosed: true) }
        }

        private func droppingAStop(_ model: Model, _ flaw: Flaw?, kill: Bool) {
            let proc = ModelProcess(model, flaw, restarts: 0, handles: 2)
            model.thread {
                proc.send(0)
                proc.release()
            }
            model.thread {
                if flaw == .stopperLetsGoFirst { proc.release() }
                proc.stop(kill: kill)
                if flaw != .stopperLetsGoFirst { proc.release() }
            }
            model.thread { proc.work() }
            model.finally { proc.verdict(isClosed: true) }
        }
    }
}

/// The lines of `LightProc` and of a worker, shortened, over the real mailbox, orders and state.
private final class ModelProcess {
    private let model: Model
    private let flaw: ModelTests.Processes.Flaw?
    private let mailbox = Mailbox(isBusy: false)
    private let orders = OrderWord()
    private let state: AtomicWord
    /// Only the consumer may touch it.
    private let body = PlainCell()
    /// The run queue of the workers: how often the process is in it.
    private let queue = Atomic<Int>(0)
    /// Handles, and one for the time that it is scheduled.
    private let references: Atomic<Int>
    private var restartsLeft: Int
    private let trapsAt: Int?

    // What the checker observes; no part of the protocol.
    private var isRun = false
    private var isFreed = false
    /// By the reaper, too early; one worker only.
    private var isLetGo = false
    private var sent: [UInt: Int] = [:]
    private var gone: [UInt] = []
    private var handled: [Int] = []
    private var ends = 0
    private var cleanUps = 0
    private var starts = 1

    init(
        _ model: Model,
        _ flaw: ModelTests.Processes.Flaw?,
        restarts: Int,
        trapsAt: Int? = nil,
        handles: Int = 3
    ) {
        self.model = model
        self.flaw = flaw
        self.trapsAt = trapsAt
        restartsLeft = restarts
        references = Atomic(handles)
        var first = ProcState()
        _ = first.start()
        state = AtomicWord(first.rawValue)
    }

    private func transition<Result>(_ change: (inout ProcState) -> Result) -> Result {
        state.update { model.step(&$0, change) }
    }

    private var incarnation: UInt32 { ProcState(rawValue: state.load(ordering: .acquiring)).incarnation }

    // MARK: Any thread

    func send(_ number: Int) {
        checkAlive()
        let node = model.makeNode()
        sent[node.bits] = number
        switch mailbox.push(node) {
        case .schedule: schedule()
        case .queued: break
        case .closed: gone.append(node.bits)
        }
    }

    func stop(kill: Bool = false) {
        checkAlive()
        if transition({ $0.requestStop(kill: kill) }) == .requested { order(.stop) }
    }

    private func order(_ order: Orders) { if orders.give(order, claiming: mailbox) { schedule() } }

    /// As `LightProc.orderAsConsumer`.
    private func orderAsConsumer(_ order: Orders) {
        _ = orders.give(order)
        schedule()
    }

    private func schedule() {
        if flaw != .schedulesWithoutHolding { references.add(1, ordering: .relaxed) }
        queue.add(1, ordering: .acquiringAndReleasing)
    }

    func release() {
        // As Swift's reference counts: the last one sees what the others did.
        if references.subtract(1, ordering: .acquiringAndReleasing).newValue > 0 { return }
        if isRun { model.fail("freed while it runs") }
        if isFreed { model.fail("freed twice") }
        isFreed = true
        // The body is destroyed by whoever this is.
        body.write(body.read() + 1)
        if !mailbox.isEmpty { model.fail("freed with a message, which nobody will handle") }
    }

    private func checkAlive() { if isFreed { model.fail("used after it was freed") } }

    // MARK: A worker

    func work() {
        while true {
            while queue.load(ordering: .relaxed) == 0 {
                if !model.wait(until: { self.queue.settled != 0 }) { return }
            }
            let (done, _) = take()
            guard done else { continue }
            isLetGo = false
            while run() {}
            if flaw != .schedulesWithoutHolding, !isLetGo { release() }
        }
    }

    private func take() -> (Bool, Int) {
        let seen = queue.load(ordering: .relaxed)
        if seen == 0 { return (false, 0) }
        return queue.compareExchange(
            expected: seen,
            desired: seen - 1,
            successOrdering: .acquiringAndReleasing,
            failureOrdering: .relaxed
        )
    }

    private func begin() {
        checkAlive()
        if isRun { model.fail("two consumers") }
        isRun = true
    }

    private func run() -> Bool {
        begin()
        if orders.current.rawValue != 0, !obey() { return false }
        while true {
            // A budget of one message, so that it may end with others taken.
            if let node = mailbox.take() {
                if handle(node) {
                    trapped()
                    return false
                }
            }
            if orders.hasSome {
                isRun = false
                return true
            }
            isRun = false
            if !mailbox.settle() { return true }
            if flaw == .noLastLook { return false }
            if !orders.hasSomeAfterSettling || !mailbox.claim() { return false }
            begin()
            if !obey() { return false }
        }
    }

    /// True if the handler trapped.
    private func handle(_ node: MessageNode) -> Bool {
        body.write(body.read() + 1)
        gone.append(node.bits)
        handled.append(sent[node.bits] ?? -1)
        return sent[node.bits] == trapsAt
    }

    /// By the reaper; here it is the same thread, which does nothing else from then on.
    private func trapped() {
        if flaw == .reaperLetsGoFirst {
            isRun = false
            isLetGo = true
            release()
            checkAlive()
        }
        decideEnd()
        isRun = false
        if flaw == .trapOrdersAsAnybody { order(.cleanUp) } else { orderAsConsumer(.cleanUp) }
    }

    @discardableResult
    private func decideEnd() -> Bool {
        let incarnation = self.incarnation
        guard transition({ $0.end(incarnation) }) != .tooLate else { return false }
        ends += 1
        return true
    }

    /// The reactive half of `LightProc.obey`.
    private func obey() -> Bool {
        while true {
            let current = orders.current
            if current.contains(.discard) {
                discardLeftovers()
                withdraw(.all)
                isRun = false
                return false
            }
            if current.contains(.cleanUp) {
                body.write(body.read() + 1)
                cleanUps += 1
                if flaw != .reportsBeforeWithdrawing { withdraw([.cleanUp, .start, .stop, .finish, .settleDropped]) }
                isRun = false
                reportEnd()
                if flaw == .reportsBeforeWithdrawing { withdraw([.cleanUp, .start, .stop, .finish, .settleDropped]) }
                return false
            }
            if current.contains(.start) {
                body.write(body.read() + 1)
                starts += 1
                if withdraw(.start) { return true }
                continue
            }
            guard !current.isDisjoint(with: .ends) else { return true }
            let isMeant = ProcState(rawValue: state.load(ordering: .acquiring)).isStopRequested
            let decided = isMeant && decideEnd()
            withdraw(.ends, adding: decided ? .cleanUp : [])
        }
    }

    @discardableResult
    private func withdraw(_ done: Orders, adding more: Orders = []) -> Bool {
        guard flaw == .withdrawsByLoadAndStore else { return orders.withdraw(done, adding: more) }
        let word = orders.word.load(ordering: .acquiring) & ~done.rawValue | more.rawValue
        orders.word.store(word, ordering: .sequentiallyConsistent)
        return word == 0
    }

    private func reportEnd() {
        guard transition({ $0.finish() }) == .ended else { return }
        if restartsLeft > 0 {
            restartsLeft -= 1
            if case .started = transition({ $0.start() }) { orderAsConsumer(.start) }
        } else if transition({ $0.close() }) == .closed {
            leftovers = mailbox.close()
            if leftovers != 0 { orderAsConsumer(.discard) }
        }
    }

    private var leftovers: UInt = 0

    private func discardLeftovers() {
        while let node = MessageNode(bits: leftovers) {
            leftovers = node.next
            body.write(body.read() + 1)
            gone.append(node.bits)
        }
    }

    // MARK: At the end

    func verdict(isClosed: Bool?) -> String? {
        let last = ProcState(rawValue: state.settled)
        if isRun { return "the consumer has not gone idle" }
        if queue.settled != 0 { return "the process is in the queue, and nobody runs it" }
        // Two may ask for the end; who gives the order when the other was obeyed gives it to a closed process.
        let late = last.phase == .closed ? Orders.stop.rawValue : 0
        if orders.word.settled & ~late != 0 { return "an order is left: \(orders.word.settled)" }
        if last.phase == .active ? !mailbox.isIdle : !mailbox.isClosed { return "\(last), and the mailbox is not so" }
        if !mailbox.isEmpty { return "a message is left, and the mailbox is idle" }
        if ends != cleanUps { return "ended \(ends) times, cleaned up \(cleanUps) times" }
        if starts != Int(last.incarnation) { return "\(last), started \(starts) times" }
        if ends != starts - (last.phase == .active ? 1 : 0) { return "ended \(ends) times, started \(starts) times" }
        if let isClosed, isClosed != (last.phase == .closed) { return "\(last) at the end" }
        if last.phase == .active, last.isStopRequested { return "a stop was forgotten" }
        if gone.count != sent.count || Set(gone).count != gone.count { return "a message is lost, or went twice" }
        if references.settled == 0, !isFreed { return "nobody refers to it, and it was not freed" }
        return nil
    }
}
