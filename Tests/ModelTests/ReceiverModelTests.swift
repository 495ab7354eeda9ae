// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Testing

extension ModelTests {
    /// The tasks of an async process that wait for messages: senders against receivers against cancellation against the end.
    @Suite struct Receivers {
        /// A mutation in the lines of `LightProc` that stand outside the types under test.
        enum Flaw: CaseIterable {
            /// Who begins to wait leaves the mailbox as it is.
            case waitsWithoutSettling
            /// Who was to wake a receiver and finds the message gone leaves the mailbox as it is.
            case wakesWithoutSettling
            /// Who wakes a receiver does not look whether others wait, too.
            case wakesOne
            /// Who begins to wait does not look whether the end is decided.
            case waitsAfterTheEnd
            /// Who cancels looks for the receiver first.
            case cancelsAfterTheLook
            /// A child that is cancelled before it waits is not remembered.
            case forgetsWhoIsCancelled
        }

        @Test func eachMessageIsReceivedOnceAndNobodyIsForgotten() {
            expectHolds("receivers, 2 senders and a receiver") { model in
                let proc = ModelReceivers(model, nil)
                model.thread { proc.send(2, from: 0) }
                model.thread { proc.send(1, from: 1) }
                model.thread { for _ in 0..<3 { proc.receive(asNumber: 0) } }
            }
            expectHolds("receivers, a sender and 2 receivers") { twoReceivers($0, nil) }
        }

        @Test func whoTakesWithoutWaitingTakesNobodysTurn() {
            expectHolds("receivers, one that takes without waiting") { oneThatTakes($0, nil) }
        }

        @Test func cancellingTheFirstTaskLosesNoMessage() {
            expectHolds("receivers, sender, task cancelled") { cancelling($0, nil) }
        }

        @Test func cancellingAChildLosesNoMessage() {
            expectHolds("receivers, sender, child cancelled") { cancellingAChild($0, nil) }
        }

        @Test func theEndWakesAllAndLeavesTheRestToTheNextIncarnation() {
            expectHolds("receivers, sender, end") { ending($0, nil) }
        }

        @Test(arguments: Flaw.allCases)
        func aFlawIsFound(_ flaw: Flaw) {
            expectFound("receivers, \(flaw)") { model in
                switch flaw {
                case .waitsWithoutSettling, .wakesOne: twoReceivers(model, flaw)
                case .wakesWithoutSettling: oneThatTakes(model, flaw)
                case .waitsAfterTheEnd: ending(model, flaw)
                case .cancelsAfterTheLook: cancelling(model, flaw)
                case .forgetsWhoIsCancelled: cancellingAChild(model, flaw)
                }
            }
        }

        @Test(arguments: [Model.Mutation.noAcquire, .noRelease, .tornUpdates])
        func weakerOrderingsAreFound(_ mutation: Model.Mutation) {
            expectFound("receivers", mutation) { twoReceivers($0, nil) }
        }

        private func twoReceivers(_ model: Model, _ flaw: Flaw?) {
            let proc = ModelReceivers(model, flaw)
            model.thread { proc.send(2, from: 0) }
            for number in 1...2 { model.thread { proc.receive(asNumber: number) } }
        }

        private func oneThatTakes(_ model: Model, _ flaw: Flaw?) {
            let proc = ModelReceivers(model, flaw)
            model.thread { proc.send(2, from: 0) }
            model.thread { proc.receive(asNumber: 0) }
            model.thread { proc.takeIfThere() }
        }

        private func cancelling(_ model: Model, _ flaw: Flaw?) {
            let proc = ModelReceivers(model, flaw)
            model.thread { proc.send(1, from: 0) }
            model.thread { while proc.receive(asNumber: 0) {} }
            model.thread { proc.cancelFirstTask() }
        }

        private func cancellingAChild(_ model: Model, _ flaw: Flaw?) {
            let proc = ModelReceivers(model, flaw)
            model.thread { proc.send(1, from: 0) }
            model.thread { while proc.receive(asNumber: 1) {} }
            model.thread { proc.cancelChild(1) }
        }

        private func ending(_ model: Model, _ flaw: Flaw?) {
            let proc = ModelReceivers(model, flaw)
            model.thread { proc.send(2, from: 0) }
            model.thread { while proc.receive(asNumber: 0) {} }
            model.thread { proc.end() }
        }
    }
}

/// The lines of `LightProc` that receive, over the real mailbox and the real state.
private final class ModelReceivers {
    /// A task that waits; the word is its continuation: 0 until it is resumed, then 1 for nil, or the node.
    private final class Waiter {
        let number: Int
        let answer = Atomic<UInt>(0)
        init(_ number: Int) { self.number = number }
    }

    private let model: Model
    private let flaw: ModelTests.Receivers.Flaw?
    private let mailbox = Mailbox(isBusy: false)
    private let state: AtomicWord
    /// The lock of the side, and what it guards.
    private let lock = Atomic<UInt>(0)
    private let content = PlainCell()
    private var waiters: [Waiter] = []
    private var cancelledWaiters: Set<Int> = []
    /// A bit for each task that was cancelled.
    private let cancelled = Atomic<UInt>(0)

    // What the checker observes; no part of the protocol.
    private var sent: [UInt: (sender: Int, number: Int)] = [:]
    private var taken: [UInt] = []
    private var received: [UInt] = []

    init(_ model: Model, _ flaw: ModelTests.Receivers.Flaw?) {
        self.model = model
        self.flaw = flaw
        var first = ProcState()
        _ = first.start()
        state = AtomicWord(first.rawValue)
        model.finally { self.verdict() }
    }

    private var isActive: Bool { ProcState(rawValue: state.load(ordering: .acquiring)).phase == .active }

    private func withLock<Result>(_ body: () -> Result) -> Result {
        while !lock.compareExchange(
            expected: 0,
            desired: 1,
            successOrdering: .acquiring,
            failureOrdering: .relaxed
        ).exchanged {
            if !model.wait(until: { self.lock.settled == 0 }) { break }
        }
        content.write(content.read() + 1)
        defer { lock.exchange(0, ordering: .releasing) }
        return body()
    }

    private func resume(_ waiter: Waiter?, _ node: MessageNode?) {
        waiter?.answer.exchange(node?.bits ?? 1, ordering: .releasing)
    }

    // MARK: Senders

    func send(_ count: Int, from sender: Int) {
        for _ in 0..<count {
            let node = model.makeNode()
            sent[node.bits] = (sender, sent.count)
            switch mailbox.push(node) {
            case .schedule: wakeReceiver()
            case .queued: break
            case .closed: model.fail("nobody closes it")
            }
        }
    }

    /// As in `LightProc`.
    private func wakeReceiver() {
        while true {
            let (served, hasMore) = withLock { () -> ((Waiter, MessageNode)?, Bool) in
                while !waiters.isEmpty {
                    if let node = takeForReceiver() { return ((waiters.removeFirst(), node), !waiters.isEmpty) }
                    if !isActive { return (nil, false) }
                    if flaw == .wakesWithoutSettling { return (nil, false) }
                    if mailbox.settle() || mailbox.isIdle || mailbox.isClosed { return (nil, false) }
                }
                return (nil, false)
            }
            guard let (waiter, node) = served else { return }
            resume(waiter, node)
            if !hasMore || flaw == .wakesOne { return }
        }
    }

    private func takeForReceiver() -> MessageNode? {
        guard isActive, let node = mailbox.take() else { return nil }
        taken.append(node.bits)
        return node
    }

    // MARK: Receivers

    /// As `beginReceive`, `wait` and `receiveNodeInChild`; number 0 is the first task. Whether there was a message.
    @discardableResult
    func receive(asNumber number: Int) -> Bool {
        if isCancelled(number) { return false }
        if !mailbox.isEmpty, let node = withLock({ takeForReceiver() }) {
            received.append(node.bits)
            return true
        }
        let waiter = Waiter(number)
        let answer: MessageNode?? = withLock {
            if number == 0, isCancelled(0) { return .some(nil) }
            if cancelledWaiters.remove(number) != nil { return .some(nil) }
            while true {
                if let node = takeForReceiver() { return .some(node) }
                if flaw != .waitsAfterTheEnd, !isActive { return .some(nil) }
                if flaw == .waitsWithoutSettling || mailbox.settle() || mailbox.isIdle { break }
                if mailbox.isClosed { return .some(nil) }
            }
            waiters.append(waiter)
            return .none
        }
        if let answer { resume(waiter, answer) }
        if waiter.answer.load(ordering: .acquiring) == 0, !model.wait(until: { waiter.answer.settled != 0 }) {
            model.fail("receiver \(number) waits for ever")
            return false
        }
        guard let node = MessageNode(bits: waiter.answer.load(ordering: .acquiring)) else { return false }
        received.append(node.bits)
        return true
    }

    /// Takes a message without waiting.
    func takeIfThere() {
        if mailbox.isEmpty { return }
        if let node = withLock({ takeForReceiver() }) { received.append(node.bits) }
    }

    // MARK: Who ends it

    private func isCancelled(_ number: Int) -> Bool { cancelled.load(ordering: .acquiring) >> UInt(number) & 1 != 0 }

    private func cancel(_ number: Int) { cancelled.bitwiseOr(1 << UInt(number), ordering: .acquiringAndReleasing) }

    private func removeWaiter(_ number: Int) -> Waiter? {
        waiters.firstIndex { $0.number == number }.map { waiters.remove(at: $0) }
    }

    /// As `cancelTask`.
    func cancelFirstTask() {
        if flaw != .cancelsAfterTheLook { cancel(0) }
        resume(withLock { removeWaiter(0) }, nil)
        if flaw == .cancelsAfterTheLook { cancel(0) }
    }

    /// As the cancellation handler in `receiveNodeInChild`.
    func cancelChild(_ number: Int) {
        cancel(number)
        let waiter = withLock { () -> Waiter? in
            if let waiter = removeWaiter(number) { return waiter }
            if flaw != .forgetsWhoIsCancelled { cancelledWaiters.insert(number) }
            return nil
        }
        resume(waiter, nil)
    }

    /// As `decideEnd` and `takeLeave`, of an incarnation without other jobs.
    func end() {
        let ending = state.update { model.step(&$0) { $0.end(1) } }
        if ending != .sealed { model.fail("the end was decided elsewhere") }
        let left = withLock { () -> [Waiter] in
            defer { waiters = [] }
            return waiters
        }
        for waiter in left { resume(waiter, nil) }
    }

    // MARK: At the end

    private func verdict() -> String? {
        if !waiters.isEmpty { return "somebody waits, and nobody will come" }
        var all = taken
        // What is left is the next incarnation's, or the next receiver's.
        while let node = mailbox.take() { all.append(node.bits) }
        if all.count != sent.count || Set(all).count != all.count { return "a message is lost, or was taken twice" }
        if received.sorted() != taken.sorted() { return "a message was taken and not received" }
        for sender in 0..<2 {
            let numbers = all.compactMap { sent[$0] }.filter { $0.sender == sender }.map(\.number)
            if numbers != numbers.sorted() { return "messages of a sender are out of order" }
        }
        return nil
    }
}
