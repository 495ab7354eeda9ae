// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import LightProc
import Supervision
import Testing

/// Orderly stops, in virtual time.
@Suite struct StopTests {
    @Test func childrenStopInReverseOrderOneAfterTheOther() throws {
        for seed in RandomTest.seeds(#function, count: 20) {
            let sim = Simulation(seed: seed)
            let trace = sim.trace
            let tree = try sim.system.supervise {
                for name in ["a", "b", "c"] {
                    Children(name, redundancy: 2) { context in
                        context.onExit { _ in trace("\(context.name) ended") }
                        await context.untilStopped()
                        trace("\(context.name) stopping")
                    }
                }
            }
            sim.drain()
            #expect(sim.stops(tree))
            let order = ["c-1", "c-0", "b-1", "b-0", "a-1", "a-0"]
            #expect(sim.trace.lines == order.flatMap { ["\($0) stopping", "\($0) ended"] }, "SEED=\(seed)")
            #expect(!tree.gaveUp)
        }
    }

    @Test func aChildThatIgnoresItsCancellationIsEndedAtItsDeadline() throws {
        let sim = Simulation()
        let tree = try sim.system.supervise {
            Children("first") { context in
                context.onExit { sim.note("first: \($0)") }
                await context.untilStopped()
            }
            Children("stubborn", shutdownTime: .milliseconds(700)) { context in
                context.onExit { sim.note("stubborn: \($0)") }
                await suspended { (_: UnsafeContinuation<Void, Never>) in }
            }
        }
        sim.drain()
        let ended = Locked(false)
        tree.stop { ended.withLock { $0 = true } }
        sim.advance(by: .milliseconds(699))
        #expect(sim.trace.lines == [])
        sim.advance(by: .milliseconds(1))
        #expect(sim.trace.lines == ["700: stubborn: killed", "700: first: shutdown"])
        #expect(ended.withLock { $0 })
    }

    @Test func aChildMayUseItsShutdownTimeToCleanUp() throws {
        let sim = Simulation()
        let tree = try sim.system.supervise {
            Children("tidy", shutdownTime: .seconds(2)) { context in
                context.onExit { sim.note("tidy: \($0)") }
                await context.untilStopped()
                // Not cancelled with the rest: it waits for the executor's time by itself.
                let scheduler = context.system.executor
                await suspended { continuation in
                    scheduler.schedule(after: .seconds(1)) { continuation.resume() }
                }
            }
        }
        sim.drain()
        tree.stop {}
        sim.advance(by: .seconds(5))
        #expect(sim.trace.lines == ["1000: tidy: shutdown"])
    }

    /// When a child task traps, its siblings have the shutdown time of the group, and the next incarnation waits for it.
    @Test(arguments: [(0, false), (300, false), (301, true)])
    func theSiblingsOfAChildTaskThatTrapsHaveTheShutdownTime(milliseconds: Int, isEnough: Bool) async {
        await #expect(processExitsWith: .success) { [milliseconds, isEnough] in
            let executor = SeededExecutor(seed: 1, containsTraps: true)
            let system = BastionSystem(name: "traps", executor: executor, log: .silent)
            let trace = Trace()
            let note = { @Sendable (line: String) in trace("\(Int(executor.now / .milliseconds(1))): \(line)") }
            let tree = try system.supervise {
                Children("parent", shutdownTime: .milliseconds(milliseconds)) { context in
                    note("incarnation \(context.restarts)")
                    guard context.restarts == 0 else { return await context.untilStopped() }
                    await withTaskGroup(of: Void.self) { group in
                        group.addTask {
                            // Cleans up, which takes a while, whether cancelled or not.
                            await suspended { continuation in
                                executor.schedule(after: .milliseconds(300)) { continuation.resume() }
                            }
                            note("cleaned up, cancelled: \(Task.isCancelled)")
                        }
                        group.addTask { _ = opaque([1])[opaque(9)] }
                    }
                }
            }
            executor.drain()
            executor.advance(by: .seconds(1))
            #expect(
                trace.lines == ["0: incarnation 0"]
                    + (isEnough ? ["300: cleaned up, cancelled: true"] : [])
                    + ["\(min(milliseconds, 300)): incarnation 1"]
            )
            tree.stop {}
            executor.drain()
        }
    }

    @Test func aStopEndsChildrenThatWaitInBackoff() throws {
        let sim = Simulation()
        let trace = sim.trace
        let tree = try sim.system.supervise(intensity: .unlimited) {
            Children("echo", Echo("echo", trace), backoff: .constant(.seconds(60)))
        }
        let echo = try tree.group("echo", of: Echo.Message.self).members[0]
        echo.tell(.fail)
        sim.drain()
        #expect(sim.stops(tree))
        sim.advance(by: .seconds(120))
        #expect(sim.trace.lines == ["start echo"])
        #expect(echo.proc.isClosed)
    }

    @Test func stoppingTwiceTellsBoth() throws {
        let sim = Simulation()
        let trace = sim.trace
        let tree = try sim.system.supervise { Children("echo", Echo("echo", trace)) }
        let ends = Locked(0)
        for _ in 0..<2 { tree.stop { ends.withLock { $0 += 1 } } }
        sim.drain()
        #expect(ends.withLock { $0 } == 2)
        tree.stop { ends.withLock { $0 += 1 } }
        #expect(ends.withLock { $0 } == 3, "a supervisor that has ended says so at once")
    }

    @Test func aStopDuringTheStartEndsEverything() throws {
        for seed in RandomTest.seeds(#function, count: 100) {
            let sim = Simulation(seed: seed)
            let trace = sim.trace
            let tree = try sim.system.supervise {
                Children("echo", Echo("echo", trace), redundancy: 2)
                Children("worker", redundancy: 2) { context in await context.untilStopped() }
            }
            for _ in 0..<Int(seed % 12) { sim.executor.step() }
            #expect(sim.stops(tree), "SEED=\(seed)")
        }
    }

    @Test func messagesOfAStoppedChildAreDeadLetters() throws {
        let sim = Simulation()
        let trace = sim.trace
        let tree = try sim.system.supervise(intensity: .unlimited) {
            Children("echo", Echo("echo", trace), backoff: .constant(.seconds(1)))
            Children("worker", backoff: .constant(.seconds(1))) { _ in throw Failure() }
        }
        let echo = try tree.group("echo", of: Echo.Message.self).members[0]
        let worker = try tree.group("worker", of: Int.self).members[0]
        echo.tell(.fail)
        for n in 0..<3 { echo.tell(.value(n)) }
        for n in 0..<4 { worker.tell(n) }
        sim.drain()
        #expect(sim.system.deadLetters == 0)
        #expect(sim.stops(tree))
        #expect(sim.system.deadLetters == 7)
    }

    @Test func deadLettersAreCountedAlsoWhenNobodyHoldsTheTree() throws {
        let sim = Simulation()
        let trace = sim.trace
        func start() throws -> ProcRef<Echo.Message> {
            try sim.system.supervise { Children("echo", Echo("echo", trace), restart: .temporary) }
                .group("echo", of: Echo.Message.self).members[0]
        }
        let echo = try start()
        echo.tell(.fail)
        for n in 0..<5 { echo.tell(.value(n)) }
        sim.drain()
        #expect(sim.system.deadLetters == 5)
    }
}
