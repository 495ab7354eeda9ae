// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import Synchronization
import Testing

@testable import LightProc

/// The queue of a process: everything pushed is taken once, in the order of its sender.
@Suite struct MailboxTests {
    private struct Letter: Equatable, Sendable {
        let sender: Int
        let number: Int
    }

    /// A mailbox in a place that threads share.
    private final class Shared: @unchecked Sendable {
        // Sendable: the mailbox is atomic.
        private let mailbox: Mailbox
        init(isBusy: Bool) { mailbox = Mailbox(isBusy: isBusy) }

        // `#expect` takes its operands apart, which a mailbox, not being copyable, does not suffer.
        var isEmpty: Bool { mailbox.isEmpty }
        var isIdle: Bool { mailbox.isIdle }
        var isClosed: Bool { mailbox.isClosed }
        var isBehind: Bool { mailbox.isBehind }
        func push(_ node: MessageNode) -> Mailbox.Push { mailbox.push(node) }
        func takeNode() -> MessageNode? { mailbox.take() }
        func settle() -> Bool { mailbox.settle() }
        func claim() -> Bool { mailbox.claim() }
        func close() -> UInt { mailbox.close() }

        func send(_ letter: Letter) -> Mailbox.Push { mailbox.push(MessageNode.make(letter)) }
        func take() -> Letter? { mailbox.take()?.open(as: Letter.self).message }
    }

    /// Opens a chain of nodes.
    private func open(_ chain: UInt) -> [Letter] {
        var letters: [Letter] = []
        var rest = MessageNode(bits: chain)
        while let node = rest {
            rest = MessageNode(bits: node.next)
            letters.append(node.open(as: Letter.self).message)
        }
        return letters
    }

    /// The letters of each sender came complete and in order.
    private func expectInOrder(_ letters: [Letter], senders: Int, each: Int) {
        var next = [Int](repeating: 0, count: senders)
        for letter in letters {
            if letter.number != next[letter.sender] {
                Issue.record("sender \(letter.sender): \(letter.number) where \(next[letter.sender]) was due")
                return
            }
            next[letter.sender] += 1
        }
        #expect(next == [Int](repeating: each, count: senders))
    }

    // MARK: Alone

    @Test func smoke() {
        let shared = Shared(isBusy: true)
        #expect(shared.isEmpty)
        #expect(shared.take() == nil)
        for number in 0..<3 { #expect(shared.send(Letter(sender: 0, number: number)) == .queued) }
        #expect(!shared.isEmpty)
        #expect(shared.take()?.number == 0)
        // Comes in while older ones wait: behind them.
        #expect(shared.send(Letter(sender: 0, number: 3)) == .queued)
        #expect((1...3).map { _ in shared.take()?.number } == [1, 2, 3])
        #expect(shared.take() == nil)
    }

    @Test func onlyTheFirstPushToAnIdleMailboxSchedules() {
        let shared = Shared(isBusy: false)
        #expect(shared.isIdle)
        #expect(shared.send(Letter(sender: 0, number: 0)) == .schedule)
        #expect(shared.send(Letter(sender: 0, number: 1)) == .queued)
        #expect(!shared.isIdle)
        #expect(open(shared.close()).count == 2)
    }

    @Test func whoHasMoreThanATurnInHandIsBehind() {
        let shared = Shared(isBusy: true)
        let batch = Int(Mailbox.longBatch)
        for number in 0..<(batch + 100) { _ = shared.send(Letter(sender: 0, number: number)) }
        #expect(!shared.isBehind, "nobody has looked yet")
        var numbers: [Int?] = []
        for left in (0..<(batch + 100)).reversed() {
            numbers.append(shared.take()?.number)
            if shared.isBehind != (left > batch) {
                Issue.record("\(left) left")
                break
            }
        }
        #expect(numbers == Array(0..<(batch + 100)))
        #expect(shared.settle())
        // Closed in the middle: marks are no part of the chain.
        let other = Shared(isBusy: true)
        for number in 0..<(2 * batch) { _ = other.send(Letter(sender: 0, number: number)) }
        #expect(other.take()?.number == 0 && other.isBehind)
        for number in 0..<3 { _ = other.send(Letter(sender: 1, number: number)) }
        let left = open(other.close())
        #expect(left.map(\.number) == Array(1..<(2 * batch)) + [0, 1, 2])
    }

    @Test func settleGoesIdleOnlyWhenNothingWaits() {
        let shared = Shared(isBusy: true)
        _ = shared.send(Letter(sender: 0, number: 0))
        _ = shared.send(Letter(sender: 0, number: 1))
        #expect(!shared.settle(), "two in the inbox")
        _ = shared.take()
        #expect(!shared.settle(), "one was taken from the inbox but not handed out")
        _ = shared.take()
        #expect(shared.settle())
        #expect(shared.isIdle)
        #expect(!shared.settle(), "idle already")
        #expect(shared.send(Letter(sender: 0, number: 2)) == .schedule)
        #expect(shared.take()?.number == 2)
    }

    @Test func claimMakesAnIdleMailboxBusyOnce() {
        let shared = Shared(isBusy: false)
        #expect(shared.claim())
        #expect(!shared.claim())
        #expect(shared.send(Letter(sender: 0, number: 0)) == .queued, "who claimed comes to it by itself")
        #expect(!shared.claim())
        #expect(shared.take()?.number == 0)
        #expect(shared.settle())
        #expect(shared.claim())
    }

    @Test func closeReturnsWhatWasLeftOldestFirst() {
        let shared = Shared(isBusy: true)
        for number in 0..<3 { _ = shared.send(Letter(sender: 0, number: number)) }
        _ = shared.take()
        for number in 3..<5 { _ = shared.send(Letter(sender: 0, number: number)) }
        #expect(open(shared.close()).map(\.number) == [1, 2, 3, 4])
    }

    @Test func aClosedMailboxRefuses() {
        let shared = Shared(isBusy: false)
        #expect(shared.close() == 0)
        #expect(shared.isClosed)
        let node = MessageNode.make(Letter(sender: 0, number: 0))
        #expect(shared.push(node) == .closed)
        node.refuse(as: Letter.self)
        #expect(shared.take() == nil)
        #expect(!shared.settle())
        #expect(!shared.claim())
        #expect(shared.isClosed)
        #expect(shared.close() == 0, "closing again finds nothing")
    }

    /// A list of batches as the reference: what is pushed comes out in order, whatever the other calls in between.
    @Test func randomSequencesAgreeWithTheModel() {
        print("SEED=\(RandomCases.seed) SCALE=\(RandomCases.scale)")
        var random = SeededGenerator(state: RandomCases.seed)
        for _ in 0..<200 * RandomCases.scale {
            let shared = Shared(isBusy: true)
            var model: [Int] = []
            var isIdle = false
            var number = 0
            for _ in 0..<100 {
                switch random.next() % 5 {
                case 0, 1:
                    let push = shared.send(Letter(sender: 0, number: number))
                    #expect(push == (isIdle ? .schedule : .queued), "SEED=\(RandomCases.seed)")
                    model.append(number)
                    number += 1
                    isIdle = false
                case 2 where !isIdle:
                    let expected = model.isEmpty ? nil : model.removeFirst()
                    #expect(shared.take()?.number == expected, "SEED=\(RandomCases.seed)")
                case 3 where !isIdle:
                    isIdle = model.isEmpty
                    #expect(shared.settle() == isIdle)
                case 4:
                    #expect(shared.claim() == isIdle)
                    isIdle = false
                default:
                    break
                }
                #expect(shared.isEmpty == model.isEmpty)
                #expect(shared.isIdle == isIdle)
            }
            #expect(open(shared.close()).map(\.number) == model)
        }
    }

    // MARK: Threads

    @Test func spsc() {
        let count = 20_000 * RandomCases.scale
        let shared = Shared(isBusy: true)
        let received = Locked<[Letter]>([])
        onThreads(2) { index in
            if index == 0 {
                for number in 0..<count { _ = shared.send(Letter(sender: 0, number: number)) }
            } else {
                var letters: [Letter] = []
                // Ends: the sender sends all of them.
                while letters.count < count {
                    if let letter = shared.take() { letters.append(letter) } else { sched_yield() }
                }
                let all = letters
                received.withLock { $0 = all }
            }
        }
        expectInOrder(received.withLock { $0 }, senders: 1, each: count)
        #expect(shared.isEmpty)
    }

    /// Many senders, one consumer that never goes idle.
    @Test func stampede() {
        let senders = 8
        let each = 2_500 * RandomCases.scale
        let shared = Shared(isBusy: true)
        let received = Locked<[Letter]>([])
        onThreads(senders + 1) { index in
            if index < senders {
                for number in 0..<each { _ = shared.send(Letter(sender: index, number: number)) }
            } else {
                var letters: [Letter] = []
                // Ends: the senders send all of them.
                while letters.count < senders * each {
                    if let letter = shared.take() { letters.append(letter) } else { sched_yield() }
                }
                let all = letters
                received.withLock { $0 = all }
            }
        }
        expectInOrder(received.withLock { $0 }, senders: senders, each: each)
        #expect(shared.settle())
    }

    /// The consumer comes and goes: who finds the mailbox idle is the consumer until it settles. At most one at a time,
    /// and no message stays behind.
    @Test func stress() {
        let senders = 6
        let each = 2_000 * RandomCases.scale
        let shared = Shared(isBusy: false)
        let received = Locked<[Letter]>([])
        let consumers = Atomic<Int>(0)
        let overlaps = Atomic<Int>(0)
        let claims = Atomic<Int>(0)
        @Sendable func consume() {
            // ordering: sequentiallyConsistent: it is what the test is about.
            if consumers.add(1, ordering: .sequentiallyConsistent).oldValue != 0 {
                overlaps.add(1, ordering: .sequentiallyConsistent)
            }
            var letters: [Letter] = []
            while true {
                while let letter = shared.take() { letters.append(letter) }
                // Before `settle`: from then on another may be the consumer.
                let batch = letters
                letters = []
                received.withLock { $0 += batch }
                consumers.subtract(1, ordering: .sequentiallyConsistent)
                // Ends: the senders stop.
                if shared.settle() { return }
                consumers.add(1, ordering: .sequentiallyConsistent)
            }
        }
        let work: @Sendable (Int) -> Void = { index in
            for number in 0..<each {
                if shared.send(Letter(sender: index, number: number)) == .schedule { consume() }
                if number % 64 == 0, shared.claim() {
                    claims.add(1, ordering: .relaxed)
                    consume()
                }
            }
        }
        onThreads(senders, work)
        #expect(overlaps.load(ordering: .sequentiallyConsistent) == 0)
        #expect(shared.isIdle)
        expectInOrder(received.withLock { $0 }, senders: senders, each: each)
    }

    /// However fast others send, a message waits only for those that came before it.
    @Test func noStarvation() {
        let shared = Shared(isBusy: true)
        var flood = 0
        func pour(_ count: Int) {
            for _ in 0..<count {
                _ = shared.send(Letter(sender: 0, number: flood))
                flood += 1
            }
        }
        pour(10)
        _ = shared.send(Letter(sender: 1, number: 0))
        for taken in 0... {
            pour(3)
            guard let letter = shared.take() else {
                Issue.record("a message was lost")
                return
            }
            if letter.sender == 1 {
                #expect(taken == 10)
                break
            }
        }
        #expect(open(shared.close()).count == flood - 10)
    }

    /// Messages that are pushed while the mailbox closes are either left or refused; each is destroyed once.
    @Test func destructors() {
        for round in 0..<50 * RandomCases.scale {
            let tally = Tracked.Tally()
            let shared = Shared(isBusy: true)
            let accepted = Atomic<Int>(0)
            let left = Atomic<Int>(0)
            onThreads(3) { index in
                if index < 2 {
                    for number in 0..<40 {
                        let node = MessageNode.make(Tracked(number, in: tally))
                        if shared.push(node) == .closed {
                            node.refuse(as: Tracked.self)
                        } else {
                            accepted.add(1, ordering: .relaxed)
                        }
                    }
                } else {
                    for _ in 0..<round {
                        if let node = shared.takeNode() {
                            _ = node.open(as: Tracked.self)
                            left.add(1, ordering: .relaxed)
                        }
                    }
                    var rest = MessageNode(bits: shared.close())
                    while let node = rest {
                        rest = MessageNode(bits: node.next)
                        _ = node.open(as: Tracked.self)
                        left.add(1, ordering: .relaxed)
                    }
                }
            }
            #expect(accepted.load(ordering: .relaxed) == left.load(ordering: .relaxed))
            #expect(tally.made.load(ordering: .relaxed) == 80)
            #expect(tally.live == 0)
        }
    }
}
