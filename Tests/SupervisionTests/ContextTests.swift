// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc
import Supervision
import Testing

/// What an async child can do, in virtual time.
@Suite struct ContextTests {
    private let sim = Simulation()

    @Test func messagesOfAnotherTypeAreCountedDeadLetters() throws {
        let trace = sim.trace
        let tree = try sim.system.supervise {
            Children("worker") { context in
                for await n in context.messages(of: Int.self) { trace("\(n)") }
            }
        }
        let worker = try tree.group("worker", of: Int.self).members[0]
        let other = try tree.group("worker", of: String.self).members[0]
        for n in 0..<3 {
            worker.tell(n)
            other.tell("no number")
        }
        sim.drain()
        #expect(sim.trace.lines == ["0", "1", "2"])
        #expect(sim.system.deadLetters == 3)
    }

    @Test func aPathLeadsFromTheTopToTheChild() throws {
        let trace = sim.trace
        try sim.system.supervise("shop") {
            Children("orders", redundancy: 2) { context in
                trace("\(context.path)")
                try context.supervise("below") {
                    Children("items", restart: .temporary) { context in trace("\(context.path)") }
                }
                _ = try await context.receive(String.self)
            }
        }
        sim.drain()
        #expect(
            sim.trace.lines.sorted() == [
                "/shop/orders-0", "/shop/orders-0/below/items-0", "/shop/orders-1", "/shop/orders-1/below/items-0",
            ]
        )
    }

    @Test func aGroupHasAPriority() throws {
        let tree = try sim.system.supervise {
            Children("async", priority: .high) { context in _ = try await context.receive(Int.self) }
            Children("reactive", Deaf(), priority: .low)
            Children("plain", Deaf())
        }
        #expect(try tree.group("async", of: Int.self).members[0].proc.priority == .high)
        #expect(try tree.group("reactive", of: Int.self).members[0].proc.priority == .low)
        #expect(try tree.group("plain", of: Int.self).members[0].proc.priority == .normal)
        #expect(sim.stops(tree))
    }

    private struct Deaf: Reactive {
        mutating func receive(_ message: consuming Int, in context: borrowing ReactiveContext<Self>) {}
    }

    @Test func messagesEndWhenTheProcessIsStopped() throws {
        let trace = sim.trace
        let tree = try sim.system.supervise {
            Children("worker") { context in
                for await n in context.messages(of: Int.self) { trace("\(n)") }
                trace("ended, stopping: \(context.isStopping)")
            }
        }
        try tree.group("worker", of: Int.self).tell(1)
        sim.drain()
        #expect(sim.stops(tree))
        #expect(sim.trace.lines == ["1", "ended, stopping: true"])
    }

    @Test func receiveThrowsWhenTheProcessIsStopped() throws {
        let trace = sim.trace
        let tree = try sim.system.supervise {
            Children("worker") { context in
                context.onExit { trace("\($0)") }
                do {
                    let _: Int = try await context.receive()
                } catch {
                    trace("\(type(of: error))")
                    throw error
                }
            }
        }
        sim.drain()
        #expect(sim.stops(tree))
        #expect(sim.trace.lines == ["CancellationError", "shutdown"])
    }

    @Test func sleepTakesExactlyItsVirtualTime() throws {
        let sim = self.sim
        try sim.system.supervise {
            Children("sleeper", restart: .temporary) { context in
                for _ in 0..<3 {
                    try await context.sleep(for: .milliseconds(250))
                    sim.note("awake")
                }
                try await context.sleep(for: .zero)
                sim.note("done")
            }
        }
        sim.drain()
        #expect(sim.trace.lines == [])
        sim.advance(by: .seconds(1))
        #expect(sim.trace.lines == ["250: awake", "500: awake", "750: awake", "750: done"])
    }

    @Test func sleepEndsEarlyWhenTheProcessIsStopped() throws {
        let sim = self.sim
        let tree = try sim.system.supervise {
            Children("sleeper") { context in
                context.onExit { sim.note("\($0)") }
                try await context.sleep(for: .seconds(60))
            }
        }
        sim.advance(by: .seconds(1))
        #expect(sim.stops(tree))
        #expect(sim.trace.lines == ["1000: shutdown"])
    }

    @Test func untilStoppedReturnsWhenTheProcessStopsItself() throws {
        let trace = sim.trace
        try sim.system.supervise {
            Children("worker", restart: .transient) { context in
                context.onExit { trace("\($0)") }
                await withTaskGroup(of: Void.self) { group in
                    group.addTask { await context.untilStopped() }
                    context.stop()
                    await group.waitForAll()
                }
                trace("stopped")
            }
        }
        sim.drain()
        #expect(sim.trace.lines == ["stopped", "shutdown"])
    }

    @Test func exitHooksRunLastRegisteredFirstAndOncePerIncarnation() throws {
        let trace = sim.trace
        let tree = try sim.system.supervise(intensity: .unlimited) {
            Children("worker") { context in
                for i in 0..<3 { context.onExit { trace("hook \(i): \($0)") } }
                let _: Int = try await context.receive()
                throw Failure()
            }
            Children("echo", Echo("echo", trace))
        }
        sim.drain()
        sim.trace.clear()
        try tree.group("worker", of: Int.self).tell(1)
        sim.drain()
        let hooks = [2, 1, 0].map { "hook \($0): " }
        #expect(sim.trace.lines == hooks.map { $0 + "error: failure 0" })
        sim.trace.clear()
        let echo = try tree.group("echo", of: Echo.Message.self)
        echo.tell(.registerHooks(2))
        echo.tell(.finish)
        sim.drain()
        #expect(sim.trace.lines == ["echo hook 1: normal", "echo hook 0: normal", "start echo"])
        sim.trace.clear()
        #expect(sim.stops(tree))
        #expect(sim.trace.lines == hooks.map { $0 + "shutdown" })
    }

    @Test func severalTasksOfAProcessShareItsMessages() throws {
        let trace = sim.trace
        let tree = try sim.system.supervise {
            Children("worker") { context in
                await withTaskGroup(of: Void.self) { group in
                    for _ in 0..<3 {
                        group.addTask { for await n in context.messages(of: Int.self) { trace("\(n)") } }
                    }
                }
            }
        }
        let worker = try tree.group("worker", of: Int.self)
        sim.drain()
        for n in 0..<50 {
            worker.tell(n)
            if n % 7 == 0 { sim.drain() }
        }
        sim.drain()
        #expect(sim.trace.lines.compactMap { Int($0) }.sorted() == Array(0..<50))
        #expect(sim.stops(tree))
    }

    @Test func aContextKnowsItsProcess() throws {
        let trace = sim.trace
        let tree = try sim.system.supervise(intensity: .unlimited) {
            Children("worker", redundancy: 2) { context in
                trace("\(context.name) \(context.restarts)")
                context.me(as: Int.self).tell(context.restarts)
                let restarts: Int = try await context.receive()
                if restarts == 0 { throw Failure() }
                await context.untilStopped()
            }
        }
        sim.drain()
        #expect(sim.trace.lines.sorted() == ["worker-0 0", "worker-0 1", "worker-1 0", "worker-1 1"])
        #expect(try tree.group("worker", of: Int.self).members.map { $0.proc.name } == ["worker-0", "worker-1"])
    }
}
