// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import LightProc
import Testing

@testable import Supervision

extension QueueEntry {
    /// The messages of these tests are numbers.
    fileprivate var int: Int { message as? Int ?? -1 }
}

/// The pure parts of managed mailboxes: ring, queue, controller, the log of dead letters.
@Suite struct QueueStateTests {
    private static func entry(_ message: Int, sent: Duration = .zero, level: Int = 0) -> QueueEntry {
        QueueEntry(message: message, receipt: nil, sent: sent, level: level, sender: nil)
    }

    @Test(arguments: RandomTest.seeds("a ring is a queue", count: 50))
    func aRingIsAQueue(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        var ring = Ring<Int>()
        var model: [Int] = []
        for step in 0..<2_000 {
            switch random.next(below: 10) {
            case 0..<4:
                ring.append(step)
                model.append(step)
            case 4:
                ring.prepend(step)
                model.insert(step, at: 0)
            case 5..<8:
                let expected = model.isEmpty ? nil : model.removeFirst()
                #expect(ring.popFirst() == expected)
            case 8:
                let wanted = random.next(below: 5)
                let index = model.firstIndex { $0 % 5 == wanted }
                let removed = ring.removeFirst { $0 % 5 == wanted }
                let expected = index.map { model.remove(at: $0) }
                #expect(removed == expected)
            default:
                if random.next(below: 20) == 0 {
                    #expect(ring.removeAll() == model)
                    model = []
                }
            }
            #expect(ring.count == model.count && ring.first == model.first)
        }
    }

    @Test func aFullQueueDoesAsItsPolicySays() {
        func fill(_ overflow: MailboxPolicy.Overflow) -> (QueueState, QueueState.Offer) {
            var state = QueueState(.bounded(2, overflow))
            for n in 0..<2 { _ = state.offer(Self.entry(n)) }
            let offer = state.offer(Self.entry(2))
            return (state, offer)
        }
        for overflow in [MailboxPolicy.Overflow.suspend, .fail] {
            let (state, offer) = fill(overflow)
            guard case .full(let entry) = offer, entry.int == 2 else {
                Issue.record("\(offer)")
                return
            }
            #expect(state.count == 2)
        }
        let (newest, offer) = fill(.dropNewest)
        guard case .dropped(let entry) = offer, entry.int == 2 else {
            Issue.record("\(offer)")
            return
        }
        #expect(newest.count == 2)
        var (oldest, second) = fill(.dropOldest)
        guard case .takenFor(let gone) = second, gone.int == 0 else {
            Issue.record("\(second)")
            return
        }
        #expect(oldest.tokensToRing() == 2)
        #expect(oldest.take(at: .zero).entry?.int == 1)
        #expect(oldest.take(at: .zero).entry?.int == 2)
    }

    @Test func aFullQueueDropsOfTheLeastUrgentLevelThatIsNotMoreUrgent() {
        let policy = MailboxPolicy.bounded(2, .dropOldest).prioritized(levels: 3) { (n: Int) in n }
        var state = QueueState(policy)
        _ = state.offer(Self.entry(10, level: 1))
        _ = state.offer(Self.entry(11, level: 1))
        guard case .dropped(let low) = state.offer(Self.entry(20, level: 2)) else {
            Issue.record("taken")
            return
        }
        #expect(low.int == 20)
        guard case .takenFor(let gone) = state.offer(Self.entry(0, level: 0)) else {
            Issue.record("not taken")
            return
        }
        #expect(gone.int == 10)
        _ = state.tokensToRing()
        #expect(state.take(at: .zero).entry?.int == 0)
    }

    @Test func messagesThatWaitedTooLongAreNotHandedOut() {
        var state = QueueState(.unbounded.expiring(after: .seconds(1)))
        for n in 0..<3 { _ = state.offer(Self.entry(n, sent: .milliseconds(n * 600))) }
        _ = state.tokensToRing()
        let take = state.take(at: .milliseconds(1_601))
        #expect(take.entry?.int == 2)
        #expect(take.dropped.map(\.entry.int) == [0, 1] && take.dropped.allSatisfy { $0.cause == .expired })
    }

    @Test func waitingSendersGetRoomInTheirOrder() {
        var state = QueueState(.bounded(1))
        _ = state.offer(Self.entry(0))
        let numbers = (1...3).map { state.wait(with: Self.entry($0)) }
        #expect(state.withdraw(numbers[1])?.int == 2)
        #expect(state.withdraw(numbers[1]) == nil)
        #expect(state.tokensToRing() == 1)
        var taken: [Int] = []
        var admitted: [Int] = []
        while true {
            let take = state.take(at: .zero)
            guard let entry = take.entry else { break }
            taken.append(entry.int)
            admitted += take.admitted
            _ = state.tokensToRing()
        }
        #expect(taken == [0, 1, 3] && admitted == [numbers[0], numbers[2]])
    }

    /// Conservation: what was offered is handed out once, or reported as dropped, refused or left. Tokens suffice.
    @Test(arguments: RandomTest.seeds("a queue keeps count", count: 200))
    func aQueueKeepsCount(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        let overflow = MailboxPolicy.Overflow.allCases[random.next(below: 4)]
        var policy: MailboxPolicy =
            random.next(below: 4) == 0 ? .unbounded : .bounded(1 + random.next(below: 8), overflow)
        if random.next(below: 2) == 0 { policy = policy.expiring(after: .milliseconds(1 + random.next(below: 50))) }
        if random.next(below: 2) == 0 { policy = policy.shedding(above: .milliseconds(5), for: .milliseconds(20)) }
        if random.next(below: 2) == 0 { policy = policy.prioritized(levels: 3) { (n: Int) in n } }
        var state = QueueState(policy)
        var now = Duration.zero
        var fates: [Int: Int] = [:]
        var (next, tokens) = (0, 0)
        var waiting: [Int: Int] = [:]
        var lastTaken = Array(repeating: -1, count: 3)
        func decide(_ message: Int) { fates[message, default: 0] += 1 }
        for _ in 0..<500 {
            now += .microseconds(random.next(below: 10_000))
            switch random.next(below: 5) {
            case 0..<2:
                let entry = Self.entry(next, sent: now, level: policy.levels == 1 ? 0 : next % 3)
                next += 1
                switch state.offer(entry) {
                case .taken: break
                case .takenFor(let gone), .dropped(let gone): decide(gone.int)
                case .full(let entry):
                    if overflow == .suspend {
                        waiting[state.wait(with: entry)] = entry.int
                    } else {
                        decide(entry.int)
                    }
                case .closed(let entry): decide(entry.int)
                }
                tokens += state.tokensToRing()
            case 2 where !waiting.isEmpty:
                let (number, message) = waiting.first!
                #expect(state.withdraw(number)?.int == message)
                waiting[number] = nil
                decide(message)
            default:
                guard tokens > 0 else { continue }
                tokens -= 1
                let take = state.take(at: now)
                if let entry = take.entry {
                    decide(entry.int)
                    #expect(entry.int > lastTaken[entry.level], "out of order within a level")
                    lastTaken[entry.level] = entry.int
                }
                for each in take.dropped { decide(each.entry.int) }
                for number in take.admitted { waiting[number] = nil }
                tokens += state.tokensToRing()
            }
            #expect(tokens >= state.count, "a message without a token would never be handled")
            if let capacity = policy.capacity { #expect(state.count <= capacity) }
        }
        let rest = state.close()
        for entry in rest.left { decide(entry.int) }
        for (_, entry) in rest.waiting { decide(entry.int) }
        #expect(fates.count == next && fates.values.allSatisfy { $0 == 1 })
        guard case .closed = state.offer(Self.entry(next)) else {
            Issue.record("taken by a closed queue")
            return
        }
    }

    // MARK: Shedding

    @Test func aBurstIsNotShed() {
        var controller = QueueDelayController(target: .milliseconds(5), interval: .milliseconds(100))
        controller.startsToFill(at: .seconds(9))
        for n in 0...100 {
            #expect(
                controller.drops(after: .milliseconds(50), isLast: false, at: .seconds(9) + .milliseconds(n)) == false
            )
        }
        // It was empty once.
        #expect(controller.drops(after: .milliseconds(50), isLast: true, at: .milliseconds(9_101)) == false)
        #expect(controller.drops(after: .milliseconds(50), isLast: false, at: .milliseconds(9_201)) == false)
    }

    @Test func ofAStandingQueueWhatWaitedTooLongIsShed() {
        var controller = QueueDelayController(target: .milliseconds(5), interval: .milliseconds(100))
        for n in 101..<400 {
            #expect(controller.drops(after: .milliseconds(6), isLast: false, at: .milliseconds(n)) == true)
            #expect(controller.drops(after: .milliseconds(5), isLast: false, at: .milliseconds(n)) == false)
        }
    }

    /// However fast messages come, what waits is what came within the target, once the queue stands.
    @Test func aFloodDoesNotMakeAStandingQueueGrow() {
        var state = QueueState(.unbounded.shedding(above: .milliseconds(5), for: .milliseconds(20)))
        var longest = 0
        for millisecond in 0..<1_000 {
            let now = Duration.milliseconds(millisecond)
            for n in 0..<100 { _ = state.offer(Self.entry(n, sent: now)) }
            _ = state.tokensToRing()
            _ = state.take(at: now)
            if millisecond > 20 { longest = max(longest, state.count) }
        }
        #expect(longest <= 700)
    }

    @Test func theLastMessageIsNeverShed() {
        var controller = QueueDelayController(target: .milliseconds(5), interval: .milliseconds(100))
        for n in 0..<1_000 {
            #expect(controller.drops(after: .seconds(1), isLast: true, at: .milliseconds(n)) == false)
        }
    }

    // MARK: Dead letters

    @Test func aFloodOfDeadLettersIsNotAFloodInTheLog() {
        var log = DeadLetterLog()
        var told = 0
        for n in 0..<1_000 where log.letter(at: .milliseconds(n)) != .beSilent { told += 1 }
        #expect(told == DeadLetterLog.burst)
        #expect(log.letter(at: .seconds(11)) == .tell(silentBefore: 990))
        #expect(log.letter(at: .seconds(11)) == .tell(silentBefore: 0))
    }
}

extension SplitMix64 {
    mutating func next(below limit: Int) -> Int { Int.random(in: 0..<limit, using: &self) }
}
