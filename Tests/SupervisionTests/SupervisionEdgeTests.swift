// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc
import Testing

@testable import Supervision

/// What users meet at the edges of a tree: kills in the middle of stops, references before a start, wrong changes, errors that
/// describe themselves badly.
@Suite struct SupervisionEdgeTests {
    @Test func aKillReachesBelowASupervisorThatIsStopping() throws {
        let sim = Simulation()
        let trace = sim.trace
        let tree = try sim.system.supervise("shop") {
            Supervisor("s") {
                Supervisor("t") { TreeTests.stubborn("a", trace, shutdownTime: .infinity) }
                TreeTests.stubborn("b", trace, shutdownTime: .infinity)
            }
        }
        TreeTests.expectKillToHurry(tree, in: sim)
    }

    @Test func aNestedSupervisorIsReferredToBeforeItsStart() throws {
        let sim = Simulation()
        let tree = try sim.system.supervise("shop") {
            Children("slow") { context in
                try await context.sleep(for: .seconds(10))
                context.ready()
                await context.untilStopped()
            }.signalsReady()
            Supervisor("s") { StrategyTests.child("a", sim.trace) }
        }
        let below = try tree.supervisor("s")
        sim.drain()
        let late = thrown(SupervisionError.self) { try below.children { StrategyTests.child("lost", sim.trace) } }
        #expect(late?.code == .supervisorStopped)
        let code = Locked<SupervisionError.Code?>(nil)
        #expect(
            sim.completes {
                do {
                    try await below.change(strategy: .oneForAll)
                } catch {
                    code.withLock { $0 = (error as? SupervisionError)?.code }
                }
            }
        )
        #expect(code.withLock { $0 } == .supervisorStopped && sim.trace.lines == [])
        sim.advance(by: .seconds(11))
        #expect(sim.trace.lines == ["start a"])
        try below.children { StrategyTests.child("b", sim.trace) }
        sim.drain()
        #expect(sim.trace.lines == ["start a", "start b"])
        #expect(sim.stops(tree))
    }

    @Test func whatIsStartedOrChangedLaterIsCheckedToo() throws {
        let sim = Simulation()
        let tree = try sim.system.supervise("shop", strategy: .dynamic) { StrategyTests.child("a", sim.trace) }
        sim.drain()
        func code(_ body: @escaping @Sendable () async throws -> Void) -> SupervisionError.Code? {
            let code = Locked<SupervisionError.Code?>(nil)
            #expect(
                sim.completes {
                    do { try await body() } catch { code.withLock { $0 = (error as? SupervisionError)?.code } }
                }
            )
            return code.withLock { $0 }
        }
        let nowhere = StrategyTests.child("a", sim.trace).pinned(to: .cores([]))
        #expect(code { try await tree.start(child: nowhere) } == .badPinning)
        #expect(code { try await tree.change(nowhere) } == .badPinning)
        let significant = StrategyTests.child("a", sim.trace, restart: .transient).significant()
        #expect(code { try await tree.start(child: significant) } == .significantWithoutAutoShutdown)
        let error = thrown(SupervisionError.self) {
            try sim.system.supervise("other") {
                StrategyTests.child("first", sim.trace)
                Supervisor("s") { nowhere }
            }
        }
        #expect(error?.code == .badPinning)
        let bad = thrown(SupervisionError.self) {
            try sim.system.supervise("other") {
                Children("b", backoff: .constant(.seconds(1), jitter: 2)) { _ in }
            }
        }
        #expect(bad?.code == .badBackoff)
        sim.drain()
        #expect(sim.trace.lines == ["start a"])
        #expect(sim.stops(tree))
    }

    struct Boastful: Error, CustomStringConvertible {
        var description: String { preconditionFailure("nobody may ask") }
    }

    /// An error describes itself on the thread of who asks, if at all.
    @Test func whoListsChildrenHasNoErrorDescribed() throws {
        let sim = Simulation()
        let tree = try sim.system.supervise("shop") {
            Children("a", backoff: .constant(.seconds(100))) { _ in throw Boastful() }
        }
        sim.drain()
        let seen = Locked<Bool>(false)
        #expect(
            sim.completes {
                let children = await tree.whichChildren()
                if case .error(let error)? = children.first?.lastExit {
                    seen.withLock { $0 = error is Boastful }
                }
            }
        )
        #expect(seen.withLock { $0 })
        #expect(sim.stops(tree))
    }

    @Test func aBodyThatIsOverCannotResume() throws {
        let sim = Simulation()
        let told = Locked<[String]>([])
        let asked = Locked<Int>(0)
        let events = sim.system.events()
        let listener = sim.executor.spawn {
            for await event in events { told.withLock { $0.append("\(event)") } }
        }
        sim.drain()
        let tree = try sim.system.supervise("shop", intensity: .unlimited) {
            Children("a", backoff: .constant(.seconds(1))) { context in
                if context.restarts == 0 { throw FailureTests.Soft() }
                await context.untilStopped()
            }.onFailure { _ in
                asked.withLock { $0 += 1 }
                return .resume
            }
        }
        sim.advance(by: .seconds(2))
        #expect(asked.withLock { $0 } == 1)
        #expect(!told.withLock { $0 }.contains { $0.contains("goes on") })
        #expect(told.withLock { $0 }.contains("/shop/a-0 restarting in 1.0 seconds"))
        #expect(sim.stops(tree))
        listener.cancel()
        sim.drain()
    }

    @Test func anEndWithoutAFailureEndsTheRow() throws {
        let sim = Simulation()
        let tree = try sim.system.supervise("shop", intensity: .unlimited) {
            Children("c", FailureTests.Counter(sim.trace))
        }
        let group: Group<FailureTests.Order> = try tree.group("c")
        sim.drain()
        let proc = group.members[0].proc
        group.tell(.hard)
        sim.drain()
        proc.stop()
        sim.drain()
        group.tell(.hard)
        sim.drain()
        #expect(sim.trace.lines == Array(repeating: "after: /shop/c-0 failed handling Order: error: Hard()", count: 2))
        #expect(sim.stops(tree))
    }

    @Test func aSupervisorOfAProcessThatHasEndedIsItsNoLonger() throws {
        let sim = Simulation()
        let tree = try sim.system.supervise("shop") {
            Children("owner") { context in
                for number in 0..<100 {
                    let job = try context.supervise("job\(number)") { Children("j") { _ in } }
                    await job.stop()
                }
                await context.untilStopped()
            }
        }
        sim.drain()
        #expect(tree.supervisor.roster.child("owner-0")?.supervisors.count == 0)
        #expect(sim.stops(tree))
    }

    @Test func aStartThatIsCancelledDuringItsCallbackIsUndone() throws {
        for seed in RandomTest.seeds(#function, count: 40) {
            let sim = Simulation(seed: seed)
            let trace = sim.trace
            let start = Locked<RecoverableHandle<Void>?>(nil)
            let callbacks = Callbacks(beforeStart: { _ in start.withLock { $0 }?.cancel() })
            let ended = Locked<String>("")
            let handle = sim.executor.spawn { [system = sim.system] in
                do {
                    try await system.supervise("shop", startingWithin: .seconds(5), callbacks: callbacks) {
                        Children("never ready") { context in
                            context.onExit { trace("\($0)") }
                            await context.untilStopped()
                        }.signalsReady()
                    }
                    ended.withLock { $0 = "started" }
                } catch {
                    ended.withLock { $0 = error is CancellationError ? "cancelled" : "\(error)" }
                }
            }
            start.withLock { $0 = handle }
            // No time passes: it is not the limit of the start that ends it.
            sim.drain()
            #expect(ended.withLock { $0 } == "cancelled", "SEED=\(seed)")
            #expect(trace.lines.isEmpty || trace.lines == ["shutdown"], "SEED=\(seed)")
            #expect(sim.system.trees.isEmpty, "SEED=\(seed)")
        }
    }

    @Test func warningsAreMeantWell() throws {
        func codes(_ tree: Supervisor) throws -> [SupervisionWarning.Code] { try tree.validate().map(\.code) }
        // Gives up long before the cap is reached.
        let quick = Supervisor("s") {
            Children("a", backoff: .exponential(.milliseconds(50), cap: .seconds(10))) { _ in }
        }
        #expect(try codes(quick) == [])
        let endless = Supervisor("s") {
            Supervisor("t", shutdownTime: .seconds(2)) { Children("a", shutdownTime: .infinity) { _ in } }
        }
        #expect(try codes(endless) == [.shutdownTimeTooShort])
        let late = Supervisor("s") {
            Supervisor("t") { Children("a") { _ in }.startsWithin(.seconds(9)) }.startsWithin(.seconds(3))
        }
        #expect(try codes(late) == [.startTimeTooShort])
    }

    @Test func healthTellsOfStartsAndEnds() throws {
        let sim = Simulation()
        let tree = try sim.system.supervise("shop") {
            Children("slow") { context in
                try await context.sleep(for: .seconds(1))
                context.ready()
                await context.untilStopped()
            }.signalsReady()
            StrategyTests.child("next", sim.trace)
        }
        sim.drain()
        func status() -> SupervisorHealth.Status? {
            let seen = Locked<SupervisorHealth.Status?>(nil)
            #expect(
                sim.completes {
                    let health = await tree.health()
                    seen.withLock { $0 = health.status }
                }
            )
            return seen.withLock { $0 }
        }
        #expect(status() == .starting)
        sim.advance(by: .seconds(2))
        #expect(status() == .healthy)
        #expect(sim.stops(tree))
        #expect(status() == .down)
    }

    /// A nested supervisor whose process has ended, and whose children have not.
    @Test func healthTellsOfWhatIsBeingStopped() throws {
        let sim = Simulation()
        let tree = try sim.system.supervise("shop") {
            Supervisor("s", shutdownTime: .infinity) {
                Supervisor("t", shutdownTime: .infinity) {
                    TreeTests.stubborn("slow", Trace(), shutdownTime: .seconds(3))
                }
            }
        }
        sim.drain()
        tree.supervisor.roster.child("s")?.proc.end(1, for: .error(Failure()))
        sim.drain()
        let seen = Locked<String?>(nil)
        let isDone = sim.completes {
            let health = await tree.health()
            seen.withLock { $0 = health.description }
        }
        #expect(isDone)
        let expected = [
            "/shop degraded", "  /shop/s degraded", "    /shop/s/t degraded", "      /shop/s/t/slow-0 stopping",
        ]
        #expect(seen.withLock { $0 } == expected.joined(separator: "\n"))
        sim.advance(by: .seconds(3))
        // It is there again.
        tree.supervisor.kill {}
        sim.drain()
        #expect(sim.system.trees.isEmpty)
    }
}
