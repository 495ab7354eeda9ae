// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc
import Testing

@testable import Supervision

/// Supervisors that are changed while their children run.
@Suite struct LiveChangeTests {
    /// Takes so long to stop as it takes until it is killed.
    private static func stubborn(_ shutdownTime: ShutdownTime, _ trace: Trace) -> Children {
        Children("stubborn", shutdownTime: shutdownTime) { context in
            trace("start")
            for await _ in context.messages(of: Int.self) {}
            await suspended { (_: UnsafeContinuation<Void, Never>) in }
        }
    }

    @Test func aRefusedGroupDoesNotHideTheOneOfItsName() throws {
        let sim = Simulation()
        let trace = sim.trace
        let tree = try sim.system.supervise("shop") {
            StrategyTests.child("a", trace)
            Supervisor("s") { StrategyTests.child("b", trace) }
        }
        sim.drain()
        let first = try sim.system.lookup("/shop/a-0", of: StrategyTests.Command.self)
        let nested = try tree.supervisor("s")
        #expect(throws: SupervisionError.self) { try tree.children { StrategyTests.child("a", trace) } }
        #expect(throws: SupervisionError.self) { try tree.children { Supervisor("s") {} } }
        sim.drain()
        #expect(try sim.system.lookup("/shop/a-0", of: StrategyTests.Command.self) == first)
        #expect(try tree.supervisor("s") == nested)
        #expect(sim.completes { try await tree.terminate(child: "a") })
        #expect(sim.completes { try await tree.restart(child: "a") })
        #expect(sim.completes { try await tree.terminate(child: "s") })
        #expect(trace.lines == ["start a", "start b", "end a", "start a", "end b"])
        #expect(sim.stops(tree))
    }

    @Test func aChangedShutdownTimeCountsForAChildThatRuns() throws {
        let sim = Simulation()
        let tree = try sim.system.supervise("shop") { Self.stubborn(.seconds(60), sim.trace) }
        sim.drain()
        let changed = Self.stubborn(.seconds(2), sim.trace)
        #expect(sim.completes { try await tree.change(changed) })
        let ended = Locked(false)
        tree.stop { ended.withLock { $0 = true } }
        sim.advance(by: .milliseconds(1999))
        #expect(!ended.withLock { $0 })
        sim.advance(by: .milliseconds(1))
        #expect(ended.withLock { $0 })
    }

    @Test func aChildIsKilledAtOnceAfterAChangeToBrutalKill() throws {
        let sim = Simulation()
        let tree = try sim.system.supervise("shop") { Self.stubborn(.infinity, sim.trace) }
        sim.drain()
        let changed = Self.stubborn(.brutalKill, sim.trace)
        #expect(sim.completes { try await tree.change(changed) })
        #expect(sim.stops(tree))
        #expect(sim.milliseconds == 0)
    }

    @Test(arguments: ["/shop/s/t", "/shop/s", "/shop"])
    func whatWasChangedOfANestedSupervisorHoldsOverRestarts(of restarted: String) throws {
        let sim = Simulation()
        let trace = sim.trace
        let tree = try sim.system.supervise("shop", strategy: .oneForAll, intensity: .unlimited) {
            Supervisor("s", strategy: .oneForAll, intensity: .init(1, within: .seconds(5))) {
                Supervisor("t", intensity: .init(0, within: .seconds(5))) {
                    StrategyTests.child("a", trace)
                    StrategyTests.child("b", trace)
                }
                StrategyTests.child("c", trace)
            }
            StrategyTests.child("d", trace)
        }
        sim.drain()
        let nested = try tree.supervisor("s").supervisor("t")
        let changed = StrategyTests.child("b", trace, restart: .temporary)
        #expect(
            sim.completes {
                try await nested.change(strategy: .restForOne, intensity: .unlimited)
                try await nested.change(changed)
            }
        )
        switch restarted {
        case "/shop/s/t":
            #expect(sim.completes { try await tree.supervisor("s").terminate(child: "t") })
            #expect(sim.completes { try await tree.supervisor("s").restart(child: "t") })
        case "/shop/s": try StrategyTests.tell("s/c-0", .fail, in: sim)
        default: try StrategyTests.tell("d-0", .fail, in: sim)
        }
        trace.clear()
        // It was rest-for-one, and a temporary child, that it was changed to.
        for _ in 0..<3 { try StrategyTests.tell("s/t/a-0", .fail, in: sim) }
        #expect(trace.lines == ["fail a", "end b", "start a", "fail a", "start a", "fail a", "start a"])
        #expect(sim.stops(tree))
    }

    // MARK: Callbacks

    private static func leasing(_ trace: Trace, _ callbacks: Callbacks) -> Children {
        StrategyTests.child("a", trace, restart: .transient).callbacks(callbacks)
    }

    /// How a child ends for good.
    enum LastEnd: CaseIterable, Sendable {
        case finish, terminate, stop, finishAfterRestart

        func happen(_ tree: SupervisorRef, in sim: Simulation) throws {
            switch self {
            case .finish: try StrategyTests.tell("a-0", .finish, in: sim)
            case .terminate: #expect(sim.completes { try await tree.terminate(child: "a") })
            case .stop: #expect(sim.stops(tree))
            case .finishAfterRestart:
                for command in [StrategyTests.Command.fail, .finish] { try StrategyTests.tell("a-0", command, in: sim) }
            }
        }
    }

    /// What a process was made with is called when that process is over, and not what its group has by then.
    @Test(arguments: LastEnd.allCases, [true, false])
    func aProcessKeepsTheFarewellThatItWasMadeWith(_ end: LastEnd, hadFarewell: Bool) throws {
        let sim = Simulation()
        let trace = sim.trace
        let releases = Callbacks(afterStop: { _ in trace("released") })
        let tree = try sim.system.supervise("shop", intensity: .unlimited) {
            Self.leasing(trace, hadFarewell ? releases : Callbacks())
            StrategyTests.child("b", Trace())
        }
        sim.drain()
        let changed = Self.leasing(trace, hadFarewell ? Callbacks() : releases)
        // Again changes nothing.
        for _ in 0..<2 { #expect(sim.completes { try await tree.change(changed) }) }
        try end.happen(tree, in: sim)
        #expect(trace.lines.last == (hadFarewell ? "released" : "end a"))
        #expect(trace.lines.count { $0 == "released" } == (hadFarewell ? 1 : 0))
        if end == .stop { return }
        // The process in its place is made of what the group is made of now.
        trace.clear()
        #expect(sim.completes { try await tree.restart(child: "a") })
        try LastEnd.finishAfterRestart.happen(tree, in: sim)
        let lines = ["start a", "fail a", "start a", "end a"]
        #expect(trace.lines == lines + (hadFarewell ? [] : ["released"]))
        #expect(sim.stops(tree))
    }

    /// A child that is down when its group is changed has none: that of the next process is the new one.
    @Test(arguments: [true, false])
    func aChildThatIsDownHasTheFarewellOfTheNextProcess(hadFarewell: Bool) throws {
        let sim = Simulation()
        let trace = sim.trace
        let releases = Callbacks(afterStop: { _ in trace("released") })
        let tree = try sim.system.supervise("shop", intensity: .unlimited) {
            Self.leasing(trace, hadFarewell ? releases : Callbacks())
        }
        sim.drain()
        try LastEnd.terminate.happen(tree, in: sim)
        let changed = Self.leasing(trace, hadFarewell ? Callbacks() : releases)
        #expect(sim.completes { try await tree.change(changed) })
        trace.clear()
        #expect(sim.completes { try await tree.restart(child: "a") })
        try LastEnd.finish.happen(tree, in: sim)
        #expect(trace.lines == ["start a", "end a"] + (hadFarewell ? [] : ["released"]))
        #expect(sim.stops(tree))
    }

    // MARK: Nested supervisors as children

    /// A tree in which `/shop/p/s` gives up at the first failure of its child, and what a change of it is tried on.
    private static func nested(_ sim: Simulation, shutdownTime: ShutdownTime = .infinity) throws -> SupervisorRef {
        let trace = sim.trace
        let tree = try sim.system.supervise("shop", intensity: .unlimited) {
            Supervisor("p", intensity: .unlimited) {
                Supervisor("s", intensity: .init(0, within: .seconds(5)), shutdownTime: shutdownTime) {
                    StrategyTests.child("a", trace)
                    Self.stubborn(.infinity, Trace())
                }
                StrategyTests.child("c", trace)
            }
        }
        sim.drain()
        return tree
    }

    /// The supervisor above is what was changed; when it is started again itself, the change holds.
    private static func restart(_ name: String, below tree: SupervisorRef, in sim: Simulation) {
        #expect(sim.completes { try await tree.kill(child: name) })
        #expect(sim.completes { try await tree.restart(child: name) })
    }

    @Test(arguments: [false, true])
    func theRestartTypeOfANestedSupervisorIsChanged(restartsAbove: Bool) throws {
        let sim = Simulation()
        let tree = try Self.nested(sim)
        let above = try tree.supervisor("p")
        let below = try above.supervisor("s")
        // A later change of its own must not be lost with that, nor that with it.
        #expect(sim.completes { try await below.change(strategy: .restForOne) })
        #expect(sim.completes { try await above.change(supervisor: "s", restart: .transient) })
        #expect(sim.completes { try await above.change(supervisor: "s", isSignificant: false) })
        if restartsAbove { Self.restart("p", below: tree, in: sim) }
        #expect(try above.supervisor("s").supervisor.rules.withLock { $0.strategy } == .restForOne)
        sim.trace.clear()
        // It shuts down as it gives up: that was a restart before.
        try StrategyTests.tell("p/s/a-0", .fail, in: sim)
        sim.advance(by: .seconds(1))
        #expect(sim.completes { try await above.kill(child: "s") })
        let seen = Locked<[ChildInfo]>([])
        #expect(
            sim.completes {
                let children = await above.whichChildren()
                seen.withLock { $0 = children }
            }
        )
        let child = try #require(seen.withLock { $0 }.first)
        #expect(child.name == "s" && child.restart == .transient && child.state == .down)
        #expect(sim.trace.lines == ["fail a"])
        #expect(sim.stops(tree))
    }

    @Test(arguments: [false, true])
    func theBackoffOfANestedSupervisorIsChanged(restartsAbove: Bool) throws {
        let sim = Simulation()
        let trace = sim.trace
        let tree = try sim.system.supervise("shop", intensity: .unlimited) {
            Supervisor("p", intensity: .unlimited) {
                Supervisor("s", intensity: .init(0, within: .seconds(5))) { StrategyTests.child("a", trace) }
            }
        }
        sim.drain()
        let above = try tree.supervisor("p")
        #expect(sim.completes { try await above.change(supervisor: "s", backoff: .constant(.seconds(3))) })
        if restartsAbove { Self.restart("p", below: tree, in: sim) }
        trace.clear()
        for _ in 0..<2 {
            try StrategyTests.tell("p/s/a-0", .fail, in: sim)
            sim.advance(by: .milliseconds(2999))
            #expect(trace.lines == ["fail a"])
            sim.advance(by: .milliseconds(1))
            #expect(trace.lines == ["fail a", "start a"])
            trace.clear()
        }
        #expect(sim.stops(tree))
    }

    @Test(arguments: [false, true], [ShutdownTime.seconds(2), .brutalKill])
    func theShutdownTimeOfANestedSupervisorIsChanged(restartsAbove: Bool, time: ShutdownTime) throws {
        let sim = Simulation()
        let tree = try Self.nested(sim)
        let above = try tree.supervisor("p")
        #expect(sim.completes { try await above.change(supervisor: "s", shutdownTime: time) })
        if restartsAbove { Self.restart("p", below: tree, in: sim) }
        let ended = Locked<Int?>(nil)
        let start = sim.milliseconds
        tree.stop { ended.withLock { $0 = sim.milliseconds - start } }
        sim.advance(by: .seconds(100))
        #expect(ended.withLock { $0 } == (time.isBrutal ? 0 : 2000))
    }

    @Test func aChangeOfANestedSupervisorThatMakesNoSenseIsRefused() throws {
        let sim = Simulation()
        let tree = try Self.nested(sim)
        func code(_ body: @escaping @Sendable () async throws -> Void) -> SupervisionError.Code? {
            let code = Locked<SupervisionError.Code?>(nil)
            #expect(
                sim.completes {
                    do { try await body() } catch { code.withLock { $0 = (error as? SupervisionError)?.code } }
                }
            )
            return code.withLock { $0 }
        }
        let above = try tree.supervisor("p")
        #expect(code { try await above.change(supervisor: "x", restart: .transient) } == .unknownChild)
        #expect(code { try await above.change(supervisor: "c", restart: .transient) } == .unknownChild)
        let backoff = Backoff.constant(.seconds(-1))
        #expect(code { try await above.change(supervisor: "s", backoff: backoff) } == .badBackoff)
        #expect(
            code { try await above.change(supervisor: "s", shutdownTime: .seconds(-1)) } == .badShutdownTime
        )
        #expect(code { try await above.change(supervisor: "s", isSignificant: true) } == .significantPermanent)
        #expect(
            code { try await above.change(supervisor: "s", restart: .transient, isSignificant: true) }
                == .significantWithoutAutoShutdown
        )
        #expect(try above.spec(of: "s").backoff == .none && above.spec(of: "s").restart == .permanent)
        #expect(sim.completes { await tree.kill() })
        #expect(code { try await above.change(supervisor: "s", restart: .transient) } == .supervisorStopped)
    }

    /// As in OTP, whose `restart_child` and `delete_child` refuse `simple_one_for_one`: whether there is such a child or not.
    @Test func childrenOfADynamicSupervisorAreNotRestartedOrDeleted() throws {
        let sim = Simulation()
        let tree = try sim.system.supervise("shop", strategy: .dynamic) { StrategyTests.child("a", sim.trace) }
        sim.drain()
        for name in ["a", "a-0", "nobody"] {
            let codes = Locked<[SupervisionError.Code?]>([])
            #expect(
                sim.completes {
                    do { try await tree.restart(child: name) } catch {
                        codes.withLock { $0.append((error as? SupervisionError)?.code) }
                    }
                    do { try await tree.delete(child: name) } catch {
                        codes.withLock { $0.append((error as? SupervisionError)?.code) }
                    }
                }
            )
            #expect(codes.withLock { $0 } == [.dynamicSupervisor, .dynamicSupervisor])
        }
        #expect(sim.completes { try await tree.terminate(child: "a-0") })
        #expect(sim.trace.lines == ["start a", "end a"])
        #expect(sim.stops(tree))
    }

    @Test func whoIsDownIsGoneWhenTheSupervisorBecomesDynamic() throws {
        let sim = Simulation()
        let trace = sim.trace
        let tree = try sim.system.supervise("shop") {
            for name in ["a", "b"] { StrategyTests.child(name, trace) }
            TreeTests.stubborn("slow", Trace(), shutdownTime: .seconds(1))
            StrategyTests.child("done", trace, restart: .transient)
            Children("m", redundancy: 2, restart: .transient) { context in
                for await _ in context.messages(of: StrategyTests.Command.self) { return }
            }
        }
        sim.drain()
        for name in ["done-0", "m-1"] { try StrategyTests.tell(name, .finish, in: sim) }
        #expect(sim.completes { try await tree.terminate(child: "b") })
        let terminating = sim.executor.spawn { try await tree.terminate(child: "slow") }
        sim.drain()
        func children() -> [String] {
            let seen = Locked<[String]>([])
            let isDone = sim.completes {
                let children = await tree.whichChildren()
                seen.withLock { $0 = children.map { "\($0.name) \($0.state)" } }
            }
            #expect(isDone)
            return seen.withLock { $0 }
        }
        #expect(
            children() == ["a-0 running", "b-0 down", "slow-0 stopping", "done-0 down", "m-0 running", "m-1 down"]
        )
        #expect(sim.completes { try await tree.change(strategy: .dynamic) })
        sim.drain()
        #expect(children() == ["a-0 running", "slow-0 stopping", "m-0 running"])
        // It was to stay specified.
        sim.advance(by: .seconds(1))
        #expect(children() == ["a-0 running", "m-0 running"])
        guard case .finished = terminating.knownOutcome else {
            Issue.record("who waits for the end is told")
            return
        }
        // Their names are free.
        for name in ["b", "slow", "done"] { try tree.children { StrategyTests.child(name, trace) } }
        sim.drain()
        #expect(children() == ["a-0 running", "m-0 running", "b-0 running", "slow-0 running", "done-0 running"])
        #expect(sim.stops(tree))
    }

    /// Nobody waited for their starts before.
    @Test(arguments: [RestartStrategy.oneForAll, .restForOne], [true, false])
    func thoseThatCameToADynamicSupervisorStartInOrderAfterwards(
        _ strategy: RestartStrategy,
        isChanged: Bool
    ) throws {
        for seed in RandomTest.seeds(#function, count: 10) {
            let sim = Simulation(seed: seed)
            let trace = sim.trace
            let tree = try sim.system.supervise("shop", strategy: .dynamic, intensity: .unlimited) {
                for name in ["a", "b"] { Children(name, Echo(name, trace)) }
            }
            try tree.children { for name in ["c", "d"] { Children(name, Echo(name, trace)) } }
            sim.drain()
            let changed = Children("b", Echo("b", trace), restart: .transient)
            if isChanged { #expect(sim.completes { try await tree.change(changed) }) }
            #expect(sim.completes { try await tree.change(strategy: strategy) })
            for _ in 0..<3 {
                trace.clear()
                try sim.system.lookup("/shop/a-0", of: Echo.Message.self).tell(.fail)
                sim.drain()
                #expect(trace.lines == ["a", "b", "c", "d"].map { "start \($0)" }, "SEED=\(seed)")
            }
            #expect(sim.stops(tree))
        }
    }

    @Test(arguments: [true, false])
    func whoEndsAfterTheChangeIsGoneToo(hasFarewell: Bool) throws {
        typealias Machine = SupervisorMachine
        var machine = Machine(strategy: .oneForOne, intensity: .unlimited)
        let settings = Machine.Settings(restart: .permanent, backoff: .none, hasFarewell: hasFarewell)
        for id: UInt64 in 1...4 { machine.addStarted(id, settings) }
        #expect(machine.terminate([1], at: .zero) == [.stop(1)])
        #expect(machine.terminate([2], at: .zero) == [.stop(2)])
        #expect(machine.childEnded(2, .shutdown, at: .zero) == (hasFarewell ? [.retire(2)] : [.lay(2)]))
        if !hasFarewell { #expect(try machine.restart(2, at: .zero) == [.start(2)]) }
        #expect(machine.change(strategy: .dynamic) == [])
        #expect(machine.childEnded(1, .shutdown, at: .zero) == (hasFarewell ? [.retire(1)] : [.forget(1)]))
        if hasFarewell {
            // Its farewell began before the change, and the other's after it.
            #expect(machine.childRetired(2, at: .zero) == [.forget(2)])
            #expect(machine.childRetired(1, at: .zero) == [.forget(1)])
        }
        #expect(machine.change(strategy: .oneForOne) == [] && machine.isUp(4))
    }

    @Test(arguments: [AutoShutdown.anySignificant, .allSignificant])
    func aDynamicSupervisorShutsItselfDown(_ auto: AutoShutdown) throws {
        let sim = Simulation()
        let trace = sim.trace
        let tree = try sim.system.supervise("shop", strategy: .dynamic, autoShutdown: auto) {
            for name in ["a", "b"] { StrategyTests.child(name, trace, restart: .temporary).significant() }
        }
        sim.drain()
        try StrategyTests.tell("a-0", .finish, in: sim)
        #expect((tree.supervisor.outcome != nil) == (auto == .anySignificant))
        if auto == .allSignificant { try StrategyTests.tell("b-0", .finish, in: sim) }
        #expect(tree.supervisor.outcome == .shutDown)
    }
}
