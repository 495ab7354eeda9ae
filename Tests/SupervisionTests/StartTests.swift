// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc
import Testing

@testable import Supervision

/// Starts that somebody waits for, in virtual time.
@Suite struct StartTests {
    private let sim = Simulation()

    private func outcome(
        _ body: @escaping @Sendable () async throws -> SupervisorRef
    ) -> (tree: SupervisorRef?, error: (any Error)?) {
        let handle = sim.executor.spawn { try await body() }
        sim.drain()
        switch handle.knownOutcome {
        case .finished(let tree): return (tree, nil)
        case .failed(.error(let error)): return (nil, error)
        case .failed(let reason):
            Issue.record("\(reason)")
            return (nil, nil)
        }
    }

    /// A member that tells what becomes of it.
    private static func child(
        _ name: String,
        _ trace: Trace,
        _ start: @escaping @Sendable () throws -> Void = {}
    ) -> Children {
        Children(name, try Made(name, trace, start))
    }

    private struct Made: Reactive {
        init(_ name: String, _ trace: Trace, _ start: () throws -> Void) throws {
            trace("\(name) starts")
            try start()
            let proc = LightProc.current
            proc?.onExit { trace("\(name) \($0)") }
        }
        mutating func receive(_ message: consuming Int, in context: borrowing ReactiveContext<Made>) {}
    }

    @Test func itReturnsWhenAllHaveStartedInTheirOrder() throws {
        for seed in RandomTest.seeds(#function, count: 20) {
            let sim = Simulation(seed: seed)
            let trace = sim.trace
            let handle = sim.executor.spawn {
                try await sim.system.supervise(startingWithin: .seconds(1)) {
                    Self.child("a", trace)
                    Children("b", redundancy: 2) { context in
                        trace("\(context.name) starts")
                        await context.untilStopped()
                    }
                    Self.child("c", trace)
                }
                trace("returned")
            }
            sim.drain()
            // The bodies of async members begin at about the time that they count as started.
            #expect(trace.lines.filter { !$0.hasPrefix("b") } == ["a starts", "c starts", "returned"], "SEED=\(seed)")
            #expect(Set(trace.lines) == ["a starts", "b-0 starts", "b-1 starts", "c starts", "returned"])
            withExtendedLifetime(handle) {}
        }
    }

    @Test func oneThatCannotStartEndsThoseBeforeItInReverseOrder() throws {
        let trace = sim.trace
        let (tree, error) = outcome { [sim] in
            try await sim.system.supervise("shop", startingWithin: .seconds(1), intensity: .unlimited) {
                Self.child("a", trace)
                Self.child("b", trace)
                Self.child("c", trace) { throw Failure(number: 3) }
                Self.child("d", trace)
            }
        }
        #expect(tree == nil)
        let failure = try #require(error as? StartError)
        #expect(failure.code == .failed && failure.child == "c-0" && failure.path == "/shop/c-0")
        guard case .error(let cause as Failure)? = failure.reason, cause.number == 3 else {
            Issue.record("\(failure)")
            return
        }
        #expect(failure.description == "/shop/c-0 ended before it had started: error: failure 3")
        #expect(trace.lines == ["a starts", "b starts", "c starts", "b shutdown", "a shutdown"])
        #expect(sim.system.restarts == 0)
    }

    @Test func aTrapOfTheStartIsReported() throws {
        let sim = Simulation(containsTraps: true)
        let handle = sim.executor.spawn {
            try await sim.system.supervise(startingWithin: .seconds(1)) {
                Children("a", body: noting(sim.trace))
                    .callbacks(Callbacks(beforeStart: { _ in _ = opaque([1])[opaque(9)] }))
            }
        }
        sim.drain()
        guard case .failed(.error(let error as StartError)) = handle.knownOutcome, case .trap? = error.reason else {
            Issue.record("\(handle.knownOutcome)")
            return
        }
        #expect(error.child == "a-0")
    }

    @Test func whatFailsAfterItsStartIsRestarted() throws {
        let trace = sim.trace
        let (tree, error) = outcome { [sim] in
            try await sim.system.supervise(startingWithin: .seconds(1), intensity: .unlimited) {
                Children("a") { context in
                    context.ready()
                    trace("run \(context.restarts)")
                    if context.restarts == 0 { throw Failure() }
                    await context.untilStopped()
                }.signalsReady()
            }
        }
        #expect(tree != nil && error == nil)
        #expect(trace.lines == ["run 0", "run 1"])
    }

    @Test func oneThatEndsBeforeItIsReadyHasFailed() throws {
        let trace = sim.trace
        let (_, error) = outcome { [sim] in
            try await sim.system.supervise(startingWithin: .seconds(1), intensity: .unlimited) {
                Children("a", redundancy: 2) { context in
                    trace("\(context.name) starts")
                    if context.name == "a-1" { return }
                    context.ready()
                    context.ready()
                    await context.untilStopped()
                    trace("\(context.name) stopped")
                }.signalsReady()
            }
        }
        let failure = try #require(error as? StartError)
        guard case .normal? = failure.reason else {
            Issue.record("\(failure)")
            return
        }
        #expect(failure.child == "a-1" && trace.lines == ["a-0 starts", "a-1 starts", "a-0 stopped"])
    }

    @Test func whoTakesTooLongIsStopped() throws {
        let trace = sim.trace
        let errors = Trace()
        let handle = sim.executor.spawn { [sim] in
            do {
                try await sim.system.supervise("shop", startingWithin: .seconds(3)) {
                    Self.child("a", trace)
                    Children("slow") { context in
                        try? await context.sleep(for: .seconds(60))
                        trace("slow cancelled at \(sim.milliseconds)")
                    }.signalsReady()
                }
            } catch { errors("\(sim.milliseconds): \(error)") }
        }
        sim.advance(by: .seconds(10))
        #expect(trace.lines == ["a starts", "slow cancelled at 3000", "a shutdown"])
        #expect(errors.lines == ["3000: /shop/slow-0 had not started when the time was up"])
        withExtendedLifetime(handle) {}
    }

    /// Whoever is slow at that moment is not to blame for one that is terminated.
    @Test(arguments: [true, false])
    func theErrorNamesTheChildThatWasTerminated(isDynamic: Bool) throws {
        for seed in RandomTest.seeds(#function, count: 10) {
            let sim = Simulation(seed: seed)
            let trace = sim.trace
            let tree = try sim.system.supervise("shop", strategy: isDynamic ? .dynamic : .oneForOne) {}
            sim.drain()
            let handle = sim.executor.spawn {
                do {
                    try await tree.children(startingWithin: .seconds(3)) {
                        for name in ["a", "b", "c", "d"] {
                            Children(name) { context in await context.untilStopped() }.signalsReady()
                        }
                    }
                } catch { trace("\(error)") }
            }
            sim.drain()
            // Both before the supervisor has dealt with the first.
            tree.supervisor.send(.call(.terminate("c", kills: false) { _ in }))
            if !isDynamic { tree.supervisor.send(.call(.terminate("b", kills: false) { _ in })) }
            sim.drain()
            let why = isDynamic ? ": shutdown" : ""
            #expect(trace.lines == ["/shop/c-0 ended before it had started\(why)"], "SEED=\(seed)")
            withExtendedLifetime(handle) {}
            #expect(sim.stops(tree))
        }
    }

    /// No timer fires in vain: each goes with its child, or with what it was for.
    @Test(arguments: 0..<7)
    func timersGoWithTheirChildren(way: Int) throws {
        let trace = sim.trace
        @Sendable func failing(_ name: String) -> Children {
            Children(name, backoff: .constant(.seconds(50))) { _ in throw Failure() }
        }
        @Sendable func slow(_ name: String) -> Children {
            Children(name) { context in
                for await _ in context.messages(of: Int.self) { context.ready() }
            }.signalsReady().startsWithin(.seconds(50))
        }
        let tree = try sim.system.supervise("shop", intensity: .unlimited) {
            Self.child("other", trace)
            if way < 2 { failing("a") }
            if 2..<5 ~= way { slow("a") }
            if way >= 5 {
                Supervisor("a", shutdownTime: .seconds(50)) {
                    Self.child("b", trace)
                    if way == 6 { failing("c") }
                }
            }
        }
        sim.drain()
        #expect((sim.executor.nextTimer == nil) == (way == 5))
        switch way {
        case 0, 2, 5: #expect(sim.completes { try await tree.terminate(child: "a") })
        case 3: sim.system.broadcast(1)
        case 4: try tree.group("a", of: Int.self).members[0].proc.kill()
        default: #expect(sim.stops(tree))
        }
        sim.drain()
        if way == 4 {
            // It is started again, with a timer of its own.
            #expect(sim.executor.nextTimer != nil)
            #expect(sim.completes { try await tree.terminate(group: "a") })
        }
        #expect(sim.executor.nextTimer == nil)
        if way != 1, way != 6 { #expect(sim.stops(tree)) }
    }

    /// Nobody waits for the starts of a dynamic group, until there is a limit to them: for those that are made from then on.
    @Test func aLimitIsGivenToTheStartsOfADynamicGroup() throws {
        let trace = sim.trace
        let tree = try sim.system.supervise("shop", strategy: .dynamic, intensity: .unlimited) {
            Children("m") { context in
                trace("\(context.name) starts")
                await context.untilStopped()
            }
        }
        sim.drain()
        let slow = Children("m") { context in
            trace("\(context.name) starts slowly")
            if context.restarts > 0 { context.ready() }
            await context.untilStopped()
        }.signalsReady().startsWithin(.seconds(3))
        #expect(sim.completes { try await tree.change(slow) })
        // The one that is there has no such limit: it could not say that it has started.
        tree.supervisor.roster.child("m-0")?.proc.kill()
        sim.drain()
        #expect(sim.executor.nextTimer == nil)
        #expect(trace.lines == ["m-0 starts", "m-0 starts"])
        trace.clear()
        try tree.resize(group: "m", to: 2)
        sim.advance(by: .milliseconds(2999))
        #expect(trace.lines == ["m-1 starts slowly"])
        sim.advance(by: .milliseconds(1))
        #expect(trace.lines == ["m-1 starts slowly", "m-1 starts slowly"])
        // It was in time.
        sim.advance(by: .seconds(10))
        #expect(trace.lines.count == 2 && sim.executor.nextTimer == nil)
        #expect(tree.supervisor.roster.child("m-0")?.proc.restarts == 1)
        #expect(sim.stops(tree))
    }

    @Test func cancellingTheStartUndoesIt() throws {
        for steps in 0..<25 {
            let sim = Simulation(seed: UInt64(steps))
            let trace = sim.trace
            let handle = sim.executor.spawn {
                do {
                    try await sim.system.supervise(startingWithin: .seconds(3)) {
                        Self.child("a", trace)
                        Children("slow") { context in await context.untilStopped() }.signalsReady()
                    }
                } catch is CancellationError { trace("cancelled") }
            }
            for _ in 0..<steps { sim.executor.step() }
            handle.cancel()
            sim.drain()
            let isUndone = trace.lines == ["a starts", "a shutdown", "cancelled"]
            #expect(isUndone || trace.lines == ["cancelled"] || trace.lines == [], "\(steps)")
        }
    }

    @Test func groupsThatAreAddedAreUndoneAndTheOthersGoOn() throws {
        let trace = sim.trace
        let tree = try sim.system.supervise { Self.child("old", trace) }
        sim.drain()
        let (_, error) = outcome {
            try await tree.children(startingWithin: .seconds(1)) {
                Self.child("a", trace)
                Self.child("b", trace) { throw Failure() }
                Self.child("c", trace)
            }
            return tree
        }
        #expect((error as? StartError)?.child == "b-0")
        #expect(trace.lines == ["old starts", "a starts", "b starts", "a shutdown"])
        #expect(throws: SupervisionError.self) { try tree.group("a", of: Int.self) }
        #expect(throws: SupervisionError.self) { try tree.group("c", of: Int.self) }
        let (again, _) = outcome {
            try await tree.children(startingWithin: .seconds(1)) { Self.child("a", trace) }
            return tree
        }
        #expect(again != nil)
        #expect(try tree.group("a", of: Int.self).members.count == 1)
        #expect(sim.stops(tree))
        #expect(trace.lines.suffix(3) == ["a starts", "a shutdown", "old shutdown"])
    }

    @Test func aSupervisorThatIsStoppedMeanwhileSaysSo() throws {
        for steps in 0..<30 {
            let sim = Simulation(seed: UInt64(steps))
            let trace = sim.trace
            let tree = try sim.system.supervise { Children("old", body: noting(trace)) }
            let handle = sim.executor.spawn {
                do {
                    try await tree.children(startingWithin: .seconds(1)) {
                        Self.child("a", Trace())
                        Children("b") { context in await context.untilStopped() }.signalsReady()
                    }
                } catch let error as StartError { trace("\(error.code == .stopped)") } catch { trace("true") }
            }
            for _ in 0..<steps { sim.executor.step() }
            #expect(sim.stops(tree))
            #expect(trace.lines == ["true"], "\(steps)")
            withExtendedLifetime(handle) {}
        }
    }

    @Test func aSupervisorWithinAProcessWaitsToo() throws {
        let trace = sim.trace
        let tree = try sim.system.supervise("shop", intensity: .unlimited) {
            Children("owner", restart: .temporary) { context in
                try await context.supervise(startingWithin: .seconds(1)) { Self.child("a", trace) }
                trace("started")
                do {
                    try await context.supervise("second", startingWithin: .seconds(1)) {
                        Self.child("b", trace) { throw Failure() }
                    }
                } catch { trace("\(error)") }
                await context.untilStopped()
            }
        }
        sim.drain()
        let error = "/shop/owner-0/second/b-0 ended before it had started: error: failure 0"
        #expect(trace.lines == ["a starts", "started", "b starts", error])
        #expect(sim.stops(tree))
        #expect(trace.lines.last == "a shutdown")
    }

    @Test func aSpecificationThatCannotBeCarriedOutIsStillRefused() throws {
        let (_, error) = outcome { [sim] in
            try await sim.system.supervise(startingWithin: .seconds(1)) { Children("", body: noting(sim.trace)) }
        }
        #expect((error as? SupervisionError)?.code == .emptyName)
        let (tree, _) = outcome { [sim] in try await sim.system.supervise(startingWithin: .seconds(1)) {} }
        #expect(tree != nil)
    }

    @Test func oneGroupDirectlyUnderTheSystem() throws {
        let trace = sim.trace
        let workers = try sim.system.children("workers", of: Int.self, redundancy: 2, body: noting(trace))
        let echo: Group<Echo.Message> = try sim.system.children(Children("echo", Echo("echo", trace)))
        let any = try sim.system.children("any") { context in
            trace(context.path)
            trace("\(try await context.receive(String.self))")
            await context.untilStopped()
        }
        workers.broadcast(1)
        echo.tell(.value(2))
        any.members[0].tell("three")
        sim.drain()
        #expect(Set(trace.lines) == ["workers-0 1", "workers-1 1", "start echo", "echo 2", "/any/any-0", "three"])
        #expect(throws: SupervisionError.self) {
            let _: Group<Int> = try sim.system.children(Children("other", Echo("echo", trace)))
        }
        let stopping = sim.executor.spawn { [sim] in await sim.system.stop() }
        sim.drain()
        #expect(any.members[0].proc.isClosed && echo.members[0].proc.isClosed)
        withExtendedLifetime(stopping) {}
    }
}
