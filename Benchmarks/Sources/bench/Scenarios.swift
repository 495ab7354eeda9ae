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

extension Gate {
    /// Apart from the handlers: the frame of a `Task` is not theirs, which would make it for each message.
    @inline(never)
    nonisolated func openLater() { Task { await open() } }
}

struct Player: Reactive {
    let meeting: Meeting
    var peer: ProcRef<Int>?

    mutating func receive(_ message: consuming Int, in context: borrowing ReactiveContext<Self>) {
        if message > 0 {
            peer?.tell(message &- 1)
        } else if message < 0 {
            peer = meeting.peer(of: context.id)
        } else {
            peer = nil
            meeting.gate.openLater()
        }
    }
}

/// Where two players find each other: their messages are plain numbers, as those of the floor are.
final class Meeting: @unchecked Sendable {
    // Sendable: `players` is written before the players are told to look.
    let gate = Gate()
    var players: [ProcRef<Int>] = []
    func peer(of id: ProcID) -> ProcRef<Int>? { players.first { $0.id != id } }
}

struct Counter: Reactive {
    /// Opened at the message 0.
    var gate: Gate?
    var sum = 0

    mutating func receive(_ message: consuming Int, in context: borrowing ReactiveContext<Self>) {
        sum &+= message
        if message == 0 { gate?.openLater() }
    }
}

/// Sends to a counter in portions, so that it is a process with a budget and not a flood from outside.
struct Producer: Reactive {
    var left: Int
    let counter: ProcRef<Int>

    mutating func receive(_ message: consuming Int, in context: borrowing ReactiveContext<Self>) {
        for _ in 0..<min(left, 255) { counter.tell(1) }
        left -= min(left, 255)
        if left > 0 { context.me.tell(1) } else { counter.tell(0) }
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

/// A body that owns nothing.
struct Tally: Reactive {
    var sum = 0
    mutating func receive(_ message: consuming Int, in context: borrowing ReactiveContext<Self>) { sum &+= message }
}

/// Spawns a process, tells it one thing, and lets go of it; again and again.
struct Spawner: Reactive {
    var left: Int
    /// Whether the bodies own an object (nil here: the type decides), and so die in a process of their own.
    let isOwning: Bool
    let system: BastionSystem
    let gate: Gate

    mutating func receive(_ message: consuming Int, in context: borrowing ReactiveContext<Self>) {
        if isOwning {
            for _ in 0..<min(left, 64) { system.spawn(Counter()).tell(1) }
        } else {
            for _ in 0..<min(left, 64) { system.spawn(Tally()).tell(1) }
        }
        left -= min(left, 64)
        if left > 0 { context.me.tell(1) } else { gate.openLater() }
    }
}

struct Trapping: Sendable {
    let index: Int
    let reply: Reply<Int>
}

@inline(never) func opaque<T>(_ value: T) -> T { value }

extension Scenario {
    static let processes: [Scenario] = [
        Scenario(name: "floor_ping_pong", unit: "message, no runtime", operations: 4_000_000) { _, count in
            Floor.pingPong(count)
        },
        Scenario(
            name: "ping_pong",
            unit: "message, reactive",
            operations: 1_000_000,
            floor: "floor_ping_pong"
        ) { system, count in
            let meeting = Meeting()
            meeting.players = [system.spawn(Player(meeting: meeting)), system.spawn(Player(meeting: meeting))]
            for player in meeting.players { player.tell(-1) }
            meeting.players[0].tell(count)
            await meeting.gate.wait()
            meeting.players = []
        },
        Scenario(name: "floor_counting", unit: "message, no runtime", operations: 4_000_000) { _, count in
            Floor.counting(count)
        },
        Scenario(name: "floor_counting_process", unit: "the same, sent by a process", operations: 4_000_000) {
            _,
            count in
            Floor.countingFromProcess(count)
        },
        Scenario(
            name: "counting",
            unit: "message, reactive",
            operations: 2_000_000,
            floor: "floor_counting"
        ) { system, count in
            let gate = Gate()
            let counter = system.spawn(Counter(gate: gate))
            system.spawn(Producer(left: count, counter: counter)).tell(1)
            await gate.wait()
        },
        Scenario(name: "floor_spawn", unit: "spawn + message + exit", operations: 1_000_000) { _, count in
            Floor.spawn(count)
        },
        Scenario(
            name: "spawn",
            unit: "spawn + message + exit",
            operations: 200_000,
            floor: "floor_spawn"
        ) { system, count in
            let gate = Gate()
            system.spawn(Spawner(left: count, isOwning: false, system: system, gate: gate)).tell(1)
            await gate.wait()
        },
        Scenario(name: "spawn_owning", unit: "the same, body not plain", operations: 200_000) { system, count in
            let gate = Gate()
            system.spawn(Spawner(left: count, isOwning: true, system: system, gate: gate)).tell(1)
            await gate.wait()
        },
        Scenario(name: "ping_pong_async", unit: "message, async", operations: 50_000) { system, count in
            let meeting = Meeting()
            let tree = try system.supervise {
                Children("player", redundancy: 2) { context in
                    var peer: ProcRef<Int>?
                    for await message in context.messages(of: Int.self) {
                        if message > 0 {
                            peer?.tell(message &- 1)
                        } else if message < 0 {
                            peer = meeting.peer(of: context.id)
                        } else {
                            await meeting.gate.open()
                        }
                    }
                }
            }
            let group = try tree.group("player", of: Int.self)
            meeting.players = [group.next, group.next]
            for player in meeting.players { player.tell(-1) }
            meeting.players[0].tell(count)
            await meeting.gate.wait()
            await tree.stop()
        },
        Scenario(name: "ask_inside", unit: "an async process asks, circles are looked for", operations: 50_000) {
            try await askInside($0, $1)
        },
        Scenario(name: "ask_inside_unwatched", unit: "the same, nobody looks for circles", operations: 50_000) {
            let blind = BastionSystem(executor: $0.executor, askCycles: .ignore, log: $0.log)
            try await askInside(blind, $1)
        },
        Scenario(name: "counting_supervised", unit: "message, reactive, to a child", operations: 200_000) {
            system,
            count in
            let gate = Gate()
            let tree = try system.supervise { Children("counter", Counter(gate: gate)) }
            system.spawn(Producer(left: count, counter: try tree.group("counter").members[0])).tell(1)
            await gate.wait()
            await tree.stop()
        },
        Scenario(name: "counting_managed", unit: "message, reactive, bounded mailbox", operations: 200_000) {
            system,
            count in
            let gate = Gate()
            let tree = try system.supervise {
                Children("counter", Counter(gate: gate)).mailbox(.bounded(count + 1))
            }
            system.spawn(Producer(left: count, counter: try tree.group("counter").members[0])).tell(1)
            await gate.wait()
            await tree.stop()
        },
        Scenario(name: "ask", unit: "question and answer", operations: 20_000) { system, count in
            let asked = system.spawn(Asked())
            for _ in 0..<count { _ = try await asked.ask { .question($0) } }
        },
        Scenario(name: "spawn_async", unit: "async process to its value", operations: 20_000) { system, count in
            for i in 0..<count { _ = await system.executor.spawn { i }.outcome() }
        },
        // Without threads that wake each other, as the one above has them.
        Scenario(name: "spawn_async_inside", unit: "async process to its value, from a process", operations: 20_000) {
            system,
            count in
            let executor = system.executor
            _ = await executor.spawn { for i in 0..<count { _ = await executor.spawn { i }.outcome() } }.outcome()
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

/// An async child asks a reactive process, one question after the other.
private func askInside(_ system: BastionSystem, _ count: Int) async throws {
    let asked = system.spawn(Asked())
    let gate = Gate()
    let tree = try system.supervise {
        Children("asker", restart: .temporary) { _ in
            for _ in 0..<count { _ = try await asked.ask { .question($0) } }
            await gate.open()
        }
    }
    await gate.wait()
    await tree.stop()
}
