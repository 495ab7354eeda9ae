// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Runtime
import Synchronization

/// Messages a handler sends before it lets others have their turn: what a run may spend.
private let portion = 255

struct ReactiveScenarios: Scenarios {
    let system: BastionSystem

    func pingPong(_ rounds: Int) {
        let done = Latch()
        let pong = system.spawn(Pong())
        let ping = system.spawn(Ping(left: rounds, pong: pong, done: done))
        ping.tell(.start)
        done.blockingWait()
    }

    private struct Ping: Reactive {
        enum Message: Sendable {
            case start
            case answer(Int)
        }
        var left: Int
        let pong: ProcRef<Pong.Message>
        let done: Latch
        mutating func receive(_ message: consuming Message, in context: borrowing ReactiveContext<Self>) {
            if case .answer(let number) = message, number != left + 1 { fatalError("lost") }
            if case .answer = message { left -= 1 }
            if left == 0 { return done.arrive() }
            pong.tell(.init(number: left, from: context.me))
        }
    }
    private struct Pong: Reactive {
        struct Message: Sendable {
            let number: Int
            let from: ProcRef<Ping.Message>
        }
        mutating func receive(_ message: consuming Message, in context: borrowing ReactiveContext<Self>) {
            message.from.tell(.answer(message.number + 1))
        }
    }

    func threadRing(_ size: Int, _ hops: Int) {
        let done = Latch()
        var next: ProcRef<Hopper.Message>?
        let last = system.spawn(Hopper(next: nil, done: done))
        for _ in 1..<size { next = system.spawn(Hopper(next: next ?? last, done: done)) }
        // A ring of one passes the token to itself.
        let first = next ?? last
        last.tell(.next(first))
        first.tell(.token(hops))
        done.blockingWait()
        last.tell(.next(nil))
    }

    private struct Hopper: Reactive {
        enum Message: Sendable {
            case token(Int)
            case next(ProcRef<Message>?)
        }
        var next: ProcRef<Message>?
        let done: Latch
        mutating func receive(_ message: consuming Message, in context: borrowing ReactiveContext<Self>) {
            switch message {
            case .token(let left): if left == 0 { done.arrive() } else { next?.tell(.token(left - 1)) }
            case .next(let other): next = other
            }
        }
    }

    func counting(_ messages: Int) {
        let done = Latch()
        let counter = system.spawn(Counter(expected: messages, done: done))
        system.spawn(Producer(left: messages, counter: counter)).tell(())
        done.blockingWait()
    }

    private struct Counter: Reactive {
        enum Message: Sendable { case increment, get }
        let expected: Int
        let done: Latch
        var sum = 0
        mutating func receive(_ message: consuming Message, in context: borrowing ReactiveContext<Self>) {
            switch message {
            case .increment: sum += 1
            case .get:
                if sum != expected { fatalError("lost") }
                done.arrive()
            }
        }
    }
    private struct Producer: Reactive {
        var left: Int
        let counter: ProcRef<Counter.Message>
        mutating func receive(_ message: consuming Void, in context: borrowing ReactiveContext<Self>) {
            let count = min(left, portion)
            for _ in 0..<count { counter.tell(.increment) }
            left -= count
            if left > 0 { context.me.tell(()) } else { counter.tell(.get) }
        }
    }

    /// Adds up; opened when the sum is there.
    private struct Adder: Reactive {
        var missing: Int
        let done: Latch
        mutating func receive(_ message: consuming Int, in context: borrowing ReactiveContext<Self>) {
            missing -= message
            if missing == 0 { done.arrive() }
        }
    }

    func fanIn(_ senders: Int, _ messages: Int) {
        let done = Latch()
        let adder = system.spawn(Adder(missing: senders * messages, done: done))
        for _ in 0..<senders { system.spawn(Sender(left: messages, adder: adder)).tell(()) }
        done.blockingWait()
    }

    private struct Sender: Reactive {
        var left: Int
        let adder: ProcRef<Int>
        mutating func receive(_ message: consuming Void, in context: borrowing ReactiveContext<Self>) {
            let count = min(left, portion)
            for _ in 0..<count { adder.tell(1) }
            left -= count
            if left > 0 { context.me.tell(()) }
        }
    }

    func forkJoinCreate(_ count: Int) {
        let done = Latch()
        let sum = system.spawn(Sum(expected: count, done: done))
        system.spawn(Forker(next: 0, count: count, sum: sum, system: system)).tell(())
        done.blockingWait()
    }

    private struct Sum: Reactive {
        let expected: Int
        let done: Latch
        var count = 0
        var sum = 0
        mutating func receive(_ message: consuming Int, in context: borrowing ReactiveContext<Self>) {
            count += 1
            sum += message
            guard count == expected else { return }
            if sum != expected / 2 { fatalError("lost") }
            done.arrive()
        }
    }
    /// Does one thing and is gone, as nobody refers to it any more.
    private struct Child: Reactive {
        let number: Int
        unowned(unsafe) let system: BastionSystem
        mutating func receive(_ message: consuming ProcRef<Int>, in context: borrowing ReactiveContext<Self>) {
            message.tell(number & 1)
        }
    }
    private struct Forker: Reactive {
        var next: Int
        let count: Int
        let sum: ProcRef<Int>
        let system: BastionSystem
        mutating func receive(_ message: consuming Void, in context: borrowing ReactiveContext<Self>) {
            let end = min(next + 64, count)
            for number in next..<end { system.spawn(Child(number: number, system: system)).tell(sum) }
            next = end
            if next < count { context.me.tell(()) }
        }
    }

    func forkJoinThroughput(_ count: Int, _ messages: Int) {
        let done = Latch(count)
        let adders = (0..<count).map { _ in system.spawn(Adder(missing: messages, done: done)) }
        system.spawn(Distributor(left: count * messages, adders: adders)).tell(())
        done.blockingWait()
    }

    private struct Distributor: Reactive {
        var left: Int
        let adders: [ProcRef<Int>]
        var place = 0
        mutating func receive(_ message: consuming Void, in context: borrowing ReactiveContext<Self>) {
            let count = min(left, portion)
            for _ in 0..<count {
                adders[place].tell(1)
                place += 1
                if place == adders.count { place = 0 }
            }
            left -= count
            if left > 0 { context.me.tell(()) }
        }
    }

    func big(_ count: Int, _ pings: Int) {
        let done = Latch(count)
        let players = (0..<count).map { system.spawn(Player(number: $0, left: pings, done: done)) }
        // Everybody knows the others before the first ping.
        for player in players { player.tell(.players(players)) }
        for player in players { player.tell(.go) }
        done.blockingWait()
        for player in players { player.tell(.stop) }
    }

    private struct Player: Reactive {
        enum Message: Sendable {
            case players([ProcRef<Message>])
            case go
            case ping(Int)
            case pong
            case stop
        }
        let number: Int
        var left: Int
        let done: Latch
        var random: Xorshift
        var players: [ProcRef<Message>] = []
        init(number: Int, left: Int, done: Latch) {
            self.number = number
            self.left = left
            self.done = done
            random = Xorshift(number)
        }
        mutating func receive(_ message: consuming Message, in context: borrowing ReactiveContext<Self>) {
            switch message {
            case .players(let players): self.players = players
            case .go: players[random.below(players.count)].tell(.ping(number))
            case .ping(let from): players[from].tell(.pong)
            case .pong:
                left -= 1
                if left == 0 { done.arrive() } else { players[random.below(players.count)].tell(.ping(number)) }
            case .stop: players = []
            }
        }
    }

    func spawnJoin(_ count: Int) {
        let done = Latch()
        system.spawn(Joiner(count: count, system: system, done: done)).tell(0)
        done.blockingWait()
    }

    /// Starts one, waits for what it sends, starts the next.
    private struct Joiner: Reactive {
        let count: Int
        let system: BastionSystem
        let done: Latch
        var joined = -1
        var sum = 0
        mutating func receive(_ message: consuming Int, in context: borrowing ReactiveContext<Self>) {
            joined += 1
            sum += message
            if joined == count {
                if sum != count / 2 { fatalError("lost") }
                return done.arrive()
            }
            system.spawn(Child(number: joined, system: system)).tell(context.me)
        }
    }

    func yield(_ count: Int, _ turns: Int) {
        let done = Latch(count)
        for _ in 0..<count { system.spawn(Yielder(left: turns, done: done)).tell(()) }
        done.blockingWait()
    }

    /// Its turn is over when it has sent to itself: others that are ready come first.
    private struct Yielder: Reactive {
        var left: Int
        let done: Latch
        mutating func receive(_ message: consuming Void, in context: borrowing ReactiveContext<Self>) {
            left -= 1
            if left == 0 { return done.arrive() }
            context.yield()
            context.me.tell(())
        }
    }

    func idle(_ count: Int) -> any Sendable {
        let refs = (0..<count).map { _ in system.spawn(Idle()) }
        let done = Latch(count)
        // All of them have run once, as those of the others have.
        for ref in refs { ref.tell(done) }
        done.blockingWait()
        return refs
    }

    private struct Idle: Reactive {
        mutating func receive(_ message: consuming Latch, in context: borrowing ReactiveContext<Self>) {
            message.arrive()
        }
    }
}
