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
            // The stash comes first, then what waited; timers are gone, those that had fired too; the piped answer comes.
            #expect(
                fate.sim.trace.lines == ["stashed", "stashed ask", "queued", "queued ask", "piped"],
                "seed \(seed)"
            )
            #expect(fate.stashed.value == "answer" && fate.queued.value == "answer")
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
            for answer in [fate.inHand, fate.stashed, fate.queued] {
                #expect(answer.error?.code == .processEnded && end.explains(answer.error?.reason), "seed \(seed)")
            }
            #expect(fate.sim.trace.lines == [])
            #expect(fate.forwarded.value == "forwarded")
            // The stash and what waited, two each.
            #expect(fate.sim.system.deadLetters == 4)
        }
    }
}
