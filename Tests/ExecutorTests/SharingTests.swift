// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Synchronization
import TestSupport
import Testing

@testable import Executor
@testable import LightProc

/// When work is shared between workers, and who waits because others cannot keep up.
@Suite(.serialized) struct SharingTests {
    private func pool(workers: Int) throws -> WorkerPool {
        try WorkerPool(
            placement: Placement(
                Topology(synthetic: "core:\(workers) pu:1"),
                options: .init(pinning: .never, oversubscribes: true)
            ),
            // With the watch, but nobody stands in for whoever is blocked here.
            stallThreshold: .seconds(3600)
        )
    }

    /// Has all workers take many short turns, so that they expect more of them.
    private func takeShortTurns(_ pool: WorkerPool) {
        let done = Rendezvous(pool.workerCount)
        for _ in 0..<pool.workerCount {
            let proc = LightProc.reactive(Doer(), on: pool)
            proc.tell { _ in takeTurns(500, proc, done) }
        }
        done.everybody.blockingWait()
    }

    // MARK: Long turns

    /// A turn that lasts until what it has made ready was run: by whoever slept.
    @Test(arguments: [1, 2, 5])
    func whatALongTurnHasMadeReadyIsRunByOthers(_ count: Int) async throws {
        let pool = try pool(workers: 2)
        takeShortTurns(pool)
        for _ in 0..<20 {
            let isOver = AsyncGate()
            LightProc.reactive(Doer(), on: pool).tell { _ in
                let others = PollRendezvous(count)
                for _ in 0..<count { LightProc.reactive(Doer(), on: pool).tell { _ in others.arrive() } }
                others.everybody.blockingWait()
                isOver.open()
            }
            await isOver.wait()
        }
        await pool.shutDownElsewhere()
    }

    @Test func whatIsDoneSoonIsLeftToItsWorker() async throws {
        let pool = try pool(workers: 3)
        // Each has a message, and its queue is this test.
        let items = (0..<11).map { _ in
            let proc = LightProc.reactive(Doer(), on: pool)
            #expect(proc.mailbox.push(MessageNode.make(Doer.Deed { _ in })) == .schedule)
            return RunItem(proc)
        }
        let (arrived, goOn) = (Rendezvous(3), BlockingGate())
        for _ in 0..<3 {
            LightProc.reactive(Doer(), on: pool).tell { _ in
                arrived.arrive()
                goOn.blockingWait()
            }
        }
        arrived.everybody.blockingWait()
        let (thief, victim) = (pool.workers[0], pool.workers[1])
        victim.expect(turnsOf: 100)
        for item in items.prefix(9) {
            let isPushed = victim.ring.push(item)
            #expect(isPushed)
        }
        #expect(!victim.hasQueued(1_000) && victim.hasQueued(900))
        #expect(pool.queues.steal(thief, 0) == nil, "900 ns are not worth it")
        let isPushed = victim.ring.push(items[9])
        #expect(isPushed && victim.hasQueued(1_000))
        #expect(pool.queues.steal(thief, 0) == nil)
        victim.expect(turnsOf: 10_000)
        let stolen = pool.queues.steal(thief, 0)
        #expect(stolen != nil, "100 us are")
        // Debtors are left with whom they flood, unless that takes long.
        victim.expect(turnsOf: 100)
        victim.debtors.push(items[10])
        var popped = [stolen]
        while let item = victim.ring.pop() { popped.append(item) }
        #expect(pool.queues.steal(thief, 0) == nil)
        victim.expect(turnsOf: 1_000_000)
        #expect(pool.queues.steal(thief, 0) == items[10])
        for item in popped + [items[10]] { if let item { pool.nodes[0].normal.push(item) } }
        goOn.open()
        await pool.shutDownElsewhere()
    }

    @Test func whatDidNotFitIsTakenByTheBatch() async throws {
        let pool = try pool(workers: 1)
        let proc = LightProc.reactive(Doer(), on: pool)
        let queue = InjectionQueue()
        let ring = RunRing()
        // Never run: words.
        let word = UInt(bitPattern: Unmanaged.passUnretained(proc).toOpaque())
        let items = (1...100).map { RunItem(bits: word + UInt($0) << 56) }
        queue.push(items)
        let first = queue.pop(moving: 30, to: ring)
        #expect(first == items[0])
        let moved = (0..<30).map { _ in ring.pop() }
        #expect(moved == Array(items[1...30]))
        #expect(queue.count == 69)
        let second = queue.pop(moving: 1_000, to: ring)
        #expect(second == items[31])
        #expect(ring.count == 34 && queue.count == 34, "half of what is left")
        while ring.room > 10 { _ = ring.push(items[0]) }
        let third = queue.pop(moving: 1_000, to: ring)
        #expect(third == items[66])
        #expect(ring.room == 0 && queue.count == 23)
        await pool.shutDownElsewhere()
    }

    /// The older half, rounded up: one of them to be run at once, the others in the thief's ring.
    @Test(arguments: [1, 2, 3, 8, 9, 1023, 1024]) func aThiefTakesHalf(_ count: Int) {
        let victim = RunRing()
        let thief = RunRing()
        // Never run: words. The ring wraps around meanwhile.
        let items = (0..<count).map { RunItem(bits: UInt($0 + 1) << 4) }
        for _ in 0..<700 {
            _ = victim.push(items[0])
            _ = victim.pop()
        }
        for item in items { _ = victim.push(item) }
        let half = (count + 1) / 2
        let stolen = thief.steal(from: victim)
        #expect(stolen == items[half - 1])
        let moved = (0..<half).map { _ in thief.pop() }
        #expect(moved == items[..<(half - 1)].map(Optional.some) + [nil])
        let left = (0...(count - half)).map { _ in victim.pop() }
        #expect(left == items[half...].map(Optional.some) + [nil])
        let none = thief.steal(from: victim)
        #expect(none == nil)
    }

    // MARK: Floods

    private struct Receiver: ReactiveBody {
        let traffic: Traffic
        mutating func receive(_ message: consuming Int, on proc: LightProc) { traffic.received(message) }
    }

    /// Sends portions, and goes on after each with a message to itself.
    private struct Flooder: ReactiveBody {
        let traffic: Traffic
        let receiver: LightProc
        var portionsLeft: Int
        mutating func receive(_ message: consuming Void, on proc: LightProc) {
            for _ in 0..<Traffic.portion {
                traffic.sends()
                receiver.send(1)
            }
            portionsLeft -= 1
            if portionsLeft > 0 { proc.send(()) }
        }
    }

    private final class Traffic: Sendable {
        static let portion = 200
        private let waiting = Atomic<Int>(0)
        private let mostWaiting = Atomic<Int>(0)
        private let left: Atomic<Int>
        let isOver = AsyncGate()
        init(_ total: Int) { left = Atomic(total) }
        var most: Int { mostWaiting.load(ordering: .relaxed) }
        func sends() {
            let now = waiting.add(1, ordering: .relaxed).newValue
            mostWaiting.max(now, ordering: .relaxed)
        }
        func received(_ count: Int) {
            waiting.subtract(count, ordering: .relaxed)
            if left.subtract(count, ordering: .relaxed).newValue == 0 { isOver.open() }
        }
    }

    /// 20 who together send 20 times as much as one receiver takes in the same time. Each gets its turn in the end.
    @Test func whoFloodsAReceiverWaitsForIt() async throws {
        let pool = try pool(workers: 1)
        let (flooders, portions) = (20, 100)
        let traffic = Traffic(flooders * portions * Traffic.portion)
        let receiver = LightProc.reactive(Receiver(traffic: traffic), on: pool)
        for _ in 0..<flooders {
            LightProc.reactive(Flooder(traffic: traffic, receiver: receiver, portionsLeft: portions), on: pool).send(())
        }
        await traffic.isOver.wait()
        // Each has sent one portion before the receiver had a turn, one while it was behind, and now and then one more.
        #expect(traffic.most < 5 * flooders * Traffic.portion, "of \(flooders * portions * Traffic.portion) in all")
        await pool.shutDownElsewhere()
    }

    /// The receiver always has messages and is always behind; it gives up after ten millions.
    @Test func whoIsSetBackGetsTurnsStill() async throws {
        let pool = try pool(workers: 1)
        let race = Race(runners: 2)
        let receiver = LightProc.reactive(Endless(race: race), on: pool)
        let (sender, bystander) = (LightProc.reactive(Doer(), on: pool), LightProc.reactive(Doer(), on: pool))
        @Sendable func flood(_ times: Int) {
            for _ in 0..<1_000 { receiver.send(()) }
            sender.tell { _ in times == 0 ? race.arrive() : flood(times - 1) }
        }
        let isHeld = BlockingGate()
        LightProc.reactive(Doer(), on: pool).tell { _ in isHeld.blockingWait() }
        sender.tell { _ in flood(5) }
        bystander.tell { _ in race.arrive() }
        isHeld.open()
        await race.isOver.wait()
        #expect(race.isWon)
        await pool.shutDownElsewhere()
    }

    private final class Race: Sendable {
        private let missing: Atomic<Int>
        private let laps = Atomic<Int>(0)
        let isOver = AsyncGate()
        init(runners: Int) { missing = Atomic(runners) }
        var isWon: Bool { missing.load(ordering: .relaxed) == 0 }
        func arrive() { missing.subtract(1, ordering: .relaxed) }
        /// False when the race is over.
        func goesOn() -> Bool {
            if !isWon, laps.add(1, ordering: .relaxed).newValue < 10_000_000 { return true }
            isOver.open()
            return false
        }
    }

    /// Sends itself a message for each that it gets, until the race is over.
    private struct Endless: ReactiveBody {
        let race: Race
        mutating func receive(_ message: consuming Void, on proc: LightProc) {
            if race.goesOn() { proc.send(()) }
        }
    }
}

/// Takes so many turns, one after the other.
private func takeTurns(_ count: Int, _ proc: LightProc, _ done: Rendezvous) {
    if count == 0 { return done.arrive() }
    proc.tell { _ in takeTurns(count - 1, proc, done) }
    LightProc.endTurn()
}
