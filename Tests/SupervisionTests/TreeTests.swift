// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc
import Testing

@testable import Supervision

/// Whole trees: killed, described and checked, asked how they are, with children that come and go.
@Suite struct TreeTests {
    static func stubborn(
        _ name: String,
        _ trace: Trace,
        shutdownTime: ShutdownTime = .seconds(5),
        restart: RestartType = .permanent
    ) -> Children {
        Children(name, restart: restart, shutdownTime: shutdownTime) { context in
            context.onExit { trace("\(name): \($0)") }
            // Deaf to its stop.
            while true {
                await suspended { (continuation: UnsafeContinuation<Void, Never>) in
                    context.system.executor.wake(after: .seconds(100_000)) { continuation.resume() }
                }
            }
        }
    }

    @Test func aKillDoesNotWaitForShutdownTimes() throws {
        let sim = Simulation()
        let trace = sim.trace
        let tree = try sim.system.supervise("shop") {
            Self.stubborn("a", trace, shutdownTime: .infinity)
            Supervisor("s") {
                Self.stubborn("b", trace)
                Self.stubborn("c", trace)
            }
        }
        sim.drain()
        let ended = Locked(false)
        tree.supervisor.kill { ended.withLock { $0 = true } }
        sim.drain()
        #expect(Set(trace.lines) == ["a: killed", "b: killed", "c: killed"])
        #expect(ended.withLock { $0 })
    }

    @Test func aKillHurriesAStopThatIsUnderWay() throws {
        let sim = Simulation()
        let trace = sim.trace
        let tree = try sim.system.supervise("shop") {
            Self.stubborn("a", trace, shutdownTime: .infinity)
            Self.stubborn("b", trace, shutdownTime: .infinity)
        }
        Self.expectKillToHurry(tree, in: sim)
    }

    /// A tree of stubborn `a` and `b` that is being stopped, and would be for ever.
    static func expectKillToHurry(_ tree: SupervisorRef, in sim: Simulation) {
        sim.drain()
        tree.stop {}
        sim.advance(by: .seconds(1000))
        #expect(sim.trace.lines == [])
        tree.supervisor.kill {}
        sim.drain()
        #expect(Set(sim.trace.lines) == ["a: killed", "b: killed"] && tree.supervisor.outcome == .stopped)
    }

    @Test func aChildAndAGroupAreKilledWhileTheOthersGoOn() throws {
        let sim = Simulation()
        let trace = sim.trace
        let tree = try sim.system.supervise("shop", strategy: .oneForAll) {
            Self.stubborn("a", trace, shutdownTime: .infinity)
            Supervisor("s") { Self.stubborn("b", trace, shutdownTime: .infinity) }
            Children("g", redundancy: 2, shutdownTime: .infinity) { context in
                context.onExit { trace("\(context.name): \($0)") }
                await context.untilStopped()
            }
        }
        sim.drain()
        #expect(sim.completes { try await tree.kill(child: "s") })
        #expect(trace.lines == ["b: killed"])
        #expect(sim.completes { try await tree.kill(group: "g") })
        #expect(Set(trace.lines.dropFirst()) == ["g-0: killed", "g-1: killed"])
        #expect(throws: SupervisionError.self) { try tree.group("g", of: Int.self) }
        // It was killed, and not restarted; it can be.
        #expect(sim.completes { try await tree.restart(child: "s") })
        // A stop that lasts is cut short.
        let stopping = sim.executor.spawn { try? await tree.terminate(child: "a") }
        sim.advance(by: .seconds(1000))
        #expect(trace.lines.count == 3)
        #expect(sim.completes { try await tree.kill(child: "a") })
        #expect(trace.lines.last == "a: killed")
        withExtendedLifetime(stopping) {}
        tree.supervisor.kill {}
        sim.drain()
    }

    @Test func aNestedSupervisorIsKilledWhenItsTimeIsOver() throws {
        let sim = Simulation()
        let trace = sim.trace
        let tree = try sim.system.supervise("shop") {
            Supervisor("s", shutdownTime: .seconds(2)) { Self.stubborn("b", trace, shutdownTime: .infinity) }
        }
        sim.drain()
        tree.stop {}
        sim.advance(by: .seconds(1))
        #expect(trace.lines == [])
        sim.advance(by: .seconds(2))
        #expect(trace.lines == ["b: killed"] && tree.supervisor.outcome == .stopped)
    }

    @Test func aTreeIsCheckedWithoutBeingStarted() throws {
        let trace = Trace()
        let tree = Supervisor("shop", intensity: .init(3, within: .seconds(5)), autoShutdown: .anySignificant) {
            StrategyTests.child("slow", trace)
            Children("late", backoff: .constant(.seconds(10))) { _ in }
            Children("once", restart: .temporary, backoff: .constant(.seconds(1))) { _ in }
            Supervisor("s", shutdownTime: .seconds(8)) { Children("t", redundancy: 2) { _ in } }
        }
        let warnings = try tree.validate()
        #expect(
            warnings.map { "\($0.path)" } == ["/shop", "/shop/late", "/shop/once", "/shop/s"]
        )
        #expect(
            warnings.map(\.code) == [
                .nothingSignificant, .backoffBeyondPeriod, .backoffWithoutRestarts, .shutdownTimeTooShort,
            ]
        )
        let wrong = Supervisor("shop") { Supervisor("s") { StrategyTests.child("a", trace).significant() } }
        #expect(thrown(SupervisionError.self) { _ = try wrong.validate() }?.code == .significantPermanent)
        #expect(trace.lines == [])
    }

    @Test func aTreeTellsHowItIs() throws {
        let sim = Simulation()
        let trace = sim.trace
        let tree = try sim.system.supervise(
            Supervisor("shop", intensity: .unlimited) {
                StrategyTests.child("a", trace)
                Supervisor("s") {
                    StrategyTests.child("b", trace)
                    Children("c", backoff: .constant(.seconds(10))) { _ in throw Failure() }
                }
            }
        )
        sim.drain()
        let seen = Locked<SupervisorHealth?>(nil)
        #expect(
            sim.completes {
                let health = await tree.health()
                seen.withLock { $0 = health }
            }
        )
        let health = try #require(seen.withLock { $0 })
        #expect(health.status == .degraded && !health.isHealthy)
        #expect(health.children.map(\.status) == [.healthy, .degraded])
        #expect(health.description.contains("/shop/s/c-0 restarting"))
        #expect(health.json.hasPrefix(#"{"path":"/shop","status":"degraded","children":[{"path":"/shop/a-0","#))
        #expect(sim.stops(tree))
    }

    private func health(_ sim: Simulation) throws -> [SupervisorHealth] {
        let seen = Locked<[SupervisorHealth]?>(nil)
        let system = sim.system
        let isDone = sim.completes {
            let health = await system.health()
            seen.withLock { $0 = health }
        }
        #expect(isDone)
        return try #require(seen.withLock { $0 })
    }

    @Test(arguments: [true, false])
    func whoWasToBeDownIsAsItShouldBe(isKilled: Bool) throws {
        let sim = Simulation()
        let trace = sim.trace
        let tree = try sim.system.supervise("shop") {
            StrategyTests.child("a", trace, restart: .transient).restartedAtMost(0)
            // It is killed when its time is up.
            TreeTests.stubborn("b", trace, shutdownTime: .seconds(1), restart: .transient)
        }
        sim.drain()
        for child in ["a", "b"] {
            let ending = sim.executor.spawn {
                if isKilled { try await tree.kill(child: child) } else { try await tree.terminate(child: child) }
            }
            sim.advance(by: .seconds(2))
            if case .finished = ending.knownOutcome {} else { Issue.record("\(child) has not ended") }
        }
        #expect(try health(sim).map(\.status) == [.healthy])
        // It was wanted again, and has failed for good since.
        #expect(sim.completes { try await tree.restart(child: "a") })
        #expect(try health(sim).map(\.status) == [.healthy])
        try StrategyTests.tell("a-0", .fail, in: sim)
        #expect(try health(sim).map(\.status) == [.degraded])
        #expect(sim.stops(tree))
    }

    @Test func aNestedSupervisorThatGaveUpForGoodIsNotHealthy() throws {
        let sim = Simulation()
        let trace = sim.trace
        let tree = try sim.system.supervise("shop") {
            Supervisor("s", intensity: .init(0, within: .seconds(1)), restart: .transient) {
                StrategyTests.child("a", trace)
            }
            Supervisor("t", restart: .transient) { StrategyTests.child("b", trace) }
        }
        sim.drain()
        #expect(try health(sim).map(\.status) == [.healthy])
        // One that was told to end is as it should be.
        #expect(sim.completes { try await tree.terminate(child: "t") })
        #expect(try health(sim).map(\.status) == [.healthy])
        try StrategyTests.tell("s/a-0", .fail, in: sim)
        let shop = try #require(try health(sim).first)
        #expect(shop.status == .degraded && shop.children.map(\.status) == [.degraded, .healthy])
        #expect(shop.children.map(\.info.gaveUp) == [true, false])
        #expect(
            shop.description == "/shop degraded\n  /shop/s down (gave up, last: shutdown)\n  /shop/t down"
        )
        #expect(sim.completes { try await tree.restart(child: "s") })
        #expect(try health(sim).map(\.status) == [.healthy])
        #expect(sim.stops(tree))
    }

    @Test(arguments: [false, true])
    func aChildThatHasFailedForGoodIsNotHealthy(byPolicy: Bool) throws {
        let sim = Simulation()
        let trace = sim.trace
        let tree = try sim.system.supervise("shop", intensity: .unlimited) {
            let child = StrategyTests.child("a", trace, restart: .transient)
            if byPolicy { child.onFailure { _ in .stop } } else { child.restartedAtMost(1) }
            StrategyTests.child("b", trace, restart: .transient)
        }
        sim.drain()
        try StrategyTests.tell("b-0", .finish, in: sim)
        if !byPolicy { try StrategyTests.tell("a-0", .fail, in: sim) }
        #expect(try health(sim).map(\.status) == [.healthy])
        try StrategyTests.tell("a-0", .fail, in: sim)
        let shop = try #require(try health(sim).first)
        #expect(shop.children.map(\.info.state) == [.down, .down])
        #expect(shop.status == .degraded && shop.children.map(\.status) == [.degraded, .healthy])
        #expect(shop.description.contains("last: error: failure 0)"), "\(shop)")
        #expect(sim.completes { try await tree.restart(child: "a") })
        #expect(try health(sim).map(\.status) == [.healthy])
        #expect(sim.stops(tree))
    }

    @Test func aTreeThatGaveUpIsDownUntilItIsStartedAgain() throws {
        let sim = Simulation()
        let (trace, system) = (sim.trace, sim.system)
        func start(_ onGivingUp: @escaping @Sendable (ExitReason) -> Void = { _ in }) throws {
            let intensity = RestartIntensity(0, within: .seconds(1))
            try system.supervise("shop", intensity: intensity, onGivingUp: onGivingUp) {
                StrategyTests.child("a", trace)
            }
            sim.drain()
        }
        try start()
        let other = try system.supervise("other") { StrategyTests.child("b", trace) }
        sim.drain()
        try StrategyTests.tell("a-0", .fail, in: sim)
        #expect(system.trees.count == 1)
        #expect(try health(sim).map { "\($0)" } == ["/other healthy\n  /other/b-0 running", "/shop down"])
        try start()
        #expect(try health(sim).map(\.status) == [.healthy, .healthy])
        try StrategyTests.tell("a-0", .fail, in: sim)
        #expect(try health(sim).map(\.status) == [.healthy, .down], "once, not twice")
        // One that was stopped has not failed.
        #expect(sim.stops(other))
        #expect(try health(sim).map(\.path) == ["/shop"])
        #expect(sim.completes { await system.stop() })
        #expect(try health(sim).isEmpty)
        // Who starts it as soon as it hears of the end is not overtaken by it.
        try start { _ in
            _ = try? system.supervise("shop") { StrategyTests.child("a", trace) }
        }
        try StrategyTests.tell("a-0", .fail, in: sim)
        #expect(try health(sim).map(\.status) == [.healthy])
        #expect(sim.completes { await system.stop() })
    }

    @Test func ofTreesThatGaveUpTheLastAreKnown() {
        let fallen = FallenTrees()
        for number in 0...FallenTrees.limit { fallen.add("/\(number)") }
        #expect(fallen.paths.count == FallenTrees.limit && fallen.paths.first == "/1")
        fallen.add("/1")
        #expect(fallen.paths.count == FallenTrees.limit && fallen.paths.last == "/1")
        fallen.remove("/1")
        #expect(fallen.paths.count == FallenTrees.limit - 1)
    }

    /// Each is made of what it was started with, also when it comes back.
    @Test func aChildWithASpecificationOfItsOwnKeepsIt() throws {
        let sim = Simulation()
        let trace = sim.trace
        let tree = try sim.system.supervise("calls", strategy: .dynamic) {}
        let released = Trace()
        final class Held: Sendable {
            let (what, released): (String, Trace)
            init(_ what: String, _ released: Trace) { (self.what, self.released) = (what, released) }
            deinit { released(what) }
        }
        func start(_ what: String) {
            let isDone = sim.completes {
                let held = Held(what, released)
                try await tree.start(
                    child: Children("conn") { context in
                        trace("\(context.name) runs \(what)")
                        withExtendedLifetime(held) {}
                        await context.untilStopped()
                    }
                )
            }
            #expect(isDone)
        }
        for what in ["A", "B", "C"] { start(what) }
        #expect(sim.completes { try await tree.change(strategy: .oneForOne) })
        for name in ["conn-1", "conn-0", "conn-2"] {
            #expect(sim.completes { try await tree.terminate(child: name) })
            #expect(sim.completes { try await tree.restart(child: name) })
        }
        // Once more, of what came in its place.
        #expect(sim.completes { try await tree.terminate(child: "conn-1") })
        #expect(sim.completes { try await tree.restart(child: "conn-1") })
        #expect(
            trace.lines == [
                "conn-0 runs A", "conn-1 runs B", "conn-2 runs C", "conn-1 runs B", "conn-0 runs A", "conn-2 runs C",
                "conn-1 runs B",
            ]
        )
        // It goes with the child, and not with the next of its number.
        #expect(released.lines == [])
        #expect(sim.completes { try await tree.terminate(child: "conn-1") })
        #expect(sim.completes { try await tree.delete(child: "conn-1") })
        #expect(released.lines == ["B"])
        #expect(sim.completes { try await tree.change(strategy: .dynamic) })
        start("D")
        #expect(trace.lines.last == "conn-1 runs D")
        #expect(sim.stops(tree))
        sim.drain()
        #expect(Set(released.lines) == ["A", "B", "C", "D"] && released.lines.count == 4)
    }

    @Test func childrenOfADynamicSupervisorComeAndGo() throws {
        let sim = Simulation()
        let trace = sim.trace
        let tree = try sim.system.supervise("calls", strategy: .dynamic, intensity: .unlimited) {}
        func start(_ number: Int) {
            #expect(
                sim.completes {
                    try await tree.start(
                        child: Children("call", restart: .transient) { context in
                            trace("start \(context.name) for \(number)")
                            if case .fail = try await context.receive(StrategyTests.Command.self) { throw Failure() }
                        }
                    )
                }
            )
        }
        for number in 10..<13 { start(number) }
        #expect(trace.lines == ["start call-0 for 10", "start call-1 for 11", "start call-2 for 12"])
        trace.clear()
        let group: Group<StrategyTests.Command> = try tree.group("call")
        group.members[1].tell(.fail)
        sim.drain()
        #expect(trace.lines == ["start call-1 for 11"])
        group.members[1].tell(.finish)
        sim.drain()
        #expect(group.members.count == 2)
        start(13)
        #expect(trace.lines.last == "start call-1 for 13", "the lowest number that is free")
        #expect(sim.stops(tree))
    }
}
