// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import LightProc
import Testing

@testable import Supervision

/// What becomes of all that a process has to do with when it ends, for every way to end, kind of process and mailbox.
///
/// The table "What becomes of it" of docs/SEMANTICS.md: each of its rows is one expectation here.
@Suite(.serialized) struct FateTests {
    /// How the incarnation ends. Each is brought about while it has a message in hand.
    enum End: String, CaseIterable, Sendable {
        case stop, kill, `throw`, trap

        func happen(to proc: LightProc) throws {
            switch self {
            case .stop: proc.stop()
            case .kill: proc.kill()
            case .throw: throw Failure(number: 3)
            case .trap: _ = opaque([1])[opaque(9)]
            }
        }

        func explains(_ reason: ExitReason?) -> Bool {
            switch (self, reason) {
            case (.stop, .shutdown?), (.kill, .killed?), (.throw, .error?), (.trap, .trap?): true
            default: false
            }
        }
    }

    /// A process with something of everything, which then ends.
    private struct Case {
        let sim: Simulation
        let worker: AnyRef
        let inHand: Answer<String>
        let stashed: Answer<String>
        let urgent: Answer<String>
        let queued: Answer<String>
        let forwarded: Answer<String>

        init(_ receiver: Receiver, _ end: End, restart: RestartType, seed: UInt64) throws {
            sim = Simulation(seed: seed, containsTraps: true)
            let trace = sim.trace
            let kept = Locked<[AnyReply]>([])
            let tree = try sim.system.supervise(intensity: .unlimited) {
                Receiver.reactive.children("other") { message, _ in
                    message.onQuestion(String.self) { _, reply in kept.withLock { $0.append(reply) } }
                        .onTell(String.self) { _, _ in for reply in kept.withLock({ $0 }) { reply("forwarded") } }
                }
            }
            let other = try tree.refs("other")[0]
            worker = try sim.system.supervise("workers", intensity: .unlimited) {
                receiver.children("worker", restart: restart) { message, context in
                    guard let text = message.payload as? String else { return }
                    if context.proc.restarts > 0 {
                        trace(text)
                        message.reply?("answer")
                        return
                    }
                    switch text {
                    case "stashed", "stashed ask": try context.stash(message)
                    case "forward": _ = context.forward(message, to: other)
                    case "pipe":
                        other.request("piped", as: String.self).pipe(to: AnyRef(context.proc)) { _ in "piped" }
                    case "timers":
                        context.start("fired", after: .milliseconds(10), "fired")
                        context.start("pending", after: .milliseconds(500), "pending")
                        context.start("periodic", every: .milliseconds(10), "periodic")
                    case "end":
                        kept.withLock { $0 += message.reply.map { [$0] } ?? [] }
                        try end.happen(to: context.proc)
                    default: trace("first incarnation: \(text)")
                    }
                }
            }.refs("worker")[0]
            for text in ["stashed", "timers", "pipe"] { worker.tell(text) }
            stashed = Answer(worker.request("stashed ask", as: String.self))
            forwarded = Answer(worker.request("forward", as: String.self))
            sim.drain()
            // From here on they wait behind the message with which it ends, the timers among them.
            inHand = Answer(worker.request("end", as: String.self, lane: .control))
            worker.tell("urgent", lane: .control)
            urgent = Answer(worker.request("urgent ask", as: String.self, lane: .control))
            worker.tell("queued")
            queued = Answer(worker.request("queued ask", as: String.self))
            sim.executor.pass(.milliseconds(25))
            sim.drain()
            sim.advance(by: .seconds(1))
            other.tell("answer them")
            sim.drain()
        }
    }

    private static let seeds = RandomTest.seeds("FateTests", count: 4)

    @Test(arguments: Receiver.allCases, End.allCases)
    func aProcessThatIsRestarted(receiver: Receiver, end: End) throws {
        for seed in Self.seeds {
            let fate = try Case(receiver, end, restart: .permanent, seed: seed)
            #expect(fate.sim.system.restarts == 1)
            // The message in hand is lost, and its ask ends with the reason.
            #expect(fate.inHand.error?.code == .processEnded && end.explains(fate.inHand.error?.reason))
            // The control lane, the stash, then what waited; timers are gone, those that had fired too; the piped answer comes.
            #expect(
                fate.sim.trace.lines == [
                    "urgent", "urgent ask", "stashed", "stashed ask", "queued", "queued ask", "piped",
                ],
                "seed \(seed)"
            )
            for answer in [fate.stashed, fate.urgent, fate.queued] { #expect(answer.value == "answer") }
            // Somebody else's by then.
            #expect(fate.forwarded.value == "forwarded")
            #expect(fate.sim.system.deadLetters == 0)
        }
    }

    @Test(arguments: Receiver.allCases, End.allCases)
    func aProcessThatIsClosed(receiver: Receiver, end: End) throws {
        for seed in Self.seeds {
            let fate = try Case(receiver, end, restart: .temporary, seed: seed)
            #expect(fate.worker.proc.isClosed)
            for answer in [fate.inHand, fate.urgent, fate.stashed, fate.queued] {
                #expect(answer.error?.code == .processEnded && end.explains(answer.error?.reason), "seed \(seed)")
            }
            #expect(fate.sim.trace.lines == [])
            #expect(fate.forwarded.value == "forwarded")
            // The stash and what waited in each lane, two each; and the outcome that was piped to nobody.
            #expect(fate.sim.system.deadLetters == 7)
        }
    }

    private static let restarts = [RestartType.permanent, .temporary]

    private final class Awaited: Sendable {
        let answer = Locked<Answer<String>?>(nil)
    }

    /// Async processes only, as nobody else can.
    @Test(arguments: [Receiver.async, .managedAsync], End.allCases)
    func anAskThatItAwaits(receiver: Receiver, end: End) throws {
        for (seed, restart) in Self.seeds.flatMap({ seed in Self.restarts.map { (seed, $0) } }) {
            let sim = Simulation(seed: seed, containsTraps: true)
            let awaited = Awaited()
            let kept = Locked<[AnyReply]>([])
            let other = try sim.system.supervise {
                Receiver.reactive.children("other") { message, _ in
                    if let reply = message.reply { kept.withLock { $0.append(reply) } }
                }
            }.refs("other")[0]
            let tree = try sim.system.supervise("workers", intensity: .unlimited) {
                let children = Children("worker", restart: restart) { context in
                    if context.restarts > 0 { return await context.untilStopped() }
                    try await withThrowingTaskGroup(of: Void.self) { group in
                        group.addTask {
                            let pending = other.request("?", as: String.self, within: .seconds(60))
                            awaited.answer.withLock { $0 = Answer(pending) }
                            _ = try? await pending.value()
                        }
                        group.addTask {
                            _ = try await context.receive(String.self)
                            try end.happen(to: context.proc)
                            await context.untilStopped()
                        }
                        // Ends: at the first that throws, or when both are done.
                        while try await group.next() != nil {}
                    }
                }
                if receiver == .async { children } else { children.mailbox(.bounded(10)) }
            }
            let worker = try tree.refs("worker")[0]
            sim.drain()
            #expect(kept.withLock { $0.count } == 1 && awaited.answer.withLock { $0?.count } == 0)
            worker.tell("end")
            sim.drain()
            #expect(awaited.answer.withLock { $0?.error?.code } == .cancelled, "seed \(seed)")
            #expect(worker.proc.isClosed == (restart == .temporary))
            // Its answer is late.
            for reply in kept.withLock({ $0 }) { reply("late") }
            #expect(sim.system.lateReplies == 1)
        }
    }

    @Test(arguments: [Receiver.async, .managedAsync], End.allCases)
    func messagesThatWerePassedOver(receiver: Receiver, end: End) throws {
        for (seed, restart) in Self.seeds.flatMap({ seed in Self.restarts.map { (seed, $0) } }) {
            let sim = Simulation(seed: seed, containsTraps: true)
            let trace = sim.trace
            let tree = try sim.system.supervise(intensity: .unlimited) {
                let children = Children("worker", restart: restart) { context in
                    if context.restarts == 0 {
                        _ = try await context.receive(String.self, matching: { $0 == "end" })
                        try end.happen(to: context.proc)
                        return await context.untilStopped()
                    }
                    for await message in context {
                        trace("\(message.payload)")
                        message.reply?("answer")
                    }
                }
                if receiver == .async { children } else { children.mailbox(.bounded(10)) }
            }
            let worker = try tree.refs("worker")[0]
            worker.tell(1)
            let asked = Answer(worker.request(2, as: String.self))
            worker.tell(3)
            sim.drain()
            worker.tell("end")
            worker.tell(4)
            sim.drain()
            if restart == .permanent {
                #expect(sim.trace.lines == ["1", "2", "3", "4"], "seed \(seed)")
                #expect(asked.value == "answer" && sim.system.deadLetters == 0)
            } else {
                #expect(sim.trace.lines == [] && sim.system.deadLetters == 4, "seed \(seed)")
                #expect(asked.error?.code == .processEnded && end.explains(asked.error?.reason))
            }
        }
    }

    @Test(arguments: Receiver.allCases, End.allCases)
    func streamsThatAreAttached(receiver: Receiver, end: End) throws {
        for (seed, restart) in Self.seeds.flatMap({ seed in Self.restarts.map { (seed, $0) } }) {
            let sim = Simulation(seed: seed, containsTraps: true)
            let (stream, continuation) = AsyncStream<Int>.makeStream()
            let isOver = Locked(false)
            continuation.onTermination = { _ in isOver.withLock { $0 = true } }
            let received = Locked<[Int]>([])
            let tree = try sim.system.supervise(intensity: .unlimited) {
                receiver.children("worker", restart: restart) { message, context in
                    switch message.payload as? String {
                    case "attach":
                        switch context {
                        case .async(let context): context.attach(stream, as: { $0 })
                        case .reactive(let proc): ReactiveContext<Handler>(proc).attach(stream, as: { AnyMessage($0) })
                        }
                    case "end": try end.happen(to: context.proc)
                    default: if let n = message.payload as? Int { received.withLock { $0.append(n) } }
                    }
                }
            }
            let worker = try tree.refs("worker")[0]
            worker.tell("attach")
            for n in 0..<5 { continuation.yield(n) }
            sim.drain()
            #expect(received.withLock { $0 } == Array(0..<5) && !isOver.withLock { $0 })
            worker.tell("end")
            sim.drain()
            #expect(isOver.withLock { $0 }, "seed \(seed)")
            continuation.yield(5)
            sim.advance(by: .seconds(10))
            #expect(received.withLock { $0.count } == 5 && sim.system.deadLetters == 0)
        }
    }
}
