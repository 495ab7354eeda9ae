// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc
import Testing

@testable import Supervision

/// Monitors: when they tell, what is withdrawn, in which order. In virtual time.
@Suite struct MonitorTests: OnStage {
    let sim = Simulation()
    let stage = Stage()

    @Test(arguments: Stage.Kind.withManaged)
    func ofADeadProcessItTellsAtOnceThatThereIsNone(kind: Stage.Kind) throws {
        try start(kind, kind)
        stage.end(1, .killed)
        sim.drain()
        tell(0, .monitor(1), .watch(1), .monitor(1))
        #expect(stage.told(0) == ["down 1 noProcess", "down 1 noProcess", "down 1 noProcess"])
    }

    @Test func ofAProcessThatWaitsForItsRestartThereIsNone() throws {
        try start(.init(isReactive: false))
        let tree = try sim.system.supervise("slow", intensity: .unlimited) {
            Children("child", Puppet(1, stage), backoff: .exponential(.seconds(1), cap: .seconds(1)))
        }
        stage.add(try tree.group("child").members[0])
        sim.drain()
        stage.end(1, .killed)
        sim.drain()
        tell(0, .monitor(1), .watch(1))
        #expect(stage.told(0) == ["down 1 noProcess"])
        sim.advance(by: .seconds(2))
        #expect(stage[1].proc.restarts == 1)
        stage.end(1, .error)
        sim.drain()
        #expect(stage.told(0) == [])
        #expect(sim.stops(tree))
        #expect(stage.told(0) == ["down 1 error"])
    }

    @Test func whatIsNotStartedYetIsWatchedFromItsStartOn() throws {
        try start(.init(isReactive: true))
        try stage.supervise(.init(isReactive: true), restart: .permanent, in: sim.system)
        stage[0].tell(.monitor(1))
        stage.end(1, .error)
        sim.drain()
        #expect(stage.told(0) == ["down 1 error"])
    }

    @Test func itWatchesOneIncarnationOrAllOfThem() throws {
        try start(.init(isReactive: true))
        try stage.supervise(.init(isReactive: false), restart: .transient, in: sim.system)
        sim.drain()
        tell(0, .monitor(1), .watch(1))
        stage.end(1, .error)
        sim.drain()
        #expect(stage.told(0) == ["down 1 error"])
        stage.end(1, .killed)
        sim.drain()
        #expect(stage.told(0) == [] && stage[1].proc.restarts == 2)
        stage.end(1, .normal)
        sim.drain()
        #expect(stage.told(0) == ["down 1 normal"])
    }

    @Test func severalMonitorsOfOneProcessAreIndependent() throws {
        try start(.init(isReactive: false), .init(isReactive: false))
        tell(0, .monitor(1), .monitor(1), .monitor(1), .demonitor(1, flush: false))
        stage.end(1, .error)
        sim.drain()
        #expect(stage.told(0) == ["demonitor 1 true", "down 1 error", "down 1 error"])
    }

    @Test(arguments: Stage.Kind.withManaged)
    func whatTheProcessSentBeforeItsEndComesFirst(kind: Stage.Kind) throws {
        try start(kind)
        let (watcher, sim) = (stage[0], self.sim)
        let sender = sim.system.spawn("sender", of: Int.self) { context in
            _ = try await context.receive(Int.self)
            for n in 0..<3 { watcher.tell(.note("\(n)")) }
            throw Failure()
        }
        stage.add(ProcRef(sender.proc))
        sim.drain()
        tell(0, .monitor(1))
        // Not handled by the time of the end.
        sender.tell(1)
        sim.drain()
        #expect(stage.told(0) == ["0", "1", "2", "down 1 error"])
    }

    @Test(arguments: Stage.Kind.withManaged)
    func withoutFlushAMessageThatWaitsStaysAndWithFlushItIsWithdrawn(kind: Stage.Kind) throws {
        for flush in [false, true] {
            let (sim, stage) = (Simulation(), Stage())
            try stage.spawn(kind, in: sim.system)
            try stage.spawn(.init(isReactive: true), in: sim.system)
            stage[0].tell(.monitor(1))
            sim.drain()
            // While the watching process is at work the other ends: its message waits behind.
            stage[0].tell(.all([.note("begin"), .send(1, .error), .note("end")]))
            stage[0].tell(.demonitor(1, flush: flush))
            sim.drain()
            let told = stage.told(0)
            // Whether the end came before the second message depends on whose turn it was; nothing else does.
            let wasWaiting = told.contains("demonitor 1 true")
            #expect(!(flush || wasWaiting) || !told.contains("down 1 error"), "\(told)")
            #expect(flush || wasWaiting || told.contains("down 1 error"), "\(told)")
        }
    }

    /// With the message in the mailbox for certain: both lie there before the process has its turn.
    @Test(arguments: Stage.Kind.withManaged, [false, true])
    func flushWithdrawsWhatIsInTheMailbox(kind: Stage.Kind, flush: Bool) throws {
        try start(kind, .init(isReactive: true))
        tell(0, .monitor(1))
        // In the control lane, so that it is taken before the message of the monitor, which is there by then.
        let other = stage[1]
        let bonds = Bonds.of(stage[0].proc)
        stage[0].tell(.demonitor(1, flush: flush), lane: .control)
        // The end is decided before anything has its turn.
        Bonds.of(other.proc).endDecided(of: other.proc, incarnation: 1, reason: .error(Failure()))
        #expect(bonds.content.withLock { $0.watched.values.contains { $0.reason != nil } })
        sim.drain()
        #expect(stage.told(0) == (flush ? ["demonitor 1 false"] : ["demonitor 1 false", "down 1 error"]))
        #expect(bonds.content.withLock { $0.watched.isEmpty })
    }

    @Test(arguments: Stage.Kind.withManaged)
    func monitorsEndWithTheIncarnationThatSetThem(kind: Stage.Kind) throws {
        try stage.supervise(kind, restart: .permanent, in: sim.system)
        try stage.supervise(.init(isReactive: true), restart: .permanent, in: sim.system)
        sim.drain()
        tell(0, .monitor(1), .watch(1))
        stage.end(0, .killed)
        sim.drain()
        #expect(stage[0].proc.restarts == 1)
        stage.end(1, .error)
        sim.drain()
        #expect(stage.told(0) == [])
        #expect(Bonds.of(stage[1].proc).isEmpty)
        // Also with its message in the mailbox.
        tell(0, .monitor(1))
        Bonds.of(stage[1].proc).endDecided(of: stage[1].proc, incarnation: .max, reason: .error(Failure()))
        stage.end(0, .killed)
        stage[0].tell(.note("next"))
        sim.drain()
        #expect(stage.told(0) == ["next"] && stage[0].proc.restarts == 2)
        #expect(sim.system.deadLetters == 0)
    }

    @Test(arguments: Stage.Kind.withManaged)
    func whatIsLeftWhenTheProcessClosesIsNoDeadLetter(kind: Stage.Kind) throws {
        try stage.supervise(kind, restart: .temporary, in: sim.system)
        try start(.init(isReactive: true))
        tell(0, .monitor(1))
        Bonds.of(stage[1].proc).endDecided(of: stage[1].proc, incarnation: 1, reason: .error(Failure()))
        stage.end(0, .killed)
        sim.drain()
        #expect(stage[0].proc.isClosed && sim.system.deadLetters == 0)
    }

    @Test func aBoundDoesNotKeepItOut() throws {
        for overflow in MailboxPolicy.Overflow.allCases {
            for isReactive in [true, false] {
                let (sim, stage) = (Simulation(), Stage())
                let group =
                    isReactive
                    ? Children("full", Puppet(0, stage))
                    : Children("full") { context in
                        for await pull in context.messages(of: Pull.self) {
                            switch pull {
                            case .monitor: context.monitor(stage[1]) { Pull.down($0) }
                            case .note(let line): stage.note(0, line)
                            case .down(let down): stage.note(0, down)
                            default: break
                            }
                        }
                    }
                let tree = try sim.system.supervise { group.mailbox(.bounded(2, overflow)) }
                stage.add(try tree.group("full").members[0])
                try stage.spawn(.init(isReactive: true), in: sim.system)
                stage[0].tell(.monitor(1))
                sim.drain()
                stage[0].tell(.note("a"))
                stage[0].tell(.note("b"))
                Bonds.of(stage[1].proc).endDecided(of: stage[1].proc, incarnation: 1, reason: .error(Failure()))
                if overflow != .dropOldest { stage[0].tell(.note("too much")) }
                sim.drain()
                #expect(stage.told(0) == ["a", "b", "down 1 error"])
            }
        }
    }

    @Test func withoutAClosureTheMessageIsTheDownItself() throws {
        let (trace, system) = (sim.trace, sim.system)
        let idle = system.spawn(Echo("idle", trace))
        system.spawn("watcher") { context in
            let monitor = context.monitor(idle)
            idle.tell(.fail)
            let down = try await context.receive(Down.self)
            trace("\(down.monitor == monitor) \(down.process == idle.id) \(down.reason)")
        }
        sim.drain()
        #expect(trace.lines == ["start idle", "true true error: failure 0"])
    }

    @Test func whoReceivesAnyMessageGetsTheDownAndNotWhatStandsForIt() throws {
        let (trace, system) = (sim.trace, sim.system)
        let idle = system.spawn(Echo("idle", trace))
        system.spawn("watcher") { context in
            context.monitor(idle)
            idle.tell(.fail)
            let message = try await context.receive((any Sendable).self)
            trace("\(type(of: message))")
        }
        sim.drain()
        #expect(trace.lines == ["start idle", "Down"])
    }

    @Test func aProcessThatIsDroppedWhileIdleIsDown() throws {
        try start(.init(isReactive: true))
        let (stage, sim) = (stage, sim)
        func dropOne() {
            let idle = sim.system.spawn(Puppet(99, stage))
            let (id, watcher) = (idle.id, stage[0].proc)
            let ref = Bonds.monitor(idle.proc, untilClosed: false, by: watcher, 1) { down in
                Pull.note("\(down.process == id) \(stage.text(down.reason))")
            }
            #expect(ref.process == id)
        }
        dropOne()
        sim.drain()
        #expect(stage.told(0) == ["true shutdown"])
    }

    @Test func aMonitorKeepsNothingAlive() throws {
        try start(.init(isReactive: true))
        weak var proc: LightProc?
        func watchOne() {
            let watcher = sim.system.spawn(Puppet(98, stage))
            proc = watcher.proc
            _ = Bonds.monitor(stage[0].proc, untilClosed: false, by: watcher.proc, 1) { Pull.down($0) }
        }
        watchOne()
        sim.drain()
        #expect(proc == nil)
        #expect(Bonds.of(stage[0].proc).isEmpty)
    }

    @Test func spawnMonitoredMissesNothing() throws {
        let (trace, system) = (sim.trace, sim.system)
        system.spawn("parent") { context in
            let (child, monitor) = context.spawnMonitored("child") { _ in throw Failure() }
            let down = try await context.receive(Down.self)
            trace("\(down.monitor == monitor) \(down.process == child.id) \(down.name ?? "") \(down.reason)")
            let (echo, other) = context.spawnMonitored(Echo("echo", trace))
            echo.tell(.fail)
            let second = try await context.receive(Down.self)
            trace("\(second.monitor == other) \(second.process == echo.id)")
        }
        sim.drain()
        #expect(trace.lines == ["true true child error: failure 0", "start echo", "true true"])
    }

    @Test func aClosureThatFailsIsAFailureOfTheWatcher() async {
        await #expect(processExitsWith: .success) {
            try await withPool { system in
                let target = system.spawn(Echo("target", Trace()))
                let watcher = system.spawn("watcher") { context in
                    context.monitor(target) { down -> Int in opaque([Int]())[down.reason.isFailure ? 1 : 0] }
                    target.tell(.fail)
                    _ = try await context.receive(Int.self)
                }
                guard case .trap(let report) = await ProcHandle(watcher.proc).exit() else { fatalError("no trap") }
                precondition(report.process == watcher.id && report.kind == .indexOutOfRange)
            }
        }
    }
}
