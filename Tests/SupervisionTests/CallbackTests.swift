// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import LightProc
import Testing

@testable import Supervision

/// Which callbacks are called when, with what: a table, each cell for a reactive and an async member, with and without a mailbox policy.
@Suite struct CallbackTests {
    /// How a member ends for the first time.
    enum End: String, CaseIterable, Sendable {
        case normal, shutdown, error, trap, kill, deadline, unresponsive, linked, exit, stop
    }

    /// Reports as `beforeStart`, `beforeRestart(error, 1)`, ...
    static func callbacks(_ trace: Trace) -> Callbacks {
        @Sendable func note(_ what: String) -> Callbacks.Callback {
            { occasion in
                let inside = occasion.process.map { LightProc.current?.id == $0 } ?? true
                let reason = occasion.reason.map { "(\(kind($0)), \(occasion.restarts))" } ?? ""
                trace("\(what)\(reason)\(inside ? "" : " elsewhere")")
                if occasion.process != nil, occasion.path.split(separator: "/").last != occasion.name[...] {
                    trace("path \(occasion.path)")
                }
                if (occasion.failure != nil) != (occasion.reason?.isFailure ?? false) { trace("failure?") }
            }
        }
        return Callbacks(
            beforeStart: note("beforeStart"),
            afterStart: note("afterStart"),
            beforeRestart: note("beforeRestart"),
            afterRestart: note("afterRestart"),
            afterStop: note("afterStop")
        )
    }

    static func kind(_ reason: ExitReason) -> String {
        switch reason {
        case .normal: "normal"
        case .shutdown: "shutdown"
        case .error: "error"
        case .trap: "trap"
        case .killed: "killed"
        case .deadlineExceeded: "deadline"
        case .unresponsive: "unresponsive"
        case .linked(_, let reason): "linked \(kind(reason))"
        case .noProcess: "no process"
        }
    }

    enum Order: Sendable { case finish, fail, trap, nothing }

    struct Member: Reactive {
        let trace: Trace
        init(_ trace: Trace) {
            self.trace = trace
            trace("made")
        }
        mutating func receive(_ order: consuming Order, in context: borrowing ReactiveContext<Member>) throws {
            switch order {
            case .finish: context.stop()
            case .fail: throw Failure()
            case .trap: _ = opaque([1])[opaque(9)]
            case .nothing: trace("message")
            }
        }
    }

    static func spec(
        _ trace: Trace,
        isReactive: Bool,
        isManaged: Bool,
        _ restart: RestartType,
        deadline: Duration? = nil
    ) -> Children {
        let bare =
            isReactive
            ? Children("m", Member(trace), restart: restart, deadline: deadline)
            : Children("m", restart: restart, deadline: deadline) { context in
                trace("made")
                for await order in context.messages(of: Order.self) {
                    switch order {
                    case .finish: return
                    case .fail: throw Failure()
                    case .trap: _ = opaque([1])[opaque(9)]
                    case .nothing: trace("message")
                    }
                }
            }
        return (isManaged ? bare.mailbox(.unbounded) : bare).callbacks(callbacks(trace))
    }

    /// The table.
    static func expected(_ end: End, _ restart: RestartType, isReactive: Bool) -> [String] {
        // An async body begins after the callbacks of its start; a reactive one is made between them.
        func around(_ before: String, _ after: String) -> [String] {
            isReactive ? [before, "made", after] : [before, after, "made"]
        }
        let start = around("beforeStart", "afterStart")
        func restarted(_ kind: String) -> [String] {
            around("beforeRestart(\(kind), 1)", "afterRestart(\(kind), 1)") + ["afterStop(shutdown, 1)"]
        }
        let kind =
            switch end {
            case .kill: "killed"
            case .stop: "shutdown"
            case .linked: "linked killed"
            case .exit: "error"
            case .normal, .shutdown, .error, .trap, .deadline, .unresponsive: end.rawValue
            }
        let isRestarted =
            switch (end, restart) {
            case (.stop, _), (_, .temporary), (.normal, .transient), (.shutdown, .transient): false
            default: true
            }
        return start + (isRestarted ? restarted(kind) : ["afterStop(\(kind), 0)"])
    }

    @Test(arguments: End.allCases, RestartType.allCases)
    func theTableOfCallbacks(_ end: End, _ restart: RestartType) throws {
        for (isReactive, isManaged) in [(true, false), (true, true), (false, false), (false, true)] {
            let sim = Simulation(containsTraps: true)
            let trace = sim.trace
            let deadline: Duration? = end == .deadline ? .seconds(1) : nil
            let spec = Self.spec(trace, isReactive: isReactive, isManaged: isManaged, restart, deadline: deadline)
            let tree = try sim.system.supervise(intensity: .unlimited) { spec }
            let member: ProcRef<Order> = try tree.group("m").members[0]
            sim.drain()
            switch end {
            case .normal: member.tell(.finish)
            case .error: member.tell(.fail)
            case .trap: member.tell(.trap)
            case .kill: member.proc.kill()
            // By itself, or by anybody but its supervisor.
            case .shutdown: member.proc.stop()
            case .unresponsive: member.proc.end(member.proc.incarnation, for: .unresponsive(.seconds(1)))
            case .linked:
                let other = sim.system.spawn(Echo("other", Trace()))
                Bonds.link(other.proc, by: member.proc, member.proc.incarnation)
                other.proc.kill()
            case .exit:
                Bonds.exit(member.proc, for: .error(Failure()), by: sim.system.spawn(Echo("other", Trace())).proc)
            case .deadline: sim.advance(by: .seconds(1))
            case .stop: break
            }
            sim.drain()
            #expect(sim.stops(tree))
            let expected = Self.expected(end, restart, isReactive: isReactive)
            #expect(trace.lines == expected, "reactive \(isReactive), managed \(isManaged)")
        }
    }

    /// Whichever way a member is taken out while the supervisor goes on.
    @Test(arguments: [true, false], [true, false])
    func whoIsTakenOutHasAfterStopAndNothingElse(isReactive: Bool, isManaged: Bool) throws {
        for isTerminated in [true, false] {
            let sim = Simulation(containsTraps: true)
            let trace = sim.trace
            let spec = Self.spec(trace, isReactive: isReactive, isManaged: isManaged, .permanent)
            let tree = try sim.system.supervise { spec }
            try tree.resize(group: "m", to: 2)
            sim.drain()
            trace.clear()
            if isTerminated {
                #expect(sim.completes { try await tree.terminate(group: "m") })
            } else {
                try tree.resize(group: "m", to: 1)
            }
            sim.advance(by: .seconds(1))
            #expect(trace.lines == Array(repeating: "afterStop(shutdown, 0)", count: isTerminated ? 2 : 1))
            #expect(sim.stops(tree))
            #expect(trace.lines.count == 2)
        }
    }

    @Test(arguments: [true, false])
    func givingUpIsTheEndOfAll(isReactive: Bool) throws {
        let sim = Simulation(containsTraps: true)
        let trace = sim.trace
        let tree = try sim.system.supervise(intensity: .init(1, within: .seconds(5))) {
            Self.spec(trace, isReactive: isReactive, isManaged: false, .permanent)
            Children("other", body: noting(trace)).callbacks(
                Callbacks(afterStop: { trace("other \(Self.kind($0.reason!))") })
            )
        }
        let member: ProcRef<Order> = try tree.group("m").members[0]
        member.tell(.fail)
        member.tell(.fail)
        sim.drain()
        #expect(tree.gaveUp)
        #expect(
            trace.lines.filter { $0 != "made" }
                == [
                    "beforeStart", "afterStart", "beforeRestart(error, 1)", "afterRestart(error, 1)",
                    "afterStop(error, 1)",
                    "other shutdown",
                ]
        )
    }

    @Test func aStartThatFailsIsTriedAgainAsARestart() throws {
        let sim = Simulation()
        let trace = sim.trace
        let tries = Locked(0)
        let tree = try sim.system.supervise(intensity: .unlimited) {
            Children("m", try Self.unlucky(tries, trace), restart: .transient).callbacks(Self.callbacks(trace))
        }
        sim.drain()
        #expect(sim.stops(tree))
        #expect(
            trace.lines
                == [
                    "beforeStart", "beforeRestart(error, 1)", "beforeRestart(error, 2)", "made",
                    "afterRestart(error, 2)",
                    "afterStop(shutdown, 2)",
                ]
        )
    }

    private static func unlucky(_ tries: borrowing Locked<Int>, _ trace: Trace) throws -> Member {
        let count = tries.withLock { tries in
            tries += 1
            return tries
        }
        if count < 3 { throw Failure(number: count) }
        return Member(trace)
    }

    @Test func aStartThatFailsForGoodHasNothingAfterIt() throws {
        let sim = Simulation()
        let trace = sim.trace
        try sim.system.supervise {
            Children("m", try Self.unlucky(Locked(0), trace), restart: .temporary).callbacks(Self.callbacks(trace))
        }
        sim.drain()
        #expect(trace.lines == ["beforeStart", "afterStop(error, 0)"])
    }

    @Test func whoIsStoppedInItsBackoffIsNotRestarted() throws {
        let sim = Simulation()
        let trace = sim.trace
        let tree = try sim.system.supervise(intensity: .unlimited) {
            Children("m", Member(trace), backoff: .constant(.seconds(5))).callbacks(Self.callbacks(trace))
        }
        try tree.group("m", of: Order.self).tell(.fail)
        sim.drain()
        #expect(trace.lines == ["beforeStart", "made", "afterStart"])
        #expect(sim.stops(tree))
        sim.advance(by: .seconds(20))
        #expect(trace.lines == ["beforeStart", "made", "afterStart", "afterStop(error, 0)"])
    }

    @Test func whoNeverStartedHasNoCallbacks() throws {
        let sim = Simulation()
        let trace = sim.trace
        let tree = try sim.system.supervise { Children("a", body: noting(trace)) }
        tree.stop {}
        // Refused: the supervisor stops first.
        try tree.children { Children("m", Member(trace)).callbacks(Self.callbacks(trace)) }
        sim.drain()
        #expect(trace.lines == [])
    }

    @Test(arguments: [true, false])
    func aTrapInACallbackOfAStartIsTheMembers(isReactive: Bool) throws {
        for which in 0..<4 {
            let sim = Simulation(containsTraps: true)
            let trace = sim.trace
            let trapped = Locked(false)
            let trap: Callbacks.Callback = { _ in
                let isFirst = trapped.withLock { trapped in
                    defer { trapped = true }
                    return !trapped
                }
                if isFirst { _ = opaque([1])[opaque(9)] }
            }
            let plain = Self.spec(trace, isReactive: isReactive, isManaged: false, .transient)
            var callbacks = Self.callbacks(trace)
            func then(_ callback: Callbacks.Callback?) -> Callbacks.Callback {
                { occasion in
                    callback?(occasion)
                    trap(occasion)
                }
            }
            switch which {
            case 0: callbacks.beforeStart = then(callbacks.beforeStart)
            case 1: callbacks.afterStart = then(callbacks.afterStart)
            case 2: callbacks.beforeRestart = then(callbacks.beforeRestart)
            default: callbacks.afterRestart = then(callbacks.afterRestart)
            }
            let spec = plain.callbacks(callbacks)
            let tree = try sim.system.supervise(intensity: .unlimited) { spec }
            let member: ProcRef<Order> = try tree.group("m").members[0]
            sim.drain()
            if which >= 2 { member.tell(.fail) }
            sim.drain()
            member.tell(.nothing)
            sim.drain()
            #expect(sim.stops(tree))
            let end = ["message", "afterStop(shutdown, \(which < 2 ? 1 : 2))"]
            let expected: [[String]] = [
                ["beforeStart", "beforeRestart(trap, 1)", "afterRestart(trap, 1)"],
                ["beforeStart", "afterStart", "beforeRestart(trap, 1)", "afterRestart(trap, 1)"],
                [
                    "beforeStart", "afterStart", "beforeRestart(error, 1)", "beforeRestart(trap, 2)",
                    "afterRestart(trap, 2)",
                ],
                [
                    "beforeStart", "afterStart", "beforeRestart(error, 1)", "afterRestart(error, 1)",
                    "beforeRestart(trap, 2)", "afterRestart(trap, 2)",
                ],
            ]
            #expect(trace.lines.filter { $0 != "made" } == expected[which] + end, "callback \(which)")
        }
    }

    @Test func aTrapInAfterStopEndsThatCallOnly() throws {
        let sim = Simulation(containsTraps: true)
        let trace = sim.trace
        let tree = try sim.system.supervise {
            Children("first", body: noting(trace)).callbacks(Callbacks(afterStop: { _ in trace("first") }))
            Children("second", body: noting(trace))
                .callbacks(
                    Callbacks(afterStop: { _ in
                        trace("second")
                        _ = opaque([1])[opaque(9)]
                    })
                )
        }
        sim.drain()
        #expect(sim.stops(tree))
        #expect(trace.lines == ["second", "first"])
    }

    @Test func theStopOfTheNextWaitsForAfterStopButNotForEver() throws {
        let observer = Delays()
        let sim = Simulation(observer: observer)
        func note(_ line: String) -> Callbacks { Callbacks(afterStop: { _ in sim.note(line) }) }
        let tree = try sim.system.supervise {
            Children("first", body: noting(sim.trace)).callbacks(note("first"))
            Children("second", shutdownTime: .seconds(2), body: noting(sim.trace)).callbacks(note("second"))
        }
        sim.drain()
        // The farewell of the second one is held up: by little, then by much.
        observer.set { proc, _ in
            proc.name == "second-0" && proc.isClosed && sim.milliseconds < 1000 ? .seconds(1) : nil
        }
        let ended = Locked(0)
        tree.stop { ended.withLock { $0 = sim.milliseconds } }
        sim.advance(by: .seconds(10))
        #expect(sim.trace.lines == ["1000: second", "1000: first"] && ended.withLock { $0 } == 1000)

        let other = Delays()
        let late = Simulation(observer: other)
        func lateNote(_ line: String) -> Callbacks { Callbacks(afterStop: { _ in late.note(line) }) }
        let tree2 = try late.system.supervise {
            Children("first", body: noting(late.trace)).callbacks(lateNote("first"))
            Children("second", shutdownTime: .seconds(2), body: noting(late.trace)).callbacks(lateNote("second"))
        }
        late.drain()
        other.set { proc, _ in proc.name == "second-0" && proc.isClosed && late.milliseconds < 5000 ? .seconds(5) : nil
        }
        tree2.stop { ended.withLock { $0 = late.milliseconds } }
        late.advance(by: .seconds(10))
        #expect(late.trace.lines == ["2000: first", "5000: second"] && ended.withLock { $0 } == 2000)
    }

    @Test func eachMemberHasItsOwnAndNobodyElse() throws {
        let sim = Simulation()
        let trace = sim.trace
        let tree = try sim.system.supervise(intensity: .unlimited) {
            Children("m", Member(trace), redundancy: 3)
                .callbacks(
                    Callbacks(beforeStart: { trace("start \($0.name)") }, afterStop: { trace("stop \($0.name)") })
                )
                .heartbeat(every: .seconds(1), within: .seconds(1))
                .resizer(Resizer(1...3))
        }
        sim.advance(by: .seconds(3))
        #expect(trace.lines.filter { $0 != "made" }.sorted() == ["start m-0", "start m-1", "start m-2"])
        trace.clear()
        #expect(sim.stops(tree))
        #expect(trace.lines == ["stop m-2", "stop m-1", "stop m-0"])
    }

    // MARK: Supervisors

    @Test func callbacksOfNestedSupervisorsAreOrdered() throws {
        let sim = Simulation()
        let trace = sim.trace
        @Sendable func named(_ name: String) -> Callbacks {
            Callbacks(
                beforeStart: { _ in trace("before \(name)") },
                afterStart: { _ in trace("after \(name)") },
                beforeRestart: { _ in trace("restart \(name)?") },
                afterStop: { occasion in trace("stopped \(name) \(Self.kind(occasion.reason!))") }
            )
        }
        let starting = sim.executor.spawn {
            try await sim.system.supervise("outer", startingWithin: .seconds(5), callbacks: named("outer")) {
                Children("first", body: noting(trace)).callbacks(named("first"))
                Children("member") { context in
                    try await context.supervise("inner", startingWithin: .seconds(5), callbacks: named("inner")) {
                        Children("leaf", body: noting(trace)).callbacks(named("leaf"))
                    }
                    context.ready()
                    await context.untilStopped()
                }.signalsReady().callbacks(named("member"))
            }
        }
        sim.drain()
        guard case .finished(let tree) = starting.knownOutcome else {
            Issue.record("not started")
            return
        }
        #expect(
            trace.lines
                == [
                    "before outer", "before first", "after first", "before member", "before inner", "before leaf",
                    "after leaf",
                    "after inner", "after member", "after outer",
                ]
        )
        trace.clear()
        #expect(sim.stops(tree))
        #expect(
            trace.lines
                == [
                    "stopped leaf shutdown", "stopped inner shutdown", "stopped member shutdown",
                    "stopped first shutdown",
                    "stopped outer shutdown",
                ]
        )
    }

    @Test func aSupervisorThatDoesNotWaitCallsThemToo() throws {
        for seed in RandomTest.seeds(#function, count: 20) {
            let sim = Simulation(seed: seed)
            let trace = sim.trace
            let tree = try sim.system.supervise("s", intensity: .unlimited, callbacks: Self.callbacks(trace)) {
                Children("m", redundancy: 2) { context in
                    trace("body")
                    if context.name == "m-1", context.restarts == 0 { throw Failure() }
                    await context.untilStopped()
                }
            }
            // Also what is added before its turn.
            try tree.children {
                Children("late") { context in
                    trace("body")
                    await context.untilStopped()
                }
            }
            sim.drain()
            #expect(trace.lines.first == "beforeStart" && trace.lines.count { $0 == "afterStart" } == 1, "SEED=\(seed)")
            #expect(trace.lines.count { $0 == "body" } == 4, "SEED=\(seed)")
            #expect(sim.stops(tree))
            #expect(trace.lines.last == "afterStop(shutdown, 0)" && trace.lines.count == 7, "SEED=\(seed)")
        }
    }

    @Test func nothingStartsBeforeBeforeStartHasReturned() throws {
        let observer = Delays()
        let sim = Simulation(observer: observer)
        observer.set { proc, _ in
            proc.name == "callbacks of s" && sim.milliseconds < 1000 ? .seconds(1) - sim.executor.now : nil
        }
        func member(_ name: String) -> Children {
            Children(name) { context in
                sim.note(name)
                await context.untilStopped()
            }
        }
        let tree = try sim.system.supervise("s", callbacks: Callbacks(beforeStart: { _ in sim.note("before") })) {
            member("first")
        }
        try tree.children { member("second") }
        sim.advance(by: .seconds(5))
        #expect(sim.trace.lines.first == "1000: before" && sim.trace.lines.count == 3, "\(sim.trace.lines)")
    }

    @Test func readyMeansNothingInOtherGroups() throws {
        let sim = Simulation()
        let trace = sim.trace
        let tree = try sim.system.supervise {
            Children("m") { context in
                context.ready()
                await context.untilStopped()
            }.callbacks(Self.callbacks(trace))
        }
        sim.drain()
        #expect(trace.lines == ["beforeStart", "afterStart"])
        withExtendedLifetime(tree) {}
    }

    @Test func aSupervisorThatGivesUpSaysSo() throws {
        let sim = Simulation()
        let trace = sim.trace
        let callbacks = Callbacks(afterStop: { trace("stopped \(Self.kind($0.reason!))") })
        try sim.system.supervise(
            intensity: .init(0, within: .seconds(1)),
            callbacks: callbacks,
            onGivingUp: { _ in trace("gave up") }
        ) {
            Children("m", Member(trace))
        }.group("m", of: Order.self).tell(.fail)
        sim.drain()
        #expect(trace.lines == ["made", "stopped linked error", "gave up"])
    }

    @Test func aTrapInASupervisorsCallbackEndsThatOnly() throws {
        let sim = Simulation(containsTraps: true)
        let trace = sim.trace
        let trap: Callbacks.Callback = { _ in
            trace("trap")
            _ = opaque([1])[opaque(9)]
        }
        let tree = try sim.system.supervise(callbacks: Callbacks(beforeStart: trap, afterStart: trap, afterStop: trap))
        {
            Children("m", Member(trace))
        }
        sim.drain()
        #expect(trace.lines == ["trap", "made", "trap"])
        #expect(sim.stops(tree))
        #expect(trace.lines == ["trap", "made", "trap", "trap"])
    }

    @Test func aStopBeforeTheFirstStartEndsEverything() throws {
        for seed in RandomTest.seeds(#function, count: 40) {
            let sim = Simulation(seed: seed)
            let trace = sim.trace
            let tree = try sim.system.supervise(callbacks: Self.callbacks(trace)) {
                Children("m", Member(trace), redundancy: 2).callbacks(Self.callbacks(trace))
            }
            let members = try tree.group("m", of: Order.self).members
            for _ in 0..<Int(seed % 12) { sim.executor.step() }
            #expect(sim.stops(tree), "SEED=\(seed)")
            #expect(members.allSatisfy { $0.proc.isClosed }, "SEED=\(seed)")
            #expect(trace.lines.count { $0.hasPrefix("afterStop") } == trace.lines.count { $0 == "beforeStart" })
        }
    }
}
