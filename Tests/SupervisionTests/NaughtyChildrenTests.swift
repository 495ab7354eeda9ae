// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc
import Testing

@testable import Supervision

/// Children that do what they should not, and commands that come at the wrong moment.
@Suite(.serialized) struct NaughtyChildrenTests {
    // MARK: Starts

    @Test func oneThatEndsWhileItStartsHasFailedToStart() throws {
        let cast = Cast()
        let trace = cast.trace
        do {
            _ = try cast.result {
                try await cast.sim.system.supervise("shop", startingWithin: .seconds(1), intensity: .unlimited) {
                    cast.child("a")
                    Children("b") { _ in trace("?b") }.signalsReady()
                }
            }
            Issue.record("it has started")
        } catch let error as StartError {
            #expect(error.code == .failed && error.child == "b-0")
        }
        #expect(trace.lines == ["+a", "?b", "-a shutdown"])
    }

    @Test func oneThatIsNeverReadyIsEndedWhenItsTimeIsUpAndCounts() throws {
        let cast = Cast()
        let tree = try cast.sim.system.supervise("shop", intensity: .init(2, within: .seconds(5))) {
            cast.child("a")
            cast.slow("b", .seconds(60)).startsWithin(.milliseconds(50))
            cast.child("c")
        }
        cast.sim.advance(by: .milliseconds(49))
        #expect(cast.news() == ["+a", "?b"])
        cast.sim.advance(by: .milliseconds(1))
        #expect(cast.news() == ["-b error", "?b", "+c"], "c does not wait any longer")
        cast.sim.advance(by: .milliseconds(50))
        #expect(cast.news() == ["-b error", "?b"])
        cast.sim.advance(by: .milliseconds(50))
        #expect(cast.news() == ["-b error", "-c shutdown", "-a shutdown"])
        #expect(tree.gaveUp)
    }

    @Test func startsThatFailCountForALimitOfRestarts() throws {
        let cast = Cast()
        let tree = try cast.sim.system.supervise("shop", intensity: .unlimited) {
            cast.child("a").restartedAtMost(3)
            cast.child("b")
        }
        cast.sim.drain()
        _ = cast.news()
        cast.failures.set(100, for: "a")
        try cast.end("a", .error)
        #expect(cast.news() == ["-a error", "!a", "!a", "!a"])
        #expect(try cast.result { await tree.whichChildren() }?.map(\.state) == [.down, .running])
        #expect(cast.sim.stops(tree) && !tree.gaveUp)
    }

    @Test func aSlowStartDoesNotHoldUpOthersUnderOneForOne() throws {
        let cast = Cast()
        let tree = try cast.sim.system.supervise("shop") { cast.slow("a", .seconds(60)) }
        cast.sim.drain()
        #expect(
            try cast.result { try await tree.children(startingWithin: .seconds(1)) { cast.child("b") } } != nil
        )
        #expect(cast.news() == ["?a", "+b"])
        #expect(try cast.result { await tree.whichChildren() }?.map(\.state) == [.starting, .running])
        // Those that depend on each other wait.
        let strict = try cast.sim.system.supervise("strict", strategy: .restForOne) { cast.slow("c", .seconds(60)) }
        let waits = cast.sim.executor.spawn {
            try await strict.children(startingWithin: .seconds(1)) { cast.child("d") }
        }
        cast.sim.drain()
        #expect(try cast.result { await strict.whichChildren() }?.map(\.state) == [.starting, .waitingForOthers])
        cast.sim.advance(by: .seconds(1))
        guard case .failed(.error(let error as StartError)) = waits.knownOutcome else {
            Issue.record("\(waits.knownOutcome)")
            return
        }
        #expect(error.code == .timeout)
        strict.stop {}
        tree.stop {}
        cast.sim.advance(by: .seconds(60))
    }

    // MARK: Ends

    @Test func aTrapInAnExitHookIsNoneOfTheSupervisors() throws {
        let cast = Cast(containsTraps: true)
        let trace = cast.trace
        let tree = try cast.sim.system.supervise("shop", strategy: .restForOne, intensity: .unlimited) {
            Children("a") { context in
                trace("+a")
                context.onExit { trace("-a \(Cast.kind($0))") }
                context.onExit { _ in _ = opaque([1])[opaque(9)] }
                for await _ in context.messages(of: Cast.Cue.self) { throw Failure() }
            }
            cast.child("b")
        }
        cast.sim.drain()
        _ = cast.news()
        try cast.end("a", .error)
        let lines = cast.news()
        #expect(lines.first?.hasPrefix("-a ") == true && lines.dropFirst() == ["-b shutdown", "+a", "+b"], "\(lines)")
        #expect(cast.sim.stops(tree) && !tree.gaveUp)
    }

    @Test(arguments: RestartType.allCases)
    func oneThatStopsItself(_ restart: RestartType) throws {
        let cast = Cast()
        let trace = cast.trace
        let tree = try cast.sim.system.supervise("shop", strategy: .oneForAll) {
            cast.child("a")
            Children("b", restart: restart) { context in
                trace("+b")
                context.onExit { trace("-b \(Cast.kind($0))") }
                for await _ in context.messages(of: Cast.Cue.self) { context.stop() }
            }
        }
        cast.sim.drain()
        _ = cast.news()
        try cast.end("b", .normal)
        let again = ["-a shutdown", "+a", "+b"]
        #expect(cast.news() == ["-b shutdown"] + (restart == .permanent ? again : []))
        #expect(cast.sim.stops(tree))
    }

    // MARK: Commands from within

    /// A child that runs a closure for each message.
    private func commander(
        _ name: String,
        _ cast: Cast,
        _ body: @escaping @Sendable (SupervisorRef) async throws -> Void
    ) -> Children {
        let trace = cast.trace
        return Children(name) { context in
            trace("+\(name)")
            context.onExit { trace("-\(name) \(Cast.kind($0))") }
            context.ready()
            for await _ in context.messages(of: Cast.Cue.self) {
                guard let supervisor = context.supervisor else { return }
                try await body(supervisor)
                trace("\(name) done")
            }
        }
        .signalsReady()
    }

    @Test func siblingsAreTerminatedAndRestartedFromWithin() throws {
        let cast = Cast()
        let tree = try cast.sim.system.supervise("shop", strategy: .oneForAll) {
            cast.child("a")
            commander("b", cast) { supervisor in
                try await supervisor.terminate(child: "c")
                try await supervisor.terminate(child: "a")
                try await supervisor.restart(child: "c")
                try await supervisor.restart(child: "a")
            }
            cast.child("c")
        }
        cast.sim.drain()
        _ = cast.news()
        try cast.ref("b").tell(.finish)
        cast.sim.drain()
        #expect(cast.news() == ["-c shutdown", "-a shutdown", "+c", "+a", "b done"])
        #expect(cast.sim.stops(tree))
        #expect(cast.news() == ["-c shutdown", "-b shutdown", "-a shutdown"], "the order is that of the specification")
    }

    /// It waits for its own end, as in OTP: until its shutdown time is over. The supervisor goes on meanwhile.
    @Test func oneThatHasItselfTerminatedIsKilledAfterItsTime() throws {
        let cast = Cast()
        let tree = try cast.sim.system.supervise("shop") {
            cast.child("a")
            commander("b", cast) { try await $0.terminate(child: "b") }
        }
        cast.sim.drain()
        _ = cast.news()
        try cast.ref("b").tell(.finish)
        cast.sim.drain()
        try cast.end("a", .error)
        #expect(cast.news() == ["-a error", "+a"])
        cast.sim.advance(by: .seconds(5))
        #expect(cast.news() == ["-b killed"])
        #expect(try cast.result { await tree.whichChildren() }?.map(\.state) == [.running, .down])
        #expect(cast.sim.stops(tree))
    }

    @Test func oneThatStopsItsSupervisorEndsWithIt() throws {
        let cast = Cast()
        let tree = try cast.sim.system.supervise("shop") {
            cast.child("a")
            commander("b", cast) { await $0.stop() }
        }
        cast.sim.drain()
        _ = cast.news()
        try cast.ref("b").tell(.finish)
        cast.sim.advance(by: .seconds(5))
        #expect(cast.news() == ["-b killed", "-a shutdown"])
        #expect(tree.supervisor.outcome == .stopped)
    }

    // MARK: Commands during sweeps

    @Test func commandsWhileASweepStops() throws {
        let cast = Cast()
        let tree = try cast.sim.system.supervise("shop", strategy: .oneForAll, intensity: .unlimited) {
            cast.child("a")
            cast.child("b")
            cast.child("c")
            cast.stubborn("d", .seconds(1))
        }
        cast.sim.drain()
        _ = cast.news()
        try cast.end("b", .error)
        #expect(
            try cast.result { await tree.whichChildren() }?.map(\.state)
                == [.running, .waitingForOthers, .running, .stopping]
        )
        #expect(cast.code { try await tree.restart(child: "b") } == .childRestarting)
        #expect(cast.code { try await tree.delete(child: "b") } == .childRestarting)
        #expect(cast.code { try await tree.restart(child: "d") } == .childStopping)
        #expect(cast.code { try await tree.delete(child: "a") } == .childRunning)
        #expect(cast.code { try await tree.delete(child: "e") } == .unknownChild)
        #expect(cast.code { try await tree.terminate(child: "b") } == nil)
        #expect(cast.code { try await tree.terminate(child: "c") } == nil)
        #expect(cast.news() == ["-b error", "-c shutdown"], "who is terminated does not wait for its turn")
        // By itself, in the middle: that is the business of the sweep no more.
        #expect(cast.code { try await tree.restart(child: "c") } == nil)
        #expect(cast.news() == ["+c"])
        cast.sim.advance(by: .seconds(1))
        #expect(cast.news() == ["-d killed", "-a shutdown", "+a", "+d"])
        #expect(
            try cast.result { await tree.whichChildren() }?.map(\.state) == [.running, .down, .running, .running]
        )
        tree.stop {}
        cast.sim.advance(by: .seconds(1))
        #expect(tree.supervisor.outcome == .stopped)
    }

    @Test func childrenThatAreAddedDuringASweepStartAfterIt() throws {
        let cast = Cast()
        let tree = try cast.sim.system.supervise("shop", strategy: .restForOne, intensity: .unlimited) {
            cast.child("a")
            cast.stubborn("b", .seconds(1))
        }
        cast.sim.drain()
        _ = cast.news()
        try cast.end("a", .error)
        try tree.children { cast.child("c") }
        cast.sim.drain()
        #expect(cast.news() == ["-a error"])
        cast.sim.advance(by: .seconds(1))
        #expect(cast.news() == ["-b killed", "+a", "+b", "+c"])
        tree.stop {}
        cast.sim.advance(by: .seconds(1))
    }

    /// Who asked for the start learns of the one that comes of the sweep.
    @Test func aStartByHandThatASweepCutsShortIsAnsweredAfterIt() throws {
        let cast = Cast()
        let tree = try cast.sim.system.supervise("shop", strategy: .oneForAll, intensity: .unlimited) {
            cast.child("a")
            cast.slow("b", .seconds(1))
        }
        cast.sim.advance(by: .seconds(1))
        #expect(cast.code { try await tree.terminate(child: "b") } == nil)
        let restart = cast.sim.executor.spawn { try await tree.restart(child: "b") }
        cast.sim.drain()
        _ = cast.news()
        try cast.end("a", .error)
        cast.sim.advance(by: .milliseconds(1999))
        #expect(cast.news() == ["-a error", "-b shutdown", "+a", "?b"])
        #expect(!restart.handle.proc.isClosed)
        cast.sim.advance(by: .milliseconds(1))
        #expect(cast.news() == ["+b"] && restart.handle.proc.isClosed)
        #expect(cast.sim.stops(tree))
    }

    @Test func whoWaitsForAChildLearnsThatTheSupervisorHasEnded() throws {
        let cast = Cast()
        let tree = try cast.sim.system.supervise("shop", strategy: .restForOne) {
            cast.child("a")
            cast.slow("b", .seconds(60))
        }
        cast.sim.advance(by: .seconds(60))
        #expect(cast.code { try await tree.terminate(child: "b") } == nil)
        let answers = Trace()
        let calls = [
            cast.sim.executor.spawn {
                do { try await tree.restart(child: "b") } catch {
                    answers("restart: \((error as? StartError)?.code == .failed)")
                }
            },
            cast.sim.executor.spawn {
                do {
                    try await tree.children(startingWithin: .seconds(100)) { cast.slow("c", .seconds(60)) }
                } catch {
                    answers("start: \((error as? StartError)?.code == .stopped)")
                }
            },
        ]
        cast.sim.drain()
        tree.stop {}
        cast.sim.drain()
        #expect(cast.code { try await tree.change(strategy: .oneForAll) } == .supervisorStopped, "it is stopping")
        #expect(cast.code { try await tree.terminate(child: "a") } == .supervisorStopped)
        cast.sim.advance(by: .seconds(60))
        #expect(Set(answers.lines) == ["restart: true", "start: true"])
        for code in [
            cast.code { try await tree.terminate(child: "a") }, cast.code { try await tree.restart(child: "a") },
            cast.code { try await tree.delete(child: "a") }, cast.code { try await tree.change(strategy: .oneForAll) },
        ] { #expect(code == .supervisorStopped) }
        #expect(try cast.result { await tree.whichChildren() }?.isEmpty == true)
        #expect(tree.supervisor.outcome == .stopped)
        withExtendedLifetime(calls) {}
    }

    /// Dynamic ones do not say when they have started; what is asked for then is answered all the same.
    @Test func aRestartIsAnsweredAlsoUnderWhatWasDynamic() throws {
        let cast = Cast()
        let trace = cast.trace
        let tree = try cast.sim.system.supervise("shop", strategy: .dynamic) {
            Children("a", Echo("a", trace))
        }
        cast.sim.drain()
        #expect(cast.code { try await tree.change(strategy: .oneForOne) } == nil)
        #expect(cast.code { try await tree.terminate(child: "a") } == nil)
        #expect(try cast.result { try await tree.restart(child: "a") } != nil)
        #expect(cast.sim.stops(tree))
    }
}

/// Specifications that cannot be carried out: an error of their own each, and nothing starts.
@Suite struct SupervisorSpecificationTests {
    struct Flaw: Sendable, CustomStringConvertible {
        let description: String
        let code: SupervisionError.Code
        let start: @Sendable (BastionSystem) throws -> Void
    }

    private static func idle(_ name: String = "x", restart: RestartType = .transient) -> Children {
        Children(name, restart: restart) { _ in }
    }

    static let flaws: [Flaw] = [
        Flaw(description: "significant and permanent", code: .significantPermanent) {
            try $0.supervise(autoShutdown: .anySignificant) { idle(restart: .permanent).significant() }
        },
        Flaw(description: "significant for nothing", code: .significantWithoutAutoShutdown) {
            try $0.supervise { idle().significant() }
        },
        Flaw(description: "negative limit of restarts", code: .badRestartLimit) {
            try $0.supervise { idle().restartedAtMost(-1) }
        },
        Flaw(description: "no time to start", code: .badStartTime) {
            try $0.supervise { idle().startsWithin(.zero) }
        },
        Flaw(description: "negative time to stop", code: .badShutdownTime) {
            try $0.supervise { Children("x", shutdownTime: .milliseconds(-1)) { _ in } }
        },
        Flaw(description: "a name for two", code: .duplicateName) {
            try $0.supervise {
                idle("a")
                Supervisor("a") { idle() }
            }
        },
        Flaw(description: "no name for a supervisor", code: .emptyName) {
            try $0.supervise { Supervisor("") { idle() } }
        },
        Flaw(description: "a name that is a path", code: .badName) {
            try $0.supervise { Supervisor("a/b") { idle() } }
        },
        Flaw(description: "below: significant for nothing", code: .significantWithoutAutoShutdown) {
            try $0.supervise {
                idle("a")
                Supervisor("s") { idle().significant() }
            }
        },
        Flaw(description: "two levels below: a name for two", code: .duplicateName) {
            try $0.supervise {
                Supervisor("s") {
                    Supervisor("t") {
                        idle("a")
                        idle("a")
                    }
                }
            }
        },
        Flaw(description: "two levels below: no members", code: .badRedundancy) {
            try $0.supervise { Supervisor("s") { Supervisor("t") { Children("x", redundancy: 0) { _ in } } } }
        },
        Flaw(description: "a significant permanent supervisor", code: .significantPermanent) {
            try $0.supervise(autoShutdown: .anySignificant) { Supervisor("s") { idle() }.significant() }
        },
        Flaw(description: "a supervisor without time to start", code: .badStartTime) {
            try $0.supervise { Supervisor("s") { idle() }.startsWithin(.seconds(-1)) }
        },
        Flaw(description: "a supervisor's negative limit", code: .badRestartLimit) {
            try $0.supervise { Supervisor("s") { idle() }.restartedAtMost(-2) }
        },
        Flaw(description: "below: a distributor without a name", code: .emptyName) {
            try $0.supervise { below { idle().distributor("") } }
        },
        Flaw(description: "below: a dispatcher without a name", code: .emptyName) {
            try $0.supervise { below { idle().dispatcher("") } }
        },
        Flaw(description: "below: an empty name in the registry", code: .emptyName) {
            try $0.supervise { below { idle().registered(as: "") } }
        },
        Flaw(description: "below: two strategies of one distributor", code: .conflictingStrategy) {
            try $0.supervise { below(idle("a").distributor("d", .random)) { idle().distributor("d", .leastLoaded) } }
        },
        Flaw(description: "below: two types of messages of one distributor", code: .wrongMessageType) {
            try $0.supervise {
                below(Children("a", Echo("a", Trace())).distributor("d")) {
                    Children("b", NumberTaker()).distributor("d")
                }
            }
        },
        Flaw(description: "below: a key of other messages than its group takes", code: .wrongMessageType) {
            let byNumber = DistributionStrategy.sticky { (number: Int) in DistributionKey(number) }
            try $0.supervise {
                below(idle("a").distributor("d", byNumber)) {
                    Children("b", Echo("b", Trace())).distributor("d", byNumber)
                }
            }
        },
        Flaw(description: "below: two handlers of one dispatcher", code: .conflictingDispatcher) {
            try $0.supervise {
                below(idle("a").dispatcher(.named("d", handler: RoundRobinHandler()))) {
                    idle().dispatcher(.named("d", handler: BroadcastHandler()))
                }
            }
        },
    ]

    /// Groups in a supervisor in a supervisor, perhaps beside another.
    private static func below(
        _ beside: Children? = nil,
        @ChildrenBuilder _ children: () -> [Children]
    ) -> Supervisor {
        Supervisor("s") {
            idle("elder")
            if let beside { beside }
            Supervisor("t") { for child in children() { child } }
        }
    }

    @Test(arguments: flaws)
    func aFlawHasAnErrorOfItsOwn(_ flaw: Flaw) throws {
        let sim = Simulation()
        let error = #expect(throws: SupervisionError.self) { try flaw.start(sim.system) }
        #expect(error?.code == flaw.code, "\(error.map { "\($0)" } ?? "")")
        sim.drain()
        #expect(sim.executor.steps == 0 && sim.system.trees.isEmpty, "nothing was started")
    }

    @Test func whatGroupsOfOneTreeWantOfANameIsKnownWithoutAStart() throws {
        let wrong = Supervisor("shop") {
            Self.idle("a").distributor("d", .random)
            Supervisor("s") { Self.idle("b").distributor("d", .roundRobin) }
        }
        #expect(thrown(SupervisionError.self) { _ = try wrong.validate() }?.code == .conflictingStrategy)
        let empty = Supervisor("shop") { Supervisor("s") { Self.idle().distributor("") } }
        #expect(thrown(SupervisionError.self) { _ = try empty.validate() }?.code == .emptyName)
        // One that does not care agrees with all.
        let handler = BroadcastHandler()
        let right = Supervisor("shop") {
            Self.idle("a").distributor("d", .random).dispatcher(.named("d", handler: handler))
            Supervisor("s") {
                Self.idle("b").distributor("d").dispatcher("d")
                Self.idle("c").distributor("d", .random).dispatcher(.named("d", handler: handler))
                Self.idle("d").dispatcher(Dispatcher(handler: RoundRobinHandler()))
            }
        }
        _ = try right.validate()
        let sim = Simulation()
        #expect(sim.stops(try sim.system.supervise(right)))
    }

    @Test func changesAreCheckedToo() throws {
        let cast = Cast()
        let tree = try cast.sim.system.supervise("shop", autoShutdown: .anySignificant) {
            Self.idle("kept").startsWithin(.seconds(1))
            cast.child("a", restart: .transient).significant()
        }
        cast.sim.drain()
        #expect(cast.code { try await tree.change(autoShutdown: .never) } == .significantWithoutAutoShutdown)
        #expect(cast.code { try await tree.change(cast.child("a").significant()) } == .significantPermanent)
        #expect(cast.code { try await tree.change(cast.child("a").restartedAtMost(-1)) } == .badRestartLimit)
        #expect(cast.code { try await tree.change(cast.child("z")) } == .unknownGroup)
        let plain = try cast.sim.system.supervise("plain") { cast.child("p") }
        let significant = cast.child("p", restart: .transient).significant()
        #expect(cast.code { try await plain.change(significant) } == .significantWithoutAutoShutdown)
        #expect(cast.sim.stops(plain))
        #expect(try tree.spec(of: "a").restart == .transient, "nothing was changed")
        #expect(cast.code { try await tree.change(cast.child("a", restart: .temporary).significant()) } == nil)
        #expect(try tree.spec(of: "a").restart == .temporary)
        try cast.end("a", .error)
        #expect(tree.supervisor.outcome == .shutDown)
    }
}
