// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc
import TestSupport
import Testing

@testable import Supervision

/// A child that does not end when its time is up, as nothing interrupts it, is the last to be waited for: the others are stopped.
@Suite struct LateStopTests {
    // MARK: Decisions

    private typealias Machine = SupervisorMachine

    private static func machine(_ strategy: RestartStrategy = .oneForOne, hasFarewell: Bool = false) -> Machine {
        var machine = Machine(strategy: strategy, intensity: .unlimited)
        let settings = Machine.Settings(restart: .permanent, backoff: .none, hasFarewell: hasFarewell)
        for id: UInt64 in 1...3 { machine.addStarted(id, settings) }
        return machine
    }

    @Test func theNextIsStoppedAndWaitedFor() {
        var machine = Self.machine()
        #expect(machine.stop(at: .zero) == [.stop(3)])
        #expect(machine.stopIsLate(3, at: .zero) == [.stop(2)])
        #expect(machine.stopIsLate(3, at: .zero) == [], "it is known")
        #expect(machine.childEnded(3, .shutdown, at: .zero) == [.forget(3)], "the next has not ended")
        #expect(machine.childEnded(2, .shutdown, at: .zero) == [.forget(2), .stop(1)])
        #expect(machine.childEnded(1, .shutdown, at: .zero) == [.forget(1), .finish(.stopped)])
    }

    @Test func theSupervisorWaitsForTheLateOnesToo() {
        var machine = Self.machine()
        #expect(machine.stop(at: .zero) == [.stop(3)])
        #expect(machine.stopIsLate(3, at: .zero) == [.stop(2)])
        #expect(machine.stopIsLate(2, at: .zero) == [.stop(1)])
        #expect(machine.childEnded(1, .shutdown, at: .zero) == [.forget(1), .linger])
        // Whoever asks later is told as well.
        #expect(machine.stop(at: .zero) == [.linger])
        #expect(machine.stopAtOnce(at: .zero) == [.stop(2), .stop(3), .linger])
        #expect(machine.childEnded(3, .shutdown, at: .zero) == [.forget(3), .linger])
        #expect(machine.childEnded(2, .shutdown, at: .zero) == [.forget(2), .finish(.stopped)])
        #expect(!machine.lingers && machine.stopIsLate(2, at: .zero) == [])
    }

    @Test func whoWasToldAtTheSameTimeIsWaitedForLikewise() {
        var machine = Self.machine(.dynamic)
        #expect(machine.stop(at: .zero) == [.stop(3), .stop(2), .stop(1)])
        #expect(machine.stopIsLate(2, at: .zero) == [])
        #expect(machine.childEnded(1, .shutdown, at: .zero) == [.forget(1)])
        #expect(machine.childEnded(3, .shutdown, at: .zero) == [.forget(3), .linger])
        #expect(machine.childEnded(2, .shutdown, at: .zero) == [.forget(2), .finish(.stopped)])
    }

    @Test func thoseThatLeaveDoNotWaitEither() {
        var machine = Self.machine()
        #expect(machine.remove([1, 2, 3], at: .zero) == [.stop(3)])
        #expect(machine.stopIsLate(3, at: .zero) == [.stop(2)])
        #expect(machine.childEnded(2, .shutdown, at: .zero) == [.forget(2), .stop(1)])
        #expect(machine.childEnded(1, .shutdown, at: .zero) == [.forget(1)])
        #expect(!machine.chains.isEmpty, "one is left")
        #expect(machine.childEnded(3, .shutdown, at: .zero) == [.forget(3)])
        #expect(machine.chains.isEmpty && machine.chainsOf.isEmpty)
    }

    @Test func aSweepWaits() {
        var machine = Self.machine(.oneForAll)
        #expect(machine.childEnded(2, .killed, at: .zero) == [.stop(3)])
        #expect(machine.stopIsLate(3, at: .zero) == [], "the first goes on as long as nothing can be started again")
        #expect(machine.childEnded(3, .shutdown, at: .zero) == [.stop(1)])
        #expect(machine.childEnded(1, .shutdown, at: .zero) == [.start(1)])
        #expect(machine.childStarted(1, at: .zero) == [.start(2)])
        #expect(machine.childStarted(2, at: .zero) == [.start(3)])
        #expect(machine.childStarted(3, at: .zero) == [])
        // Next time it is not late.
        #expect(machine.stop(at: .zero) == [.stop(3)])
        #expect(machine.childEnded(3, .shutdown, at: .zero) == [.forget(3), .stop(2)])
    }

    @Test func aStopDuringASweepDoesNot() {
        var machine = Self.machine(.oneForAll)
        #expect(machine.childEnded(2, .killed, at: .zero) == [.stop(3)])
        #expect(machine.stopIsLate(3, at: .zero) == [])
        #expect(machine.stop(at: .zero) == [.forget(2), .stop(1)])
        #expect(machine.childEnded(1, .shutdown, at: .zero) == [.forget(1), .linger])
        #expect(machine.childEnded(3, .shutdown, at: .zero) == [.forget(3), .finish(.stopped)])
    }

    @Test func aFarewellComesAfterALateEndToo() {
        var machine = Self.machine(hasFarewell: true)
        #expect(machine.stop(at: .zero) == [.stop(3)])
        #expect(machine.stopIsLate(3, at: .zero) == [.stop(2)])
        #expect(machine.childEnded(3, .shutdown, at: .zero) == [.retire(3)])
        #expect(machine.childEnded(2, .shutdown, at: .zero) == [.retire(2)])
        #expect(machine.childRetired(3, at: .zero) == [.forget(3)])
        #expect(machine.childRetired(2, at: .zero) == [.forget(2), .stop(1)])
        #expect(machine.childEnded(1, .shutdown, at: .zero) == [.retire(1)])
        #expect(machine.childRetired(1, at: .zero) == [.forget(1), .finish(.stopped)])
    }

    @Test func whoIsNotBeingStoppedIsNotLate() {
        var machine = Self.machine()
        #expect(machine.stopIsLate(1, at: .zero) == [] && machine.stopIsLate(9, at: .zero) == [])
        #expect(machine.stopping == [])
        #expect(machine.stop(at: .zero) == [.stop(3)])
        #expect(machine.stopIsLate(1, at: .zero) == [] && machine.stopping == [3])
    }

    /// The first of three that start one after the other, each within a second.
    private static func starting(_ strategy: RestartStrategy) -> Machine {
        var machine = Machine(strategy: strategy, intensity: .unlimited)
        let settings = Machine.Settings(
            restart: .permanent,
            backoff: .none,
            startDeadline: .seconds(1)
        )
        #expect(machine.add((1...3).map { ($0, settings) }, at: .zero) == start(1))
        return machine
    }

    private static func start(_ id: UInt64, generation: UInt32 = 1) -> [Machine.Action] {
        [.start(id), .limitStart(id, generation: generation, .seconds(1))]
    }

    @Test(arguments: [true, false])
    func aStartThatHangsHoldsUpNobody(isStuck: Bool) {
        var machine = Self.starting(.oneForOne)
        #expect(machine.startIsStuck(1, at: .zero) == [] && machine.stopIsLate(1, at: .zero) == [], "it has time")
        #expect(!machine.hasFailedToStart(1))
        #expect(machine.startTimedOut(1, generation: 1) == [.kill(1)] && machine.hasFailedToStart(1))
        func look() -> [Machine.Action] {
            isStuck ? machine.startIsStuck(1, at: .zero) : machine.stopIsLate(1, at: .zero)
        }
        #expect(look() == Self.start(2))
        #expect(look() == [], "it is known")
        #expect(machine.stopIsLate(1, at: .zero) == [])
        #expect(machine.childStarted(2, at: .zero) == Self.start(3))
        // It has ended all the same, and has a time of its own the next time.
        let end = machine.childEnded(1, .error(Failure()), hadStarted: false, at: .zero)
        #expect(end == Self.start(1, generation: 2) && !machine.hasFailedToStart(1))
        #expect(machine.stopIsLate(1, at: .zero) == [])
        #expect(machine.childStarted(3, at: .zero) == [] && machine.childStarted(1, at: .zero) == [])
        #expect(machine.sequences.isEmpty && machine.turns.isEmpty)
        #expect(machine.stop(at: .zero) == [.stop(3)])
    }

    @Test(arguments: [RestartStrategy.oneForAll, .restForOne])
    func thoseThatShareItsFateWaitForAStartThatHangs(_ strategy: RestartStrategy) {
        var machine = Self.starting(strategy)
        #expect(machine.startTimedOut(1, generation: 1) == [.kill(1)])
        #expect(machine.startIsStuck(1, at: .zero) == [] && machine.stopIsLate(1, at: .zero) == [])
        let end = machine.childEnded(1, .error(Failure()), hadStarted: false, at: .zero)
        #expect(end == Self.start(1, generation: 2))
        #expect(machine.childStarted(1, at: .zero) == Self.start(2))
    }

    /// Its process has ended by itself, and something below it has not.
    @Test func aStartThatFailedAndHangsHoldsUpNobody() {
        var machine = Self.starting(.oneForOne)
        #expect(machine.stopIsLate(1, hasEnded: true, at: .zero) == Self.start(2))
        #expect(machine.startTimedOut(1, generation: 1) == [.kill(1)], "that changes nothing")
        #expect(machine.childEnded(1, .killed, hadStarted: false, at: .zero) == Self.start(1, generation: 2))
        #expect(machine.childStarted(1, at: .zero) == [] && machine.isUp(1))
        #expect(machine.stopIsLate(1, hasEnded: true, at: .zero) == [], "it had started")
    }

    /// It was told to end long ago.
    @Test func aStartThatHangsHoldsUpNoStop() {
        var machine = Self.starting(.oneForOne)
        #expect(machine.startTimedOut(1, generation: 1) == [.kill(1)])
        #expect(machine.stopIsLate(1, at: .zero) == Self.start(2))
        #expect(machine.childStarted(2, at: .zero) == Self.start(3))
        #expect(machine.remove([1], at: .zero) == [.stop(1)])
        #expect(machine.stop(at: .zero) == [.stop(3)])
        #expect(machine.childEnded(3, .shutdown, at: .zero) == [.forget(3), .stop(2)])
        #expect(machine.childEnded(2, .shutdown, at: .zero) == [.forget(2), .linger])
        #expect(machine.childEnded(1, .shutdown, hadStarted: false, at: .zero) == [.forget(1), .finish(.stopped)])
        // Likewise if it is told to stop with the others only.
        machine = Self.starting(.oneForOne)
        _ = machine.startTimedOut(1, generation: 1)
        #expect(machine.stopIsLate(1, at: .zero) == Self.start(2))
        #expect(machine.stop(at: .zero) == [.forget(3), .stop(2)])
        #expect(machine.childEnded(2, .shutdown, at: .zero) == [.forget(2), .stop(1), .linger])
        #expect(machine.childEnded(1, .shutdown, hadStarted: false, at: .zero) == [.forget(1), .finish(.stopped)])
    }

    /// Before the time for its start was up.
    @Test(arguments: [RestartStrategy.oneForOne, .oneForAll, .restForOne])
    func oneThatIsTerminatedAndHangsInItsStartHoldsUpNobody(_ strategy: RestartStrategy) {
        var machine = Self.starting(strategy)
        #expect(machine.terminate([1], at: .zero) == [.stop(1)])
        #expect(machine.startTimedOut(1, generation: 1) == [])
        #expect(machine.stopIsLate(1, at: .zero) == Self.start(2))
        #expect(machine.childEnded(1, .shutdown, hadStarted: false, at: .zero) == [.lay(1)])
        #expect(machine.childStarted(2, at: .zero) == Self.start(3))
    }

    // MARK: Trees

    /// A reactive child whose handler does not return, for whoever looks from outside.
    private static func stuck(_ shutdownTime: ShutdownTime = .seconds(5)) -> Children {
        var children = Children("stuck", CallbackTests.Member(Trace()))
        children.shutdownTime = shutdownTime
        return children
    }

    /// A simulation in which what is called `stuck-0` has no turn for 1000 s, once that is said.
    private struct Held {
        let sim: Simulation
        let holds = Switch()

        init() {
            let observer = Delays()
            sim = Simulation(observer: observer)
            observer.set { [holds] proc, _ in
                proc.name == "stuck-0" && holds.value ? .seconds(1000) : nil
            }
        }

        func elder() -> Children {
            Children("elder") { [sim] context in
                context.onExit { _ in sim.note("elder") }
                await context.untilStopped()
            }
        }

        /// When the elder sibling ended, and when all had.
        func stop(_ tree: SupervisorRef, kills: Bool = false) {
            holds.set()
            let end: @Sendable () -> Void = { [sim] in sim.note("end") }
            if kills { tree.supervisor.kill(then: end) } else { tree.supervisor.stop(then: end) }
            sim.advance(by: .seconds(100))
            // It goes on when its time comes.
            holds.set(false)
            sim.advance(by: .seconds(2000))
        }
    }

    @Test(arguments: [
        (0, false, 6000), (1, false, 1000), (2, false, 6000), (3, false, 6000), (4, false, 6000), (5, false, 3000),
        (6, false, 1_000_000), (0, true, 0), (2, true, 0),
    ])
    func elderSiblingsAreStoppedASecondAfterItsTime(way: Int, kills: Bool, expected: Int) throws {
        let held = Held()
        let tree = try held.sim.system.supervise("shop") {
            held.elder()
            switch way {
            case 0: Self.stuck()
            case 1: Self.stuck(.brutalKill)
            case 2: Supervisor("s") { Self.stuck() }
            case 3: Supervisor("s") { Supervisor("t") { Self.stuck() } }
            case 4:
                Children("owner", shutdownTime: .infinity) { context in
                    try context.supervise { Self.stuck() }
                    await context.untilStopped()
                }
            case 5: Supervisor("s", shutdownTime: .seconds(2)) { Self.stuck() }
            default: Self.stuck(.infinity)
            }
        }
        held.sim.drain()
        held.stop(tree, kills: kills)
        #expect(held.sim.trace.lines == ["\(expected): elder", "1000000: end"])
    }

    /// It was late already when what is above began to stop.
    @Test func aSupervisorThatHadGivenUpHoldsNobodyUp() throws {
        let held = Held()
        let sim = held.sim
        let tree = try sim.system.supervise("shop") {
            held.elder()
            Supervisor("s", intensity: RestartIntensity(0, within: .seconds(1))) {
                Self.stuck()
                StrategyTests.child("c", Trace())
            }
        }
        sim.drain()
        held.holds.set()
        try sim.system.lookup("/shop/s/c-0", of: StrategyTests.Command.self).tell(.fail)
        sim.advance(by: .seconds(20))
        #expect(sim.trace.lines == [])
        held.stop(tree)
        #expect(sim.trace.lines == ["20000: elder", "1000000: end"])
    }

    /// The start of a child, or a supervisor, has timed out, and it, or what is below it, does not end.
    @Test(arguments: [true, false]) func aStartThatHangsHoldsUpNeitherStartsNorStops(isNested: Bool) throws {
        let held = Held()
        let sim = held.sim
        let tree = try sim.system.supervise("shop") {
            held.elder()
            // Nobody waits for the start of what is below it.
            Children("owner", shutdownTime: .infinity) { context in
                try context.supervise("p") {
                    if isNested {
                        Supervisor("s") {
                            Self.stuck()
                            Children("never") { context in await context.untilStopped() }.signalsReady()
                        }
                        .startsWithin(.seconds(2))
                    } else {
                        // It has no turn at all.
                        Self.stuck().startsWithin(.seconds(2))
                    }
                    Children("b") { context in
                        sim.note("b starts")
                        await context.untilStopped()
                    }
                }
                await context.untilStopped()
            }
        }
        // It has started, and then does not end.
        if isNested { sim.drain() }
        held.holds.set()
        sim.advance(by: .seconds(20))
        #expect(sim.trace.lines == ["8000: b starts"])
        sim.trace.clear()
        held.stop(tree)
        // It was told to end long ago, and all above has learnt of it.
        #expect(sim.trace.lines == ["20000: elder", "\(isNested ? 1_002_000 : 1_000_000): end"])
    }

    /// With a thread that is stuck indeed.
    @Test(.timeLimit(.minutes(2))) func aHandlerThatDoesNotReturnHoldsUpNobody() async throws {
        let pipe = PollGate()
        defer { pipe.open() }
        try await withPool { system in
            let (said, say) = AsyncStream.makeStream(of: String.self)
            var stuck = Children("stuck", Stuck(pipe, say))
            stuck.shutdownTime = .milliseconds(1)
            let tree = try system.supervise("shop") {
                Children("elder") { context in
                    context.onExit { _ in say.yield("elder has ended") }
                    await context.untilStopped()
                }
                stuck
            }
            try system.lookup("/shop/stuck-0", of: Int.self).tell(1)
            var lines = said.makeAsyncIterator()
            #expect(await lines.next() == "stuck")
            tree.stop { say.yield("all have ended") }
            #expect(await lines.next() == "elder has ended")
            pipe.open()
            #expect(await lines.next() == "all have ended")
        }
    }

    private struct Stuck: Reactive {
        typealias Message = Int
        let pipe: PollGate
        let say: AsyncStream<String>.Continuation

        init(_ pipe: PollGate, _ say: AsyncStream<String>.Continuation) { (self.pipe, self.say) = (pipe, say) }

        mutating func receive(_ message: consuming Int, in context: borrowing ReactiveContext<Stuck>) {
            say.yield("stuck")
            pipe.blockingWait()
        }
    }
}
