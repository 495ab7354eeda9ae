// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc
import Testing

@testable import Supervision

/// Asks that are handed on, collected, piped; answers that come late; broadcasts down a tree.
@Suite struct AskingTests {
    private let sim = Simulation()

    @Test(arguments: Receiver.allCases)
    func aForwardedQuestionKeepsItsSenderAndItsAsk(receiver: Receiver) throws {
        let trace = sim.trace
        let kept = Locked<AnyReply?>(nil)
        let tree = try sim.system.supervise(intensity: .unlimited) {
            receiver.children("second") { message, _ in
                try message.onQuestion(String.self) { text, reply in
                    trace("asked by \(message.sender)")
                    if text == "keep" { kept.withLock { $0 = reply } } else { reply(text.count) }
                }
                .onTell(Bool.self) { _, _ in throw Failure(number: 2) }
            }
        }
        let second = try tree.refs("second")[0]
        let first = try sim.system.supervise("firsts", intensity: .unlimited) {
            receiver.children("first") { message, context in
                try message.onTell(Bool.self) { _, _ in throw Failure(number: 1) }
                    .onFallback { #expect(context.forward($0, to: second)) }
            }
        }.refs("first")[0]
        let answer = Answer(first.request("four", as: Int.self))
        sim.drain()
        #expect(answer.value == 4)
        #expect(sim.trace.lines == ["asked by anonymous"])
        // The first one's end is of no interest any more, the second one's is.
        let second1 = Answer(first.request("keep", as: Int.self))
        sim.drain()
        first.tell(true)
        sim.drain()
        #expect(second1.count == 0)
        second.tell(true)
        sim.drain()
        #expect(second1.error?.code == .processEnded && second1.error?.process == second.id)
        guard case .error(let error)? = second1.error?.reason else {
            Issue.record("no error")
            return
        }
        #expect(error as? Failure == Failure(number: 2))
        withExtendedLifetime(kept) {}
    }

    /// Forwards asks in the typed way, or keeps them.
    private struct Front: Reactive {
        let back: ProcRef<Echo.Message>
        mutating func receive(_ message: consuming Echo.Message, in context: borrowing ReactiveContext<Self>) throws {
            if case .fail = message { throw Failure() }
            context.forward(message, to: back)
        }
    }

    @Test(arguments: [false, true])
    func aTypedForwardTakesTheAskInHandWithIt(isManaged: Bool) throws {
        let trace = sim.trace
        let tree = try sim.system.supervise(intensity: .unlimited) { Children("back", Echo("back", trace)) }
        let back = try tree.group("back", of: Echo.Message.self).members[0]
        let fronts = try sim.system.supervise("fronts", intensity: .unlimited) {
            let reactive = Children("reactive", Front(back: back))
            let async = Children("async") { context in
                for await message in context.messages(of: Echo.Message.self) {
                    if case .fail = message { throw Failure() }
                    context.forward(message, to: back)
                }
            }
            if isManaged { reactive.mailbox(.unbounded) } else { reactive }
            if isManaged { async.mailbox(.unbounded) } else { async }
        }
        for name in ["reactive", "async"] {
            let front = try fronts.group(name, of: Echo.Message.self).members[0]
            let kept = Answer(front.request { .keep($0) })
            sim.drain()
            front.tell(.fail)
            sim.drain()
            #expect(kept.count == 0)
            back.tell(.fail)
            sim.drain()
            #expect(kept.error?.code == .processEnded && kept.error?.process == back.id)
        }
        #expect(sim.stops(tree))
        let refused = Answer(try fronts.group("async", of: Echo.Message.self).members[0].request { .count($0) })
        sim.drain()
        #expect(refused.error?.code == .refused)
    }

    @Test func whoTheReplyIsDelegatedToAnswersForIt() throws {
        let trace = sim.trace
        let tree = try sim.system.supervise(intensity: .unlimited) {
            Children("back", Echo("back", trace))
            Children("idle", Echo("idle", trace))
        }
        let back = try tree.group("back", of: Echo.Message.self).members[0]
        let idle = try tree.group("idle", of: Echo.Message.self).members[0]
        let fronts = try sim.system.supervise("fronts", intensity: .unlimited) {
            Children("front") { context in
                for await message in context.messages(of: Echo.Message.self) {
                    switch message {
                    case .count(let reply): reply.delegate(to: back) { .count($0) }
                    case .keep(let reply): reply.delegate(to: back) { .keep($0) }
                    case .drop(let reply):
                        reply.delegate(to: idle)
                        context.onExit { _ in withExtendedLifetime(reply) {} }
                    default: throw Failure()
                    }
                }
            }
        }
        let front = try fronts.group("front", of: Echo.Message.self).members[0]
        let count = Answer(front.request { .count($0) })
        sim.drain()
        #expect(count.value == 0)
        for (holder, make) in [(back, Echo.Message.keep), (idle, Echo.Message.drop)] {
            let answer = Answer<Int>(front.request { make($0) })
            sim.drain()
            if holder.id == back.id { front.tell(.fail) }
            sim.drain()
            #expect(answer.count == 0)
            holder.tell(.fail)
            sim.drain()
            #expect(answer.error?.code == .processEnded && answer.error?.process == holder.id)
        }
        #expect(sim.stops(tree))
        let late = Answer(front.request { .count($0) })
        let later = Answer(front.request { .drop($0) })
        sim.drain()
        #expect(late.error?.code == .refused)
        #expect(later.error?.code == .processEnded)
    }

    @Test func aLateAnswerIsDroppedAndCounted() throws {
        let trace = sim.trace
        let tree = try sim.system.supervise {
            Children("echo", Echo("echo", trace))
            Receiver.reactive.children("dynamic") { message, context in
                message.onQuestion(Int.self) { n, reply in
                    _ = context.proc.scheduler.schedule(after: .seconds(2)) { reply(n) }
                }
            }
        }
        let echo = try tree.group("echo", of: Echo.Message.self).members[0]
        let inTime = Answer(echo.request { .keep($0) })
        let timedOut = Answer(echo.request(within: .seconds(1)) { .keep($0) })
        let cancelled = echo.request { .keep($0) }
        let dynamic = Answer(try tree.refs("dynamic")[0].request(1, as: Int.self, within: .seconds(1)))
        cancelled.cancel()
        sim.drain()
        sim.advance(by: .seconds(2))
        // The second answer of one ask is not late, but superfluous.
        echo.tell(.answerKept(1))
        sim.drain()
        #expect(inTime.value == 1 && timedOut.error?.code == .timeout && dynamic.error?.code == .timeout)
        #expect(sim.system.lateReplies == 3)
        // Of a process that nobody supervises the oldest system on the executor counts.
        let spawned = sim.system.spawn(Echo("spawned", trace))
        let other = spawned.request { .keep($0) }
        sim.drain()
        other.cancel()
        spawned.tell(.answerKept(1))
        sim.drain()
        #expect(sim.system.lateReplies == 4)
    }

    @Test func aFanOutCollectsWhatCameInTime() throws {
        let sim = self.sim
        let tree = try sim.system.supervise(intensity: .unlimited) {
            Children("worker", redundancy: 4) { context in
                for await message in context.messages(of: Echo.Message.self) {
                    guard case .count(let reply) = message else { continue }
                    switch context.name {
                    case "worker-0": reply(0)
                    case "worker-1": throw Failure()
                    case "worker-2": try await context.sleep(for: .seconds(9))
                    default:
                        try await context.sleep(for: .milliseconds(500))
                        reply(3)
                    }
                }
            }
        }
        let group = try tree.group("worker", of: Echo.Message.self)
        let asker = sim.executor.spawn {
            let results = await group.askAll(within: .seconds(1)) { .count($0) }
            sim.note(
                results.map { result in
                    switch result {
                    case .success(let n): "\(n)"
                    case .failure(let error): error.code.description
                    }
                }.joined(separator: ", ")
            )
        }
        sim.advance(by: .seconds(2))
        #expect(sim.trace.lines == ["1000: 0, the process ended, no answer within the time, 3"])
        withExtendedLifetime(asker) {}
    }

    @Test func aDynamicFanOutReturnsWhenAllHaveAnswered() throws {
        let sim = self.sim
        let tree = try sim.system.supervise {
            for receiver in Receiver.allCases {
                receiver.children(receiver.rawValue) { message, _ in
                    message.onQuestion(Int.self) { n, reply in reply(n + 1) }
                }
            }
        }
        let refs = try Receiver.allCases.map { try tree.refs($0.rawValue)[0] }
        let asker = sim.executor.spawn {
            let results = await refs.askAll(1, as: Int.self)
            sim.note("\(results.compactMap { try? $0.get() })")
        }
        sim.drain()
        #expect(sim.trace.lines == ["0: [2, 2, 2, 2]"])
        withExtendedLifetime(asker) {}
    }

    @Test func aBroadcastReachesTheWholeSubtree() throws {
        let trace = sim.trace
        let first = try sim.system.supervise("first") {
            Children("top") { context in
                try context.supervise("below") {
                    Receiver.managedReactive.children("low", redundancy: 2) { message, _ in
                        message.onBroadcast(Int.self) { trace("low \($0)") }
                    }
                    Children("echo", Echo("echo", trace))
                }
                for await message in context { message.onBroadcast(Int.self) { trace("top \($0)") } }
            }
        }
        try sim.system.supervise("second") {
            Receiver.reactive.children("other") { message, _ in message.onBroadcast(Int.self) { trace("other \($0)") } }
        }
        sim.drain()
        trace.clear()
        #expect(first.broadcast(1) == 3)
        sim.drain()
        #expect(trace.lines.sorted() == ["low 1", "low 1", "top 1"])
        trace.clear()
        #expect(sim.system.broadcast(2) == 4)
        sim.drain()
        #expect(trace.lines.sorted() == ["low 2", "low 2", "other 2", "top 2"])
        // A typed child gets a value of its type.
        #expect(sim.system.broadcast(Echo.Message.value(3)) == 5)
        #expect(sim.stops(first))
        #expect(sim.system.broadcast(4) == 1)
    }

    private struct Piping: Reactive {
        enum Message: Sendable {
            case ask(ProcRef<Echo.Message>)
            case outcome(Result<Int, AskError>)
        }
        let trace: Trace
        mutating func receive(_ message: consuming Message, in context: borrowing ReactiveContext<Self>) throws {
            switch message {
            case .ask(let ref): context.pipeToSelf(ref.request(within: .seconds(1)) { .count($0) }) { .outcome($0) }
            case .outcome(.success(let n)): trace("\(n)")
            case .outcome(.failure(let error)): trace(error.code.description)
            }
        }
    }

    @Test func thePendingAnswerIsPipedToSelf() throws {
        let trace = sim.trace
        let tree = try sim.system.supervise {
            Children("echo", Echo("echo", trace))
            Children("piping", Piping(trace: trace))
            Children("async") { context in
                let ref: ProcRef<Echo.Message> = try await context.receive()
                context.pipeToSelf(ref.request { .count($0) }) { (try? $0.get()) ?? -1 }
                trace("async \(try await context.receive(Int.self))")
                await context.untilStopped()
            }
        }
        let echo = try tree.group("echo", of: Echo.Message.self).members[0]
        sim.drain()
        trace.clear()
        let piping = try tree.group("piping", of: Piping.Message.self).members[0]
        piping.tell(.ask(echo))
        try tree.group("async", of: ProcRef<Echo.Message>.self).tell(echo)
        sim.drain()
        #expect(trace.lines.sorted() == ["0", "async 0"])
        trace.clear()
        echo.tell(.finish)
        #expect(sim.stops(tree))
    }
}
