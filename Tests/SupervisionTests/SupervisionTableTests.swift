// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc
import Testing

@testable import Supervision

/// What becomes of a child and its siblings: every way to end, restart type and strategy.
@Suite struct SupervisionTableTests {
    struct Case: Sendable, CustomStringConvertible {
        let end: Cast.End
        let restart: RestartType
        let strategy: RestartStrategy
        let kind: Cast.Kind
        var description: String { "\(end), \(restart), \(strategy), \(kind)" }

        static let all = Cast.End.allCases.flatMap { end in
            RestartType.allCases.flatMap { restart in
                RestartStrategy.allCases.flatMap { strategy in
                    Cast.Kind.allCases.map { Case(end: end, restart: restart, strategy: strategy, kind: $0) }
                }
            }
        }

        var isRestarted: Bool {
            switch restart {
            case .permanent: true
            case .transient: end.isFailure
            case .temporary: false
            }
        }

        var isShared: Bool { isRestarted && (strategy == .oneForAll || strategy == .restForOne) }

        var expected: [String] {
            let first = "-b \(end.reason)"
            if !isRestarted { return [first] }
            let fails = end == .startFailure
            switch strategy {
            case .oneForOne, .dynamic: return [first] + (fails ? ["!b"] : []) + ["+b"]
            case .restForOne:
                return [first, "-d shutdown", "-c shutdown"] + (fails ? ["!b"] : []) + ["+b", "+c"]
            case .oneForAll:
                let again = fails ? ["!b", "-a shutdown", "+a"] : []
                return [first, "-d shutdown", "-c shutdown", "-a shutdown", "+a"] + again + ["+b", "+c"]
            }
        }

        var counts: ChildCounts {
            var counts = ChildCounts()
            counts.specified = 4
            if isShared { counts.specified -= 1 }
            if !isRestarted, restart == .temporary || strategy == .dynamic { counts.specified -= 1 }
            counts.workers = counts.specified
            counts.active = isRestarted ? counts.specified : 3
            return counts
        }
    }

    @Test(arguments: Case.all)
    func theTable(_ row: Case) throws {
        for seed: UInt64 in 1...2 {
            let cast = Cast(seed: seed)
            let tree = try cast.sim.system.supervise("shop", strategy: row.strategy, intensity: .unlimited) {
                cast.child("a", row.kind)
                cast.child("b", row.kind, restart: row.restart)
                cast.child("c", row.kind, restart: .transient)
                cast.child("d", row.kind, restart: .temporary)
            }
            cast.sim.drain()
            #expect(Set(cast.news()) == ["+a", "+b", "+c", "+d"])
            try cast.end("b", row.end)
            #expect(cast.news() == row.expected, "seed \(seed)")
            #expect(try cast.result { await tree.countChildren() } == row.counts)
            #expect(cast.sim.stops(tree) && !tree.gaveUp)
        }
    }

    /// A restart whose start fails counts each time, under each strategy.
    @Test(arguments: [RestartStrategy.oneForOne, .oneForAll, .restForOne], Cast.Kind.allCases)
    func startsThatFailCount(_ strategy: RestartStrategy, _ kind: Cast.Kind) throws {
        for (failures, givesUp) in [(1, false), (2, true)] {
            let cast = Cast()
            let tree = try cast.sim.system.supervise(
                "shop",
                strategy: strategy,
                intensity: .init(2, within: .seconds(5))
            ) {
                cast.child("a", kind)
                cast.child("b", kind)
            }
            cast.sim.drain()
            cast.failures.set(failures, for: "b")
            try cast.end("b", .error)
            #expect(tree.gaveUp == givesUp)
            #expect(cast.news().count { $0 == "!b" } == failures)
            #expect(cast.sim.stops(tree))
        }
    }

    // MARK: Escalation

    /// Each of three levels tolerates one restart: the eighth failure is the root's end.
    @Test(arguments: Cast.Kind.allCases)
    func failuresEscalateToTheRoot(_ kind: Cast.Kind) throws {
        let cast = Cast()
        let givenUp = Locked(0)
        let note: @Sendable (ExitReason) -> Void = { _ in givenUp.withLock { $0 += 1 } }
        let once = RestartIntensity(1, within: .seconds(5))
        let tree = try cast.sim.system.supervise(
            "shop",
            intensity: once,
            onGivingUp: note
        ) {
            cast.child("x", kind)
            Supervisor("s", intensity: once) {
                cast.child("y", kind)
                Supervisor("t", intensity: once) {
                    cast.child("z", kind)
                    cast.child("k", kind)
                }
            }
        }
        cast.sim.drain()
        #expect(cast.news() == ["+x", "+y", "+z", "+k"])
        let level1 = ["-k error", "+k"]
        let level2 = ["-k error", "-z shutdown", "+z", "+k"]
        let level3 = ["-k error", "-z shutdown", "-y shutdown", "+y", "+z", "+k"]
        for expected in [level1, level2, level1, level3, level1, level2, level1] {
            try cast.end("s/t/k", .error)
            #expect(cast.news() == expected)
            #expect(givenUp.withLock { $0 } == 0)
        }
        try cast.end("s/t/k", .error)
        #expect(cast.news() == ["-k error", "-z shutdown", "-y shutdown", "-x shutdown"])
        #expect(tree.gaveUp && givenUp.withLock { $0 } == 1)
    }

    /// It ends with `shutdown`, which is no failure to a transient one's supervisor.
    @Test func aTransientSupervisorThatGivesUpStaysDown() throws {
        let cast = Cast()
        let tree = try cast.sim.system.supervise("shop") {
            Supervisor("s", intensity: .init(0, within: .seconds(1)), restart: .transient) { cast.child("k") }
            cast.child("x")
        }
        cast.sim.drain()
        _ = cast.news()
        try cast.end("s/k", .error)
        #expect(cast.news() == ["-k error"])
        let seen = try cast.result { await tree.whichChildren() }
        #expect(seen?.map(\.state) == [.down, .running])
        #expect(try cast.result { try await tree.restart(child: "s") } != nil)
        #expect(cast.news() == ["+k"])
        #expect(cast.sim.stops(tree) && !tree.gaveUp)
    }

    @Test(arguments: [(1, false), (2, true)])
    func aNestedSupervisorThatFailsToStartIsTriedAgainAndCounted(failures: Int, givesUp: Bool) throws {
        let cast = Cast()
        let tree = try cast.sim.system.supervise("shop", intensity: .init(2, within: .seconds(5))) {
            cast.child("x")
            Supervisor("s", intensity: .init(0, within: .seconds(1))) {
                cast.child("y")
                cast.child("k")
            }
        }
        cast.sim.drain()
        _ = cast.news()
        cast.failures.set(failures, for: "k")
        try cast.end("s/k", .error)
        let attempt = ["+y", "!k", "-y shutdown"]
        let end = givesUp ? attempt + ["-x shutdown"] : ["+y", "+k"]
        #expect(cast.news() == ["-k error", "-y shutdown"] + attempt + end)
        #expect(tree.gaveUp == givesUp)
        #expect(cast.sim.stops(tree))
    }

    // MARK: Stops

    @Test func aStopDuringABackoffStartsNothing() throws {
        for strategy in RestartStrategy.allCases {
            let cast = Cast()
            let tree = try cast.sim.system.supervise("shop", strategy: strategy, intensity: .unlimited) {
                cast.child("a", backoff: .constant(.seconds(1)))
                cast.child("b")
            }
            cast.sim.drain()
            _ = cast.news()
            try cast.end("a", .error)
            let swept = strategy == .oneForAll || strategy == .restForOne
            #expect(cast.news() == ["-a error"] + (swept ? ["-b shutdown"] : []))
            #expect(cast.sim.stops(tree) && !tree.gaveUp)
            cast.sim.advance(by: .seconds(2))
            #expect(cast.news() == (swept ? [] : ["-b shutdown"]), "\(strategy)")
        }
    }

    @Test func aStopWhileASweepStopsIsAStop() throws {
        let cast = Cast()
        let tree = try cast.sim.system.supervise("shop", strategy: .oneForAll, intensity: .unlimited) {
            cast.child("a")
            cast.child("b")
            cast.stubborn("c", .seconds(1))
        }
        cast.sim.drain()
        try cast.end("a", .error)
        _ = cast.news()
        let ended = Locked(false)
        tree.stop { ended.withLock { $0 = true } }
        cast.sim.advance(by: .milliseconds(999))
        #expect(cast.news() == [] && !ended.withLock { $0 })
        cast.sim.advance(by: .milliseconds(1))
        #expect(cast.news() == ["-c killed", "-b shutdown"])
        #expect(ended.withLock { $0 } && tree.supervisor.outcome == .stopped)
    }

    @Test func aStopWhileASweepStartsIsAStop() throws {
        let cast = Cast()
        let tree = try cast.sim.system.supervise("shop", strategy: .oneForAll, intensity: .unlimited) {
            cast.child("a")
            cast.slow("b", .seconds(1))
            cast.child("c")
        }
        cast.sim.advance(by: .seconds(1))
        _ = cast.news()
        try cast.end("a", .error)
        #expect(cast.news() == ["-a error", "-c shutdown", "-b shutdown", "+a", "?b"])
        let ended = Locked(false)
        tree.stop { ended.withLock { $0 = true } }
        cast.sim.advance(by: .seconds(1))
        #expect(cast.news() == ["-b shutdown", "-a shutdown"])
        #expect(ended.withLock { $0 } && tree.supervisor.outcome == .stopped)
    }

    @Test func whoCrashesDuringTheStopIsNotRestartedAndNoReasonToGiveUp() throws {
        for strategy in RestartStrategy.allCases where strategy != .dynamic {
            let cast = Cast()
            let tree = try cast.sim.system.supervise(
                "shop",
                strategy: strategy,
                intensity: .init(0, within: .seconds(1))
            ) {
                cast.child("a")
                cast.child("b")
                cast.stubborn("c", .seconds(1))
            }
            cast.sim.drain()
            _ = cast.news()
            tree.stop {}
            cast.sim.drain()
            try cast.end("a", .error)
            #expect(cast.news() == ["-a error"])
            cast.sim.advance(by: .seconds(1))
            #expect(cast.news() == ["-c killed", "-b shutdown"])
            #expect(tree.supervisor.outcome == .stopped)
        }
    }

    @Test func stopTimes() throws {
        let cast = Cast()
        let tree = try cast.sim.system.supervise("shop") {
            cast.child("a")
            cast.stubborn("brutal", .brutalKill)
            cast.stubborn("zero", .zero)
            Supervisor("s") { cast.stubborn("timed", .seconds(30)) }
        }
        cast.sim.drain()
        _ = cast.news()
        tree.stop {}
        cast.sim.advance(by: .milliseconds(29_999))
        #expect(cast.news() == [], "a supervisor has all the time that those below it have")
        cast.sim.advance(by: .milliseconds(1))
        #expect(cast.news() == ["-timed killed", "-zero killed", "-brutal killed", "-a shutdown"])
        #expect(tree.supervisor.outcome == .stopped)
    }

    @Test func whoIsAskedToStopIsNotWhereTheShutdownTimeIsBrutal() throws {
        let cast = Cast()
        let trace = cast.trace
        let tree = try cast.sim.system.supervise("shop") {
            for (name, time) in [("asked", ShutdownTime.seconds(1)), ("killed", .brutalKill)] {
                Children(name, shutdownTime: time) { context in
                    context.onExit { trace("-\(name) \(Cast.kind($0))") }
                    await context.untilStopped()
                    let executor = context.system.executor
                    await suspended { continuation in
                        executor.schedule(after: .milliseconds(500)) { continuation.resume() }
                    }
                    trace("\(name) has tidied up")
                }
            }
        }
        cast.sim.drain()
        tree.stop {}
        cast.sim.drain()
        #expect(cast.news() == ["-killed killed"])
        cast.sim.advance(by: .milliseconds(500))
        #expect(cast.news().suffix(2) == ["asked has tidied up", "-asked shutdown"])
        #expect(tree.supervisor.outcome == .stopped)
    }

    @Test func whoHasForEverIsWaitedFor() throws {
        let cast = Cast()
        let trace = cast.trace
        let held = Locked<UnsafeContinuation<Void, Never>?>(nil)
        let tree = try cast.sim.system.supervise("shop") {
            cast.child("a")
            Children("patient", shutdownTime: .infinity) { context in
                context.onExit { trace("-patient \(Cast.kind($0))") }
                await suspended { continuation in held.withLock { $0 = continuation } }
            }
        }
        cast.sim.drain()
        _ = cast.news()
        tree.stop {}
        cast.sim.advance(by: .seconds(1_000_000))
        #expect(cast.news() == [])
        held.withLock { $0 }?.resume()
        cast.sim.drain()
        #expect(cast.news() == ["-patient shutdown", "-a shutdown"])
        #expect(tree.supervisor.outcome == .stopped)
    }

    // MARK: Dynamic

    @Test func dynamicChildrenStopAtTheSameTime() throws {
        let cast = Cast()
        let tree = try cast.sim.system.supervise("shop", strategy: .dynamic) {
            for name in ["a", "b", "c"] { cast.stubborn(name, .milliseconds(100)) }
        }
        cast.sim.drain()
        _ = cast.news()
        tree.stop {}
        cast.sim.advance(by: .milliseconds(100))
        #expect(Set(cast.news()) == ["-a killed", "-b killed", "-c killed"])
        #expect(tree.supervisor.outcome == .stopped)
    }

    @Test func aDynamicChildThatHasEndedIsGone() throws {
        let cast = Cast()
        let tree = try cast.sim.system.supervise("shop", strategy: .dynamic) {
            cast.child("a", restart: .transient)
            cast.child("b")
        }
        cast.sim.drain()
        try cast.end("a", .normal)
        #expect(cast.code { try await tree.restart(child: "a") } == .dynamicSupervisor)
        #expect(try cast.result { try await tree.terminate(child: "b") } != nil)
        #expect(try cast.result { await tree.countChildren() } == ChildCounts())
        // Its name is free.
        #expect(
            try cast.result { try await tree.children(startingWithin: .seconds(1)) { cast.child("a") } } != nil
        )
        #expect(cast.sim.stops(tree))
    }
}
