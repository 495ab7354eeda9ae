// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Runtime

/// Something that a scenario waits for and a process opens.
actor Gate {
    private var isOpen = false
    private var waiting: CheckedContinuation<Void, Never>?
    func open() {
        isOpen = true
        waiting?.resume()
        waiting = nil
    }
    func wait() async {
        if isOpen { return }
        await withCheckedContinuation { waiting = $0 }
    }
}

struct Player: Reactive {
    enum Message: Sendable {
        case meet(ProcRef<Message>, Gate)
        case ball(Int)
    }
    var peer: ProcRef<Message>?
    var gate: Gate?

    mutating func receive(_ message: consuming Message, in context: borrowing ReactiveContext<Self>) {
        switch message {
        case .meet(let peer, let gate):
            self.peer = peer
            self.gate = gate
        case .ball(0):
            let gate = self.gate
            peer = nil
            Task { await gate?.open() }
        case .ball(let left):
            peer?.tell(.ball(left - 1))
        }
    }
}

struct Counter: Reactive {
    enum Message: Sendable {
        case one
        case last(Gate)
    }
    var count = 0

    mutating func receive(_ message: consuming Message, in context: borrowing ReactiveContext<Self>) {
        switch message {
        case .one: count &+= 1
        case .last(let gate): Task { await gate.open() }
        }
    }
}

/// Sends to a counter in portions, so that it is a process with a budget and not a flood from outside.
struct Producer: Reactive {
    enum Message: Sendable { case go }
    var left: Int
    let counter: ProcRef<Counter.Message>
    let gate: Gate

    mutating func receive(_ message: consuming Message, in context: borrowing ReactiveContext<Self>) {
        for _ in 0..<min(left, 256) { counter.tell(.one) }
        left -= min(left, 256)
        if left > 0 { context.me.tell(.go) } else { counter.tell(.last(gate)) }
    }
}

struct Asked: Reactive {
    enum Message: Sendable { case question(Reply<Int>) }
    mutating func receive(_ message: consuming Message, in context: borrowing ReactiveContext<Self>) {
        switch message {
        case .question(let reply): reply(42)
        }
    }
}

/// Spawns a process, tells it one thing, and lets go of it; again and again.
struct Spawner: Reactive {
    enum Message: Sendable { case go }
    var left: Int
    let system: BastionSystem
    let gate: Gate

    mutating func receive(_ message: consuming Message, in context: borrowing ReactiveContext<Self>) {
        for _ in 0..<min(left, 64) { system.spawn(Counter()).tell(.one) }
        left -= min(left, 64)
        let gate = self.gate
        if left > 0 { context.me.tell(.go) } else { Task { await gate.open() } }
    }
}

struct Trapping: Sendable {
    let index: Int
    let reply: Reply<Int>
}

@inline(never) func opaque<T>(_ value: T) -> T { value }

extension Scenario {
    static let all: [Scenario] = [
        Scenario(name: "ping_pong", unit: "message, reactive", operations: 1_000_000) { system, count in
            let gate = Gate()
            let (a, b) = (system.spawn(Player()), system.spawn(Player()))
            a.tell(.meet(b, gate))
            b.tell(.meet(a, gate))
            a.tell(.ball(count))
            await gate.wait()
        },
        Scenario(name: "counting", unit: "message, reactive", operations: 2_000_000) { system, count in
            let gate = Gate()
            let counter = system.spawn(Counter())
            let producer = system.spawn(Producer(left: count, counter: counter, gate: gate))
            producer.tell(.go)
            await gate.wait()
        },
        Scenario(name: "spawn", unit: "spawn + message + exit", operations: 200_000) { system, count in
            let gate = Gate()
            system.spawn(Spawner(left: count, system: system, gate: gate)).tell(.go)
            await gate.wait()
        },
        Scenario(name: "ask", unit: "question and answer", operations: 20_000) { system, count in
            let asked = system.spawn(Asked())
            for _ in 0..<count { _ = try await asked.ask { .question($0) } }
        },
        Scenario(name: "spawn_async", unit: "async process to its value", operations: 20_000) { system, count in
            for i in 0..<count { _ = await system.executor.spawn { i }.outcome() }
        },
        Scenario(name: "trap", unit: "trap to next answer, async", operations: 500) { system, count in
            let tree = try system.supervise(intensity: .unlimited) {
                Children("trapping") { context in
                    for await work in context.messages(of: Trapping.self) {
                        work.reply(opaque([1])[opaque(work.index)])
                    }
                }
            }
            let worker = try tree.group("trapping", of: Trapping.self).next
            for _ in 0..<count {
                _ = try? await worker.ask { Trapping(index: 1, reply: $0) }
                _ = try await worker.ask { Trapping(index: 0, reply: $0) }
            }
            await tree.stop()
        },
    ]
}
