// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import LightProc
import Testing

@testable import Supervision

@Suite struct DispatchDistributorTests {
    typealias Problem = DistributorError<Taker.Message>
    let sim = Simulation()
    var orders: Distributor<Taker.Message> { Distributor("orders", in: sim.system) }

    func takers(
        _ name: String = "t",
        _ count: Int = 3,
        _ strategy: DistributionStrategy? = nil
    ) -> Children {
        Children(name, Taker(name, sim.trace), redundancy: count, restart: .transient).distributor("orders", strategy)
    }

    @Test func membersTakeTurns() throws {
        let tree = try sim.system.supervise { takers() }
        // Before anything has run.
        #expect(orders.members.map(\.name) == ["t-0", "t-1", "t-2"])
        let members = try tree.group("t", of: Taker.Message.self).members
        let took = try (0..<7).map { try orders.tellOne(.number($0)).id }
        #expect(took == [0, 1, 2, 0, 1, 2, 0].map { members[$0].id })
        sim.drain()
        #expect(sim.trace.lines.sorted() == (0..<7).map { "t \($0)" })
    }

    @Test func whatReachesNobodyComesBackInATypedError() throws {
        let none = thrown(Problem.self) { try orders.tellOne(.number(7)) }
        #expect(none?.code == .noDistributor && none?.distributor == "orders" && none?.message == .number(7))
        #expect(thrown(Problem.self) { try orders.tellEveryone(.number(7)) }?.message == .number(7))
        let tree = try sim.system.supervise { takers() }
        for _ in 0..<3 { try orders.tellOne(.finish) }
        sim.drain()
        let empty = thrown(Problem.self) { try orders.tellOne(.number(7)) }
        #expect(empty?.code == .emptyRecipients && empty?.message == .number(7))
        #expect(
            thrown(Problem.self) { _ = try orders.request { .question($0) } as PendingReply<Int> }?.code
                == .emptyRecipients
        )
        #expect(sim.stops(tree))
        #expect(thrown(Problem.self) { try orders.tellOne(.number(7)) }?.code == .noDistributor)
        #expect(sim.system.distributors.count == 0 && sim.system.departures.count == 0)
    }

    @Test func aDistributorOfAnotherTypeIsAnErrorThatSaysBoth() throws {
        _ = try sim.system.supervise { takers() }
        let numbers = Distributor<Int>("orders", in: sim.system)
        let error = thrown(DistributorError<Int>.self) { try numbers.tellOne(7) }
        #expect(error?.code == .wrongMessageType && error?.message == 7)
        #expect(error?.description == "distributor orders: its members take Message, not Int")
        #expect(
            thrown(DistributorError<Int>.self) { try numbers.subscribe(sim.system.spawn(NumberTaker())) }?.code
                == .wrongMessageType
        )
        let mixed = thrown(SupervisionError.self) {
            try sim.system.supervise("mixed") { Children("n", NumberTaker()).distributor("orders") }
        }
        #expect(mixed?.code == .wrongMessageType)
        // Async children take anything.
        _ = try sim.system.supervise("async") {
            Children("any") { context in await context.untilStopped() }.distributor("orders")
        }
        #expect(orders.members.count == 4)
    }

    @Test func everybodyIsTold() throws {
        _ = try sim.system.supervise { takers() }
        #expect(try orders.tellEveryone(.number(1)) == 3)
        sim.drain()
        #expect(sim.trace.lines == ["t 1", "t 1", "t 1"])
    }

    @Test(arguments: [(DistributionStrategy.broadcast, 3), (.firstAnswer, 1), (.random, 1), (.leastLoaded, 1)])
    func tellDoesWhatTheStrategySays(strategy: DistributionStrategy, count: Int) throws {
        _ = try sim.system.supervise { takers("t", 3, strategy) }
        #expect(try orders.tell(.number(1)) == count)
        sim.drain()
        #expect(sim.trace.lines.count == count)
    }

    @Test func membersStayOverRestartsAndWhatIsSentMeanwhileWaits() throws {
        let tree = try sim.system.supervise(intensity: .unlimited) {
            Children("t", Taker("t", sim.trace), redundancy: 2, backoff: .constant(.seconds(1))).distributor("orders")
        }
        for member in try tree.group("t", of: Taker.Message.self).members { member.tell(.fail) }
        sim.drain()
        #expect(orders.members.map(\.load) == [.down, .down])
        try orders.tellOne(.number(1))
        sim.drain()
        #expect(sim.trace.lines == [])
        sim.advance(by: .seconds(1))
        #expect(sim.trace.lines == ["t 1"] && orders.members.count == 2)
    }

    /// In the order in which they joined, also those that come again; nobody loses a turn.
    @Test func whoComesAgainIsTheLast() throws {
        let letters = ["a", "b", "c", "d"]
        let refs = letters.map { sim.system.spawn(Taker($0, sim.trace)) }
        for ref in refs { _ = try orders.subscribe(ref) }
        func names() -> String {
            orders.members.map { member in refs.firstIndex { $0.id == member.id }.map { letters[$0] } ?? "?" }.joined()
        }
        func turns(_ count: Int) throws -> String {
            sim.trace.clear()
            for _ in 0..<count {
                try orders.tellOne(.number(1))
                sim.drain()
            }
            return sim.trace.lines.map { String($0.prefix(1)) }.joined()
        }
        #expect(names() == "abcd")
        #expect(try turns(2) == "ab")
        #expect(orders.unsubscribe(refs[0]))
        #expect(names() == "bcd")
        #expect(try turns(1) == "c")
        #expect(try orders.subscribe(refs[0]))
        #expect(names() == "bcda")
        #expect(orders.unsubscribe(refs[2]))
        #expect(names() == "bda")
        #expect(try turns(4) == "dabd")
        refs[3].proc.kill()
        sim.drain()
        #expect(names() == "ba")
        #expect(try turns(3) == "aba")
        #expect(try orders.subscribe(refs[2]))
        #expect(names() == "bac")
        #expect(try turns(3) == "cba")
    }

    @Test func processesSubscribeAndUnsubscribe() throws {
        let (one, two) = (sim.system.spawn(Taker("a", sim.trace)), sim.system.spawn(Taker("b", sim.trace)))
        let orders = self.orders
        #expect(try orders.subscribe(one) && !orders.subscribe(one))
        #expect(try orders.subscribe(two))
        for n in 0..<2 { try orders.tellOne(.number(n)) }
        #expect(orders.unsubscribe(one) && !orders.unsubscribe(one))
        for n in 2..<4 { try orders.tellOne(.number(n)) }
        sim.drain()
        #expect(sim.trace.lines.sorted() == ["a 0", "b 1", "b 2", "b 3"])
        two.tell(.finish)
        sim.drain()
        #expect(thrown(Problem.self) { try orders.tellOne(.number(7)) }?.code == .noDistributor)
        #expect(thrown(Problem.self) { try orders.subscribe(two) }?.code == .processEnded)
        // What was there once does not bind what comes now.
        #expect(try Distributor<Int>("orders", in: sim.system).subscribe(sim.system.spawn(NumberTaker()), .random))
    }

    @Test func groupsOfSeveralSupervisorsShareADistributor() throws {
        let first = try sim.system.supervise("first") { takers("a", 1, .random) }
        let second = try sim.system.supervise("second") { takers("b", 1) }
        let conflict = thrown(SupervisionError.self) {
            try sim.system.supervise("third") { takers("c", 1, .leastLoaded) }
        }
        #expect(conflict?.code == .conflictingStrategy)
        #expect(orders.members.map(\.name) == ["a-0", "b-0"])
        #expect(sim.stops(first) && orders.members.map(\.name) == ["b-0"])
        #expect(sim.stops(second) && orders.members.isEmpty)
        #expect(
            thrown(SupervisionError.self) { try sim.system.supervise { takers("x").distributor("") } }?.code
                == .emptyName
        )
        #expect(sim.system.distributors.count == 0)
    }

    // MARK: Strategies

    @Test func theLessLoadedMemberIsChosen() throws {
        _ = try sim.system.supervise { takers("t", 2, .leastLoaded) }
        sim.drain()
        let members = orders.members
        for _ in 0..<10 { #expect(members[0].tell(Taker.Message.number(0))) }
        #expect(members.map(\.load) == [.waiting, .idle])
        #expect(try orders.tellOne(.number(1)).id == members[1].id)
        // Now messages wait in both, and this distributor has sent one to one of them.
        #expect(members[1].load == .waiting)
        sim.drain()
        #expect(members.map(\.load) == [.idle, .idle])
    }

    @Test func anAsyncMemberIsIdleWhileItWaitsForAMessage() throws {
        let gate = Topic<Int>("gate", in: sim.system)
        _ = try sim.system.supervise {
            Children("a") { context in
                gate.subscribe(context.me(as: Int.self))
                _ = try await context.receive(String.self)
                try await context.sleep(for: .seconds(1))
                for await _ in context.messages(of: String.self) {}
            }.distributor("words")
        }
        let words = Distributor<String>("words", in: sim.system)
        sim.drain()
        #expect(words.members.map(\.load) == [.idle])
        try words.tellOne("x")
        sim.drain()
        #expect(words.members.map(\.load) == [.busy])
        try words.tellOne("y")
        sim.drain()
        #expect(words.members.map(\.load) == [.waiting])
        sim.advance(by: .seconds(1))
        #expect(words.members.map(\.load) == [.idle])
    }

    @Test func equalKeysGoToTheSameMember() throws {
        _ = try sim.system.supervise { takers("t", 5, .consistentHash) }
        let took = try (0..<100).map { try orders.tellOne(.number($0), key: DistributionKey($0 % 10)).id }
        for n in 10..<100 { #expect(took[n] == took[n % 10]) }
        #expect(Set(took).count > 1)
        #expect(thrown(Problem.self) { try orders.tellOne(.number(1)) }?.code == .noKey)
    }

    @Test(arguments: [false, true])
    func keysAreMadeOfMessages(isSticky: Bool) throws {
        let key: @Sendable (Taker.Message) -> DistributionKey = { message in
            if case .number(let n) = message { DistributionKey(n % 10) } else { "question" }
        }
        _ = try sim.system.supervise { takers("t", 5, isSticky ? .sticky(by: key) : .consistentHash(by: key)) }
        let took = try (0..<100).map { try orders.tellOne(.number($0)).id }
        for n in 10..<100 { #expect(took[n] == took[n % 10]) }
        #expect(Set(took).count > 1)
        let answers = try (0..<3).map { _ in Answer<Int>(try orders.request { .question($0) }) }
        sim.drain()
        #expect(Set(answers.map { $0.value ?? -1 }).count == 1 && answers[0].value != nil)
        let wrong = thrown(SupervisionError.self) {
            try sim.system.supervise("wrong") {
                Children("n", NumberTaker()).distributor(
                    "numbers",
                    .consistentHash { (s: String) in DistributionKey(s) }
                )
            }
        }
        #expect(wrong?.code == .wrongMessageType)
    }

    @Test func aStickyKeyMovesWhenItsMemberEnds() throws {
        _ = try sim.system.supervise { takers("t", 4, .sticky()) }
        let first = try orders.tellOne(.number(0), key: "k")
        #expect(try orders.tellOne(.number(1), key: "k").id == first.id)
        try orders.tellOne(.finish, key: "k")
        sim.drain()
        let second = try orders.tellOne(.number(2), key: "k")
        #expect(second.id != first.id)
        #expect(try orders.tellOne(.number(3), key: "k").id == second.id)
    }

    @Test func aStrategyOfOnesOwnChooses() throws {
        _ = try sim.system.supervise {
            takers("t", 3, .custom { members, key in key == "last" ? members.count - 1 : key == "bad" ? 9 : 0 })
        }
        #expect(try orders.tellOne(.number(0)).id == orders.members[0].id)
        #expect(try orders.tellOne(.number(0), key: "last").id == orders.members[2].id)
        #expect(thrown(Problem.self) { try orders.tellOne(.number(0), key: "bad") }?.code == .badChoice)
    }

    /// The members end between the choice and the send.
    @Test func membersThatHaveEndedArePassedOver() throws {
        let procs = (0..<3).map { _ in LightProc.reactive(on: sim.executor) { ReactiveAdapter(NumberTaker()) } }
        let numbers = Distributor<Int>("numbers", in: sim.system)
        let left = Locked(2)
        let strategy = DistributionStrategy.custom { members, _ in
            let closes = left.withLock { left in
                defer { left -= 1 }
                return left > 0
            }
            if closes { members[0].proc.close() }
            return 0
        }
        for proc in procs { try numbers.subscribe(ProcRef(proc), strategy) }
        #expect(try numbers.tellOne(1).id == procs[2].id)
        #expect(procs.map(\.isClosed) == [true, true, false] && left.withLock { $0 } == -1)
        left.withLock { $0 = 9 }
        let error = thrown(DistributorError<Int>.self) { try numbers.tellOne(2) }
        #expect(error?.code == .noDistributor && error?.message == 2)
    }

    @Test func aTreeOfManyMembersEndsAndLeavesNothing() throws {
        for strategy in DispatchStrategyTests.ways {
            let tree = try sim.system.supervise { takers("t", 100, strategy).registered(as: "r").dispatcher("d") }
            for n in 0..<300 { try orders.tellOne(.number(n), key: DistributionKey(n)) }
            sim.drain()
            #expect(sim.trace.lines.count == 300)
            sim.trace.clear()
            #expect(sim.stops(tree))
            #expect(sim.system.distributors.count == 0 && sim.system.dispatchers.count == 0)
            #expect(sim.system.departures.count == 0 && sim.system.registry.names == [])
        }
    }
}
