// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Testing

@testable import Executor
@testable import LightProc

/// The wheel in virtual time: deadlines come out in order, never early, whatever went in and was taken out again.
@Suite struct TimerWheelTests {
    private static let tick: UInt64 = 1 << 16

    /// All that is due, in the order it is handed out.
    private func due(_ wheel: inout TimerWheel<Int>, at now: UInt64) -> [Int] {
        var payloads: [Int] = []
        while let next = wheel.popDue(at: now) {
            #expect(next.deadline <= now)
            payloads.append(next.payload)
        }
        return payloads
    }

    @Test func equalDeadlinesComeOutInTheOrderTheyWentIn() {
        var wheel = TimerWheel<Int>()
        for number in 0..<20 { _ = wheel.insert(number, at: UInt64(number % 2) * 1_000_000_000) }
        let order = due(&wheel, at: 5_000_000_000)
        #expect(order == Array(stride(from: 0, to: 20, by: 2)) + Array(stride(from: 1, to: 20, by: 2)))
        #expect(wheel.count == 0)
        #expect(wheel.nextExpiry == nil)
    }

    /// Also where those that were set earlier have come down from a level above meanwhile.
    @Test(arguments: [1, 64, 4096, 262_144])
    func equalDeadlinesComeOutInTheOrderTheyWentInOverLevels(ticks: UInt64) {
        var wheel = TimerWheel<Int>()
        let deadline = ticks * Self.tick + 7
        for number in 0..<6 {
            _ = wheel.insert(number, at: deadline)
            // Each brings the wheel nearer.
            #expect(due(&wheel, at: deadline - deadline / UInt64(1 << (2 * number + 1)) - 1) == [])
        }
        #expect(due(&wheel, at: deadline) == [0, 1, 2, 3, 4, 5])
    }

    @Test func withinATickTheDeadlineCounts() {
        var wheel = TimerWheel<Int>()
        for (number, deadline) in [500, 100, 300, 100, 65_535, 0].enumerated() {
            _ = wheel.insert(number, at: UInt64(deadline))
        }
        #expect(due(&wheel, at: 99) == [5])
        #expect(wheel.nextExpiry == 100)
        #expect(due(&wheel, at: 299) == [1, 3])
        // The others of the tick wait in order; newcomers find their place among them.
        _ = wheel.insert(6, at: 400)
        _ = wheel.insert(7, at: 300)
        #expect(wheel.nextExpiry == 300)
        #expect(due(&wheel, at: 65_534) == [2, 7, 6, 0])
        #expect(due(&wheel, at: 65_535) == [4])
    }

    @Test(arguments: [
        0, 1, tick - 1, tick, tick + 1, 63 * tick, 64 * tick, 64 * tick - 1, 4095 * tick, 4096 * tick, 1 << 40,
        // A year, a hundred years, the end of time.
        31_536_000_000_000_000, 3_153_600_000_000_000_000, UInt64(Int64.max),
    ])
    func nothingIsDueBeforeItsTime(deadline: UInt64) {
        var wheel = TimerWheel<Int>()
        _ = wheel.insert(1, at: deadline)
        #expect(wheel.nextExpiry == deadline)
        if deadline > 0 {
            #expect(wheel.popDue(at: deadline / 2) == nil)
            #expect(wheel.popDue(at: deadline - 1) == nil)
            #expect(wheel.nextExpiry == deadline)
        }
        #expect(wheel.popDue(at: deadline)?.payload == 1)
        #expect(wheel.nextExpiry == nil)
        #expect(wheel.count == 0)
    }

    @Test func whatLiesBeyondTheEndOfTimeWaitsForIt() {
        var wheel = TimerWheel<Int>()
        let handle = wheel.insert(1, at: .max)
        #expect(wheel.nextExpiry == UInt64(Int64.max))
        #expect(wheel.cancel(handle) == 1)
    }

    @Test func timeMayJump() {
        var wheel = TimerWheel<Int>()
        let deadlines: [UInt64] = [1 << 50, 3, 1 << 30, 1 << 17, (1 << 30) + 1, 1 << 17]
        for (number, deadline) in deadlines.enumerated() { _ = wheel.insert(number, at: deadline) }
        #expect(due(&wheel, at: 1 << 45) == [1, 3, 5, 2, 4])
        // Back: what was due comes at once, the rest when it is due.
        #expect(due(&wheel, at: 5) == [])
        _ = wheel.insert(6, at: 5)
        _ = wheel.insert(7, at: 1 << 20)
        _ = wheel.insert(8, at: 4)
        #expect(wheel.nextExpiry == 4)
        #expect(due(&wheel, at: 5) == [8, 6])
        #expect(due(&wheel, at: 1 << 50) == [7, 0])
    }

    @Test func cancellingWhatIsGoneDoesNothing() {
        var wheel = TimerWheel<Int>()
        let handle = wheel.insert(1, at: 1000)
        #expect(wheel.cancel(handle) == 1)
        #expect(wheel.cancel(handle) == nil)
        // In the same place.
        let other = wheel.insert(2, at: 1000)
        #expect(wheel.cancel(handle) == nil)
        #expect(wheel.popDue(at: 1000)?.payload == 2)
        #expect(wheel.cancel(other) == nil)
        #expect(wheel.cancel(TimerHandle(bits: 77)) == nil)
    }

    /// While those of the same moment are handed out, as by the action of one that cancels another.
    @Test func oneThatIsDueCanStillBeCancelled() {
        var wheel = TimerWheel<Int>()
        let handles = (0..<6).map { wheel.insert($0, at: 1000) }
        #expect(wheel.popDue(at: 2000)?.payload == 0)
        #expect(wheel.cancel(handles[1]) == 1)
        #expect(wheel.cancel(handles[3]) == 3)
        #expect(wheel.cancel(handles[0]) == nil)
        #expect(wheel.count == 3)
        #expect(wheel.popDue(at: 2000)?.payload == 2)
        #expect(wheel.cancel(handles[4]) == 4)
        #expect(wheel.cancel(handles[5]) == 5)
        #expect(wheel.nextExpiry == nil)
        #expect(wheel.popDue(at: 2000) == nil)
        #expect(wheel.count == 0)
    }

    @Test func payloadsAreReleased() {
        final class Load {}
        weak var cancelled: Load?
        weak var fired: Load?
        weak var left: Load?
        do {
            var wheel = TimerWheel<Load>()
            let loads = (Load(), Load(), Load())
            (cancelled, fired, left) = loads
            let handle = wheel.insert(loads.0, at: 10)
            _ = wheel.insert(loads.1, at: 10)
            _ = wheel.insert(loads.2, at: 20)
            _ = wheel.cancel(handle)
            _ = wheel.popDue(at: 10)
            #expect(wheel.count == 1)
        }
        #expect(cancelled == nil)
        #expect(fired == nil)
        #expect(left == nil)
    }

    @Test func allCanBeRemoved() {
        var wheel = TimerWheel<Int>()
        for number in 0..<2000 { _ = wheel.insert(number, at: UInt64(number) << 30) }
        #expect(due(&wheel, at: 5 << 30) == [0, 1, 2, 3, 4, 5])
        _ = wheel.insert(2000, at: 0)
        #expect(wheel.removeAll().sorted() == Array(6...2000))
        #expect(wheel.count == 0)
        #expect(wheel.nextExpiry == nil)
        _ = wheel.insert(1, at: 0)
        #expect(due(&wheel, at: 5 << 30) == [1])
    }

    /// Looked at once a millisecond, and only when the wheel says that something may be due: over all levels each timer fires at the
    /// first look that is not before its deadline. Some are set on the way, some cancelled.
    @Test func noTimerIsEarlyNorAMillisecondLate() {
        print("SEED=\(RandomRun.seed) SCALE=\(RandomRun.scale)")
        var random = SeededGenerator(seed: RandomRun.seed)
        let millisecond: UInt64 = 1_000_000
        for _ in 0..<20 * RandomRun.scale {
            var wheel = TimerWheel<Int>()
            var pending: [Int: (handle: TimerHandle, level: UInt64)] = [:]
            var now = random.next() >> (2 + random.next() % 60)
            var (number, fired) = (0, [UInt64](repeating: 0, count: 8))
            func set() {
                let level = random.next() % 8
                // The last level reaches to the end of time after half of its slots.
                let span = (Self.tick << (6 * level)) &* (level == 7 ? 16 : 64)
                let deadline = min(now + random.next() % span, UInt64(Int64.max) - millisecond)
                pending[number] = (wheel.insert(number, at: deadline), level)
                number += 1
            }
            for _ in 0..<200 { set() }
            // Ends: 400 timers are set altogether, and each is fired or cancelled.
            while let next = wheel.nextExpiry {
                now = max(now, (next + millisecond - 1) / millisecond * millisecond)
                while let (payload, deadline) = wheel.popDue(at: now) {
                    #expect(deadline <= now && now - deadline < millisecond, "SEED=\(RandomRun.seed)")
                    guard let timer = pending.removeValue(forKey: payload) else {
                        Issue.record("SEED=\(RandomRun.seed): \(payload) was fired twice, or was cancelled")
                        continue
                    }
                    fired[Int(timer.level)] += 1
                }
                if number < 400 { set() }
                if random.next() % 16 == 0, let (number, timer) = pending.randomElement(using: &random) {
                    #expect(wheel.cancel(timer.handle) == number, "SEED=\(RandomRun.seed)")
                    pending[number] = nil
                }
            }
            #expect(pending.isEmpty, "SEED=\(RandomRun.seed)")
            #expect(!fired.contains(0), "SEED=\(RandomRun.seed): \(fired) by level")
        }
    }

    /// A million, over a minute; a third is cancelled. Each of the others comes out once, in order and when it is due.
    @Test func aMillionAreInFlight() {
        print("SEED=\(RandomRun.seed)")
        var random = SeededGenerator(seed: RandomRun.seed)
        // Sanitizers take ten times as long.
        let count = Sanitizer.isAny ? 100_000 : 1_000_000
        let (second, seconds) = (1_000_000_000 as UInt64, 60 as UInt64)
        let deadlines = (0..<count).map { _ in random.next() % (seconds * second) }
        var wheel = TimerWheel<Int>()
        let handles = deadlines.indices.map { wheel.insert($0, at: deadlines[$0]) }
        #expect(wheel.count == count)
        let cancelled = stride(from: 0, to: count, by: 3)
        let taken = cancelled.count { wheel.cancel(handles[$0]) == $0 }
        #expect(taken == (count + 2) / 3)
        #expect(wheel.count == count - taken)
        var (isOut, fired, wrong) = ([Bool](repeating: false, count: count), 0, 0)
        for number in cancelled { isOut[number] = true }
        for now in (1...seconds).map({ $0 * second }) {
            var last = now - second
            while let next = wheel.popDue(at: now) {
                if isOut[next.payload] || next.deadline != deadlines[next.payload] { wrong += 1 }
                if next.deadline < last || next.deadline > now { wrong += 1 }
                isOut[next.payload] = true
                last = next.deadline
                fired += 1
            }
        }
        #expect(wrong == 0 && fired == count - taken && wheel.count == 0, "SEED=\(RandomRun.seed)")
        #expect(wheel.nextExpiry == nil)
    }

    /// The reference: a list that is searched.
    @Test(arguments: [8, 20, 30, 45, 62])
    func randomSequencesAgreeWithTheModel(bits: UInt64) {
        print("SEED=\(RandomRun.seed) SCALE=\(RandomRun.scale)")
        var random = SeededGenerator(seed: RandomRun.seed ^ bits)
        for _ in 0..<40 * RandomRun.scale {
            var run = Run(bits: bits)
            for number in 0..<300 { run.step(number, &random) }
            run.finish()
        }
    }

    private struct Run: ~Copyable {
        let bits: UInt64
        var wheel = TimerWheel<Int>()
        var model: [(deadline: UInt64, number: Int, handle: TimerHandle)] = []
        var gone: [TimerHandle] = []
        var now: UInt64 = 0

        init(bits: UInt64) { self.bits = bits }

        mutating func step(_ number: Int, _ random: inout SeededGenerator) {
            switch random.next() % 10 {
            case 0...4:
                // Mostly ahead, of every order of magnitude; often equal to one that is there.
                var deadline = now &+ random.next() >> (64 - 1 - random.next() % bits)
                if random.next() % 4 == 0, let other = model.randomElement(using: &random) { deadline = other.deadline }
                if random.next() % 16 == 0 { deadline = random.next() % (now + 1) }
                deadline = min(deadline, UInt64(Int64.max))
                if random.next() % 2 == 0 { wheel.advance(to: now) }
                model.append((deadline, number, wheel.insert(number, at: deadline)))
            case 5, 6: handOut(at: now + random.next() >> (64 - random.next() % bits), atMost: Int(random.next() % 4))
            case 7:
                // To the very moment of the next.
                guard let next = model.map(\.deadline).min(), next > now else { return }
                handOut(at: next - 1, atMost: .max)
                handOut(at: next, atMost: Int(random.next() % 3))
            case 8:
                guard let place = model.indices.randomElement(using: &random) else { return }
                let entry = model.remove(at: place)
                #expect(wheel.cancel(entry.handle) == entry.number, "SEED=\(RandomRun.seed)")
                gone.append(entry.handle)
            default:
                guard let handle = gone.randomElement(using: &random) else { return }
                #expect(wheel.cancel(handle) == nil, "SEED=\(RandomRun.seed)")
            }
            check()
        }

        private mutating func handOut(at time: UInt64, atMost limit: Int) {
            now = max(now, min(time, UInt64(Int64.max)))
            var left = limit
            while left > 0 {
                left -= 1
                let first = model.indices.min {
                    (model[$0].deadline, model[$0].number) < (model[$1].deadline, model[$1].number)
                }
                let next = wheel.popDue(at: now)
                guard let first, model[first].deadline <= now else {
                    #expect(next == nil, "SEED=\(RandomRun.seed)")
                    return
                }
                let entry = model.remove(at: first)
                #expect(next?.payload == entry.number, "SEED=\(RandomRun.seed)")
                #expect(next?.deadline == entry.deadline)
                gone.append(entry.handle)
            }
        }

        private func check() {
            #expect(wheel.count == model.count)
            guard let first = model.map(\.deadline).min() else {
                #expect(wheel.nextExpiry == nil, "SEED=\(RandomRun.seed)")
                return
            }
            // Perhaps early, never late.
            #expect(wheel.nextExpiry ?? .max <= first, "SEED=\(RandomRun.seed)")
        }

        mutating func finish() {
            handOut(at: .max, atMost: .max)
            #expect(model.isEmpty)
            check()
        }
    }
}
