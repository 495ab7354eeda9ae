// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Testing

extension ModelTests {
    /// The mailbox as the place in the schedule: who is told to schedule the process runs it, in the same thread.
    @Suite struct Mailboxes {
        /// A mutation in the lines of the protocol that stand outside the mailbox, or in a copy of its own.
        enum Flaw {
            case settleIgnoresTaken
            case orderAfterTheLook
            case noLookAtOrdersAfterSettling
            case closeWithoutExchange
        }

        @Test func eachMessageIsHandledOnceInOrderByOneConsumer() {
            expectHolds("mailbox, 2 senders and a consumer") { model in
                let proc = ModelProc(model, isBusy: true)
                for sender in 0..<2 { model.thread { proc.send(2, from: sender) } }
                model.thread { proc.run() }
            }
            expectHolds("mailbox, 3 senders, idle at first") { model in
                let proc = ModelProc(model, isBusy: false)
                model.thread { proc.send(2, from: 0) }
                model.thread { proc.send(2, from: 1) }
                model.thread { proc.send(1, from: 2) }
            }
        }

        @Test func aPushAgainstSettlingLosesNothing() {
            expectHolds("mailbox, push against settle", preemptions: 5) { model in
                let proc = ModelProc(model, isBusy: true)
                model.thread { proc.send(2, from: 0) }
                model.thread { proc.run() }
            }
        }

        @Test(arguments: [Model.Mutation.noAcquire, .noRelease, .tornUpdates])
        func weakerOrderingsOfTheMailboxAreFound(_ mutation: Model.Mutation) {
            expectFound("mailbox", mutation) { model in
                let proc = ModelProc(model, isBusy: false)
                model.thread { proc.send(2, from: 0) }
                model.thread { proc.send(2, from: 1) }
            }
        }

        @Test func settlingWithMessagesTakenIsFound() {
            expectFound("mailbox, settle without the look at `taken`") { model in
                let proc = ModelProc(model, isBusy: false, flaw: .settleIgnoresTaken)
                model.thread { proc.send(2, from: 0) }
                model.thread { proc.send(1, from: 1) }
            }
        }

        @Test func anOrderIsObeyedByWhoGoesIdleOrByWhoGaveIt() {
            expectHolds("order against going idle", preemptions: 4) { model in
                let proc = ModelProc(model, isBusy: true)
                model.thread { proc.order(1) }
                model.thread { proc.run() }
            }
            expectHolds("2 orders and a message, idle at first") { model in
                let proc = ModelProc(model, isBusy: false)
                model.thread { proc.order(1) }
                model.thread { proc.order(2) }
                model.thread { proc.send(1, from: 0) }
            }
        }

        @Test(arguments: [Flaw.orderAfterTheLook, .noLookAtOrdersAfterSettling])
        func orderingInTheWrongOrderIsFound(_ flaw: Flaw) {
            expectFound("order, \(flaw)") { model in
                let proc = ModelProc(model, isBusy: true, flaw: flaw)
                model.thread { proc.order(1) }
                model.thread { proc.run() }
            }
        }

        @Test func aClosedMailboxRefusesOrReturnsEachMessage() {
            expectHolds("close against 2 senders") { closing($0, flaw: nil) }
            expectFound("close by load and store") { closing($0, flaw: .closeWithoutExchange) }
        }

        private func closing(_ model: Model, flaw: Flaw?) {
            let proc = ModelProc(model, isBusy: true, flaw: flaw)
            for sender in 0..<2 { model.thread { proc.send(2, from: sender) } }
            model.thread {
                if let node = proc.mailbox.take() { proc.handle(node) }
                proc.close()
            }
        }
    }
}

/// A reactive process: `order` and `run` are those of `LightProc`, over the real mailbox.
private final class ModelProc {
    private let model: Model
    private let flaw: ModelTests.Mailboxes.Flaw?
    let mailbox: Mailbox
    private let orders = AtomicWord(0)
    /// The state of the body: only the consumer may touch it.
    private let body = PlainCell()

    // What the checker observes; no part of the protocol.
    private var isRun: Bool
    private var sent: [UInt: (sender: Int, number: Int)] = [:]
    private var handled: [UInt] = []
    private var refused: [UInt] = []
    private var ordered: UInt = 0
    private var obeyed: UInt = 0

    init(_ model: Model, isBusy: Bool, flaw: ModelTests.Mailboxes.Flaw? = nil) {
        self.model = model
        self.flaw = flaw
        isRun = false
        mailbox = Mailbox(isBusy: isBusy)
        model.finally { self.verdict() }
    }

    func send(_ count: Int, from sender: Int) {
        for number in 0..<count {
            let node = model.makeNode()
            sent[node.bits] = (sender, number)
            switch mailbox.push(node) {
            case .schedule: run()
            case .queued: break
            case .closed: refused.append(node.bits)
            }
        }
    }

    func order(_ order: UInt) {
        ordered |= order
        if flaw == .orderAfterTheLook {
            let claimed = mailbox.claim()
            orders.bitwiseOr(order, ordering: .sequentiallyConsistent)
            if claimed { run() }
            return
        }
        orders.bitwiseOr(order, ordering: .sequentiallyConsistent)
        if mailbox.claim() { run() }
    }

    /// Runs the process until it is idle; that it is queued again in between makes no difference here.
    func run() {
        begin()
        if orders.load(ordering: .acquiring) != 0 { obey() }
        while true {
            // As `LightProc.reactiveStep`, with a budget of two, so that it may end with others taken: the rest of the batch is
            // in a local, and in the mailbox whenever a message is handled.
            var rest = mailbox.rest
            var budget = 2
            while budget > 0, let node = mailbox.take(&rest) {
                budget -= 1
                handle(node)
                if orders.load(ordering: .relaxed) != 0 { break }
            }
            if orders.load(ordering: .relaxed) != 0 {
                obey()
                continue
            }
            isRun = false
            guard settle() else {
                begin()
                continue
            }
            if flaw == .noLookAtOrdersAfterSettling { return }
            if orders.load(ordering: .sequentiallyConsistent) == 0 || !mailbox.claim() { return }
            begin()
            obey()
        }
    }

    private func settle() -> Bool {
        guard flaw == .settleIgnoresTaken else { return mailbox.settle() }
        return mailbox.inbox.compareExchange(
            expected: Mailbox.busy,
            desired: Mailbox.idle,
            successOrdering: .sequentiallyConsistent,
            failureOrdering: .relaxed
        ).exchanged
    }

    private func begin() {
        if isRun { model.fail("two consumers") }
        isRun = true
    }

    func handle(_ node: MessageNode) {
        body.write(body.read() + 1)
        handled.append(node.bits)
    }

    private func obey() {
        body.write(body.read() + 1)
        let some = orders.exchange(0, ordering: .acquiringAndReleasing)
        if obeyed & some != 0 { model.fail("an order was obeyed twice") }
        obeyed |= some
    }

    func close() {
        var left: UInt
        if flaw == .closeWithoutExchange {
            while let node = mailbox.take() { handle(node) }
            left = Mailbox.reversed(mailbox.inbox.load(ordering: .acquiring))
            mailbox.inbox.store(Mailbox.closed, ordering: .sequentiallyConsistent)
        } else {
            left = mailbox.close()
        }
        while let node = MessageNode(bits: left) {
            left = node.next
            handle(node)
        }
    }

    private func verdict() -> String? {
        if isRun { return "the consumer has not gone idle" }
        if !mailbox.isEmpty { return "a message is left, and the mailbox is idle" }
        if !mailbox.isIdle && !mailbox.isClosed { return "the mailbox is busy, and nobody runs the process" }
        if obeyed != ordered { return "an order is left, and the mailbox is idle" }
        let all = handled + refused
        if all.count != sent.count || Set(all).count != all.count { return "a message is lost, or was handled twice" }
        for sender in 0..<3 {
            let numbers = all.compactMap { sent[$0] }.filter { $0.sender == sender }.map(\.number)
            if numbers != numbers.sorted() { return "messages of a sender are out of order" }
        }
        return nil
    }
}
