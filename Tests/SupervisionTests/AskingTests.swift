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

    // MARK: As they come

    @Test func answersAreHandedOutAsTheyCome() throws {
        let sim = self.sim
        let tree = try sim.system.supervise(intensity: .unlimited) {
            Children("worker", redundancy: 5) { context in
                for await message in context.messages(of: Echo.Message.self) {
                    guard case .count(let reply) = message else { continue }
                    switch context.name {
                    case "worker-0": try await context.sleep(for: .milliseconds(500))
                    case "worker-1": try await context.sleep(for: .seconds(9))
                    case "worker-2": throw Failure()
                    case "worker-3": try await context.sleep(for: .milliseconds(200))
                    default: break
                    }
                    reply(1)
                }
            }
        }
        let group = try tree.group("worker", of: Echo.Message.self)
        let asker = sim.executor.spawn {
            let answers = group.askEach(within: .seconds(1)) { .count($0) }
            for await answer in answers {
                #expect(group.members[answer.number].id == answer.process)
                switch answer.result {
                case .success: sim.note("\(answer.number) answers")
                case .failure(let error): sim.note("\(answer.number): \(error.code)")
                }
            }
            #expect(answers.count == 5)
            var iterator = answers.makeAsyncIterator()
            #expect(await iterator.next() == nil)
        }
        sim.advance(by: .seconds(2))
        let lines = sim.trace.lines
        #expect(Set(lines.prefix(2)) == ["0: 4 answers", "0: 2: the process ended"])
        #expect(
            lines.dropFirst(2) == ["200: 3 answers", "500: 0 answers", "1000: 1: no answer within the time"]
        )
        withExtendedLifetime(asker) {}
    }

    /// Who has heard enough gives up the rest: their answers are late.
    @Test(arguments: ["break", "cancel", "first"])
    func whatIsOpenIsGivenUp(how: String) throws {
        let sim = self.sim
        let tree = try sim.system.supervise {
            for (name, time) in [("a", 1), ("b", 2), ("c", 3)] {
                Children(name) { context in
                    for await message in context {
                        try await context.sleep(for: .seconds(time))
                        message.reply?(time)
                    }
                }
            }
        }
        let refs = try ["a", "b", "c"].map { try tree.refs($0)[0] }
        let asker = sim.executor.spawn {
            let answers = refs.askEach("?", as: Int.self, within: .seconds(9))
            if how == "first" {
                sim.note("\(await answers.firstValue() ?? 0)")
                return
            }
            for await answer in answers {
                sim.note("\((try? answer.result.get()).map { "\($0)" } ?? "\(answer.number) given up")")
                if how == "break" { break }
            }
        }
        sim.advance(by: .milliseconds(1_500))
        if how == "cancel" { asker.cancel() }
        sim.advance(by: .seconds(9))
        #expect(sim.trace.lines.first == "1000: 1")
        let rest = how == "cancel" ? ["1500: 1 given up", "1500: 2 given up"] : []
        #expect(sim.trace.lines.dropFirst().sorted() == rest)
        #expect(sim.system.lateReplies == 2)
    }

    @Test func nobodyToAskIsTheEndAtOnce() throws {
        let sim = self.sim
        let asker = sim.executor.spawn {
            for await _ in [AnyRef]().askEach(1, as: Int.self) { sim.note("an answer") }
            sim.note("over")
        }
        sim.drain()
        #expect(sim.trace.lines == ["0: over"])
        withExtendedLifetime(asker) {}
    }

    @Test func aCircleOverTheLastOpenAnswerIsFound() throws {
        let sim = self.sim
        let other = Locked<ProcRef<Echo.Message>?>(nil)
        let tree = try sim.system.supervise(intensity: .unlimited) {
            Children("first") { context in
                let group = try context.group(of: Echo.Message.self)
                for await message in context.messages(of: Echo.Message.self) {
                    guard case .count(let reply) = message, let other = other.withLock({ $0 }) else { continue }
                    for await answer in [other.dynamic].askEach(1, as: Int.self, within: .seconds(60)) {
                        if case .failure(let error) = answer.result { sim.note("\(error.code)") }
                    }
                    reply(group.members.count)
                }
            }
            Children("second") { context in
                for await message in context {
                    guard let reply = message.reply else { continue }
                    let first: ProcRef<Echo.Message> = try context.supervisor!.group("first").members[0]
                    // Asks back; either of the two may be the one that finds the circle.
                    do {
                        let n: Int = try await first.ask(within: .seconds(60)) { .count($0) }
                        reply(n)
                    } catch let error as AskError { sim.note("\(error.code)") }
                }
            }
        }
        other.withLock { $0 = try? tree.group("second", of: Echo.Message.self).members[0] }
        let answer = Answer<Int>(try tree.group("first", of: Echo.Message.self).members[0].request { .count($0) })
        sim.advance(by: .seconds(1))
        #expect(sim.trace.lines.first == "50: \(AskError.Code.cycle)")
        #expect(answer.value == 1)
    }

    @Test func requestsOfAllAreNotWaitedFor() throws {
        let trace = sim.trace
        let tree = try sim.system.supervise { Children("echo", Echo("echo", trace), redundancy: 3) }
        let group = try tree.group("echo", of: Echo.Message.self)
        group.members[1].tell(.value(0))
        let answers = group.requestAll { .count($0) }.map { Answer($0) }
        sim.drain()
        #expect(answers.map(\.value) == [0, 1, 0])
        let dynamic = group.dynamic.requestAll(1, as: Int.self).map { Answer($0) }
        #expect(dynamic.map { $0.error?.code } == [.wrongMessage, .wrongMessage, .wrongMessage])
    }

    // MARK: Room

    /// A receiver whose mailbox has room for one and lets others wait; "go" in the control lane lets it handle.
    private func narrow(_ isReactive: Bool) throws -> AnyRef {
        let sim = self.sim
        let tree = try sim.system.supervise {
            if isReactive {
                Children(
                    "narrow",
                    Handler { message, _ in
                        sim.note("\(message.payload)")
                        message.reply?("answer")
                    }
                ).mailbox(.bounded(1))
            } else {
                Children("narrow") { context in
                    _ = try await context.receive(String.self, matching: { $0 == "go" })
                    for await message in context {
                        sim.note("\(message.payload)")
                        message.reply?("answer")
                    }
                }.mailbox(.bounded(1))
            }
        }
        return try tree.refs("narrow")[0]
    }

    @Test(arguments: [false, true])
    func dynamicAsksWaitForRoomToo(isReactive: Bool) throws {
        let sim = self.sim
        let ref = try narrow(isReactive)
        if isReactive { ref.tell(0) } else { ref.tell(0, lane: .user) }
        let full = Answer(ref.request(1, as: String.self))
        #expect(full.error?.code == .full)
        let handle = sim.executor.spawn {
            do {
                sim.note(try await ref.ask(2, as: String.self, within: .seconds(5)))
                sim.note(try await ref.askAnonymously(3, as: String.self, within: .seconds(5)))
                let all = await [ref, ref].askAll(4, as: String.self)
                sim.note("\(all.count { (try? $0.get()) == "answer" })")
                var count = 0
                for await answer in [ref, ref, ref].askEach(5, as: String.self) {
                    if case .success = answer.result { count += 1 }
                }
                sim.note("\(count)")
            } catch { sim.note("\(error)") }
        }
        for _ in 0..<100 { sim.executor.step() }
        ref.tell("go", lane: .control)
        sim.drain()
        let lines = sim.trace.lines.filter { $0 != "0: go" }
        #expect(
            lines.filter { !$0.hasSuffix("answer") }
                == ["0: 0", "0: 2", "0: 3", "0: 4", "0: 4", "0: 2", "0: 5", "0: 5", "0: 5", "0: 3"]
        )
        #expect(ProcRef<AnyMessage>(ref.proc).mailboxCounters?.waitingSenders == 0)
        withExtendedLifetime(handle) {}
    }

    @Test func aDynamicAskThatFindsNoRoomEndsWithItsTime() throws {
        let sim = self.sim
        let deaf = try sim.system.supervise {
            Children("deaf") { context in await context.untilStopped() }.mailbox(.bounded(1))
        }
        let ref = try deaf.refs("deaf")[0]
        ref.tell(0)
        let messages = ProcRef<AnyMessage>(ref.proc)
        let asker = sim.executor.spawn {
            for time in [1, 60] {
                do {
                    _ = try await ref.ask(1, as: Int.self, within: .seconds(time))
                } catch let error as AskError { sim.note("\(error.code)") }
            }
        }
        sim.drain()
        #expect(messages.mailboxCounters?.waitingSenders == 1)
        sim.advance(by: .seconds(1))
        #expect(sim.trace.lines == ["1000: \(AskError.Code.timeout)"])
        #expect(messages.mailboxCounters?.waitingSenders == 1)
        #expect(sim.stops(deaf))
        #expect(sim.trace.lines == ["1000: \(AskError.Code.timeout)", "1000: \(AskError.Code.refused)"])
        #expect(sim.system.deadLetters == 1)
        withExtendedLifetime(asker) {}
    }

    // MARK: What nobody takes back

    @Test(arguments: Receiver.allCases)
    func whatIsSentInNobodysNameIsADeadLetterIfRefused(receiver: Receiver) throws {
        let letters = Locked<[String]>([])
        let observation = sim.system.observeDeadLetters { letter in letters.withLock { $0.append(letter.description) } }
        let trace = sim.trace
        let tree = try sim.system.supervise { receiver.children("worker", restart: .temporary) { _, _ in } }
        let others = try sim.system.supervise("others") { Children("echo", Echo("echo", trace)) }
        let worker = try tree.refs("worker")[0]
        let echo = try others.group("echo", of: Echo.Message.self).members[0]
        worker.tell("later", after: .seconds(1))
        if receiver.isAsync {
            ProcRef<String>(worker.proc).tell("later", after: .seconds(1))
        } else {
            ProcRef<AnyMessage>(worker.proc).tell(AnyMessage("later"), after: .seconds(1))
        }
        echo.request { .keep($0) }.pipe(to: worker) { _ in "piped" }
        #expect(sim.stops(tree))
        sim.advance(by: .seconds(1))
        echo.tell(.answerKept(1))
        sim.drain()
        #expect(letters.withLock { $0 } == Array(repeating: "String to \(worker): its receiver has ended", count: 3))
        observation.cancel()
    }

    @Test(arguments: [MailboxPolicy.Overflow.suspend, .fail], [false, true])
    func aPipedOutcomeWaitsForRoomWhereSendersDo(overflow: MailboxPolicy.Overflow, isDynamic: Bool) throws {
        let sim = self.sim
        let trace = sim.trace
        let tree = try sim.system.supervise {
            Children("worker") { context in
                try await context.sleep(for: .seconds(1))
                for await message in context { trace("\(message.payload)") }
            }.mailbox(.bounded(1, overflow))
            Children("echo", Echo("echo", trace))
        }
        let worker = try tree.refs("worker")[0]
        let echo = try tree.group("echo", of: Echo.Message.self).members[0]
        trace.clear()
        worker.tell("first")
        for n in 1...2 {
            let pending = echo.request { .count($0) }
            if isDynamic {
                pending.pipe(to: worker) { _ in "piped \(n)" }
            } else {
                pending.pipe(to: ProcRef<String>(worker.proc)) { _ in "piped \(n)" }
            }
            for _ in 0..<100 { sim.executor.step() }
        }
        worker.tell("full", after: .milliseconds(500))
        sim.advance(by: .seconds(2))
        let waits = overflow == .suspend
        #expect(trace.lines.filter { !$0.hasPrefix("start") } == ["first"] + (waits ? ["piped 1", "piped 2"] : []))
        #expect(sim.system.deadLetters == (waits ? 1 : 3))
    }
}
