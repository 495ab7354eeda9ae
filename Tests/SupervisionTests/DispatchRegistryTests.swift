// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import LightProc
import Testing

@testable import Supervision

@Suite struct DispatchRegistryTests {
    let sim = Simulation()
    var registry: Registry { sim.system.registry }

    @Test func aNameLeadsToItsProcess() throws {
        let taker = sim.system.spawn(Taker("a", sim.trace))
        try registry.register("prices", taker)
        #expect(try registry.whereis("prices", of: Taker.Message.self)?.id == taker.id)
        #expect(try registry.whereis("price", of: Taker.Message.self) == nil)
        try registry.whereis("prices", of: Taker.Message.self)?.tell(.number(1))
        sim.drain()
        #expect(sim.trace.lines == ["a 1"])
        #expect(registry.names == ["prices"])
    }

    @Test func aNameHasOneHolderAndTheErrorSaysWhich() throws {
        let (one, two) = (sim.system.spawn(Taker("a", sim.trace)), sim.system.spawn(NumberTaker()))
        try registry.register("prices", one)
        // Again, as after a restart: nothing happens.
        try registry.register("prices", one)
        let error = thrown(RegistryError.self) { try registry.register("prices", two) }
        #expect(error?.code == .nameTaken && error?.holder?.id == one.id && error?.name == "prices")
        #expect(thrown(RegistryError.self) { try registry.register("", two) }?.code == .emptyName)
        try registry.register("more prices", one)
        #expect(registry.names(of: one) == ["more prices", "prices"] && registry.names(of: two) == [])
    }

    @Test func aLookUpWithAnotherTypeIsAnErrorThatSaysBoth() throws {
        let taker = sim.system.spawn(NumberTaker())
        try registry.register("numbers", taker)
        let error = thrown(RegistryError.self) { _ = try registry.whereis("numbers", of: String.self) }
        #expect(error?.code == .wrongMessageType)
        #expect(error?.description.contains("takes Int, not String") == true)
        let tree = try sim.system.supervise { Children("any") { context in await context.untilStopped() } }
        try registry.register("any", tree.group("any", of: Int.self).members[0])
        #expect(try registry.whereis("any", of: String.self) != nil && registry.whereis("any", of: Int.self) != nil)
    }

    @Test func aNameIsFreeWhenItsHolderHasEndedAndStaysOverRestarts() throws {
        let tree = try sim.system.supervise(intensity: .unlimited) {
            Children("taker", Taker("t", sim.trace), restart: .transient)
        }
        let taker = try tree.group("taker", of: Taker.Message.self).members[0]
        try registry.register("taker", taker)
        sim.drain()
        taker.tell(.fail)
        sim.drain()
        #expect(taker.proc.restarts == 1)
        #expect(try registry.whereis("taker", of: Taker.Message.self)?.id == taker.id)
        taker.tell(.finish)
        sim.drain()
        #expect(try registry.whereis("taker", of: Taker.Message.self) == nil)
        #expect(registry.names == [] && registry.names(of: taker) == [])
        let next = sim.system.spawn(Taker("next", sim.trace))
        try registry.register("taker", next)
        #expect(try registry.whereis("taker", of: Taker.Message.self)?.id == next.id)
        #expect(thrown(RegistryError.self) { try registry.register("late", taker) }?.code == .processEnded)
        #expect(registry.names == ["taker"])
    }

    /// The registry has not been told of the end yet: the exit hook of the holder runs before that.
    @Test func anEndedHolderCountsAsNobodyBeforeItsRemoval() throws {
        let taker = sim.system.spawn(Taker("a", sim.trace))
        let next = sim.system.spawn(Taker("b", sim.trace))
        try registry.register("name", taker)
        var table = NameTable()
        guard case .registered = table.register("name", Recipient(taker.proc)) else {
            Issue.record("not registered")
            return
        }
        taker.tell(.finish)
        sim.drain()
        // This table was told of nothing.
        #expect(table.holder(of: "name") == nil && table.names == [] && table.names(of: taker.id) == [])
        guard case .registered(let waiters, let former) = table.register("name", Recipient(next.proc)) else {
            Issue.record("not registered")
            return
        }
        #expect(waiters == [] && former?.id == taker.id)
        // Told late, of a process that has lost the name already.
        #expect(table.ended(taker.id) == [])
        #expect(table.holder(of: "name")?.id == next.id)
    }

    /// At the moment at which a process has ended, and the registry has not been told: who came last is told first.
    @Test(arguments: [true, false])
    func aNameIsFreeBeforeTheRegistryIsToldOfTheEnd(another: Bool) throws {
        let (system, trace) = (sim.system, sim.trace)
        let taker = ProcRef<Int>(LightProc.reactive(on: sim.executor) { ReactiveAdapter(NumberTaker()) })
        let next = system.spawn(NumberTaker())
        try registry.register("n", taker)
        taker.proc.whenEnded { _ in
            let found = try? system.registry.whereis("n", of: Int.self)
            let registry = system.registry
            trace("\(found == nil) \(registry.names) \(registry.names(of: taker)) \(registry.holderCount)")
            trace("\(thrown(RegistryError.self) { try system.registry.register("m", taker) }?.code == .processEnded)")
            if another { trace("\((try? system.registry.register("n", next)) != nil)") }
        }
        taker.proc.close()
        #expect(trace.lines == ["true [] [] 1", "true"] + (another ? ["true"] : []))
        // Told now, it takes nothing from who has the name by then.
        #expect(registry.names == (another ? ["n"] : []) && registry.holderCount == (another ? 1 : 0))
        #expect(try registry.whereis("n", of: Int.self)?.id == (another ? next.id : nil))
    }

    @Test func aNameIsTakenBackByWhoHasIt() throws {
        let (one, two) = (sim.system.spawn(NumberTaker()), sim.system.spawn(NumberTaker()))
        try registry.register("n", one)
        #expect(!registry.unregister("n", of: two) && registry.unregister("n", of: one) && !registry.unregister("n"))
        try registry.register("n", two)
        #expect(registry.unregister("n") && registry.names == [])
    }

    @Test func aProcessLivesAsLongAsItHasAName() throws {
        weak let proc: LightProc?
        do {
            let taker = sim.system.spawn(NumberTaker())
            proc = taker.proc
            try registry.register("n", taker)
        }
        sim.drain()
        #expect(proc != nil)
        registry.unregister("n")
        sim.drain()
        #expect(proc == nil && sim.system.departures.count == 0)
    }

    /// The registry, groups, topics, distributors and dispatchers share one registration with the process.
    @Test func whoTakesAProcessOffOneListLeavesItOnTheOthers() throws {
        let system = sim.system
        let numbers = Distributor<Int>("d", in: system)
        let topic = Topic<Int>("t", in: system)
        for first in 0..<4 {
            let taker = ProcRef<Int>(LightProc.reactive(on: sim.executor) { ReactiveAdapter(NumberTaker()) })
            try registry.register("n", taker)
            system.groups.join("g", taker)
            topic.subscribe(taker)
            try numbers.subscribe(taker)
            let ways: [() -> Bool] = [
                { system.registry.unregister("n") }, { system.groups.leave("g", taker) },
                { topic.unsubscribe(taker) }, { numbers.unsubscribe(taker) },
            ]
            #expect(ways[first]())
            taker.proc.close()
            #expect(registry.holderCount == 0 && system.groups.names == [])
            #expect(topic.subscriberCount == 0 && numbers.members.isEmpty && system.departures.count == 0)
        }
    }

    // MARK: Children

    @Test func childrenAreRegisteredBeforeTheyStart() throws {
        let tree = try sim.system.supervise {
            Children("one", Taker("one", sim.trace)).registered(as: "prices")
            Children("two", Taker("two", sim.trace), redundancy: 2).registered(as: "workers")
        }
        // Nothing has run yet.
        #expect(registry.names == ["prices", "workers-0", "workers-1"])
        #expect(try registry.whereis("workers-1", of: Taker.Message.self)?.proc.name == "two-1")
        #expect(sim.stops(tree) && registry.names == [])
    }

    @Test func aTakenNameKeepsAGroupFromStartingAndLeavesNothingBehind() throws {
        let holder = sim.system.spawn(NumberTaker())
        try registry.register("workers-1", holder)
        let error = thrown(SupervisionError.self) {
            try sim.system.supervise {
                Children("two", Taker("two", sim.trace), redundancy: 2).registered(as: "workers").distributor("work")
                    .dispatcher("input")
            }
        }
        #expect(error?.code == .nameTaken)
        sim.drain()
        #expect(registry.names == ["workers-1"])
        let work = Distributor<Taker.Message>("work", in: sim.system)
        #expect(thrown(DistributorError<Taker.Message>.self) { try work.tellOne(.number(1)) }?.code == .noDistributor)
        #expect(sim.system.members(ofDispatcher: "input") == nil)
        #expect(sim.trace.lines == [])
        #expect(
            thrown(SupervisionError.self) {
                try sim.system.supervise { Children("x", NumberTaker()).registered(as: "") }
            }?.code == .emptyName
        )
    }

    /// What two groups of one tree want, and whether they cannot both have it.
    struct Wanted: Sendable {
        let first: (name: String, redundancy: Int)
        let second: (name: String, redundancy: Int)
        let clashesAt: String?
    }

    @Test(arguments: [
        Wanted(first: ("a", 1), second: ("a", 1), clashesAt: "a"),
        Wanted(first: ("a", 2), second: ("a", 3), clashesAt: "a-0"),
        Wanted(first: ("a", 1), second: ("a", 2), clashesAt: nil),
        Wanted(first: ("a", 2), second: ("a-1", 1), clashesAt: "a-1"),
        Wanted(first: ("a-1", 1), second: ("a", 2), clashesAt: "a-1"),
        Wanted(first: ("a", 2), second: ("a-2", 1), clashesAt: nil),
        Wanted(first: ("a", 2), second: ("a-01", 1), clashesAt: nil),
        Wanted(first: ("a", 2), second: ("a-", 1), clashesAt: nil),
        Wanted(first: ("a-1", 2), second: ("a-1-1", 1), clashesAt: "a-1-1"),
        Wanted(first: ("a", 1), second: ("b", 1), clashesAt: nil),
    ])
    func groupsOfOneTreeHaveNamesOfTheirOwn(_ wanted: Wanted) throws {
        func group(_ name: String, _ wanted: (name: String, redundancy: Int)) -> Children {
            Children(name, Taker(name, sim.trace), redundancy: wanted.redundancy).registered(as: wanted.name)
        }
        let (first, second) = (group("one", wanted.first), group("two", wanted.second))
        // Wherever they are, before anything starts.
        let trees: [Supervisor] = [
            Supervisor("top") {
                first
                second
            },
            Supervisor("top") {
                first
                Supervisor("below") { second }
            },
            Supervisor("top") {
                Supervisor("left") { first }
                Supervisor("right") { second }
            },
        ]
        for tree in trees {
            let error = thrown(SupervisionError.self) { _ = try tree.validate() }
            #expect(error?.code == (wanted.clashesAt == nil ? nil : .nameTaken), "\(wanted)")
            let words =
                "group two: the name \(wanted.clashesAt ?? "") is registered by the group one, too; give each a name of its own"
            if let error { #expect(error.description.contains(words), "\(error)") }
        }
        let started = thrown(SupervisionError.self) {
            let tree = try sim.system.supervise {
                first
                Supervisor("below") { second }
            }
            sim.drain()
            #expect(registry.names.count == wanted.first.redundancy + wanted.second.redundancy)
            #expect(sim.stops(tree))
        }
        #expect(started?.code == (wanted.clashesAt == nil ? nil : .nameTaken))
        #expect(registry.names == [])
    }

    // MARK: Waiting

    @Test func whoWaitsForANameGetsWhoeverRegisters() async throws {
        try await withPool { system in
            async let found = system.registry.whereis("late", of: Int.self, within: .seconds(60))
            while system.registry.waiterCount == 0 { await Task.yield() }
            let taker = system.spawn(NumberTaker())
            try system.registry.register("late", taker)
            #expect(try await found.id == taker.id)
            #expect(try await system.registry.whereis("late", of: Int.self, within: .zero).id == taker.id)
            #expect(system.registry.waiterCount == 0)
        }
    }

    @Test func whoWaitsForANameIsTimedOutOnTheExecutorsClock() async throws {
        let (system, executor) = (sim.system, sim.executor)
        let wait = Task { try await system.registry.whereis("never", of: Int.self, within: .seconds(10)) }
        while registry.waiterCount == 0 { await Task.yield() }
        executor.advance(by: .seconds(9))
        #expect(registry.waiterCount == 2)
        // The timer is set a moment after the wait is known.
        while registry.waiterCount > 0 { executor.advance(by: .seconds(11)) }
        let error = await thrown(RegistryError.self) { _ = try await wait.value }
        #expect(error?.code == .timeout && error?.name == "never")
    }

    @Test func whoWaitsForANameCanBeCancelled() async throws {
        let system = sim.system
        let wait = Task { try await system.registry.whereis("never", of: Int.self, within: .seconds(10)) }
        while registry.waiterCount == 0 { await Task.yield() }
        wait.cancel()
        #expect(await thrown(RegistryError.self) { _ = try await wait.value }?.code == .cancelled)
        #expect(registry.waiterCount == 0)
    }

    @Test func whoWaitsForANameOfAnotherTypeLearnsIt() async throws {
        let system = sim.system
        let wait = Task { try await system.registry.whereis("late", of: String.self, within: .seconds(10)) }
        while registry.waiterCount == 0 { await Task.yield() }
        try registry.register("late", system.spawn(NumberTaker()))
        #expect(await thrown(RegistryError.self) { _ = try await wait.value }?.code == .wrongMessageType)
    }
}
