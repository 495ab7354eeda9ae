// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc
import Testing

@testable import Supervision

/// Strategies, nested supervisors and commands as their users see them.
@Suite struct StrategyTests {
    enum Command: Sendable { case fail, finish, stop }

    /// Tells of its starts and stops, and ends as it is told.
    static func child(_ name: String, _ trace: Trace, restart: RestartType = .permanent) -> Children {
        Children(name, restart: restart) { context in
            trace("start \(name)")
            context.onExit { trace("\($0.isFailure ? "fail" : "end") \(name)") }
            for await command in context.messages(of: Command.self) {
                switch command {
                case .fail: throw Failure()
                case .finish: return
                case .stop: context.stop()
                }
            }
        }
    }

    static func tell(_ name: String, _ command: Command, in sim: Simulation) throws {
        let path = try ProcPath(parsing: "/shop/\(name)")
        let ref = try sim.system.lookup(path, of: Command.self)
        ref.tell(command)
        sim.drain()
    }

    @Test(arguments: [
        (RestartStrategy.oneForOne, ["fail b", "start b"]),
        (.restForOne, ["fail b", "end d", "end c", "start b", "start c"]),
        (.oneForAll, ["fail b", "end d", "end c", "end a", "start a", "start b", "start c"]),
    ])
    func aFailureIsSharedAsTheStrategySays(_ strategy: RestartStrategy, expected: [String]) throws {
        let sim = Simulation()
        let trace = sim.trace
        let tree = try sim.system.supervise("shop", strategy: strategy) {
            Self.child("a", trace)
            Self.child("b", trace)
            Self.child("c", trace, restart: .transient)
            Self.child("d", trace, restart: .temporary)
        }
        sim.drain()
        #expect(trace.lines == ["start a", "start b", "start c", "start d"])
        trace.clear()
        try Self.tell("b-0", .fail, in: sim)
        #expect(trace.lines == expected)
        #expect(sim.stops(tree))
    }

    @Test func aNestedSupervisorStartsAndStopsInItsPlace() throws {
        let sim = Simulation()
        let trace = sim.trace
        let tree = try sim.system.supervise("shop") {
            Self.child("a", trace)
            Supervisor("s") {
                Self.child("b", trace)
                Supervisor("t") { Self.child("c", trace) }
                Self.child("d", trace)
            }
            Self.child("e", trace)
        }
        sim.drain()
        #expect(trace.lines == ["a", "b", "c", "d", "e"].map { "start \($0)" })
        trace.clear()
        #expect(try sim.system.supervisor(at: "/shop/s/t").path == "/shop/s/t")
        #expect(try tree.supervisor("s").supervisor("t") == sim.system.supervisor(at: "/shop/s/t"))
        #expect(sim.stops(tree))
        #expect(trace.lines == ["e", "d", "c", "b", "a"].map { "end \($0)" })
    }

    @Test func aSubtreeIsAddedToARunningSupervisor() throws {
        let sim = Simulation()
        let trace = sim.trace
        let tree = try sim.system.supervise("shop") { Self.child("a", trace) }
        sim.drain()
        trace.clear()
        try tree.children {
            Supervisor("s", intensity: .init(0, within: .seconds(1)), backoff: .constant(.seconds(2))) {
                Self.child("b", trace)
                Supervisor("t") { Self.child("c", trace) }
                Self.child("d", trace)
            }
            Self.child("e", trace)
        }
        sim.drain()
        #expect(trace.lines == ["b", "c", "d", "e"].map { "start \($0)" })
        let nested = try tree.supervisor("s")
        #expect(try nested.path == "/shop/s" && nested.supervisor("t").path == "/shop/s/t")
        #expect(try sim.system.supervisor(at: "/shop/s") == nested)
        #expect(try sim.system.lookup("/shop/s/t/c-0", of: Command.self).path == "/shop/s/t/c-0")
        trace.clear()
        // It gives up at the first failure, and is restarted as it was told.
        try Self.tell("s/b-0", .fail, in: sim)
        #expect(trace.lines == ["fail b", "end d", "end c"])
        sim.advance(by: .milliseconds(1999))
        #expect(trace.lines.count == 3)
        sim.advance(by: .milliseconds(1))
        #expect(trace.lines.dropFirst(3) == ["start b", "start c", "start d"])
        #expect(try tree.supervisor("s") == nested && sim.system.supervisor(at: "/shop/s") == nested)
        trace.clear()
        #expect(sim.stops(tree))
        #expect(trace.lines == ["e", "d", "c", "b", "a"].map { "end \($0)" })
    }

    @Test func aNestedSupervisorThatGivesUpIsRestartedByItsOwn() throws {
        let sim = Simulation()
        let trace = sim.trace
        let tree = try sim.system.supervise("shop") {
            Supervisor("s", intensity: .init(0, within: .seconds(1))) {
                Self.child("b", trace)
                Self.child("c", trace)
            }
        }
        sim.drain()
        let ref = try tree.supervisor("s")
        let before = ref.id
        trace.clear()
        try Self.tell("s/b-0", .fail, in: sim)
        #expect(trace.lines == ["fail b", "end c", "start b", "start c"])
        #expect(ref.id != before)
        trace.clear()
        // The intensity of the one above is used up now.
        try Self.tell("s/b-0", .fail, in: sim)
        #expect(trace.lines == ["fail b", "end c"])
        #expect(tree.gaveUp)
    }

    @Test func aChildThatWasTerminatedStaysSpecified() throws {
        let sim = Simulation()
        let trace = sim.trace
        let tree = try sim.system.supervise("shop") {
            Self.child("a", trace)
            Self.child("b", trace, restart: .temporary)
            Supervisor("s") { Self.child("c", trace) }
        }
        sim.drain()
        trace.clear()
        #expect(sim.completes { try await tree.terminate(child: "a") })
        #expect(sim.completes { try await tree.terminate(child: "b-0") })
        #expect(sim.completes { try await tree.terminate(child: "s") })
        #expect(trace.lines == ["end a", "end b", "end c"])
        let seen = Locked<[ChildInfo]>([])
        #expect(
            sim.completes {
                let children = await tree.whichChildren()
                seen.withLock { $0 = children }
            }
        )
        #expect(seen.withLock { $0.map(\.name) } == ["a-0", "s"])
        #expect(seen.withLock { $0.allSatisfy { $0.state == .down } })
        trace.clear()
        #expect(sim.completes { try await tree.restart(child: "s") })
        #expect(sim.completes { try await tree.restart(child: "a") })
        #expect(sim.completes { await #expect(throws: SupervisionError.self) { try await tree.restart(child: "a") } })
        #expect(sim.completes { await #expect(throws: SupervisionError.self) { try await tree.restart(child: "b") } })
        #expect(trace.lines == ["start c", "start a"])
        try Self.tell("a-0", .fail, in: sim)
        #expect(trace.lines == ["start c", "start a", "fail a", "start a"])
        #expect(sim.completes { try await tree.terminate(child: "a") })
        #expect(sim.completes { try await tree.delete(child: "a") })
        #expect(sim.completes { await #expect(throws: SupervisionError.self) { try await tree.restart(child: "a") } })
        #expect(sim.stops(tree))
    }

    private static func children(of tree: SupervisorRef, in sim: Simulation) throws -> [ChildInfo] {
        let seen = Locked<[ChildInfo]?>(nil)
        let isDone = sim.completes {
            let children = await tree.whichChildren()
            seen.withLock { $0 = children }
        }
        #expect(isDone)
        return try #require(seen.withLock { $0 })
    }

    /// Whoever has the reference: who looked it up, or a child of it.
    @Test(arguments: [false, true], [false, true])
    func aNestedSupervisorThatIsEndedByItsReferenceStaysDown(kills: Bool, isOfChild: Bool) throws {
        let sim = Simulation()
        let trace = sim.trace
        let own = Locked<SupervisorRef?>(nil)
        // Not one restart is tolerated.
        let tree = try sim.system.supervise("shop", strategy: .oneForAll, intensity: .init(0, within: .seconds(5))) {
            Self.child("a", trace)
            Supervisor("s") {
                Children("b", shutdownTime: .infinity) { context in
                    own.withLock { $0 = context.supervisor }
                    trace("start b")
                    context.onExit { trace("b: \($0)") }
                    await context.untilStopped()
                }
                Self.child("c", trace)
            }
        }
        sim.drain()
        trace.clear()
        let nested = try tree.supervisor("s")
        let ref = try #require(isOfChild ? own.withLock { $0 } : nested)
        #expect(sim.completes { if kills { await ref.kill() } else { await ref.stop() } })
        if kills {
            #expect(Set(trace.lines) == ["b: killed", "fail c"])
        } else {
            #expect(trace.lines == ["end c", "b: shutdown"])
        }
        sim.advance(by: .seconds(10))
        let info = try Self.children(of: tree, in: sim)
        #expect(info.map(\.state) == [.running, .down] && info.map(\.restarts) == [0, 0])
        #expect(tree.supervisor.outcome == nil && sim.system.restarts == 0)
        // Of one that is down nothing is to be done.
        #expect(sim.completes { await nested.stop() })
        #expect(sim.completes { await ref.kill() })
        trace.clear()
        #expect(sim.completes { try await tree.restart(child: "s") })
        #expect(trace.lines == ["start b", "start c"])
        // The same reference, or one of an incarnation that is over.
        #expect(sim.completes { await ref.stop() })
        #expect(try Self.children(of: tree, in: sim).map(\.state) == [.running, isOfChild ? .running : .down])
        #expect(sim.stops(tree))
    }

    @Test func aNestedSupervisorIsStoppedByItsReferenceWhileTheOneAboveStops() throws {
        let sim = Simulation()
        let trace = sim.trace
        let tree = try sim.system.supervise("shop") {
            Supervisor("s") { TreeTests.stubborn("a", trace, shutdownTime: .seconds(2)) }
            TreeTests.stubborn("b", trace, shutdownTime: .seconds(10))
        }
        sim.drain()
        let nested = try tree.supervisor("s")
        tree.stop {}
        sim.drain()
        let stopping = sim.executor.spawn { await nested.stop() }
        sim.advance(by: .seconds(1))
        if case .finished = stopping.knownOutcome { Issue.record("it returns when all have ended, not before") }
        sim.advance(by: .seconds(1))
        #expect(trace.lines == ["a: killed"])
        guard case .finished = stopping.knownOutcome else {
            Issue.record("it has not returned: \(stopping.knownOutcome)")
            return
        }
        sim.advance(by: .seconds(8))
        #expect(trace.lines == ["a: killed", "b: killed"] && tree.supervisor.outcome == .stopped)
        #expect(sim.completes { await nested.stop() })
        #expect(sim.completes { await nested.kill() })
    }

    @Test func aReferenceToANestedSupervisorMayOutliveTheOneAbove() throws {
        let sim = Simulation()
        var tree: SupervisorRef? = try sim.system.supervise("shop") { Supervisor("s") {} }
        sim.drain()
        let nested = try #require(try tree?.supervisor("s"))
        #expect(sim.completes { await sim.system.stop() })
        tree = nil
        #expect(sim.completes { await nested.stop() })
        #expect(sim.completes { await nested.kill() })
    }

    @Test func aNestedSupervisorThatIsStoppedIsGoneWhereNobodyIsDown() throws {
        let sim = Simulation()
        let trace = sim.trace
        let tree = try sim.system.supervise("shop", strategy: .dynamic) {
            Supervisor("s") { Self.child("a", trace) }
        }
        sim.drain()
        let nested = try tree.supervisor("s")
        #expect(sim.completes { await nested.stop() })
        #expect(try Self.children(of: tree, in: sim).isEmpty && trace.lines == ["start a", "end a"])
        // Another one has its name now.
        try tree.children { Supervisor("s") { Self.child("b", trace) } }
        sim.drain()
        #expect(sim.completes { await nested.stop() })
        #expect(sim.completes { await nested.kill() })
        #expect(try Self.children(of: tree, in: sim).map(\.state) == [.running])
        #expect(trace.lines == ["start a", "end a", "start b"])
        #expect(sim.stops(tree))
    }

    @Test(arguments: [AutoShutdown.anySignificant, .allSignificant])
    func significantChildrenEndTheirSupervisor(_ auto: AutoShutdown) throws {
        let sim = Simulation()
        let trace = sim.trace
        let tree = try sim.system.supervise("shop", autoShutdown: auto) {
            Self.child("a", trace)
            Self.child("b", trace, restart: .transient).significant()
            Self.child("c", trace, restart: .temporary).significant()
        }
        sim.drain()
        trace.clear()
        try Self.tell("b-0", .fail, in: sim)
        #expect(trace.lines == ["fail b", "start b"], "it is restarted")
        try Self.tell("c-0", .fail, in: sim)
        #expect((tree.supervisor.outcome != nil) == (auto == .anySignificant))
        if auto == .allSignificant { try Self.tell("b-0", .finish, in: sim) }
        #expect(tree.supervisor.outcome == .shutDown && !tree.gaveUp)
    }
}
