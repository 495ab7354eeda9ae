// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc
import Testing

@testable import Supervision

/// Mailboxes with a policy: what senders, receivers and dead letters see, in virtual time.
@Suite struct ManagedMailboxTests {
    private let sim: Simulation

    init() { sim = Simulation() }

    private init(_ sim: Simulation) { self.sim = sim }

    /// A tree with one reactive child `slow` that notes numbers, and one async child `async` that does, both with a policy.
    private func tree(_ policy: MailboxPolicy) throws -> SupervisorRef {
        let trace = sim.trace
        return try sim.system.supervise {
            Children("slow", Noting(trace: trace), restart: .permanent).mailbox(policy)
            Children("async", restart: .permanent) { context in
                for await n in context.messages(of: Int.self) {
                    if n < 0 { throw Failure() }
                    trace("\(n)")
                }
            }.mailbox(policy)
        }
    }

    private struct Noting: Reactive {
        let trace: Trace
        mutating func receive(_ n: consuming Int, in context: borrowing ReactiveContext<Noting>) throws {
            if n < 0 { throw Failure() }
            trace("\(n)")
        }
    }

    @Test(arguments: ["slow", "async"])
    func aFullMailboxRefusesAndGivesTheMessageBack(name: String) throws {
        let tree = try tree(.bounded(2, .fail))
        let ref: ProcRef<Int> = try tree.group(name).members[0]
        #expect(ref.tell(1) && ref.tell(2))
        #expect(!ref.tell(3))
        let error = #expect(throws: SendError<Int>.self) { try ref.trySend(4) }
        guard case .full(4, ref.id) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(ref.mailboxCounters?.depth == 2)
        sim.drain()
        #expect(sim.trace.lines == ["1", "2"])
        #expect(sim.stops(tree))
        #expect(throws: SendError<Int>.self) { try ref.trySend(5) }
        #expect(sim.system.deadLetters == 0)
    }

    @Test(arguments: ["slow", "async"])
    func whatIsDroppedIsADeadLetter(name: String) throws {
        for (overflow, handled) in [(MailboxPolicy.Overflow.dropNewest, ["1", "2"]), (.dropOldest, ["2", "3"])] {
            let sim = Simulation()
            let suite = ManagedMailboxTests(sim)
            let letters = Locked<[DeadLetter]>([])
            let observation = sim.system.observeDeadLetters { letter in letters.withLock { $0.append(letter) } }
            let tree = try suite.tree(.bounded(2, overflow))
            let ref: ProcRef<Int> = try tree.group(name).members[0]
            for n in 1...3 { #expect(ref.tell(n)) }
            sim.drain()
            #expect(sim.trace.lines == handled)
            let letter = try #require(letters.withLock { $0.count == 1 ? $0[0] : nil })
            #expect(letter.reason == .overflow && letter.messageType == Int.self && letter.receiver == ref.id)
            #expect(ref.mailboxCounters?.dropped == 1)
            observation.cancel()
        }
    }

    @Test(arguments: ["slow", "async"])
    func aSenderWaitsForRoom(name: String) throws {
        let tree = try tree(.bounded(1))
        let ref: ProcRef<Int> = try tree.group(name).members[0]
        let trace = sim.trace
        #expect(ref.tell(0))
        let sender = sim.executor.spawn {
            for n in 1...3 {
                try await ref.send(n)
                trace("sent \(n)")
            }
        }
        sim.drain()
        #expect(sim.trace.lines.filter { !$0.hasPrefix("sent") } == ["0", "1", "2", "3"])
        #expect(sim.trace.lines.filter { $0.hasPrefix("sent") } == ["sent 1", "sent 2", "sent 3"])
        withExtendedLifetime(sender) {}
    }

    @Test func aSenderThatWaitsLearnsThatTheProcessIsClosed() throws {
        let trace = sim.trace
        let tree = try sim.system.supervise {
            Children("deaf") { context in await context.untilStopped() }.mailbox(.bounded(1))
        }
        let ref: ProcRef<Int> = try tree.group("deaf").members[0]
        #expect(ref.tell(0))
        let waiting = sim.executor.spawn {
            do {
                try await ref.send(1)
                trace("sent")
            } catch {
                guard let error = error as? SendError<Int>, case .closed = error else { return }
                trace("closed: \(error.message)")
            }
        }
        let cancelled = sim.executor.spawn {
            do {
                try await ref.send(2)
                trace("sent")
            } catch {
                guard let error = error as? SendError<Int>, case .cancelled = error else { return }
                trace("cancelled: \(error.message)")
            }
        }
        sim.drain()
        #expect(ref.mailboxCounters?.waitingSenders == 2)
        cancelled.cancel()
        sim.drain()
        #expect(sim.trace.lines == ["cancelled: 2"])
        #expect(sim.stops(tree))
        #expect(sim.trace.lines == ["cancelled: 2", "closed: 1"])
        #expect(sim.system.deadLetters == 1)
        withExtendedLifetime(waiting) {}
    }

    @Test(arguments: ["slow", "async"])
    func messagesAndBoundSurviveARestart(name: String) throws {
        let tree = try tree(.bounded(3, .fail))
        let ref: ProcRef<Int> = try tree.group(name).members[0]
        #expect(ref.tell(-1) && ref.tell(1) && ref.tell(2))
        #expect(!ref.tell(3))
        sim.drain()
        #expect(sim.trace.lines == ["1", "2"])
        #expect(sim.system.restarts == 1)
        #expect(ref.tell(4))
        sim.drain()
        #expect(sim.trace.lines == ["1", "2", "4"])
        #expect(ref.mailboxCounters?.taken == 4)
    }

    /// The token of a message may be in the hands of a task that is sealed before it gets its turn.
    @Test func aMessageWhoseTokenIsLostIsTheNextIncarnations() throws {
        let trace = sim.trace
        let tree = try sim.system.supervise {
            Children("child") { context in
                if context.restarts == 0 { return await context.untilStopped() }
                for await n in context.messages(of: Int.self) { trace("\(n)") }
            }.mailbox(.unbounded)
        }
        let ref: ProcRef<Int> = try tree.group("child").members[0]
        sim.drain()
        ref.tell(1)
        ref.tell(2)
        // As a task takes it that never runs again.
        #expect(ref.proc.takeNode()?.open(as: Envelope.self).message.message is QueueToken)
        ref.proc.kill()
        sim.drain()
        #expect(sim.trace.lines == ["1", "2"])
        ref.tell(3)
        sim.drain()
        #expect(sim.trace.lines == ["1", "2", "3"])
    }

    @Test func urgentMessagesComeFirst() throws {
        let tree = try tree(.unbounded.prioritized(levels: 10) { (n: Int) in n / 10 })
        for name in ["slow", "async"] {
            sim.trace.clear()
            let ref: ProcRef<Int> = try tree.group(name).members[0]
            for n in [35, 12, 30, 11, 99, 5, 1_000] { #expect(ref.tell(n)) }
            ref.tell(7, lane: .control)
            sim.drain()
            #expect(sim.trace.lines == ["7", "5", "12", "11", "35", "30", "99", "1000"])
        }
    }

    @Test(arguments: ["slow", "async"])
    func whatWaitedTooLongIsDropped(name: String) throws {
        let tree = try tree(.unbounded.expiring(after: .seconds(1)))
        let ref: ProcRef<Int> = try tree.group(name).members[0]
        sim.drain()
        ref.tell(1)
        sim.executor.passTime(to: sim.executor.now + .seconds(2))
        ref.tell(2)
        sim.drain()
        #expect(sim.trace.lines == ["2"])
        #expect(ref.mailboxCounters?.expired == 1 && sim.system.deadLetters == 1)
    }

    @Test func anAskEndsAsItsMailboxDecides() throws {
        let tree = try sim.system.supervise {
            Children("deaf") { context in await context.untilStopped() }.mailbox(.bounded(1, .dropOldest))
            Children("closed to more") { context in await context.untilStopped() }.mailbox(.bounded(1, .fail))
        }
        let outcomes = Trace()
        func ask(_ name: String, _ label: String) throws {
            let ref: ProcRef<Reply<Int>> = try tree.group(name).members[0]
            ref.request(within: .seconds(60)) { $0 }.whenComplete { result in
                if case .failure(let error) = result { outcomes("\(label): \(error.code)") }
            }
        }
        try ask("deaf", "first")
        try ask("deaf", "second")
        try ask("closed to more", "third")
        try ask("closed to more", "fourth")
        sim.drain()
        #expect(Set(outcomes.lines) == ["first: \(AskError.Code.dropped)", "fourth: \(AskError.Code.full)"])
        #expect(sim.stops(tree))
        #expect(outcomes.lines.filter { $0.hasSuffix("\(AskError.Code.processEnded)") }.count == 2)
    }

    @Test func anAskThatNobodyWaitsForIsNotHandled() throws {
        let trace = sim.trace
        let tree = try sim.system.supervise {
            Children("late") { context in
                try await context.sleep(for: .seconds(2))
                for await ask in context.messages(of: Reply<Int>.self) {
                    trace("handled")
                    ask(1)
                }
            }.mailbox(.unbounded)
        }
        let ref: ProcRef<Reply<Int>> = try tree.group("late").members[0]
        ref.request(within: .seconds(1)) { $0 }.whenComplete { trace("\($0)") }
        ref.request(within: .seconds(3)) { $0 }.whenComplete { _ in trace("answered") }
        sim.advance(by: .seconds(4))
        #expect(sim.trace.lines.count == 3 && sim.trace.lines[1...] == ["handled", "answered"])
        #expect(ref.mailboxCounters?.lateAsks == 1 && sim.system.deadLetters == 0)
    }

    @Test func anAskWaitsForRoomUntilItsTimeIsUp() throws {
        let trace = sim.trace
        let tree = try sim.system.supervise {
            Children("deaf") { context in await context.untilStopped() }.mailbox(.bounded(1))
        }
        let ref: ProcRef<Reply<Int>> = try tree.group("deaf").members[0]
        ref.request(within: .seconds(9)) { $0 }.whenComplete { _ in }
        let asking = sim.executor.spawn {
            do { _ = try await ref.ask(within: .seconds(1)) { $0 } } catch {
                trace("\((error as? AskError)?.code.description ?? "")")
            }
        }
        sim.drain()
        #expect(ref.mailboxCounters?.waitingSenders == 1)
        sim.advance(by: .seconds(2))
        #expect(sim.trace.lines == ["\(AskError.Code.timeout)"])
        #expect(ref.mailboxCounters?.waitingSenders == 0)
        withExtendedLifetime(asking) {}
    }

    @Test(arguments: [
        MailboxPolicy.bounded(0), .unbounded.expiring(after: .zero), .unbounded.shedding(above: .zero),
        .unbounded.shedding(above: .seconds(1), for: .zero), .unbounded.prioritized(levels: 65) { (n: Int) in n },
    ])
    func aPolicyThatMakesNoSenseIsRefused(policy: MailboxPolicy) {
        let error = #expect(throws: SupervisionError.self) { try tree(policy) }
        #expect(error?.code == .badMailbox)
    }
}
