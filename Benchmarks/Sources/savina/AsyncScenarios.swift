// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Runtime

struct AsyncScenarios: Scenarios {
    let system: BastionSystem

    /// Starts so many supervised children with the same body, and stops them when the work is done.
    private func withChildren<Message: Sendable>(
        _ count: Int,
        of type: Message.Type,
        _ body: @escaping @Sendable (Int, Context) async throws -> Void,
        _ work: ([ProcRef<Message>]) -> Void
    ) {
        do {
            let tree = try system.supervise {
                Children("p", redundancy: count, restart: .temporary) { context in
                    guard let number = Int(context.name.dropFirst(2)) else { return }
                    try await body(number, context)
                }
            }
            let group = try tree.group("p", of: type)
            work(group.members)
            let done = Latch()
            Task {
                await tree.stop()
                done.arrive()
            }
            done.blockingWait()
        } catch {
            fatalError("\(error)")
        }
    }

    private enum Rally: Sendable {
        case start(ProcRef<Rally>)
        case ping(Int, ProcRef<Rally>)
        case pong(Int)
    }

    func pingPong(_ rounds: Int) {
        let done = Latch()
        withChildren(2, of: Rally.self) { _, context in
            var (left, pong) = (rounds, ProcRef<Rally>?.none)
            let me = context.me(as: Rally.self)
            for await message in context.messages(of: Rally.self) {
                switch message {
                case .start(let other):
                    pong = other
                    other.tell(.ping(left, me))
                case .ping(let number, let from): from.tell(.pong(number + 1))
                case .pong(let number):
                    if number != left + 1 { fatalError("lost") }
                    left -= 1
                    if left == 0 { done.arrive() } else { pong?.tell(.ping(left, me)) }
                }
            }
        } _: { players in
            players[0].tell(.start(players[1]))
            done.blockingWait()
        }
    }

    private enum Hop: Sendable {
        case next(ProcRef<Hop>)
        case token(Int)
    }

    func threadRing(_ size: Int, _ hops: Int) {
        let done = Latch()
        withChildren(size, of: Hop.self) { _, context in
            var next: ProcRef<Hop>?
            for await message in context.messages(of: Hop.self) {
                switch message {
                case .next(let other): next = other
                case .token(0): done.arrive()
                case .token(let left): next?.tell(.token(left - 1))
                }
            }
        } _: { ring in
            for (place, hopper) in ring.enumerated() { hopper.tell(.next(ring[(place + 1) % size])) }
            ring[0].tell(.token(hops))
            done.blockingWait()
        }
    }

    private enum Count: Sendable {
        case increment
        case get
        /// To the producer.
        case produce(ProcRef<Count>)
    }

    func counting(_ messages: Int) {
        let done = Latch()
        withChildren(2, of: Count.self) { _, context in
            var sum = 0
            for await message in context.messages(of: Count.self) {
                switch message {
                case .increment: sum += 1
                case .get:
                    if sum != messages { fatalError("lost") }
                    done.arrive()
                case .produce(let counter):
                    for _ in 0..<messages { counter.tell(.increment) }
                    counter.tell(.get)
                }
            }
        } _: { pair in
            pair[1].tell(.produce(pair[0]))
            done.blockingWait()
        }
    }

    func fanIn(_ senders: Int, _ messages: Int) {
        let done = Latch()
        withChildren(1, of: Int.self) { _, context in
            var missing = senders * messages
            for await number in context.messages(of: Int.self) {
                missing -= number
                if missing == 0 { done.arrive() }
            }
        } _: { adders in
            let adder = adders[0]
            for _ in 0..<senders { system.executor.spawn { for _ in 0..<messages { adder.tell(1) } } }
            done.blockingWait()
        }
    }

    func forkJoinCreate(_ count: Int) {
        let done = Latch()
        let executor = system.executor
        executor.spawn {
            let handles = (0..<count).map { number in executor.spawn { number & 1 } }
            var sum = 0
            for handle in handles { sum += try await handle.outcome().get() }
            if sum != count / 2 { fatalError("lost") }
            done.arrive()
        }
        done.blockingWait()
    }

    func forkJoinThroughput(_ count: Int, _ messages: Int) {
        let done = Latch(count)
        withChildren(count, of: Int.self) { _, context in
            var missing = messages
            for await number in context.messages(of: Int.self) {
                missing -= number
                if missing == 0 { done.arrive() }
            }
        } _: { adders in
            system.executor.spawn { for _ in 0..<messages { for adder in adders { adder.tell(1) } } }
            done.blockingWait()
        }
    }

    private enum Big: Sendable {
        case players([ProcRef<Big>])
        case go
        case ping(Int)
        case pong
    }

    func big(_ count: Int, _ pings: Int) {
        let done = Latch(count)
        withChildren(count, of: Big.self) { number, context in
            var (players, left, random) = ([ProcRef<Big>](), pings, Xorshift(number))
            for await message in context.messages(of: Big.self) {
                switch message {
                case .players(let all): players = all
                case .go: players[random.below(count)].tell(.ping(number))
                case .ping(let from): players[from].tell(.pong)
                case .pong:
                    left -= 1
                    if left == 0 { done.arrive() } else { players[random.below(count)].tell(.ping(number)) }
                }
            }
        } _: { players in
            for player in players { player.tell(.players(players)) }
            for player in players { player.tell(.go) }
            done.blockingWait()
        }
    }

    func spawnJoin(_ count: Int) {
        let done = Latch()
        let executor = system.executor
        executor.spawn {
            var sum = 0
            for number in 0..<count { sum += try await executor.spawn { number & 1 }.outcome().get() }
            if sum != count / 2 { fatalError("lost") }
            done.arrive()
        }
        done.blockingWait()
    }

    func yield(_ count: Int, _ turns: Int) {
        let done = Latch(count)
        for _ in 0..<count {
            system.executor.spawn {
                for _ in 0..<turns { await Task.yield() }
                done.arrive()
            }
        }
        done.blockingWait()
    }

    func idle(_ count: Int) -> any Sendable {
        let done = Latch(count)
        do {
            return try system.supervise {
                Children("p", redundancy: count) { context in
                    done.arrive()
                    for await _ in context.messages(of: Int.self) {}
                }
            }.whenAll(done)
        } catch {
            fatalError("\(error)")
        }
    }
}

extension SupervisorRef {
    fileprivate func whenAll(_ done: Latch) -> SupervisorRef {
        done.blockingWait()
        return self
    }
}
