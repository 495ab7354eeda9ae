// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import LightProc
import Logging
import TestSupport
import Testing

@testable import Supervision

/// Signs of life: who is alive, who is not, and what follows.
@Suite struct HeartbeatTests {
    // MARK: Pure

    @Test func eachMemberHasItsTurnOnceAPeriod() {
        var monitor = HeartbeatMonitor(Heartbeat(every: .seconds(6), within: .seconds(1), misses: 2))
        #expect(monitor.next() == nil && monitor.pause == .seconds(6))
        for id: UInt64 in 1...3 { monitor.add(id) }
        monitor.add(2)
        #expect(monitor.pause == .seconds(2))
        #expect((0..<4).map { _ in monitor.next() } == [1, 2, 3, 1])
        monitor.remove(1)
        #expect(monitor.pause == .seconds(3))
        #expect((0..<3).map { _ in monitor.next() } == [2, 3, 2])
        monitor.remove(9)
        monitor.add(4)
        #expect((0..<3).map { _ in monitor.next() } == [3, 4, 2])
    }

    @Test func turnsStayInOrderWhenMostHaveLeft() {
        var monitor = HeartbeatMonitor(Heartbeat(every: .seconds(6), within: .seconds(1), misses: 2))
        for id: UInt64 in 1...100 { monitor.add(id) }
        #expect((0..<50).map { _ in monitor.next() } == Array(1...50))
        for id: UInt64 in 1...100 where id % 10 != 0 { monitor.remove(id) }
        #expect(monitor.pause == .milliseconds(600))
        #expect((0..<12).map { _ in monitor.next() } == [60, 70, 80, 90, 100, 10, 20, 30, 40, 50, 60, 70])
        #expect(monitor.asked(70, 1, isAlive: false, at: .seconds(1)) == .owes)
        #expect(monitor.looked(70, 1, isAlive: false, at: .seconds(2)) == .missed(1))
    }

    @Test func onlySilenceInARowCounts() {
        var monitor = HeartbeatMonitor(Heartbeat(every: .seconds(6), within: .seconds(1), misses: 2))
        monitor.add(1)
        #expect(monitor.asked(1, 1, isAlive: true, at: .seconds(1)) == .alive)
        #expect(monitor.asked(1, 1, isAlive: false, at: .seconds(6)) == .owes)
        #expect(monitor.looked(1, 1, isAlive: false, at: .seconds(7)) == .missed(1))
        #expect(monitor.asked(1, 1, isAlive: false, at: .seconds(12)) == .owes)
        #expect(monitor.looked(1, 1, isAlive: true, at: .seconds(13)) == .alive)
        #expect(monitor.asked(1, 1, isAlive: false, at: .seconds(18)) == .owes)
        #expect(monitor.looked(1, 1, isAlive: false, at: .seconds(19)) == .missed(1), "it started over")
        #expect(monitor.asked(1, 1, isAlive: false, at: .seconds(24)) == .owes)
        #expect(monitor.looked(1, 1, isAlive: false, at: .seconds(25)) == .dead(silentFor: .seconds(7)))
        #expect(monitor.asked(1, 1, isAlive: false, at: .seconds(30)) == .owes)
        #expect(monitor.looked(1, 1, isAlive: false, at: .seconds(31)) == .missed(3), "said once")
        #expect(monitor.asked(1, 2, isAlive: false, at: .seconds(36)) == .owes, "the next incarnation starts over")
        #expect(monitor.looked(1, 2, isAlive: false, at: .seconds(37)) == .missed(1))
        #expect(monitor.looked(1, 3, isAlive: false, at: .seconds(38)) == .alive, "nothing was asked of it yet")
        monitor.remove(1)
        #expect(monitor.looked(1, 2, isAlive: false, at: .seconds(43)) == .alive)
    }

    @Test(arguments: [
        (Duration.zero, Duration.seconds(1), 1), (.seconds(1), .zero, 1), (.seconds(1), .seconds(2), 1),
        (.seconds(1), .seconds(1), 0),
    ])
    func aHeartbeatThatMakesNoSenseIsRefused(every: Duration, within: Duration, misses: Int) {
        let error = #expect(throws: SupervisionError.self) {
            try Simulation().system.supervise {
                Children("a", body: noting(Trace())).heartbeat(every: every, within: within, misses: misses)
            }
        }
        #expect(error?.code == .badHeartbeat)
    }

    // MARK: In virtual time

    private static func spec(_ sim: Simulation, isReactive: Bool, isManaged: Bool, redundancy: Int = 1) -> Children {
        let trace = sim.trace
        let bare =
            isReactive
            ? Children("m", Noting(sim: sim), redundancy: redundancy)
            : Children("m", redundancy: redundancy) { context in
                context.onExit { sim.note("\(CallbackTests.kind($0))") }
                for await n in context.messages(of: Int.self) { trace("\(n)") }
            }
        return (isManaged ? bare.mailbox(.unbounded) : bare)
            .heartbeat(every: .seconds(10), within: .seconds(1), misses: 2)
    }

    private struct Noting: Reactive {
        let trace: Trace
        init(sim: Simulation) {
            trace = sim.trace
            LightProc.current?.onExit { sim.note("\(CallbackTests.kind($0))") }
        }
        mutating func receive(_ n: consuming Int, in context: borrowing ReactiveContext<Noting>) { trace("\(n)") }
    }

    @Test(arguments: [true, false], [true, false])
    func aMemberThatDoesNotGetOnIsEndedAndRestarted(isReactive: Bool, isManaged: Bool) throws {
        let observer = Delays()
        let sim = Simulation(observer: observer)
        let spec = Self.spec(sim, isReactive: isReactive, isManaged: isManaged)
        let tree = try sim.system.supervise(intensity: .unlimited) { spec }
        let member: ProcRef<Int> = try tree.group("m").members[0]
        sim.drain()
        // From 15 s on whatever is to run of it is held up, as by a handler that does not come back, until 45 s.
        sim.advance(by: .seconds(15))
        observer.set { proc, isJob in
            guard proc === member.proc, isReactive || isJob, sim.milliseconds < 45_000 else { return nil }
            return .seconds(45) - sim.executor.now
        }
        member.tell(1)
        sim.advance(by: .seconds(100))
        // Asked at 20 s and 30 s, dead at 31 s. An async member ends when its shutdown time is over, a reactive one when it
        // comes back.
        // What a task had taken that is sealed is lost with it; of a managed mailbox it had a token only.
        let taken = isReactive || isManaged ? ["1"] : []
        #expect(sim.trace.lines == [isReactive ? "45000: unresponsive" : "36000: unresponsive"] + taken)
        guard case .unresponsive(.seconds(11))? = member.proc.lastExit else {
            Issue.record("\(member.proc.lastExit as Any)")
            return
        }
        #expect(member.proc.restarts == 1 && sim.system.restarts == 1)
        member.tell(2)
        sim.drain()
        #expect(sim.trace.lines.last == "2")
    }

    @Test(arguments: [true, false])
    func whoAnswersInTimeIsLeftAlone(isReactive: Bool) throws {
        let observer = Delays()
        let sim = Simulation(observer: observer)
        let spec = Self.spec(sim, isReactive: isReactive, isManaged: false)
        let tree = try sim.system.supervise(intensity: .unlimited) { spec }
        let member: ProcRef<Int> = try tree.group("m").members[0]
        sim.drain()
        // One miss at 11 s, an answer before 21 s, one at 31 s, an answer, ...
        sim.advance(by: .seconds(9))
        for round in 0..<6 {
            let end = Duration.seconds(15 + 10 * round)
            observer.set { proc, isJob in
                proc === member.proc && (isReactive || isJob) && sim.executor.now < end ? end - sim.executor.now : nil
            }
            member.tell(round)
            sim.advance(by: .seconds(10))
        }
        #expect(sim.trace.lines == (0..<6).map { "\($0)" }, "\(sim.trace.lines)")
        #expect(member.proc.restarts == 0)
    }

    @Test func whoWaitsForSomethingIsAlive() throws {
        let sim = Simulation()
        let trace = sim.trace
        let tree = try sim.system.supervise(intensity: .unlimited) {
            Children("sleeper") { context in
                try await context.sleep(for: .seconds(3600))
                trace("slept")
                await context.untilStopped()
            }.heartbeat(every: .seconds(1), within: .seconds(1), misses: 1)
            Children("idle", Echo("idle", trace)).heartbeat(every: .seconds(1), within: .seconds(1), misses: 1)
            Children("parent") { context in
                await withTaskGroup(of: Void.self) { group in
                    for _ in 0..<3 { group.addTask { try? await context.sleep(for: .seconds(3600)) } }
                }
                trace("joined")
                await context.untilStopped()
            }.heartbeat(every: .seconds(1), within: .seconds(1), misses: 1)
            // It lives, and is down for most of the time.
            Children("loser", backoff: .constant(.seconds(7))) { _ in throw Failure() }
                .heartbeat(every: .seconds(1), within: .seconds(1), misses: 1)
        }
        sim.advance(by: .seconds(3700))
        #expect(trace.lines.sorted() == ["joined", "slept", "start idle"])
        for name in ["sleeper", "idle", "parent"] {
            #expect(try tree.supervisor.group(name).snapshot.members[0].restarts == 0, "\(name)")
        }
        guard case .error? = try tree.group("loser", of: Int.self).members[0].proc.lastExit else {
            Issue.record("loser")
            return
        }
        #expect(sim.stops(tree))
        // Nothing goes on afterwards.
        let steps = sim.executor.steps
        sim.advance(by: .seconds(100))
        #expect(sim.executor.steps == steps && sim.executor.nextTimer == nil)
    }

    @Test func anIdleGroupCostsOneTurnOfItsSupervisorForEachBeat() throws {
        let sim = Simulation()
        let tree = try sim.system.supervise {
            Children("m", Echo("m", sim.trace), redundancy: 10).heartbeat(every: .seconds(10), within: .seconds(1))
        }
        sim.drain()
        let steps = sim.executor.steps
        sim.advance(by: .seconds(100))
        #expect(sim.executor.steps - steps <= 101 && sim.executor.steps - steps >= 90)
        #expect(sim.executor.nextTimer != nil && sim.stops(tree) && sim.executor.nextTimer == nil)
    }

    @Test func membersThatComeAndGoAreFollowed() throws {
        let observer = Delays()
        let sim = Simulation(observer: observer)
        let spec = Self.spec(sim, isReactive: true, isManaged: true)
        let tree = try sim.system.supervise(intensity: .unlimited) { spec }
        try tree.resize(group: "m", to: 3)
        sim.drain()
        let group: Group<Int> = try tree.group("m")
        let stuck = group.members[2]
        observer.set { proc, _ in
            proc === stuck.proc && sim.milliseconds < 60_000 ? .seconds(60) - sim.executor.now : nil
        }
        stuck.tell(7)
        sim.advance(by: .seconds(100))
        #expect(sim.trace.lines == ["60000: unresponsive", "7"])
        try tree.resize(group: "m", to: 1)
        sim.advance(by: .seconds(100))
        #expect(sim.trace.lines.count == 4 && group.members.count == 1)
    }

    // MARK: On a pool

    /// The real thing: a job that blocks its worker. Bounded by the member's restart, not by time.
    @Test func aMemberThatBlocksItsThreadIsReplaced() async throws {
        try await withPool { system in
            let gate = PollGate()
            let tree = try system.supervise(intensity: .unlimited) {
                Children("m", shutdownTime: .milliseconds(20)) { context in
                    for await reply in context.messages(of: Reply<Int>.self) {
                        if context.restarts == 0 { gate.blockingWait() }
                        reply(context.restarts)
                    }
                }.heartbeat(every: .milliseconds(250), within: .milliseconds(250), misses: 2)
            }
            let member: ProcRef<Reply<Int>> = try tree.group("m").members[0]
            await #expect { _ = try await member.ask(within: .seconds(60)) { $0 } } throws: { error in
                guard let error = error as? AskError, case .unresponsive? = error.reason else { return false }
                return error.code == .processEnded
            }
            #expect(try await member.ask(within: .seconds(60)) { $0 } >= 1)
            gate.open()
        }
    }

    /// Long work on the blocking threads is none of the heartbeat's business.
    @Test func aMemberThatBlocksWithLeaveIsAlive() async throws {
        try await withPool { system in
            let gate = BlockingGate()
            let beats = Locked(0)
            let tree = try system.supervise {
                Children("m") { context in
                    for await reply in context.messages(of: Reply<Int>.self) {
                        try await context.blocking { gate.blockingWait() }
                        reply(context.restarts)
                    }
                }
                // So many in a row that a slow machine does not make it look dead, and fewer than there are while it blocks.
                .heartbeat(every: .milliseconds(10), within: .milliseconds(10), misses: 20)
                Children("clock") { context in
                    for await _ in context.ticks(every: .milliseconds(10)) {
                        let count = beats.withLock { beats in
                            beats += 1
                            return beats
                        }
                        if count == 40 { gate.open() }
                    }
                }
            }
            let member: ProcRef<Reply<Int>> = try tree.group("m").members[0]
            #expect(try await member.ask(within: .seconds(60)) { $0 } == 0)
        }
    }
}
