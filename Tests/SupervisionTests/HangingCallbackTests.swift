// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import LightProc
import TestSupport
import Testing

@testable import Supervision

/// Callbacks that do not return hold up nothing for longer than was said.
@Suite struct HangingCallbackTests {
    /// A simulation in which the callbacks of some supervisors do not return for 1000 s, once `holds` is set.
    private struct Held {
        let sim: Simulation
        let holds = Switch()

        init(_ names: String..., from start: Bool = true) {
            let observer = Delays()
            sim = Simulation(observer: observer)
            if start { holds.set() }
            let held = names.map { "callbacks of \($0)" }
            observer.set { [holds] proc, _ in
                guard holds.value, let name = proc.name, held.contains(name) else { return nil }
                return .seconds(1000)
            }
        }

        final class Outcome: Sendable {
            private let kept = Locked<StartError?>(nil)
            func callAsFunction(_ error: StartError) { kept.withLock { $0 = error } }
            var error: StartError? { kept.withLock { $0 } }
        }

        /// Starts something, and notes when it fails, and with what.
        func start(_ body: @escaping @Sendable (BastionSystem) async throws -> SupervisorRef) -> Outcome {
            let outcome = Outcome()
            sim.executor.spawn {
                do {
                    _ = try await body(sim.system)
                    sim.note("started")
                } catch let failure as StartError {
                    outcome(failure)
                    sim.note("\(failure)")
                } catch { sim.note("\(error)") }
            }
            sim.drain()
            return outcome
        }
    }

    private static func nothing() -> Callbacks.Callback { { _ in } }

    // MARK: Starts

    @Test func beforeStartThatHangsFailsTheStartInTime() throws {
        let held = Held("s")
        let trace = held.sim.trace
        let start = held.start { system in
            try await system.supervise(
                "s",
                startingWithin: .seconds(3),
                callbacks: Callbacks(beforeStart: Self.nothing())
            ) { StrategyTests.child("a", trace) }
        }
        held.sim.advance(by: .seconds(10))
        #expect(trace.lines == ["3000: /s had not started when the time was up"])
        #expect(start.error?.code == .timeout && start.error?.child == "")
        #expect(held.sim.system.trees.isEmpty)
        held.sim.advance(by: .seconds(2000))
        #expect(trace.lines.count == 1)
    }

    @Test(arguments: [true, false])
    func aStartWithoutChildrenWaitsForItsCallbacksToo(hangs: Bool) throws {
        let held = Held("s", from: hangs)
        let trace = held.sim.trace
        let callbacks = Callbacks(beforeStart: { _ in trace("before") }, afterStart: { _ in trace("after") })
        _ = held.start { try await $0.supervise("s", startingWithin: .seconds(3), callbacks: callbacks) {} }
        held.sim.advance(by: .seconds(10))
        #expect(
            trace.lines
                == (hangs ? ["3000: /s had not started when the time was up"] : ["before", "after", "0: started"])
        )
        #expect(held.sim.system.trees.isEmpty == hangs)
    }

    @Test func afterStartThatHangsFailsTheStartInTime() throws {
        let held = Held("s")
        let trace = held.sim.trace
        let start = held.start { system in
            try await system.supervise(
                "s",
                startingWithin: .seconds(3),
                callbacks: Callbacks(afterStart: Self.nothing())
            ) { StrategyTests.child("a", trace) }
        }
        held.sim.advance(by: .seconds(10))
        #expect(trace.lines == ["start a", "end a", "3000: /s had not started when the time was up"])
        #expect(start.error?.code == .timeout && held.sim.system.trees.isEmpty)
    }

    /// Whoever waits for the start of a supervisor that is stopped in its last callback is told.
    @Test func aStopDuringAfterStartIsToldToWhoWaits() throws {
        let held = Held("s")
        let start = held.start { system in
            try await system.supervise(
                "s",
                startingWithin: .seconds(500),
                callbacks: Callbacks(afterStart: Self.nothing())
            ) { StrategyTests.child("a", Trace()) }
        }
        let tree = try #require(held.sim.system.trees.first)
        tree.stop {}
        held.sim.drain()
        #expect(held.sim.trace.lines == ["0: /s had not started when its supervisor stopped"])
        #expect(start.error?.code == .stopped)
    }

    @Test(arguments: [true, false])
    func theStartOfANestedSupervisorIsLimitedWithItsCallbacks(isBefore: Bool) throws {
        let held = Held("n")
        let trace = held.sim.trace
        let callbacks = isBefore ? Callbacks(beforeStart: Self.nothing()) : Callbacks(afterStart: Self.nothing())
        let start = held.start { system in
            try await system.supervise("shop", startingWithin: .seconds(100)) {
                StrategyTests.child("a", trace)
                Supervisor("n", callbacks: callbacks) { StrategyTests.child("b", trace) }.startsWithin(.seconds(2))
                StrategyTests.child("c", trace)
            }
        }
        held.sim.advance(by: .seconds(10))
        let below = isBefore ? [] : ["start b", "end b"]
        let why = "/shop/n ended before it had started: error: /shop/n had not started when the time was up"
        #expect(trace.lines == ["start a"] + below + ["end a", "2000: \(why)"])
        #expect(start.error?.child == "n")
    }

    /// Callbacks that wait until they are let go.
    private final class Gate: Sendable {
        // Not its end, which programs that other tests start may inherit, and keep open.
        private let pipe = PollGate()
        private let entered = Locked(0)

        var count: Int { entered.withLock { $0 } }

        func enter() {
            entered.withLock { $0 += 1 }
            pipe.blockingWait()
        }

        /// Once, for all that have come and will.
        func open() { pipe.open() }
    }

    /// A member whose start hangs cannot be ended: the others are stopped, and who waits is told in time.
    @Test(.timeLimit(.minutes(2)), arguments: 0..<6, [true, false])
    func aMemberThatHangsInItsStartFailsItInTime(way: Int, isReactive: Bool) async throws {
        let gate = Gate()
        let hang: Callbacks.Callback = { _ in gate.enter() }
        let bare =
            isReactive
            ? Children("m", CallbackTests.Member(Trace()))
            : Children("m") { context in
                if way == 1 { context.ready() }
                await context.untilStopped()
            }
        let hung = (way == 1 ? bare.signalsReady() : bare)
            .callbacks(way == 1 ? Callbacks(afterStart: hang) : Callbacks(beforeStart: hang))
        let path = way == 3 ? "/n" : way == 5 ? "/o" : "/m-0"
        try await withPool { system in
            // A machine that has other things to do may not come as far as the callback: then once more, with more time.
            for number in 0..<10 {
                let (trace, name) = (Trace(), "shop\(number)")
                let failure = await Self.start(
                    hung,
                    way,
                    name,
                    within: .milliseconds(50 << number),
                    StrategyTests.child("a", trace),
                    in: system
                )
                guard gate.count > 0, failure?.path == "/\(name)\(path)" else { continue }
                #expect(failure?.code == (way == 2 ? .failed : .timeout))
                #expect(trace.lines == ["start a", "end a"])
                // An async one is given up when its shutdown time is over.
                if isReactive {
                    let tree = system.trees.first { $0.name == name }
                    #expect(tree != nil && tree?.outcome == nil, "it waits for the one that hangs")
                }
                gate.open()
                // The end of the pool waits for all.
                return
            }
            gate.open()
            Issue.record("it never came to the callback")
        }
    }

    /// A body whose making hangs the first time.
    private struct Database: Reactive {
        init(_ gate: Gate, _ say: AsyncStream<String>.Continuation) {
            say.yield("db begins")
            gate.enter()
            say.yield("db goes on")
        }

        mutating func receive(_ message: consuming Int, in context: borrowing ReactiveContext<Database>) {}
    }

    /// Nobody waits for that start but the one behind it.
    @Test(.timeLimit(.minutes(2)), arguments: 0..<4)
    func aMemberThatHangsInItsStartDoesNotHoldUpTheNext(way: Int) async throws {
        let gate = Gate()
        defer { gate.open() }
        let (said, say) = AsyncStream.makeStream(of: String.self)
        var db =
            way == 1
            ? Children("db", CallbackTests.Member(Trace()))
                .callbacks(
                    Callbacks(
                        beforeStart: { _ in
                            say.yield("db begins")
                            gate.enter()
                            say.yield("db goes on")
                        },
                        afterRestart: { _ in say.yield("db goes on") }
                    )
                )
            : Children("db", Database(gate, say))
        // Two levels above it is clear only when all that can be stopped was.
        db.shutdownTime = .milliseconds(1)
        try await withPool { [db] system in
            let tree = try system.supervise("shop", intensity: .unlimited) {
                switch way {
                case 2: Supervisor("s") { db }.startsWithin(.milliseconds(100))
                case 3: Supervisor("o") { Supervisor("s") { db }.startsWithin(.milliseconds(100)) }
                default: db.startsWithin(.milliseconds(100))
                }
                Children("b") { context in
                    say.yield("b starts")
                    await context.untilStopped()
                }
            }
            var lines = said.makeAsyncIterator()
            var seen: [String] = []
            // Ends: a machine that has other things to do may not come as far as the member in time, which then begins once more.
            while !seen.contains("b starts") || !seen.contains("db begins"), let line = await lines.next() {
                seen.append(line)
            }
            #expect(!seen.contains("db goes on"))
            gate.open()
            // It has ended when it does, and is made again.
            var goesOn = 0
            while goesOn < 2, let line = await lines.next() { if line == "db goes on" { goesOn += 1 } }
            await tree.stop()
        }
    }

    private static func start(
        _ hung: Children,
        _ way: Int,
        _ name: String,
        within time: Duration,
        _ other: Children,
        in system: BastionSystem
    ) async -> StartError? {
        do {
            switch way {
            case 2:
                try await system.supervise(name, startingWithin: .seconds(1000)) {
                    other
                    hung.startsWithin(time)
                }
            case 3:
                try await system.supervise(name, startingWithin: time) {
                    other
                    Supervisor("n") { hung }
                }
            case 5:
                // Two levels above it all that it belongs to is being stopped by then.
                try await system.supervise(name, startingWithin: time * 4) {
                    other
                    Supervisor("o") { Supervisor("n") { hung }.startsWithin(time) }
                }
            case 4:
                let tree = try system.supervise(name) { StrategyTests.child("z", Trace()) }
                try await tree.children(startingWithin: time) {
                    other
                    hung
                }
            default:
                try await system.supervise(name, startingWithin: time) {
                    other
                    hung
                    StrategyTests.child("never", Trace())
                }
            }
        } catch {
            return error as? StartError
        }
        return nil
    }

    // MARK: Calls

    /// A supervisor answers, and does what it is told, while its `beforeStart` has not returned.
    @Test func callsDoNotWaitForBeforeStart() throws {
        let held = Held("s")
        let sim = held.sim
        let trace = sim.trace
        let tree = try sim.system.supervise(
            "s",
            strategy: .oneForAll,
            callbacks: Callbacks(beforeStart: Self.nothing())
        ) {
            for name in ["a", "b", "c", "d", "e"] { StrategyTests.child(name, trace) }
        }
        sim.drain()
        #expect(sim.completes { try await tree.change(strategy: .restForOne) })
        let changed = StrategyTests.child("a", trace, restart: .transient)
        #expect(sim.completes { try await tree.change(changed) })
        #expect(sim.completes { try await tree.terminate(child: "b") })
        #expect(sim.completes { try await tree.terminate(child: "c") })
        #expect(sim.completes { try await tree.delete(child: "c") })
        #expect(sim.completes { try await tree.terminate(group: "d") })
        #expect(sim.completes { try await tree.kill(child: "e") })
        #expect(
            sim.completes {
                do { try await tree.delete(child: "a") } catch {
                    trace("\((error as? SupervisionError)?.code == .childRestarting)")
                }
            }
        )
        try tree.children { StrategyTests.child("f", trace) }
        let late = held.start { _ in
            try await tree.children(startingWithin: .seconds(2)) { StrategyTests.child("g", trace) }
            return tree
        }
        // Asked for, and comes when the others do.
        let again = sim.executor.spawn {
            try await tree.restart(child: "b")
            trace("b is back")
        }
        sim.advance(by: .seconds(2))
        #expect(trace.lines == ["true", "2000: /s/g-0 had not started when the time was up"])
        #expect(late.error?.child == "g-0")
        trace.clear()
        let states = Locked<[String]>([])
        #expect(
            sim.completes {
                let children = await tree.whichChildren()
                states.withLock { $0 = children.map { "\($0.name) \($0.state)" } }
            }
        )
        #expect(
            states.withLock { $0 }
                == ["a-0 waitingForOthers", "b-0 waitingForOthers", "e-0 down", "f-0 waitingForOthers"]
        )
        held.holds.set(false)
        sim.advance(by: .seconds(1000))
        #expect(trace.lines.filter { $0 != "b is back" } == ["start a", "start b", "start f"])
        #expect(trace.lines.contains("b is back"))
        trace.clear()
        // The strategy that it was changed to.
        try sim.system.lookup("/s/b-0", of: StrategyTests.Command.self).tell(.fail)
        sim.drain()
        #expect(trace.lines == ["fail b", "end f", "start b", "start e", "start f"])
        #expect(sim.stops(tree))
        withExtendedLifetime(again) {}
    }

    /// There is nobody that it could wait for.
    @Test(arguments: RestartStrategy.allCases)
    func aStartOfNothingIsOverAlsoBeforeBeforeStartHasReturned(_ strategy: RestartStrategy) throws {
        let held = Held("s")
        let sim = held.sim
        let trace = sim.trace
        let tree = try sim.system.supervise(
            "s",
            strategy: strategy,
            callbacks: Callbacks(beforeStart: Self.nothing())
        ) { StrategyTests.child("a", trace) }
        sim.drain()
        let start = held.start { _ in
            try await tree.children(startingWithin: .seconds(2)) {}
            return tree
        }
        #expect(trace.lines == ["0: started"] && start.error == nil)
        held.holds.set(false)
        sim.advance(by: .seconds(1000))
        #expect(trace.lines == ["0: started", "start a"])
        #expect(sim.stops(tree))
        // The decisions.
        var machine = SupervisorMachine(strategy: strategy, intensity: .unlimited)
        machine.hold()
        #expect(machine.add([], at: .zero) == [] && machine.release(at: .zero) == [])
        #expect(machine.sequences.isEmpty && machine.stop(at: .zero) == [.finish(.stopped)])
    }

    @Test(arguments: [RestartStrategy.oneForOne, .oneForAll, .restForOne, .dynamic])
    func whatWasAddedMeanwhileStartsByTheStrategyOfNow(_ strategy: RestartStrategy) {
        typealias Machine = SupervisorMachine
        for before in RestartStrategy.allCases {
            var machine = Machine(strategy: before, intensity: .unlimited)
            machine.hold()
            let settings = Machine.Settings(restart: .permanent, backoff: .none)
            for id: UInt64 in 1...2 { #expect(machine.add(id, settings, at: .zero) == []) }
            #expect(machine.add([(3, settings), (4, settings)], at: .zero) == [])
            #expect(machine.terminate([2], at: .zero) == (before == .dynamic ? [.forget(2)] : [.lay(2)]))
            let isForgotten = strategy == .dynamic && before != .dynamic
            #expect(machine.change(strategy: strategy) == (isForgotten ? [.forget(2)] : []))
            let actions = machine.release(at: .zero)
            #expect(machine.release(at: .zero) == [])
            switch strategy {
            case .dynamic: #expect(actions == [.start(1), .start(3), .start(4)])
            case .oneForOne where before != .oneForAll && before != .restForOne:
                #expect(actions == [.start(1), .start(3)])
            default:
                // One after the other, as all of one list.
                #expect(actions == [.start(1)])
                #expect(machine.childStarted(1, at: .zero) == [.start(3)])
                #expect(machine.childStarted(3, at: .zero) == [.start(4)])
            }
        }
    }

    // MARK: Stops

    @Test func afterStopMayRunBesideABeforeStartThatHangs() throws {
        let held = Held("s")
        let sim = held.sim
        let trace = sim.trace
        let callbacks = Callbacks(
            beforeStart: { _ in trace("before") },
            afterStart: { _ in trace("started") },
            afterStop: { _ in trace("after") }
        )
        let tree = try sim.system.supervise("s", callbacks: callbacks) { StrategyTests.child("a", trace) }
        sim.drain()
        held.holds.set(false)
        #expect(sim.stops(tree))
        #expect(trace.lines == ["after"])
        sim.advance(by: .seconds(2000))
        #expect(trace.lines == ["after", "before"], "nothing starts behind it")
    }

    /// How a tree comes to its end: it is stopped, killed, or first the one and then the other.
    enum Way: CaseIterable, Sendable { case stop, kill, both }

    /// The end of what is above takes as long as was said, whoever hangs below.
    @Test(arguments: 0..<7, Way.allCases)
    func afterStopThatHangsHoldsUpWhatIsAboveNoLongerThanSaid(place: Int, way: Way) throws {
        let held = Held("n", "owner-0/n", from: false)
        let sim = held.sim
        let trace = Trace()
        let callbacks = Callbacks(afterStop: { _ in trace("called") })
        let tree = try sim.system.supervise("shop") {
            StrategyTests.child("a", Trace())
            switch place {
            case 0:
                Supervisor("n", shutdownTime: .seconds(2), callbacks: callbacks) { StrategyTests.child("b", Trace()) }
            case 1:
                // Its child takes most of the time.
                Supervisor("n", shutdownTime: .seconds(2), callbacks: callbacks) {
                    TreeTests.stubborn("b", Trace(), shutdownTime: .milliseconds(1500))
                }
            case 2:
                // Its child takes all of it.
                Supervisor("n", shutdownTime: .seconds(2), callbacks: callbacks) {
                    TreeTests.stubborn("b", Trace(), shutdownTime: .infinity)
                }
            case 3:
                // It may take as long as it likes itself, but not what is above.
                Supervisor("m", shutdownTime: .seconds(2)) {
                    Supervisor("n", callbacks: callbacks) { StrategyTests.child("b", Trace()) }
                }
            case 4:
                // Likewise, one level further down.
                Supervisor("l", shutdownTime: .seconds(2)) {
                    Supervisor("m") { Supervisor("n", callbacks: callbacks) { StrategyTests.child("b", Trace()) } }
                }
            case 5:
                // Its owner takes most of the time.
                Children("owner", shutdownTime: .seconds(2)) { context in
                    try context.supervise("n", callbacks: callbacks) { StrategyTests.child("b", Trace()) }
                    await context.untilStopped()
                    await suspended { (continuation: UnsafeContinuation<Void, Never>) in
                        context.system.executor.wake(after: .milliseconds(1500)) { continuation.resume() }
                    }
                }
            default:
                Children("owner", shutdownTime: .seconds(2)) { context in
                    try context.supervise("n", callbacks: callbacks) { StrategyTests.child("b", Trace()) }
                    await context.untilStopped()
                }
            }
        }
        sim.drain()
        held.holds.set()
        let ended = Locked<Int?>(nil)
        let end: @Sendable () -> Void = { ended.withLock { $0 = sim.milliseconds } }
        switch way {
        case .stop: tree.supervisor.stop(then: end)
        case .kill: tree.supervisor.kill(then: end)
        case .both:
            tree.supervisor.stop(then: end)
            sim.advance(by: .seconds(1))
            tree.supervisor.kill {}
        }
        sim.advance(by: .seconds(10))
        #expect(ended.withLock { $0 } == 2000 && trace.lines == [])
        // It is called all the same, and what it does then harms nobody.
        held.holds.set(false)
        sim.advance(by: .seconds(2000))
        #expect(trace.lines == ["called"])
    }

    /// The time of a stop is that of one incarnation.
    @Test func aSupervisorThatIsStartedAgainHasItsWholeTimeAgain() throws {
        let held = Held("n", from: false)
        let sim = held.sim
        let tree = try sim.system.supervise("shop", strategy: .oneForAll) {
            StrategyTests.child("a", Trace())
            Supervisor("n", shutdownTime: .seconds(2), callbacks: Callbacks(afterStop: Self.nothing())) {
                StrategyTests.child("b", Trace())
            }
        }
        sim.drain()
        try StrategyTests.tell("a-0", .fail, in: sim)
        sim.advance(by: .seconds(100))
        held.holds.set()
        let ended = Locked<Int?>(nil)
        tree.stop { ended.withLock { $0 = sim.milliseconds } }
        sim.advance(by: .seconds(10))
        #expect(ended.withLock { $0 } == 102_000)
    }

    @Test func aSupervisorThatIsKilledBrutallyDoesNotWaitForAfterStop() throws {
        let held = Held("n", from: false)
        let tree = try held.sim.system.supervise("shop") {
            Supervisor("n", shutdownTime: .brutalKill, callbacks: Callbacks(afterStop: Self.nothing())) {
                TreeTests.stubborn("b", Trace(), shutdownTime: .infinity)
            }
        }
        held.sim.drain()
        held.holds.set()
        let ended = Locked(false)
        tree.stop { ended.withLock { $0 = true } }
        held.sim.advance(by: .milliseconds(1))
        #expect(ended.withLock { $0 })
    }
}
