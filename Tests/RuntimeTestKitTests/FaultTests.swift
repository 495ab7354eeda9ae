// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc
import RuntimeTestKit
import Supervision
import Testing

/// Each kind of fault, in each kind of process.
@Suite struct FaultTests {
    private typealias Kind = ChildKind

    private func start(_ kind: Kind, _ faults: FaultPlan) throws -> (Simulation, Group<Counter.Message>) {
        let simulation = Simulation(seed: 5, faults: faults)
        let tree = try simulation.system.supervise("shop", intensity: .unlimited) {
            kind.counters("counter", redundancy: 2)
        }
        try simulation.runUntilIdle()
        return (simulation, try tree.group("counter"))
    }

    @Test(arguments: Kind.allCases) private func aTrapEndsTheIncarnationAndLosesTheMessageInHand(_ kind: Kind) throws {
        let (simulation, group) = try start(kind, [.trap("counter-1", atMessage: 3)])
        let (other, victim) = (group.members[0], group.members[1])
        let probe = simulation.probe(of: Never.self)
        for _ in 0..<5 {
            victim.tell(.add(1))
            other.tell(.add(1))
        }
        let reason = try probe.expectEnd(of: victim)
        #expect(reason.trapReport?.message == "simulated by a fault plan")
        #expect(reason.trapReport?.path == "/shop/counter-1")
        // The third is lost, the first two were the former incarnation's.
        #expect(try simulation.run { try await victim.ask { .total($0) } } == 2)
        #expect(try simulation.run { try await other.ask { .total($0) } } == 5)
        #expect(victim.proc.restarts == 1)
        #expect(simulation.trace.events.contains { $0.process == "/shop/counter-1" && $0.what == "traps, as planned" })
    }

    @Test(arguments: Kind.allCases) private func whoAskedLearnsOfTheTrap(_ kind: Kind) throws {
        let (simulation, group) = try start(kind, [.trap("/shop/counter-0", atMessage: 1)])
        let error = #expect(throws: AskError.self) {
            try simulation.run { try await group.members[0].ask { .total($0) } }
        }
        #expect(error?.code == .processEnded)
        #expect(error?.reason?.trapReport != nil)
        #expect(simulation.now == .zero)
    }

    @Test(arguments: Kind.allCases) private func anErrorEndsTheIncarnation(_ kind: Kind) throws {
        let (simulation, group) = try start(kind, [.error("counter-0", atMessage: 2, Failure())])
        let victim = group.members[0]
        victim.tell(.add(1))
        let error = #expect(throws: AskError.self) { try simulation.run { try await victim.ask { .total($0) } } }
        guard case .error(let failure) = error?.reason else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(failure is Failure)
        #expect(try simulation.run { try await victim.ask { .total($0) } } == 0)
    }

    @Test(arguments: Kind.allCases) private func aDelayHoldsUpAMessageAndThoseBehindIt(_ kind: Kind) throws {
        let (simulation, group) = try start(kind, [.delay("counter-0", message: 2, by: .seconds(2))])
        let victim = group.members[0]
        victim.tell(.add(1))
        victim.tell(.add(10))
        victim.tell(.add(100))
        let start = simulation.now
        #expect(try simulation.run { try await victim.ask { .total($0) } } == 111)
        #expect(simulation.now - start == .seconds(2))
        #expect(try simulation.run { try await group.members[1].ask { .total($0) } } == 0)
        #expect(simulation.now - start == .seconds(2))
    }

    @Test(arguments: Kind.allCases) private func aChildRefusesToStart(_ kind: Kind) throws {
        let (simulation, group) = try start(kind, [.refuseToStart("counter", times: 3)])
        #expect(group.members.map(\.proc.restarts).reduce(0, +) == 3)
        for member in group.members { #expect(try simulation.run { try await member.ask { .total($0) } } == 0) }
    }

    @Test(arguments: Kind.allCases) private func faultsByTypeCountTheMessagesOfAllProcesses(_ kind: Kind) throws {
        let (simulation, group) = try start(kind, [.trap(.messages(of: Counter.Message.self), atMessage: 3)])
        for member in group.members {
            member.tell(.add(1))
            try simulation.runUntilIdle()
        }
        #expect(simulation.system.restarts == 0)
        group.members[0].tell(.add(1))
        try simulation.runUntilIdle()
        #expect(simulation.system.restarts == 1)
        #expect(group.members[0].proc.restarts == 1)
    }

    private struct Anything: Reactive {
        mutating func receive(_ message: consuming any Sendable, in context: borrowing ReactiveContext<Self>) {}
    }

    @Test func faultsByTypeSeeWhatAMessageOfAnyTypeReallyIs() throws {
        let simulation = Simulation(seed: 5, faults: [.trap(.messages(of: String.self), atMessage: 2)])
        let anything = simulation.system.spawn(Anything())
        let probe = simulation.probe(of: Never.self)
        anything.tell("one")
        anything.tell(2)
        try simulation.runUntilIdle()
        #expect(anything.proc.lastExit == nil)
        anything.tell("three")
        #expect(try probe.expectEnd(of: anything).trapReport?.messageType == "String")
    }

    @Test(arguments: Kind.allCases) private func aDelayByTypeHoldsUpThatMessage(_ kind: Kind) throws {
        let (ours, other) = (FaultTarget.messages(of: Counter.Message.self), FaultTarget.messages(of: Int.self))
        let (simulation, group) = try start(
            kind,
            [.delay(ours, message: 2, by: .seconds(2)), .delay(other, message: 1, by: .seconds(7))]
        )
        let start = simulation.now
        group.members[0].tell(.add(1))
        #expect(try simulation.run { try await group.members[0].ask { .total($0) } } == 1)
        #expect(simulation.now - start == .seconds(2))
    }

    @Test func aFaultInjectedLaterCountsFromThenOn() throws {
        let (simulation, group) = try start(.async, [])
        group.members[0].tell(.add(1))
        try simulation.runUntilIdle()
        simulation.inject(.error("counter-0", atMessage: 1))
        try simulation.runUntilIdle()
        #expect(simulation.system.restarts == 0)
        group.members[0].tell(.add(1))
        try simulation.runUntilIdle()
        #expect(simulation.system.restarts == 1)
    }

    @Test func randomFaultsAreDrawnFromTheSeed() throws {
        func restarts(_ seed: UInt64) throws -> Int {
            let plan: FaultPlan = [
                .randomTrap(.everyone, probability: 0.1), .randomError("counter-1", probability: 0.1),
                .randomDelay(.everyone, probability: 0.1, by: .milliseconds(3)),
                .randomRefusal(.everyone, probability: 0.1),
            ]
            let trace = try Simulation.checkEqualRuns(seed: seed, faults: plan) { simulation in
                let tree = try simulation.system.supervise(intensity: .unlimited) {
                    Children("counter", Counter(), redundancy: 2)
                    Children("async", redundancy: 2, body: counter)
                }
                for name in ["counter", "async"] {
                    let group = try tree.group(name, of: Counter.Message.self)
                    for _ in 0..<50 { group.tell(.add(1)) }
                }
                try simulation.advance(by: .seconds(10))
            }
            return trace.events.count { $0.what.hasSuffix("as planned") }
        }
        let counts = try Seeds.list(count: 10).map(restarts)
        #expect(counts.allSatisfy { (1...80).contains($0) }, "\(counts)")
        #expect(Seeds.fromEnvironment != nil || Set(counts).count > 1, "\(counts)")
    }

    @Test func aSpawnedProcessIsStruckToo() throws {
        let simulation = Simulation(seed: 1, faults: [.trap(.everyone, atMessage: 2)])
        let counter = simulation.system.spawn(Counter())
        counter.tell(.add(1))
        counter.tell(.add(1))
        let reason = try simulation.probe(of: Never.self).expectEnd(of: counter)
        #expect(reason.trapReport != nil)
        #expect(!counter.tell(.add(1)))
    }

    @Test func aTrapRunsNoDeinitOfWhatTheProcessHeld() throws {
        final class Guarded: Sendable {
            let end: ProcRef<String>
            init(_ end: ProcRef<String>) { self.end = end }
            deinit { end.tell("deinit") }
        }
        struct Holder: Reactive {
            let guarded: Guarded
            mutating func receive(_ message: consuming Int, in context: borrowing ReactiveContext<Self>) {}
        }
        for fault in [Fault.trap(.everyone, atMessage: 1), .error(.everyone, atMessage: 1)] {
            let simulation = Simulation(seed: 1, faults: FaultPlan([fault]))
            let probe = simulation.probe(of: String.self)
            let end = probe.ref
            let tree = try simulation.system.supervise(intensity: .unlimited) {
                Children("holder", Holder(guarded: Guarded(end)), restart: .temporary)
            }
            try tree.group("holder", of: Int.self).tell(1)
            if case .trap = try probe.expectEnd(of: tree.group("holder", of: Int.self).next) {
                try probe.expectNoMessage()
            } else {
                try probe.expect("deinit")
            }
        }
    }

    /// A real one, in both kinds of process, in a child task too.
    @Test func aRealTrapIsContainedAndRepeated() throws {
        for seed in Seeds.list(count: 5) {
            let trace = try Simulation.checkEqualRuns(seed: seed) { simulation in
                let tree = try simulation.system.supervise(intensity: .unlimited) {
                    Children("reactive", Indexer(), redundancy: 2)
                    Children("async", redundancy: 2) { context in
                        for await message in context.messages(of: Indexer.Message.self) {
                            async let answer = Task.yield(returning: [1, 2, 3][message.index])
                            message.reply(await answer)
                        }
                    }
                }
                let probe = simulation.probe(of: String.self)
                let end = probe.ref
                for name in ["reactive", "async"] {
                    let group = try tree.group(name, of: Indexer.Message.self)
                    let kind = try simulation.run {
                        var kind = ""
                        for index in 0..<8 {
                            do {
                                let answer = try await group.ask { .init(index: index % 4, reply: $0) }
                                end.tell("\(name) \(answer)")
                            } catch let error as AskError { kind = "\(error.reason?.trapReport?.signal ?? 0)" }
                        }
                        return kind
                    }
                    #expect(kind != "0" && kind != "", "\(simulation)")
                }
                try simulation.runUntilIdle()
                #expect(probe.messages.count == 12)
                #expect(simulation.system.restarts == 4)
                try simulation.stop()
            }
            #expect(trace.events.count { $0.what == "ended: trap" } == 4)
        }
    }
}
