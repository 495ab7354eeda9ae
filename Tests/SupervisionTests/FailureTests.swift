// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc
import Testing

@testable import Supervision

/// What is decided about failures, what the next incarnation learns of them, and what is told of all that.
@Suite struct FailureTests {
    struct Soft: Error {}
    struct Hard: Error {}

    enum Order: Sendable {
        case soft, hard, trap
        case count
    }

    struct Counter: Reactive {
        let trace: Trace
        var count = 0

        init(_ trace: Trace) {
            self.trace = trace
            if let failure = LightProc.current?.record?.lastFailure { trace("after: \(failure)") }
        }

        mutating func receive(_ message: consuming Order, in context: borrowing ReactiveContext<Self>) throws {
            switch message {
            case .soft:
                count += 1
                throw Soft()
            case .hard: throw Hard()
            case .trap: fatalError("told to")
            case .count:
                count += 1
                trace("\(count)")
            }
        }
    }

    static func handling(_ name: String, _ trace: Trace) -> Children {
        Children(name, handling: Order.self) { order, _ in
            switch order {
            case .soft: throw Soft()
            case .hard: throw Hard()
            case .trap: fatalError("told to")
            case .count: trace("handled")
            }
        }
    }

    @Test func aReactiveChildThatResumesKeepsItsState() throws {
        let sim = Simulation()
        let tree = try sim.system.supervise("shop") {
            Children("c", Counter(sim.trace)).onFailure(FailurePolicy().on(Soft.self, .resume))
        }
        let counter: Group<Order> = try tree.group("c")
        for order in [Order.count, .soft, .count, .hard, .count] { counter.tell(order) }
        sim.drain()
        #expect(sim.trace.lines == ["1", "3", "after: /shop/c-0 failed handling Order: error: Hard()", "1"])
        #expect(sim.stops(tree))
    }

    @Test func aManagedReactiveChildThatResumesKeepsItsState() throws {
        let sim = Simulation()
        let tree = try sim.system.supervise("shop") {
            Children("c", Counter(sim.trace)).mailbox(.bounded(10, .fail)).onFailure { failure in
                failure.error is Soft ? .resume : nil
            }
        }
        let counter: Group<Order> = try tree.group("c")
        for order in [Order.count, .soft, .count] { counter.tell(order) }
        sim.drain()
        #expect(sim.trace.lines == ["1", "3"] && counter.members[0].proc.restarts == 0)
        #expect(sim.stops(tree))
    }

    @Test func anAsyncHandlerThatResumesGoesOnWithTheNextMessage() throws {
        let sim = Simulation()
        let tree = try sim.system.supervise("shop", intensity: .init(0, within: .seconds(1))) {
            Self.handling("h", sim.trace).onFailure(FailurePolicy().on(Soft.self, .resume).on(Hard.self, .stop))
        }
        let group: Group<Order> = try tree.group("h")
        let proc = group.members[0].proc
        for order in [Order.soft, .count, .hard] { group.tell(order) }
        sim.drain()
        #expect(sim.trace.lines == ["handled"])
        #expect(proc.isClosed && proc.restarts == 0 && tree.supervisor.outcome == nil)
        #expect(sim.stops(tree))
    }

    @Test func aFailureThatIsEscalatedEndsTheSupervisorWithIt() throws {
        let sim = Simulation()
        let given = Locked<[String]>([])
        let described = Supervisor("shop", intensity: .init(1, within: .seconds(1))) {
            Supervisor("below", intensity: .unlimited) {
                Children("c", Counter(sim.trace), restart: .temporary)
                    .onFailure { $0.error is Hard ? .escalate : .restart }
            }
        }
        let tree = try sim.system.supervise(described) { reason in given.withLock { $0.append("\(reason)") } }
        sim.drain()
        func tell(_ order: Order) throws {
            let path = try ProcPath(parsing: "/shop/below/c-0")
            try sim.system.lookup(path, of: Order.self).tell(order)
            sim.drain()
        }
        for _ in 0..<5 { try tell(.soft) }
        #expect(given.withLock { $0 } == [], "a temporary child is restarted where that is decided")
        try tell(.hard)
        #expect(given.withLock { $0 } == [] && tree.supervisor.outcome == nil, "the one above restarts the one below")
        try tell(.hard)
        #expect(given.withLock { $0.count } == 1 && given.withLock { $0[0].contains("Hard") })
    }

    // MARK: Starts

    /// The second and the third fail.
    fileprivate final class Starts: Sendable {
        private let number = Locked(0)
        var count: Int { number.withLock { $0 } }

        func next() throws {
            number.withLock { $0 += 1 }
            if 2...3 ~= count { throw Soft() }
        }
    }

    private struct Database: Reactive {
        init(_ starts: Starts) throws { try starts.next() }

        mutating func receive(_ message: consuming Order, in context: borrowing ReactiveContext<Self>) throws {
            throw Hard()
        }
    }

    struct FailedStart: Sendable, CustomStringConvertible {
        let decision: FailureDecision
        let strategy: RestartStrategy
        let isReactive: Bool
        var description: String { "\(decision), \(strategy), \(isReactive ? "reactive" : "async")" }

        static let all = FailureDecision.allCases.flatMap { decision in
            RestartStrategy.allCases.flatMap { strategy in
                [true, false].map { FailedStart(decision: decision, strategy: strategy, isReactive: $0) }
            }
        }

        fileprivate func children(_ starts: Starts) -> Children {
            if isReactive { return Children("db", try Database(starts)) }
            return Children("db") { context in
                try starts.next()
                context.ready()
                for await _ in context.messages(of: Order.self) { throw Hard() }
            }.signalsReady()
        }
    }

    /// Also when it is the start of a restart that fails, which is tried again where nothing is decided.
    @Test(arguments: FailedStart.all, [true, false])
    func whatIsDecidedHoldsForTheStartOfARestartToo(_ row: FailedStart, asksClosure: Bool) throws {
        let sim = Simulation()
        let starts = Starts()
        let policy =
            asksClosure
            ? FailurePolicy { $0.error is Soft ? row.decision : nil } : FailurePolicy().on(Soft.self, row.decision)
        let shop = Supervisor("shop", strategy: row.strategy, intensity: .unlimited) {
            StrategyTests.child("a", Trace())
            row.children(starts).onFailure(policy)
            StrategyTests.child("b", Trace())
        }
        let tree = try sim.system.supervise(shop, onGivingUp: { _ in })
        sim.drain()
        let proc = try #require(tree.supervisor.roster.child("db-0")?.proc)
        try sim.system.lookup("/shop/db-0", of: Order.self).tell(.hard)
        sim.advance(by: .seconds(10))
        switch row.decision {
        case .restart, .resume: #expect(starts.count == 4 && !proc.isClosed && proc.restarts == 3)
        case .stop, .escalate: #expect(starts.count == 2 && proc.isClosed)
        }
        #expect((tree.supervisor.outcome != nil) == (row.decision == .escalate))
        if row.decision != .escalate {
            for name in ["a-0", "b-0"] { #expect(tree.supervisor.roster.child(name)?.proc.isClosed == false) }
        }
        #expect(sim.stops(tree))
    }

    @Test func whoFailsAgainAndAgainOnOneTypeIsToldHowOften() throws {
        let sim = Simulation()
        let asked = Locked<[String]>([])
        let tree = try sim.system.supervise("shop", intensity: .unlimited) {
            Children("c", Counter(sim.trace)).onFailure { failure in
                asked.withLock { $0.append("\(failure.messageType ?? "-") \(failure.timesInARow) \(failure.restarts)") }
                return failure.timesInARow < 3 ? nil : .stop
            }
        }
        let counter: Group<Order> = try tree.group("c")
        for _ in 0..<3 { counter.tell(.hard) }
        sim.drain()
        #expect(asked.withLock { $0 } == ["Order 1 0", "Order 2 1", "Order 3 2"])
        #expect(
            sim.trace.lines == [
                "after: /shop/c-0 failed handling Order: error: Hard()",
                "after: /shop/c-0 failed handling Order for the second time: error: Hard()",
            ]
        )
        #expect(counter.members.isEmpty)
        #expect(sim.stops(tree))
    }

    /// About a kill nobody in the process can decide: it is done in a process of its own, and a trap there is the restart type's case.
    @Test(arguments: [false, true])
    func aClosureDecidesAboutKillsInAProcessOfItsOwn(traps: Bool) throws {
        let sim = Simulation(containsTraps: true)
        let tree = try sim.system.supervise("shop") {
            Children("c", Counter(sim.trace)).onFailure { failure in
                guard case .killed = failure.reason else { return nil }
                if traps { _ = opaque([1])[opaque(9)] }
                return .stop
            }
        }
        let counter: Group<Order> = try tree.group("c")
        sim.drain()
        let proc = counter.members[0].proc
        proc.kill()
        sim.advance(by: .seconds(10))
        #expect(proc.isClosed == !traps)
        #expect(sim.stops(tree))
    }

    /// A bug in the closure must not be what the policy does about traps of the child.
    @Test(arguments: ["reactive", "handler", "body"])
    func aTrapOfTheClosureIsTheRestartTypesCase(kind: String) throws {
        let sim = Simulation(containsTraps: true)
        let trace = sim.trace
        let decided = Locked(0)
        let policy = FailurePolicy().onTrap(.escalate).deciding { failure in
            let count = decided.withLock { count in
                count += 1
                return count
            }
            // Once it works.
            if count == 2 { return .resume }
            _ = opaque([1])[opaque(9)]
            return .stop
        }
        let tree = try sim.system.supervise("shop", intensity: .unlimited) {
            switch kind {
            case "reactive": Children("c", Counter(trace)).onFailure(policy)
            case "handler": Self.handling("c", trace).onFailure(policy)
            default:
                Children("c") { context in
                    for await order in context.messages(of: Order.self) {
                        switch order {
                        case .soft: throw Soft()
                        case .hard: throw Hard()
                        case .trap: fatalError("told to")
                        case .count: trace("body")
                        }
                    }
                }.onFailure(policy)
            }
        }
        let group: Group<Order> = try tree.group("c")
        sim.drain()
        let proc = group.members[0].proc
        for count in 1...3 {
            group.tell(.soft)
            sim.drain()
            #expect(decided.withLock { $0 } == count && tree.supervisor.outcome == nil && !proc.isClosed)
        }
        #expect(proc.restarts == (kind == "body" ? 3 : 2), "what a body threw cannot be resumed after")
        #expect(tree.supervisor.decisions.withLock { $0.isEmpty })
        // A trap of the child itself is another matter.
        group.tell(.trap)
        sim.drain()
        #expect(tree.gaveUp && decided.withLock { $0 } == 3)
    }

    @Test func allThatHappensIsTold() throws {
        let sim = Simulation()
        let told = Locked<[String]>([])
        let events = sim.system.events()
        let listener = sim.executor.spawn {
            for await event in events { told.withLock { $0.append("\(event)") } }
        }
        sim.drain()
        let tree = try sim.system.supervise("shop", intensity: .init(1, within: .seconds(60))) {
            Children("a", Counter(sim.trace), backoff: .constant(.seconds(1)))
                .onFailure(FailurePolicy().on(Soft.self, .resume))
        }
        sim.drain()
        let group: Group<Order> = try tree.group("a")
        group.tell(.soft)
        group.tell(.hard)
        sim.advance(by: .seconds(2))
        group.tell(.hard)
        sim.drain()
        #expect(
            told.withLock { $0 } == [
                "/shop/a-0 started",
                "/shop/a-0 ready",
                "/shop/a-0 failed handling Order: error: Soft(), and goes on",
                "/shop/a-0 failed handling Order: error: Hard()",
                "/shop/a-0 restarting in 1.0 seconds",
                "/shop/a-0 started",
                "/shop/a-0 ready",
                "/shop/a-0 failed handling Order for the second time: error: Hard()",
                "/shop escalates: linked process \(group.next.id) ended: error: Hard()",
                "/shop/a-0 stopped: error: Hard()",
                "/shop stopped, with all below",
            ]
        )
        #expect(events.lostEvents == 0)
        listener.cancel()
        sim.drain()
        #expect(!sim.system.eventHub.hasListeners)
    }
}
