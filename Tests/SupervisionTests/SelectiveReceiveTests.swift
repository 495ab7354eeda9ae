// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import LightProc
import Testing

@testable import Supervision

/// `receive(matching:)`: takes one message and leaves the others, in virtual time.
@Suite struct SelectiveReceiveTests {
    private let sim = Simulation()

    private func worker(
        _ isManaged: Bool,
        intensity: RestartIntensity = .unlimited,
        _ body: @escaping @Sendable (Context) async throws -> Void
    ) throws -> ProcRef<Int> {
        try sim.system.supervise(intensity: intensity) {
            let children = Children("worker", body: body)
            if isManaged { children.mailbox(.bounded(1_000, .fail)) } else { children }
        }.group("worker").members[0]
    }

    @Test(arguments: [false, true])
    func othersStayInTheirOrder(isManaged: Bool) throws {
        let trace = sim.trace
        let worker = try worker(isManaged) { context in
            trace("even \(try await context.receive(Int.self, matching: { $0 % 2 == 0 }))")
            trace("even \(try await context.receive(Int.self, matching: { $0 % 2 == 0 }))")
            for await n in context.messages(of: Int.self) { trace("\(n)") }
        }
        for n in [1, 3, 4, 5] { worker.tell(n) }
        sim.drain()
        #expect(sim.trace.lines == ["even 4"])
        // While it waits, more come; one is urgent.
        worker.tell(7)
        sim.drain()
        worker.tell(9, lane: .control)
        worker.tell(8)
        worker.tell(10)
        sim.drain()
        #expect(sim.trace.lines == ["even 4", "even 8", "9", "1", "3", "5", "7", "10"])
        #expect(sim.system.deadLetters == 0)
    }

    @Test(arguments: [false, true])
    func messagesOfOtherTypesStayToo(isManaged: Bool) throws {
        let trace = sim.trace
        let worker = try worker(isManaged) { context in
            trace("question \(try await context.receive(matching: { (m: AnyMessage) in m.kind == .ask }).payload)")
            trace("text \(try await context.receive(String.self, matching: { $0.count > 3 }))")
            for await message in context { trace("\(message.kind) \(message.payload)") }
        }
        worker.tell(1)
        worker.dynamic.tell("one")
        worker.dynamic.tell("long")
        let answer = Answer(worker.dynamic.request(2, as: Int.self))
        sim.drain()
        #expect(sim.trace.lines == ["question 2", "text long", "tell 1", "tell one"])
        #expect(answer.error?.code == .unanswered)
    }

    @Test(arguments: [false, true])
    func timersAreSelectedToo(isManaged: Bool) throws {
        let sim = self.sim
        let worker = try worker(isManaged) { context in
            context.timers.start("late", after: .seconds(1), 100)
            context.timers.start("never", after: .milliseconds(500), 200)
            sim.note("\(try await context.receive(Int.self, matching: { $0 == 100 }))")
            context.timers.cancel("never")
            for await n in context.messages(of: Int.self) { sim.note("\(n)") }
        }
        worker.tell(1)
        sim.advance(by: .seconds(2))
        #expect(sim.trace.lines == ["1000: 100", "1000: 1"])
    }

    @Test(arguments: [false, true])
    func noMessageIsLostWhenTheTimeIsUp(isManaged: Bool) throws {
        let sim = self.sim
        let worker = try worker(isManaged) { context in
            do {
                _ = try await context.receive(Int.self, matching: { $0 < 0 }, within: .seconds(1))
            } catch is DeadlineExceeded { sim.note("none") }
            for await n in context.messages(of: Int.self) { sim.note("\(n)") }
        }
        for n in 1...3 { worker.tell(n) }
        sim.advance(by: .milliseconds(500))
        worker.tell(4)
        sim.advance(by: .seconds(1))
        #expect(sim.trace.lines == ["1000: none"] + (1...4).map { "1000: \($0)" })
    }

    @Test(arguments: [false, true])
    func noMessageIsLostWhenTheProcessEnds(isManaged: Bool) throws {
        let trace = sim.trace
        let worker = try worker(isManaged) { context in
            if context.restarts == 0 { _ = try await context.receive(Int.self, matching: { $0 < 0 }) }
            for await n in context.messages(of: Int.self) { trace("\(n)") }
        }
        for n in 1...3 { worker.tell(n) }
        let asked = Answer(worker.dynamic.request(9, as: Int.self))
        sim.drain()
        worker.proc.kill()
        sim.drain()
        #expect(sim.system.restarts == 1)
        #expect(sim.trace.lines == ["1", "2", "3"])
        // Not in hand when the process was killed, only looked at; then of a type that was not asked for.
        #expect(asked.error?.code == .unanswered)
    }

    @Test(arguments: [false, true])
    func whatWasPassedOverIsADeadLetterAtTheEnd(isManaged: Bool) throws {
        let worker = try worker(isManaged) { context in _ = try await context.receive(Int.self, matching: { $0 < 0 }) }
        for n in 1...3 { worker.tell(n) }
        let asked = Answer(worker.dynamic.request(9, as: Int.self))
        sim.drain()
        worker.proc.stop()
        sim.drain()
        // Permanent: the next incarnation looks at them again.
        #expect(asked.count == 0 && sim.system.deadLetters == 0)
        sim.stopAll()
        #expect(asked.error?.code == .processEnded)
        #expect(sim.system.deadLetters == 4)
    }

    @Test(arguments: [false, true])
    func severalTasksReceiveInTheirOwnWays(isManaged: Bool) throws {
        for seed in RandomTest.seeds("severalTasksReceiveInTheirOwnWays", count: 20) {
            let sim = Simulation(seed: seed)
            let trace = sim.trace
            let tree = try sim.system.supervise {
                let children = Children("worker") { context in
                    await withTaskGroup(of: Void.self) { group in
                        for rest in 0..<3 {
                            group.addTask {
                                while let n = try? await context.receive(Int.self, matching: { $0 % 4 == rest }) {
                                    trace("\(rest): \(n)")
                                }
                            }
                        }
                        group.addTask {
                            // Takes everything, for a while.
                            for _ in 0..<10 { if let n: Int = try? await context.receive() { trace("\(n)") } }
                        }
                    }
                    for await n in context.messages(of: Int.self) { trace("rest \(n)") }
                }
                if isManaged { children.mailbox(.bounded(1_000, .fail)) } else { children }
            }
            let worker: ProcRef<Int> = try tree.group("worker").members[0]
            var random = SplitMix64(seed: seed)
            var sent = 0
            for _ in 0..<20 {
                for _ in 0..<Int.random(in: 1...6, using: &random) {
                    worker.tell(sent, lane: Bool.random(using: &random) ? .user : .control)
                    sent += 1
                }
                if Bool.random(using: &random) { sim.drain() }
            }
            sim.drain()
            let seen = trace.lines.compactMap { line in line.split(separator: " ").last.flatMap { Int($0) } }
            // What fits none, apart from what the greedy one took, is still there, and nothing was taken twice.
            #expect(Set(seen).count == seen.count, "seed \(seed)")
            for n in 0..<sent where n % 4 != 3 { #expect(seen.contains(n), "seed \(seed): \(n)") }
            let left = sent - seen.count
            let stopped = sim.stops(tree)
            #expect(stopped && sim.system.deadLetters == left, "seed \(seed)")
        }
    }

    /// Where a message drops another one there are as many as before: who looks for it must hear of it all the same.
    @Test func whatTakesThePlaceOfAnotherIsSeen() throws {
        let trace = sim.trace
        let tree = try sim.system.supervise {
            Children("worker") { context in
                while true { trace("\(try await context.receive(Int.self, matching: { $0 > 10 }))") }
            }.mailbox(.bounded(2, .dropOldest))
        }
        let worker: ProcRef<Int> = try tree.group("worker").members[0]
        sim.drain()
        for n in [1, 2, 3, 11, 4, 5, 12] {
            worker.tell(n)
            sim.drain()
        }
        #expect(sim.trace.lines == ["11", "12"])
        // Nor is it told more often than it looks.
        for n in 0..<1_000 { worker.tell(n % 10) }
        let queue = try #require(worker.proc.managedQueue)
        #expect(queue.content.withLock { $0.state.surplus } <= 1)
        for n in 0..<1_000 {
            worker.tell(n % 10)
            sim.drain()
        }
        #expect(queue.content.withLock { $0.state.surplus } <= 1)
        worker.tell(13)
        sim.drain()
        #expect(sim.trace.lines == ["11", "12", "13"])
    }

    /// What a process is told of others, with a closure that makes the message or without.
    @Test(arguments: [false, true], [false, true])
    func noticesAreSelected(isManaged: Bool, withClosure: Bool) throws {
        let sim = self.sim
        let trace = sim.trace
        let made = Locked(0)
        let others = try sim.system.supervise("others", intensity: .unlimited) {
            for name in ["a", "b", "c"] { Children(name) { context in await context.untilStopped() } }
        }
        let (a, b, c): (ProcRef<Int>, ProcRef<Int>, ProcRef<Int>) = (
            try others.group("a").members[0], try others.group("b").members[0], try others.group("c").members[0]
        )
        let worker = try worker(isManaged) { context in
            @Sendable func closure(_ down: Down) -> Down {
                made.withLock { $0 += 1 }
                return down
            }
            for ref in [a, b] { if withClosure { context.monitor(ref, closure) } else { context.monitor(ref) } }
            context.trapExits()
            context.link(c)
            trace("exit \(try await context.receive(Exit.self, matching: { $0.isFromLink }).process == c.id)")
            trace("down \(try await context.receive(Down.self, matching: { $0.process == b.id }).process == b.id)")
            // Of any type: what it stands for is looked at, nothing of the runtime's own.
            let any: AnyMessage = try await context.receive(matching: { (message: AnyMessage) in
                if !(message.payload is Int) { trace("\(type(of: message.payload))") }
                return message.payload is Down
            })
            trace("\((any.payload as? Down)?.process == a.id)")
            for await n in context.messages(of: Int.self) { trace("\(n)") }
        }
        worker.tell(1)
        sim.drain()
        worker.tell(2)
        for ref in [a, b, c] {
            ref.proc.kill()
            sim.drain()
        }
        worker.tell(3)
        sim.drain()
        #expect(sim.trace.lines == ["exit true", "down true", "Down", "true", "1", "2", "3"])
        #expect(made.withLock { $0 } == (withClosure ? 2 : 0))
        #expect(sim.system.deadLetters == 0)
    }

    /// A notice keeps its place among the messages, and is gone when its monitor is taken back.
    @Test(arguments: [false, true])
    func noticesThatArePassedOverKeepTheirPlace(isManaged: Bool) throws {
        let trace = sim.trace
        let others = try sim.system.supervise("others", intensity: .unlimited) {
            for name in ["a", "b"] { Children(name) { context in await context.untilStopped() } }
        }
        let (a, b): (ProcRef<Int>, ProcRef<Int>) = (
            try others.group("a").members[0], try others.group("b").members[0]
        )
        let worker = try worker(isManaged) { context in
            context.monitor(a)
            let monitor = context.monitor(b)
            trace("\(try await context.receive(Int.self, matching: { $0 == 4 }))")
            #expect(!context.demonitor(monitor, flush: true))
            _ = try await context.receive(matching: { (message: AnyMessage) in
                trace("looks at \(message.payload is Down ? "down" : "\(message.payload)")")
                return message.payload as? Int == 3
            })
            for await message in context {
                trace(message.payload is Down ? "down" : "\(message.payload)")
            }
        }
        worker.tell(1)
        sim.drain()
        for ref in [a, b] {
            ref.proc.kill()
            sim.drain()
        }
        for n in [2, 3, 4] { worker.tell(n) }
        sim.drain()
        #expect(
            sim.trace.lines == ["4", "looks at 1", "looks at down", "looks at 2", "looks at 3", "1", "down", "2"]
        )
    }

    /// An ask is in hand until the next message is, however that is received.
    @Test(arguments: [false, true])
    func theAskBeforeIsInHandNoLonger(isManaged: Bool) throws {
        let sim = self.sim
        let other = try sim.system.supervise("others") { Children("other") { context in await context.untilStopped() } }
        let refuge: ProcRef<Int> = try other.group("other").members[0]
        let kept = Locked<AnyReply?>(nil)
        let worker = try worker(isManaged) { context in
            let question = try await context.receive(matching: { (message: AnyMessage) in message.kind == .ask })
            kept.withLock { $0 = question.reply }
            sim.note("\(context.deadlineOfMessage != nil)")
            let n = try await context.receive(Int.self, matching: { $0 == 2 })
            sim.note("\(context.deadlineOfMessage != nil)")
            // Without the ask: that stays with this process.
            context.forward(n, to: refuge)
            throw Failure()
        }
        let answer = Answer(worker.dynamic.request("?", as: Int.self))
        worker.tell(1)
        worker.tell(2)
        sim.drain()
        #expect(sim.trace.lines == ["0: true", "0: false"])
        #expect(answer.error?.code == .processEnded && answer.error?.process == worker.id)
    }

    @Test(arguments: [false, true])
    func tryReceiveDoesNotWait(isManaged: Bool) throws {
        let sim = self.sim
        let worker = try worker(isManaged) { context in
            sim.note("\(try await context.tryReceive(Int.self) ?? 0)")
            try await context.sleep(for: .seconds(1))
            sim.note("\(try await context.tryReceive(Int.self) ?? 0)")
            sim.note("\((try await context.tryReceive())?.payload as? Int ?? 0)")
            sim.note("\(try await context.tryReceive(Int.self) ?? 0)")
            while try await context.tryReceive(Int.self) == nil { await context.yield() }
            sim.note("yields")
            await context.untilStopped()
            do { _ = try await context.tryReceive(Int.self) } catch is CancellationError { sim.note("stops") }
        }
        sim.executor.pass(.milliseconds(1))
        for _ in 0..<20 { sim.executor.step() }
        worker.tell(1)
        worker.tell(2, lane: .control)
        worker.dynamic.tell("of another type")
        sim.executor.pass(.seconds(2))
        for _ in 0..<50 { sim.executor.step() }
        worker.tell(3)
        sim.drain()
        #expect(sim.trace.lines.map { String($0.drop { $0 != " " }.dropFirst()) } == ["0", "2", "1", "0", "yields"])
        #expect(sim.system.deadLetters == 1)
        sim.stopAll()
        #expect(sim.trace.lines.last?.hasSuffix("stops") == true)
    }
}

extension Simulation {
    /// Stops the whole system.
    func stopAll() {
        let system = self.system
        let stopping = executor.spawn { await system.stop() }
        drain()
        withExtendedLifetime(stopping) {}
    }
}
