// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import LightProc
import Testing

@testable import Supervision

/// Delays what the seeded executor is about to run, while a test wants that: a member that does not get on, in virtual time.
final class Delays: SeededObserver {
    private let rule = Locked<(@Sendable (LightProc, Bool) -> Duration?)?>(nil)
    func set(_ new: (@Sendable (LightProc, _ isJob: Bool) -> Duration?)?) { rule.withLock { $0 = new } }
    func willRun(_ proc: LightProc, isJob: Bool, worker: Int, at time: Duration) -> Duration? {
        rule.withLock { $0 }?(proc, isJob)
    }
}

extension Simulation {
    init(seed: UInt64 = 1, observer: any SeededObserver) {
        executor = SeededExecutor(seed: seed, workers: 4, containsTraps: false, observer: observer)
        system = BastionSystem(name: "simulation", executor: executor, log: .silent)
    }

    /// Runs something asynchronous on the executor; true when it has returned once all is at rest.
    func completes(_ body: @escaping @Sendable () async throws -> Void) -> Bool {
        let handle = executor.spawn { try await body() }
        drain()
        if case .finished = handle.knownOutcome { return true }
        return false
    }
}

/// An async member that notes what it gets.
func noting(_ trace: Trace) -> @Sendable (Context) async throws -> Void {
    { context in
        for await n in context.messages(of: Int.self) { trace("\(context.name) \(n)") }
    }
}

/// Members and groups that come and go while their supervisor runs, in virtual time.
@Suite struct MembershipTests {
    private let sim = Simulation()

    private func names(_ group: Group<Int>) -> [String] { group.members.map { $0.proc.name ?? "" } }

    @Test func groupsAreAddedToARunningSupervisorAndStopBeforeThoseThatWereThere() throws {
        let trace = sim.trace
        func children(_ name: String) -> Children {
            Children(name, redundancy: 2) { context in
                trace("\(context.name) starts")
                context.onExit { _ in trace("\(context.name) ended") }
                await context.untilStopped()
            }
        }
        let tree = try sim.system.supervise { children("a") }
        sim.drain()
        try tree.children {
            children("b")
            children("c")
        }
        sim.drain()
        #expect(Set(sim.trace.lines.prefix(2)) == ["a-0 starts", "a-1 starts"] && sim.trace.lines.count == 6)
        #expect(try names(tree.group("b")) == ["b-0", "b-1"])
        sim.trace.clear()
        #expect(sim.stops(tree))
        #expect(sim.trace.lines == ["c-1", "c-0", "b-1", "b-0", "a-1", "a-0"].map { "\($0) ended" })
    }

    @Test func aNameThatIsTakenIsRefusedAndNothingIsAdded() throws {
        let tree = try sim.system.supervise { Children("a", body: noting(sim.trace)) }
        let error = #expect(throws: SupervisionError.self) {
            try tree.children {
                Children("b", body: noting(sim.trace))
                Children("a", body: noting(sim.trace))
            }
        }
        #expect(error?.code == .duplicateName)
        #expect(throws: SupervisionError.self) { try tree.group("b", of: Int.self) }
        #expect(sim.stops(tree))
        let late = #expect(throws: SupervisionError.self) {
            try tree.children { Children("c", body: noting(sim.trace)) }
        }
        #expect(late?.code == .supervisorStopped)
    }

    @Test func whatIsAddedToASupervisorThatIsStoppingIsClosed() throws {
        for seed in RandomTest.seeds(#function, count: 40) {
            let sim = Simulation(seed: seed)
            let tree = try sim.system.supervise { Children("a", redundancy: 3, body: noting(sim.trace)) }
            sim.drain()
            let ended = Locked(false)
            tree.stop { ended.withLock { $0 = true } }
            for _ in 0..<Int(seed % 14) { sim.executor.step() }
            guard (try? tree.children { Children("b", body: noting(sim.trace)) }) != nil else { continue }
            let group: Group<Int> = try tree.group("b")
            let member = group.next
            sim.drain()
            #expect(ended.withLock { $0 } && member.proc.isClosed && !group.tell(1), "SEED=\(seed)")
        }
    }

    @Test func aGroupIsTerminatedInReverseOrderWhileTheOthersGoOn() throws {
        let trace = sim.trace
        let tree = try sim.system.supervise(intensity: .unlimited) {
            Children("a", body: noting(trace))
            Children("b", redundancy: 3, backoff: .constant(.seconds(9))) { context in
                context.onExit { trace("\(context.name) \($0)") }
                if let n: Int = try? await context.receive() { throw Failure(number: n) }
            }
        }
        let (a, b): (Group<Int>, Group<Int>) = (try tree.group("a"), try tree.group("b"))
        sim.drain()
        // One of them waits in its backoff: it is not started again.
        b.members[1].tell(7)
        sim.drain()
        let members = b.members
        #expect(sim.completes { try await tree.terminate(group: "b") })
        sim.advance(by: .seconds(20))
        #expect(trace.lines == ["b-1 error: failure 7", "b-2 shutdown", "b-0 shutdown"])
        #expect(members.allSatisfy { $0.proc.isClosed } && b.members.isEmpty && !b.tell(1))
        #expect(throws: SupervisionError.self) { try tree.group("b", of: Int.self) }
        #expect(a.tell(5))
        sim.drain()
        #expect(trace.lines.last == "a-0 5")
        // The name is free again.
        try tree.children { Children("b", body: noting(trace)) }
        #expect(try tree.group("b", of: Int.self).tell(6))
        sim.drain()
        #expect(trace.lines.last == "b-0 6")
        #expect(!sim.completes { try await tree.terminate(group: "no such") })
    }

    @Test func terminatingAGroupOfASupervisorThatHasEndedReturns() throws {
        let tree = try sim.system.supervise { Children("a", body: noting(sim.trace)) }
        sim.drain()
        #expect(sim.stops(tree))
        #expect(sim.completes { try await tree.terminate(group: "a") })
    }

    @Test func aGroupIsSeenAsItIs() throws {
        let trace = sim.trace
        let tree = try sim.system.supervise {
            Children("w", redundancy: 2, body: noting(trace)).mailbox(.unbounded)
        }
        let group: Group<Int> = try tree.group("w")
        sim.drain()
        try tree.resize(group: "w", to: 4)
        sim.drain()
        #expect(names(group) == ["w-0", "w-1", "w-2", "w-3"])
        #expect(group.broadcast(0) == 4)
        for n in 1...8 { #expect(group.tell(n)) }
        sim.drain()
        for name in names(group) { #expect(trace.lines.count { $0.hasPrefix(name) } == 3, "\(trace.lines)") }
        let last = group.members[3]
        try tree.resize(group: "w", to: 1)
        sim.advance(by: .seconds(1))
        #expect(names(group) == ["w-0"])
        #expect(last.proc.isClosed && !last.tell(1))
        // Numbers that are free are used again.
        try tree.resize(group: "w", to: 2)
        sim.drain()
        #expect(names(group) == ["w-0", "w-1"])
        #expect(group.members[1].id != last.id)
        #expect(sim.stops(tree))
        #expect(!group.tell(1))
        #expect(names(group) == ["w-0", "w-1"], "nobody takes their place")
    }

    @Test func aMemberThatEndsForGoodLeavesTheGroup() throws {
        let trace = sim.trace
        let tree = try sim.system.supervise {
            Children("echo", Echo("echo", trace), redundancy: 2, restart: .transient)
        }
        let group: Group<Echo.Message> = try tree.group("echo")
        let first = group.members[0]
        first.tell(.finish)
        sim.drain()
        #expect(group.members.count == 1)
        for n in 0..<3 { #expect(group.tell(.value(n))) }
        sim.drain()
        #expect(trace.lines.count { $0.hasPrefix("echo ") } == 3)
    }

    @Test(arguments: [true, false], [true, false])
    func aMemberThatLeavesHandlesWhatItHasFirst(isReactive: Bool, isManaged: Bool) throws {
        let trace = sim.trace
        let bare =
            isReactive
            ? Children("w", Slow(trace), redundancy: 2)
            : Children("w", redundancy: 2) { context in
                for await n in context.messages(of: Int.self) {
                    // Stopping while it handles a message would cut it short.
                    do { try await context.sleep(for: .milliseconds(50)) } catch { trace("\(n) cut short") }
                    trace("\(n)")
                }
            }
        let children = isManaged ? bare.mailbox(.unbounded) : bare
        let tree = try sim.system.supervise { children }
        let group: Group<Int> = try tree.group("w")
        sim.drain()
        for n in 1...6 { #expect(group.tell(n)) }
        let leaving = group.members[1]
        if !isReactive { sim.advance(by: .milliseconds(10)) }
        try tree.resize(group: "w", to: 1)
        sim.executor.step()
        sim.advance(by: .seconds(1))
        #expect(Set(trace.lines) == Set((1...6).map { "\($0)" }), "\(trace.lines)")
        #expect(leaving.proc.isClosed && group.members.count == 1)
        guard case .shutdown? = leaving.proc.lastExit else {
            Issue.record("not shut down")
            return
        }
        #expect(sim.system.deadLetters == 0)
    }

    private struct Slow: Reactive {
        let trace: Trace
        init(_ trace: Trace) { self.trace = trace }
        mutating func receive(_ n: consuming Int, in context: borrowing ReactiveContext<Slow>) { trace("\(n)") }
    }

    @Test func growingTakesBackWhoIsStillLeaving() throws {
        let trace = sim.trace
        let tree = try sim.system.supervise {
            Children("w", redundancy: 2) { context in
                for await n in context.messages(of: Int.self) {
                    try await context.sleep(for: .seconds(1))
                    trace("\(n)")
                }
            }.mailbox(.unbounded)
        }
        let group: Group<Int> = try tree.group("w")
        sim.drain()
        for n in 1...4 { group.tell(n) }
        sim.drain()
        let ids = group.members.map(\.id)
        try tree.resize(group: "w", to: 1)
        sim.drain()
        #expect(group.members.count == 1)
        try tree.resize(group: "w", to: 3)
        sim.drain()
        #expect(group.members.prefix(2).map(\.id) == ids && names(group) == ["w-0", "w-1", "w-2"])
        sim.advance(by: .seconds(5))
        #expect(trace.lines.count == 4 && !group.members[1].proc.isClosed)
    }

    /// What `tell` took is handled exactly once, whatever comes and goes; without failures nothing is lost.
    @Test(arguments: [true, false])
    func noMessageIsLostWhileMembersComeAndGo(isReactive: Bool) throws {
        for seed in RandomTest.seeds(#function, count: 25) {
            var random = SplitMix64(seed: seed)
            let sim = Simulation(seed: seed)
            let trace = sim.trace
            let children =
                isReactive
                ? Children("w", Slow(trace), redundancy: 3).mailbox(.unbounded)
                : Children("w", redundancy: 3) { context in
                    for await n in context.messages(of: Int.self) {
                        if n % 3 == 0 { try await context.sleep(for: .milliseconds(n % 40)) }
                        trace("\(n)")
                    }
                }.mailbox(.unbounded)
            let tree = try sim.system.supervise { children }
            let group: Group<Int> = try tree.group("w")
            var held = group.members
            var sent: [Int] = []
            for n in 0..<400 {
                switch Int.random(in: 0..<10, using: &random) {
                case 0: try tree.resize(group: "w", to: Int.random(in: 1...8, using: &random))
                case 1: held = group.members
                case 2: sim.advance(by: .milliseconds(Int.random(in: 1...30, using: &random)))
                case 3...5: for _ in 0..<Int.random(in: 1...20, using: &random) { sim.executor.step() }
                // Directly, also to members that leave or have left.
                case 6: if let member = held.randomElement(using: &random), member.tell(n) { sent.append(n) }
                default:
                    #expect(group.tell(n), "SEED=\(seed): one member is always there")
                    sent.append(n)
                }
            }
            sim.advance(by: .seconds(60))
            #expect(trace.lines.compactMap { Int($0) }.sorted() == sent, "SEED=\(seed)")
            #expect(sim.system.deadLetters == 0, "SEED=\(seed)")
            #expect(sim.stops(tree))
        }
    }

    @Test func anAskReachesAnotherMemberWhenTheFirstIsLeaving() throws {
        let trace = sim.trace
        let tree = try sim.system.supervise { Children("echo", Echo("echo", trace), redundancy: 3).mailbox(.unbounded) }
        let group: Group<Echo.Message> = try tree.group("echo")
        sim.drain()
        // Its queue is closed, and the group does not know yet.
        #expect(group.members[0].proc.managedQueue?.closeIfEmpty() == true)
        #expect(!group.members[0].tell(.value(1)))
        tree.supervisor.groups.withLock { $0["echo"] }?.withdraw(group.members[0].proc, number: 0)
        let count = Locked(-1)
        let isAnswered = sim.completes {
            let answer: Int = try await group.ask { .count($0) }
            count.withLock { $0 = answer }
        }
        #expect(isAnswered && count.withLock { $0 } == 0)
    }

    /// On threads: senders, and somebody who changes the size all the time. Bounded by the answers.
    @Test(arguments: [true, false])
    func everyAskIsAnsweredWhileMembersComeAndGo(isReactive: Bool) async throws {
        try await withPool { system in
            let spec =
                isReactive
                ? Children("w", Doubling(), redundancy: 3)
                : Children("w", redundancy: 3) { context in
                    for await question in context.messages(of: Doubling.Question.self) {
                        await context.yield()
                        question.reply(question.number * 2)
                    }
                }
            let tree = try system.supervise { spec.mailbox(.unbounded) }
            let group: Group<Doubling.Question> = try tree.group("w")
            try await withThrowingTaskGroup(of: Void.self) { tasks in
                for _ in 0..<3 {
                    tasks.addTask {
                        for n in 0..<200 {
                            let answer = try await group.ask(within: .seconds(60)) {
                                Doubling.Question(number: n, reply: $0)
                            }
                            #expect(answer == n * 2)
                        }
                    }
                }
                tasks.addTask {
                    for n in 0..<200 {
                        try tree.resize(group: "w", to: 1 + n * 7 % 5)
                        await Task.yield()
                    }
                }
                try await tasks.waitForAll()
            }
            #expect(system.deadLetters == 0)
        }
    }

    private struct Doubling: Reactive {
        struct Question: Sendable {
            let number: Int
            let reply: Reply<Int>
        }
        mutating func receive(_ question: consuming Question, in context: borrowing ReactiveContext<Doubling>) {
            question.reply(question.number * 2)
        }
    }

    @Test func aMemberThatCameBackFromTheDeadLeavesAsOthersDo() throws {
        let trace = sim.trace
        let tree = try sim.system.supervise {
            Children("m", redundancy: 2) { context in
                context.onExit { _ in trace("\(context.name) ended") }
                for await _ in context.messages(of: Int.self) {}
            }
        }
        sim.drain()
        #expect(sim.completes { try await tree.terminate(child: "m-0") })
        #expect(sim.completes { try await tree.restart(child: "m-0") })
        trace.clear()
        // The new process came last.
        try tree.resize(group: "m", to: 1)
        sim.drain()
        #expect(trace.lines == ["m-0 ended"])
        #expect(names(try tree.group("m")) == ["m-1"])
        #expect(sim.stops(tree))
    }
}
