// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import LightProc
import Testing

@testable import Supervision

/// By whatever a group is found, its members are those that the group has: over restarts, resizing, ends, and groups that come and go.
@Suite struct DispatchMembershipTests {
    /// A member that notes what it handled, if it is reactive; `children` makes async ones, too.
    struct Member: Reactive {
        enum Message: Sendable {
            case number(Int)
            case fail
            case finish
        }
        let handled: Trace
        mutating func receive(_ message: consuming Message, in context: borrowing ReactiveContext<Self>) throws {
            switch message {
            case .number(let number): handled("\(number)")
            case .fail:
                handled("fail")
                throw Failure()
            case .finish:
                handled("finish")
                context.stop()
            }
        }

        static func children(
            _ name: String,
            _ handled: Trace,
            isReactive: Bool,
            isManaged: Bool
        ) -> Children {
            let bare =
                isReactive
                ? Children(name, Member(handled: handled), redundancy: 3, restart: .transient)
                : Children(name, redundancy: 3, restart: .transient) { context in
                    for await message in context.messages(of: Message.self) {
                        switch message {
                        case .number(let number):
                            if number % 5 == 0 { try await context.sleep(for: .milliseconds(number % 7)) }
                            handled("\(number)")
                        case .fail:
                            handled("fail")
                            throw Failure()
                        case .finish:
                            handled("finish")
                            return
                        }
                    }
                }
            return (isManaged ? bare.mailbox(.unbounded) : bare).distributor("d").dispatcher("x").registered(as: name)
        }
    }

    /// All built-in strategies, and one of the user's.
    static let ways =
        DispatchStrategyTests.ways + [.custom { members, key in Int((key?.hash ?? 0) % UInt64(members.count)) }]

    @Test(arguments: ways.indices, [true, false])
    func membersAreThoseOfTheGroupsWhateverHappens(way: Int, isReactive: Bool) throws {
        for isManaged in [true, false] {
            for seed in RandomTest.seeds("membersAreThoseOfTheGroupsWhateverHappens", count: 4) {
                try program(way, isReactive: isReactive, isManaged: isManaged, seed: seed)
            }
        }
    }

    /// A random program: sends, failures, ends, kills, sizes, groups that come and go.
    private func program(_ way: Int, isReactive: Bool, isManaged: Bool, seed: UInt64) throws {
        let sim = Simulation(seed: seed)
        var random = SplitMix64(seed: seed)
        let handled = sim.trace
        func spec(_ name: String) -> Children {
            Member.children(name, handled, isReactive: isReactive, isManaged: isManaged)
        }
        let tree = try sim.system.supervise(intensity: .unlimited) { spec("a").distributor("d", Self.ways[way]) }
        let work = Distributor<Member.Message>("d", in: sim.system)
        var names: Set<String> = ["a"]
        var sent = 0
        let context = "SEED=\(seed) way \(way) managed \(isManaged)"

        func groups() throws -> [Group<Member.Message>] { try names.sorted().map { try tree.group($0) } }

        /// At rest: who is a member of what.
        func check() throws {
            sim.advance(by: .seconds(5))
            let present = try groups().flatMap(\.members)
            let ids = Set(present.map(\.id))
            #expect(Set(work.members.map(\.id)) == ids && work.members.count == ids.count, "\(context)")
            #expect(sim.system.members(ofDispatcher: "x").map { Set($0.map(\.id)) } == ids, "\(context)")
            let registered = Set(present.flatMap { sim.system.registry.names(of: $0) })
            #expect(Set(sim.system.registry.names) == registered && registered.count == ids.count, "\(context)")
            guard !ids.isEmpty else { return }
            // Choices without a send: a chooser is asked as a send would.
            func choice(_ key: Int) -> ProcID? {
                switch try? work.cell.pick(Member.Message.self, DistributionKey(key)) {
                case .member(let proc)?: proc.id
                case .choice(let policy, let members)?:
                    members[policy.choose(from: members, key: DistributionKey(key))].id
                case .key?, nil: nil
                }
            }
            let chosen = (0..<64 * ids.count).map(choice)
            #expect(chosen.allSatisfy { $0.map(ids.contains) ?? false }, "\(context)")
            switch Self.ways[way].way {
            case .roundRobin, .broadcast, .firstAnswer:
                for id in ids { #expect(chosen.count { $0 == id } == 64, "\(context)") }
            case .random, .leastLoaded: #expect(Set(chosen.compactMap(\.self)) == ids, "\(context)")
            case .hashed, .sticky, .custom:
                // A restart moves no key; of sticky ones so many are remembered.
                let before = (0..<4).map(choice)
                present[0].proc.kill()
                sim.advance(by: .seconds(5))
                #expect(present[0].proc.restarts > 0 && (0..<4).map(choice) == before, "\(context)")
            }
        }

        for n in 0..<250 {
            switch Int.random(in: 0..<24, using: &random) {
            case 0:
                let name = names.sorted().randomElement(using: &random) ?? "a"
                try tree.resize(group: name, to: Int.random(in: 1...6, using: &random))
            case 1: try groups().flatMap(\.members).randomElement(using: &random)?.proc.kill()
            case 2: if (try? work.tellOne(.fail, key: DistributionKey(n % 11))) != nil { sent += 1 }
            case 3 where work.members.count > 2:
                if (try? work.tellOne(.finish, key: DistributionKey(n % 11))) != nil { sent += 1 }
            case 4:
                let name = "b\(n % 3)"
                if names.insert(name).inserted {
                    try tree.children { spec(name) }
                } else {
                    #expect(sim.completes { try await tree.terminate(group: name) }, "\(context)")
                    names.remove(name)
                }
            case 5: try check()
            case 6...9: for _ in 0..<Int.random(in: 1...20, using: &random) { sim.executor.step() }
            case 10: sim.advance(by: .milliseconds(Int.random(in: 1...20, using: &random)))
            default:
                do {
                    try work.tellOne(.number(n), key: DistributionKey(n % 11))
                    sent += 1
                } catch {
                    #expect(error.code == .emptyRecipients || error.code == .notTaken, "\(context): \(error)")
                }
            }
        }
        try check()
        // Each message was handled, or is told to be a dead letter, or was in hand when its process was killed.
        let numbers = handled.lines.filter { Int($0) != nil }
        #expect(Set(numbers).count == numbers.count, "\(context): handled twice")
        #expect(sim.stops(tree))
        #expect(work.members.isEmpty && sim.system.distributors.count <= 1 && sim.system.departures.count == 0)
        #expect(sim.system.registry.names == [] && sim.system.members(ofDispatcher: "x") == nil, "\(context)")
        let lost = sent - handled.lines.count - sim.system.deadLetters
        #expect(isReactive ? lost == 0 : lost >= 0, "\(context): \(lost) of \(sent) lost")
    }

    @Test func aMemberThatIsTakenOutGetsNothingNewAndOneThatIsTakenBackDoes() throws {
        let sim = Simulation()
        let trace = sim.trace
        let tree = try sim.system.supervise {
            Children("t", redundancy: 3) { context in
                for await n in context.messages(of: Int.self) {
                    try await context.sleep(for: .seconds(1))
                    trace("\(context.name) \(n)")
                }
            }.mailbox(.unbounded).distributor("d").dispatcher("x").registered(as: "t")
        }
        let work = Distributor<Int>("d", in: sim.system)
        func names() -> [String?] { work.members.map(\.name) }
        sim.drain()
        for n in 0..<6 { try work.tellOne(n) }
        try tree.resize(group: "t", to: 1)
        sim.drain()
        // Two have messages left, and their names.
        #expect(names() == ["t-0"] && sim.system.members(ofDispatcher: "x")?.map(\.name) == ["t-0"])
        #expect(sim.system.registry.names == ["t-0", "t-1", "t-2"])
        #expect(try work.tellOne(6).proc.name == "t-0" && work.tellOne(7).proc.name == "t-0")
        try tree.resize(group: "t", to: 2)
        sim.drain()
        #expect(names() == ["t-0", "t-1"] && sim.system.members(ofDispatcher: "x")?.map(\.name) == ["t-0", "t-1"])
        sim.advance(by: .seconds(10))
        #expect(sim.system.registry.names == ["t-0", "t-1"] && names() == ["t-0", "t-1"])
        #expect(trace.lines.count == 8 && sim.system.deadLetters == 0)
    }

    @Test func whoIsAddedToAGroupOfOneHasItsNumberInItsName() throws {
        let sim = Simulation()
        let tree = try sim.system.supervise {
            Children("t", NumberTaker()).mailbox(.unbounded).registered(as: "prices").distributor("d")
        }
        let work = Distributor<Int>("d", in: sim.system)
        let holder = sim.system.spawn(NumberTaker())
        try sim.system.registry.register("prices-2", holder)
        try tree.resize(group: "t", to: 3)
        sim.drain()
        #expect(sim.system.registry.names == ["prices", "prices-1", "prices-2"])
        #expect(try sim.system.registry.whereis("prices", of: Int.self)?.proc.name == "t-0")
        #expect(try sim.system.registry.whereis("prices-1", of: Int.self)?.proc.name == "t-1")
        // One whose name is taken has none, and works like the others.
        #expect(try sim.system.registry.whereis("prices-2", of: Int.self)?.id == holder.id)
        #expect(work.members.map(\.name) == ["t-0", "t-1", "t-2"])
    }

    /// What a group was found by goes with it, while its supervisor goes on.
    @Test func whatATerminatedGroupWasFoundByIsFree() throws {
        let sim = Simulation()
        let tree = try sim.system.supervise { Children("other", NumberTaker()) }
        // Somebody goes on to hold it.
        let work = Distributor<Int>("d", in: sim.system)
        for round in 0..<3 {
            // Each time with another strategy, handler and type.
            try tree.children {
                if round == 1 {
                    Children("t", Taker("t", sim.trace)).distributor("d", .random)
                        .dispatcher(.named("x", handler: BroadcastHandler()))
                } else {
                    Children("t", NumberTaker()).distributor("d", .leastLoaded)
                        .dispatcher(.named("x", handler: BroadcastHandler()))
                }
            }
            sim.drain()
            #expect(sim.system.distributors.count == 1 && sim.system.dispatchers.count == 1)
            #expect(sim.completes { try await tree.terminate(group: "t") })
            #expect(sim.system.members(ofDispatcher: "x") == nil && sim.system.dispatchers.count == 0)
            let error = thrown(DistributorError<Int>.self) { try work.tellOne(1) }
            #expect(error?.code == .noDistributor)
        }
    }

    /// A key has one member: nobody else is tried when its mailbox is full, and it not more than once.
    @Test(arguments: [DistributionStrategy.consistentHash, .sticky()])
    func whoAKeyBelongsToIsTriedOnce(strategy: DistributionStrategy) throws {
        let sim = Simulation()
        _ = try sim.system.supervise {
            Children("t", Taker("t", sim.trace), redundancy: 50).mailbox(.bounded(1, .fail)).distributor("d", strategy)
        }
        let work = Distributor<Taker.Message>("d", in: sim.system)
        sim.drain()
        let first = try work.tellOne(.number(1), key: "k")
        let error = thrown(DistributorError<Taker.Message>.self) { try work.tellOne(.number(2), key: "k") }
        #expect(error?.code == .notTaken && error?.message == .number(2))
        var tries = 0
        _ = thrown(DistributorError<Taker.Message>.self) {
            let _: PendingReply<Int> = try work.request(key: "k") { reply in
                tries += 1
                return .question(reply)
            }
        }
        #expect(tries == 1)
        sim.drain()
        #expect(try sim.trace.lines == ["t 1"] && work.tellOne(.number(3), key: "k").id == first.id)
    }
}
