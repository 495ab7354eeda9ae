// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc
import Testing

@testable import Supervision

/// Links: with whom, for how long, and what they do. In virtual time.
@Suite struct LinkTests: OnStage {
    let sim = Simulation()
    let stage = Stage()

    @Test(arguments: Stage.Kind.withManaged)
    func aLinkWithADeadProcessHasItsEffectAtOnce(kind: Stage.Kind) throws {
        try start(kind, kind, kind)
        stage.end(2, .normal)
        sim.drain()
        tell(0, .trapExits(true), .link(2))
        #expect(stage.told(0) == ["exit 2 noProcess"])
        tell(1, .link(2))
        #expect(stage.exit(1) == "linked 2 noProcess")
    }

    @Test func twoLinksAreOneAndOneUnlinkIsEnough() throws {
        try start(.init(isReactive: true), .init(isReactive: false))
        tell(0, .trapExits(true), .link(1), .link(1))
        tell(1, .link(0))
        tell(0, .unlink(1))
        stage.end(1, .error)
        sim.drain()
        #expect(stage.told(0) == [])
        try start(.init(isReactive: false))
        tell(0, .link(2), .link(2))
        stage.end(2, .error)
        sim.drain()
        #expect(stage.told(0) == ["exit 2 error"])
    }

    @Test(arguments: Stage.Kind.withManaged)
    func unlinkWithdrawsAnExitThatIsInTheMailbox(kind: Stage.Kind) throws {
        for unlinks in [false, true] {
            let (sim, stage) = (Simulation(), Stage())
            try stage.spawn(kind, in: sim.system)
            try stage.spawn(.init(isReactive: true), in: sim.system)
            stage[0].tell(.all([.trapExits(true), .link(1)]))
            sim.drain()
            // Taken first; by then the exit is there.
            stage[0].tell(unlinks ? .unlink(1) : .note("no"), lane: .control)
            Bonds.of(stage[1].proc).endDecided(of: stage[1].proc, incarnation: 1, reason: .error(Failure()))
            sim.drain()
            #expect(stage.told(0) == (unlinks ? [] : ["no", "exit 1 error"]))
            #expect(Bonds.of(stage[0].proc).content.withLock { $0.exits.isEmpty && $0.links.isEmpty })
        }
    }

    @Test func aLinkEndsWithEitherIncarnation() throws {
        for isReactive in [true, false] {
            try stage.supervise(.init(isReactive: isReactive), restart: .permanent, in: sim.system)
        }
        sim.drain()
        tell(0, .link(1))
        stage.end(1, .error)
        sim.drain()
        // Both were started again, and know nothing of each other.
        #expect(stage.exit(0) == "linked 1 error" && stage.exit(1) == "error")
        #expect(stage[0].proc.restarts == 1 && stage[1].proc.restarts == 1)
        stage.end(1, .killed)
        stage.end(0, .killed)
        sim.drain()
        #expect(stage.exit(0) == "killed" && stage.exit(1) == "killed")
        #expect(stage[0].proc.restarts == 2 && stage[1].proc.restarts == 2)
    }

    /// A supervisor that stops one of two is no failure of the other.
    @Test func whoIsLinkedToAProcessThatIsShutDownHasNotFailed() throws {
        try stage.supervise(.init(isReactive: true), restart: .transient, in: sim.system)
        try start(.init(isReactive: true))
        tell(0, .link(1))
        stage.end(1, .shutdown)
        sim.drain()
        #expect(stage.exit(0) == "shutdown" && stage[0].proc.restarts == 0)
        #expect(ExitReason.linked(stage[1].id, .noProcess).isFailure)
    }

    @Test(arguments: Stage.Kind.all)
    func circlesOfLinksEndOnce(kind: Stage.Kind) throws {
        let count = 40
        for _ in 0..<count { try stage.spawn(kind, in: sim.system) }
        sim.drain()
        for n in 0..<count { for m in 0..<count { stage[n].tell(.link(m)) } }
        sim.drain()
        stage.end(7, .error)
        sim.drain()
        for n in 0..<count where n != 7 { #expect(stage.exit(n) == "linked 7 error") }
        for n in 0..<count { #expect(Bonds.of(stage[n].proc).isEmpty) }
    }

    /// Deep enough for a stack that grew with it to end, whoever decides.
    @Test(arguments: Stage.Kind.all)
    func aLongChainOfLinksNeedsNoStack(kind: Stage.Kind) throws {
        let count = 6_000
        let procs = (0..<count).map { _ in
            kind.isReactive
                ? sim.system.spawn(Idler()).proc : sim.system.spawn { _ = try await $0.receive(Int.self) }.proc
        }
        sim.drain()
        for n in 1..<count { Bonds.link(procs[n], by: procs[n - 1], 1) }
        procs[0].kill()
        sim.drain()
        #expect(!procs.contains { !$0.isClosed })
        guard case .linked(procs[0].id, .killed)? = procs[count - 1].lastExit else {
            Issue.record("the last one ended with \(procs[count - 1].lastExit as Any)")
            return
        }
    }

    private struct Idler: Reactive {
        mutating func receive(_ message: consuming Int, in context: borrowing ReactiveContext<Self>) {}
    }

    @Test func twoThatEndEachOtherEndOnce() throws {
        for seed in RandomTest.seeds("two that end each other", count: 50) {
            for kinds in [(true, true), (true, false), (false, false)] {
                let (sim, stage) = (Simulation(seed: seed), Stage())
                try stage.spawn(.init(isReactive: kinds.0), in: sim.system)
                try stage.spawn(.init(isReactive: kinds.1), in: sim.system)
                sim.drain()
                stage[0].tell(.link(1))
                stage[1].tell(.link(0))
                sim.drain()
                stage[0].tell(.send(1, .error))
                stage[1].tell(.send(0, .error))
                sim.drain()
                #expect(stage[0].proc.isClosed && stage[1].proc.isClosed)
                #expect(Bonds.of(stage[0].proc).isEmpty && Bonds.of(stage[1].proc).isEmpty)
            }
        }
    }

    @Test func trappingHoldsForOneIncarnation() throws {
        try stage.supervise(.init(isReactive: false), restart: .permanent, in: sim.system)
        try start(.init(isReactive: true))
        tell(0, .trapExits(true))
        stage.end(0, .killed)
        sim.drain()
        tell(0, .link(1))
        stage.end(1, .error)
        sim.drain()
        #expect(stage.told(0) == [] && stage.exit(0) == "linked 1 error")
    }

    @Test func whatWasTrappedStaysWhenTrappingEnds() throws {
        try start(.init(isReactive: false), .init(isReactive: true), .init(isReactive: true))
        tell(0, .trapExits(true), .link(1), .link(2))
        stage[0].tell(.trapExits(false), lane: .control)
        Bonds.of(stage[1].proc).endDecided(of: stage[1].proc, incarnation: 1, reason: .error(Failure()))
        sim.drain()
        #expect(stage.told(0) == ["exit 1 error"])
        stage.end(2, .error)
        sim.drain()
        #expect(stage.exit(0) == "linked 2 error")
    }

    @Test func withoutAClosureTheMessageIsTheExitItself() throws {
        let (trace, system) = (sim.trace, sim.system)
        system.spawn("parent") { context in
            context.trapExits()
            let child = context.spawnLinked("child") { _ in throw Failure() }
            let exit = try await context.receive(Exit.self)
            trace("\(exit.process == child.id) \(exit.name ?? "") \(exit.reason) \(exit.isFromLink)")
        }
        sim.drain()
        #expect(trace.lines == ["true child error: failure 0 true"])
    }

    @Test func spawnLinkedEndsWithWhoSpawnedItAndTheOtherWayRound() throws {
        let (trace, system) = (sim.trace, sim.system)
        let body: @Sendable (Context) async throws -> Void = { context in
            let child = context.spawnLinked("child", of: Int.self) { context in
                context.onExit { trace("child \($0.isFailure)") }
                _ = try await context.receive(Int.self)
                throw Failure()
            }
            let echo = context.spawnLinked(Echo("echo", trace))
            context.onExit { [echo] in
                // Held until here: dropped while idle it would end before.
                trace("parent \($0.isFailure) \(echo.proc.isReactive)")
            }
            echo.tell(.registerHooks(1))
            if try await context.receive(Bool.self) { child.tell(1) } else { throw Failure() }
            await context.untilStopped()
        }
        for childFails in [true, false] {
            let parent = system.spawn("parent", of: Bool.self, body: body)
            sim.drain()
            parent.tell(childFails)
            sim.drain()
            #expect(parent.proc.isClosed)
            let lines = trace.lines
            #expect(lines.first == "start echo")
            #expect(lines.contains("child true") && lines.contains("parent true true"), "\(lines)")
            #expect(lines.contains { $0.hasPrefix("echo hook 0: linked") }, "\(lines)")
            trace.clear()
        }
    }

    /// The parent ends between the link and the start.
    @Test func aChildWhoseParentEndedBeforeItsStartNeverRuns() throws {
        let (trace, system) = (sim.trace, sim.system)
        system.spawn("parent") { context in
            context.spawnLinked("child") { _ in trace("child ran") }
            throw Failure()
        }
        sim.drain()
        #expect(trace.lines == [])
        // Nor one whose parent is over and does not know it.
        let late = Locked<ProcRef<any Sendable>?>(nil)
        system.spawn("parent") { context in
            context.endNow(for: .killed)
            let ref = context.spawnLinked("child") { _ in trace("child ran") }
            late.withLock { $0 = ref }
        }
        sim.drain()
        #expect(trace.lines == [])
        let proc = try #require(late.withLock { $0 }).proc
        #expect(proc.isClosed)
        guard case .linked(_, .noProcess)? = proc.lastExit else {
            Issue.record("it ended with \(proc.lastExit as Any)")
            return
        }
    }

    @Test func aProcessThatIsDroppedWhileIdleTakesNobodyWithIt() throws {
        try start(.init(isReactive: true), .init(isReactive: true))
        tell(1, .trapExits(true))
        func dropOne() {
            let idle = sim.system.spawn(Idler())
            Bonds.link(idle.proc, by: stage[0].proc, 1)
            Bonds.link(idle.proc, by: stage[1].proc, 1)
        }
        dropOne()
        sim.drain()
        #expect(!stage[0].proc.isClosed && stage.told(1) == ["exit -1 shutdown"])
        #expect(Bonds.of(stage[0].proc).isEmpty)
    }

    @Test func reactiveProcessesSpawnLinkedAndMonitoredOnes() throws {
        let parent = sim.system.spawn(Parent(trace: sim.trace, system: sim.system))
        parent.tell(.start)
        sim.drain()
        #expect(
            sim.trace.lines.sorted() == [
                "down error: failure 0", "exit error: failure 0", "exit error: failure 0", "start linked",
                "start monitored",
            ]
        )
    }

    private struct Parent: Reactive {
        enum Message: Sendable {
            case start
            case down(Down)
            case exit(Exit)
        }
        let trace: Trace
        let system: BastionSystem

        mutating func receive(_ message: consuming Message, in context: borrowing ReactiveContext<Self>) {
            switch message {
            case .start:
                context.trapExits { .exit($0) }
                context.spawnLinked(Echo("linked", trace)).tell(.fail)
                context.spawnMonitored(Echo("monitored", trace)) { .down($0) }.process.tell(.fail)
                context.spawnLinked(in: system) { _ in throw Failure() }
            case .down(let down): trace("down \(down.reason)")
            case .exit(let exit): trace("exit \(exit.reason)")
            }
        }
    }
}
