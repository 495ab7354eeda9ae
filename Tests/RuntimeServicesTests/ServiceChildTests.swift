// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc
import RuntimeServices
import ServiceLifecycle
import Supervision
import Testing

@Suite struct ServiceChildTests {
    /// Runs one service until it waits, then asks it to stop.
    private func stop(_ simulation: Simulation, _ orders: Obedient.Orders) throws -> SupervisorRef {
        let trace = simulation.trace
        let tree = try simulation.system.supervise {
            simulation.notesEnd(
                Children("s", service: Obedient("s", trace, obeys: orders), shutdownTime: .seconds(2))
            )
        }
        simulation.drain()
        tree.stop {}
        simulation.drain()
        return tree
    }

    @Test func stopIsAGracefulShutdownAndNoCancellation() throws {
        let simulation = Simulation()
        _ = try stop(simulation, .shutdown)
        #expect(simulation.trace.lines == ["make s", "run s", "shutdown s", "return s", "0: shutdown"])
    }

    @Test func serviceIsCancelledWhenTheShutdownTimeIsOver() throws {
        let simulation = Simulation()
        _ = try stop(simulation, .cancellation)
        #expect(simulation.trace.lines == ["make s", "run s", "shutdown s"])
        simulation.advance(by: .milliseconds(1999))
        #expect(simulation.trace.lines.count == 3)
        simulation.advance(by: .milliseconds(1))
        #expect(simulation.trace.lines.dropFirst(3) == ["cancel s", "return s", "2000: killed"])
    }

    @Test func serviceThatObeysNothingIsGivenUp() throws {
        let simulation = Simulation()
        let tree = try stop(simulation, [])
        let ended = Locked(false)
        tree.whenFinished { ended.withLock { $0 = true } }
        simulation.advance(by: .milliseconds(1999))
        #expect(!ended.withLock { $0 })
        simulation.advance(by: .milliseconds(2001))
        #expect(ended.withLock { $0 })
        #expect(simulation.trace.lines == ["make s", "run s", "shutdown s", "cancel s", "2000: killed"])
    }

    @Test func aBodyIsTheServiceThatItRuns() throws {
        let simulation = Simulation()
        let trace = simulation.trace
        let tree = try simulation.system.supervise {
            simulation.notesEnd(
                Children("b", shutdownTime: .seconds(2)) { try await $0.run(Obedient("s", trace, obeys: .shutdown)) }
            )
        }
        simulation.drain()
        #expect(trace.lines == ["make s", "run s"])
        tree.stop {}
        simulation.drain()
        #expect(trace.lines == ["make s", "run s", "shutdown s", "return s", "0: shutdown"])
    }

    @Test func killIsACancellation() throws {
        let simulation = Simulation()
        let trace = simulation.trace
        let tree = try simulation.system.supervise {
            simulation.notesEnd(Children("s", service: Obedient("s", trace), restart: .temporary))
        }
        simulation.drain()
        tree.kill(then: {})
        simulation.drain()
        #expect(!trace.lines.contains("shutdown s"))
        #expect(trace.lines.suffix(3) == ["cancel s", "return s", "0: killed"])
    }

    @Test func killOvertakesTheShutdownTime() throws {
        let simulation = Simulation()
        let tree = try stop(simulation, .cancellation)
        tree.kill(then: {})
        simulation.drain()
        #expect(simulation.trace.lines.suffix(3) == ["cancel s", "return s", "0: killed"])
    }

    @Test func serviceThatIsStoppedBeforeItBeginsIsNotMade() throws {
        var notMade = 0
        for seed in 1...30 {
            let simulation = Simulation(seed: UInt64(seed))
            let trace = simulation.trace
            let tree = try simulation.system.supervise { Children("s", service: Obedient("s", trace)) }
            let ended = Locked(false)
            tree.stop { ended.withLock { $0 = true } }
            simulation.drain()
            #expect(ended.withLock { $0 })
            if trace.lines.isEmpty {
                notMade += 1
            } else {
                #expect(trace.lines == ["make s", "run s", "shutdown s", "return s"], "seed \(seed)")
            }
        }
        #expect(notMade > 0)
    }

    /// How a service ends, when asked to stop or by itself.
    struct End: Sendable, CustomTestStringConvertible {
        let error: (any Error)?
        let isStopped: Bool
        let reason: String
        var testDescription: String { "\(error.map { "\($0)" } ?? "return"), \(isStopped ? "stopped" : "by itself")" }
    }

    @Test(arguments: [
        End(error: nil, isStopped: false, reason: "normal"),
        End(error: nil, isStopped: true, reason: "shutdown"),
        End(error: CancellationError(), isStopped: true, reason: "shutdown"),
        End(error: CancellationError(), isStopped: false, reason: "error: CancellationError()"),
        End(error: Failure(), isStopped: true, reason: "error: Failure()"),
        End(error: Failure(), isStopped: false, reason: "error: Failure()"),
    ])
    func whatRunDoesIsTheExitReason(_ end: End) throws {
        struct Ending: Service {
            let end: End
            func run() async throws {
                let gate = SleepGate()
                if end.isStopped {
                    await withGracefulShutdownHandler {
                        await gate.wait()
                    } onGracefulShutdown: {
                        gate.open()
                    }
                }
                if let error = end.error { throw error }
            }
        }
        let simulation = Simulation()
        let reasons = Locked<[String]>([])
        let tree = try simulation.system.supervise {
            Children("s", service: Ending(end: end), restart: .temporary)
                .callbacks(Callbacks(afterStop: { occasion in reasons.withLock { $0.append("\(occasion.reason!)") } }))
        }
        simulation.drain()
        if end.isStopped {
            #expect(reasons.withLock { $0 }.isEmpty)
            tree.stop {}
            simulation.drain()
        }
        #expect(reasons.withLock { $0 } == [end.reason])
    }

    @Test func eachStartMakesAFreshService() throws {
        struct Failing: Service {
            let number: Int
            let trace: Trace
            func run() async throws {
                trace("run \(number)")
                if number < 3 { throw Failure() }
                try await gracefulShutdown()
            }
        }
        let simulation = Simulation()
        let trace = simulation.trace
        let made = Locked(0)
        try simulation.system.supervise(intensity: .unlimited) {
            Children(service: "s") { context in
                trace("make for \(context.name), restart \(context.restarts)")
                return Failing(
                    number: made.withLock { made in
                        made += 1
                        return made
                    },
                    trace: trace
                )
            }
        }
        simulation.drain()
        #expect(
            trace.lines == [
                "make for s-0, restart 0", "run 1", "make for s-0, restart 1", "run 2", "make for s-0, restart 2",
                "run 3",
            ]
        )
        #expect(simulation.system.restarts == 2)
    }

    @Test func serviceThatCannotBeMadeHasFailed() throws {
        let simulation = Simulation()
        let trace = simulation.trace
        @Sendable func make() throws -> any Service {
            trace("make")
            if trace.lines.count < 3 { throw Failure() }
            return Obedient("s", trace)
        }
        try simulation.system.supervise(intensity: .unlimited) {
            Children("s", service: try make(), restart: .transient)
        }
        simulation.drain()
        #expect(trace.lines == ["make", "make", "make", "make s", "run s"])
    }

    @Test func gracefulShutdownReachesChildTasks() async throws {
        struct Waiting: Service {
            let trace: Trace
            func run() async throws {
                try await withThrowingTaskGroup(of: Void.self) { group in
                    group.addTask {
                        try await gracefulShutdown()
                        trace("in a child task")
                    }
                    group.addTask {
                        try? await cancelWhenGracefulShutdown { try await Task.sleep(for: .seconds(1_000)) }
                        trace("cancelled sleep, shutting down: \(Task.isShuttingDownGracefully), \(Task.isCancelled)")
                    }
                    trace("waits")
                    try await group.waitForAll()
                }
            }
        }
        try await withPool { system in
            let trace = Trace()
            let tree = try system.supervise {
                Children("s", service: Waiting(trace: trace), shutdownTime: .seconds(1_000))
            }
            await trace.wait(for: "waits")
            await tree.stop()
            #expect(
                trace.lines.sorted() == ["cancelled sleep, shutting down: true, false", "in a child task", "waits"]
            )
        }
    }

    enum Place: CaseIterable { case own, child }

    @Test(arguments: Place.allCases)
    func trapEndsTheServiceAndIsContained(in place: Place) async throws {
        struct Trapping: Service {
            let place: Place
            let trace: Trace
            func run() async throws {
                let numbers = opaque([Int]())
                switch place {
                case .own: trace("\(numbers[opaque(3)])")
                case .child: await withDiscardingTaskGroup { $0.addTask { trace("\(numbers[opaque(3)])") } }
                }
            }
        }
        try await withPool { system in
            let trace = Trace()
            let tree = try system.supervise {
                Children(service: "s", shutdownTime: .seconds(1_000)) { context in
                    context.onExit { reason in
                        if let report = reason.trapReport { trace("\(report.kind)") }
                    }
                    return context.restarts == 0 ? Trapping(place: place, trace: trace) : Obedient("s", trace)
                }
            }
            await trace.wait(for: "run s")
            await tree.stop()
            #expect(trace.lines == ["index out of range", "make s", "run s", "shutdown s", "return s"])
        }
    }

    @Test func membersStopOneAfterTheOther() throws {
        let simulation = Simulation()
        let trace = simulation.trace
        let tree = try simulation.system.supervise {
            Children("a", service: Obedient("a", trace))
            Children("b", service: Obedient("b", trace))
        }
        simulation.drain()
        tree.stop {}
        simulation.drain()
        #expect(trace.lines.suffix(4) == ["shutdown b", "return b", "shutdown a", "return a"])
    }
}
