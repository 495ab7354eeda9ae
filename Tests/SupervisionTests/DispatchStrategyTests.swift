// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import LightProc
import Testing

@testable import Supervision

/// Members by their places in the order in which they joined.
extension Chooser {
    fileprivate mutating func remove(at place: Int) { remove(members[place]) }

    /// The place of who is chosen.
    fileprivate mutating func place(_ key: DistributionKey?, load: (Int) -> ProcLoad) -> Int? {
        let places = Dictionary(uniqueKeysWithValues: zip(members, members.indices))
        return choose(key) { load(places[$0]!) }.map { places[$0]! }
    }
}

/// The strategies as pure values: tables, and random sequences beside plain models.
@Suite struct DispatchStrategyTests {
    // MARK: Round robin

    @Test func roundRobinGoesRound() {
        var turn = RoundRobin()
        #expect((0..<7).map { _ in turn.choose(of: 3) } == [0, 1, 2, 0, 1, 2, 0])
    }

    /// After two turns of four the member at a place leaves: the next turn is that of who would have been next.
    @Test(arguments: [(0, 1), (1, 1), (2, 2), (3, 2)])
    func nobodyLosesATurnWhenAMemberLeaves(place: Int, next: Int) {
        var turn = RoundRobin()
        _ = (turn.choose(of: 4), turn.choose(of: 4))
        turn.removed(at: place)
        #expect(turn.choose(of: 3) == next)
    }

    @Test func roundRobinNeverLeavesTheMembers() {
        for seed in RandomTest.seeds("roundRobinNeverLeavesTheMembers", count: 20) {
            var random = SplitMix64(seed: seed)
            var members = Array(0..<5)
            var (turn, nextNew) = (RoundRobin(), 5)
            var served: [Int: Int] = [:]
            for _ in 0..<500 {
                switch random.next(upperBound: UInt64(10)) {
                case 0:
                    members.append(nextNew)
                    nextNew += 1
                case 1 where members.count > 1:
                    let place = Int(random.next(upperBound: UInt64(members.count)))
                    members.remove(at: place)
                    turn.removed(at: place)
                default: served[members[turn.choose(of: members.count)], default: 0] += 1
                }
            }
            // Without changes in between all get the same from here on.
            var counts: [Int: Int] = [:]
            for _ in 0..<members.count * 3 { counts[turn.choose(of: members.count), default: 0] += 1 }
            #expect(counts == Dictionary(uniqueKeysWithValues: members.indices.map { ($0, 3) }), "seed \(seed)")
        }
    }

    // MARK: Least loaded

    /// Members 0, 1, ...
    private struct Loads {
        private var loads = LeastLoaded()
        private var order = PlaceList()

        mutating func add() {
            loads.add(order.count)
            order.append(order.count)
        }
        mutating func choose(_ random: inout SplitMix64, load: (Int) -> ProcLoad) -> Int {
            loads.choose(&random, of: &order, load: load)
        }
        mutating func estimate(_ number: Int, _ seen: ProcLoad) -> UInt64 { loads.estimate(number, seen) }
    }

    @Test(arguments: [
        (ProcLoad.idle, 5, UInt64(0)), (.busy, 5, 1), (.waiting, 0, 2), (.waiting, 1, 2), (.waiting, 5, 6),
        (.behind, 5, 257),
        (.behind, 300, 301), (.down, 0, .max),
    ])
    func loadIsEstimatedFromWhatWasSentAndSeen(seen: ProcLoad, sent: Int, load: UInt64) {
        var loads = Loads()
        var random = SplitMix64(seed: 1)
        loads.add()
        for _ in 0..<sent { _ = loads.choose(&random) { _ in .waiting } }
        #expect(loads.estimate(0, seen) == load)
        // Seen empty it is counted from the beginning.
        #expect(loads.estimate(0, .waiting) == (seen <= .busy ? 2 : 1 + UInt64(max(sent, 1))))
    }

    @Test func ofTwoMembersTheLessLoadedIsChosen() {
        for seed in UInt64(0)..<50 {
            for (mine, others) in [
                (ProcLoad.idle, ProcLoad.busy), (.busy, .waiting), (.waiting, .behind), (.behind, .down),
            ] {
                var loads = Loads()
                var random = SplitMix64(seed: seed)
                loads.add()
                loads.add()
                #expect(loads.choose(&random) { $0 == 0 ? mine : others } == 0)
                #expect(loads.choose(&random) { $0 == 1 ? mine : others } == 1)
            }
        }
    }

    /// Balls into bins: with two choices the fullest of 64 bins stays close to the mean, with one it does not.
    @Test func twoChoicesKeepBacklogsShort() {
        for seed in RandomTest.seeds("twoChoicesKeepBacklogsShort", count: 10) {
            var loads = Loads()
            var random = SplitMix64(seed: seed)
            for _ in 0..<64 { loads.add() }
            var backlog = Array(repeating: 0, count: 64)
            for _ in 0..<64 * 32 { backlog[loads.choose(&random) { backlog[$0] == 0 ? .idle : .waiting }] += 1 }
            #expect(backlog.max()! <= 32 + 6, "seed \(seed)")
            #expect(backlog.reduce(0, +) == 64 * 32)
        }
    }

    // MARK: Hash ring

    @Test func onlyKeysOfAMemberThatComesOrGoesMove() {
        for seed in RandomTest.seeds("onlyKeysOfAMemberThatComesOrGoesMove", count: 5) {
            var random = SplitMix64(seed: seed)
            let keys = (0..<2_000).map { _ in DistributionKey(random.next()) }
            var ring = HashRing()
            var slots: Set<UInt32> = []
            var owners: [UInt32?] = keys.map { _ in nil }
            for _ in 0..<30 {
                let slot = UInt32(random.next(upperBound: UInt64(12)))
                let isComing = slots.insert(slot).inserted
                if isComing { ring.add(slot) } else { ring.remove(slot) }
                if !isComing { slots.remove(slot) }
                let now = keys.map { ring.slot(of: $0) }
                for (before, after) in zip(owners, now) where before != after {
                    #expect(isComing ? after == slot : before == slot, "seed \(seed)")
                }
                #expect(now.allSatisfy { $0.map(slots.contains) ?? slots.isEmpty }, "seed \(seed)")
                owners = now
            }
        }
    }

    @Test func keysSpreadOverTheRing() {
        var ring = HashRing()
        for slot in UInt32(0)..<10 { ring.add(slot) }
        var counts = Array(repeating: 0, count: 10)
        for number in 0..<10_000 { counts[Int(ring.slot(of: DistributionKey("customer \(number)"))!)] += 1 }
        #expect(counts.min()! > 600 && counts.max()! < 1_500, "\(counts)")
    }

    @Test func smallNumbersSpreadOverTheRing() {
        var ring = HashRing()
        for slot in UInt32(0)..<10 { ring.add(slot) }
        #expect(Set((0..<50).map { ring.slot(of: DistributionKey($0)) }).count == 10)
    }

    @Test func keysAreTheSameInEveryRun() {
        #expect(DistributionKey("orders").hash == 0x4825_2e7f_585b_ad26)
        #expect(DistributionKey(7).hash == 0x63cb_e1e4_5932_0dd7)
        #expect(DistributionKey("a") == "a" && DistributionKey(7) == 7 && DistributionKey("a") != "b")
        #expect(DistributionKey(hashing: [1, 2]) == DistributionKey(hashing: [1, 2]))
    }

    @Test func anEmptyRingHasNoSlot() {
        var ring = HashRing()
        #expect(ring.slot(of: 1) == nil)
        ring.add(3)
        ring.remove(3)
        #expect(ring.slot(of: 1) == nil)
    }

    // MARK: Sticky

    @Test func theKeyThatWasNotUsedForLongestIsForgotten() {
        var table = StickyTable(limit: 2)
        table.stick(1, to: 10)
        table.stick(2, to: 20)
        #expect(table.member(of: 1) == 10)
        table.stick(3, to: 30)
        #expect(table.member(of: 2) == nil && table.member(of: 1) == 10 && table.member(of: 3) == 30)
        #expect(table.count == 2)
    }

    @Test func theStickyTableIsALeastRecentlyUsedOne() {
        for seed in RandomTest.seeds("theStickyTableIsALeastRecentlyUsedOne", count: 20) {
            var random = SplitMix64(seed: seed)
            var table = StickyTable(limit: 5)
            /// The last one was used last.
            var model: [(key: Int, member: UInt64)] = []
            for _ in 0..<500 {
                let key = Int(random.next(upperBound: UInt64(9)))
                let known = model.firstIndex { $0.key == key }
                if random.next(upperBound: UInt64(2)) == 0 {
                    #expect(table.member(of: DistributionKey(key)) == known.map { model[$0].member }, "seed \(seed)")
                    if let known { model.append(model.remove(at: known)) }
                } else {
                    let member = random.next()
                    table.stick(DistributionKey(key), to: member)
                    if let known { model.remove(at: known) } else if model.count == 5 { model.removeFirst() }
                    model.append((key, member))
                }
            }
            #expect(table.count == model.count)
        }
    }

    // MARK: All of it

    static let ways: [DistributionStrategy] = [
        .roundRobin, .random, .leastLoaded, .consistentHash, .sticky(limit: 4), .broadcast, .firstAnswer,
    ]

    @Test(arguments: ways.indices)
    func choicesAreMembersWhateverComesAndGoes(way: Int) {
        for seed in RandomTest.seeds("choicesAreMembersWhateverComesAndGoes", count: 10) {
            var random = SplitMix64(seed: seed)
            var chooser = Chooser(Self.ways[way], seed: seed)
            var members: [Int] = []
            var nextNew = 0
            /// Of the keyed ways: whom a key got last, with all the members of that moment.
            var last: [Int: (member: Int, among: [Int])] = [:]
            for _ in 0..<400 {
                switch random.next(upperBound: UInt64(8)) {
                case 0, 1:
                    chooser.add()
                    members.append(nextNew)
                    nextNew += 1
                case 2 where !members.isEmpty:
                    let place = Int(random.next(upperBound: UInt64(members.count)))
                    chooser.remove(at: place)
                    members.remove(at: place)
                default:
                    let key = Int(random.next(upperBound: UInt64(3)))
                    let place = chooser.place(DistributionKey(key)) { _ in .waiting }
                    #expect((place == nil) == members.isEmpty, "seed \(seed)")
                    guard let place else { continue }
                    #expect(members.indices.contains(place), "seed \(seed)")
                    let member = members[place]
                    if way == 3, let before = last[key], before.among == members {
                        #expect(before.member == member, "seed \(seed)")
                    }
                    if way == 4, let before = last[key], members.contains(before.member) {
                        #expect(before.member == member, "seed \(seed)")
                    }
                    last[key] = (member, members)
                }
                #expect(chooser.count == members.count)
            }
        }
    }

    @Test(arguments: [3, 4])
    func keyedStrategiesNeedAKey(way: Int) {
        var chooser = Chooser(Self.ways[way], seed: 1)
        chooser.add()
        #expect(chooser.place(nil) { _ in .idle } == nil)
        #expect(chooser.place(1) { _ in .idle } == 0)
    }

    @Test(arguments: [(0, 1), (1, 1), (2, 2), (3, 2)])
    func nobodyLosesATurnWhenAMemberOfAChooserLeaves(place: Int, next: Int) {
        var chooser = Chooser(.roundRobin, seed: 1)
        for _ in 0..<4 { chooser.add() }
        for turn in 0..<2 { #expect(chooser.place(nil) { _ in .idle } == turn) }
        chooser.remove(at: place)
        #expect(chooser.place(nil) { _ in .idle } == next)
    }

    /// A key that stuck to one that has left is a new one: it does not go to whoever came in its place, but to the less loaded.
    @Test func aKeyDoesNotStickToWhoComesAfterItsMember() {
        for seed in UInt64(0)..<20 {
            var chooser = Chooser(.sticky(), seed: seed)
            chooser.add()
            chooser.add()
            // The first one is the less loaded.
            #expect(chooser.place("k") { $0 == 0 ? .idle : .behind } == 0)
            chooser.remove(at: 0)
            chooser.add()
            #expect(chooser.place("k") { $0 == 0 ? .idle : .behind } == 0, "seed \(seed)")
            #expect(chooser.place("k") { $0 == 0 ? .behind : .idle } == 0, "seed \(seed): it sticks again")
        }
    }

    /// Counted: however many members there are, a choice looks at two, or at none.
    @Test(arguments: ways.indices, [2, 10, 10_000])
    func aChoiceLooksAtTwoMembersAtMost(way: Int, count: Int) {
        var chooser = Chooser(Self.ways[way], seed: 1)
        for _ in 0..<count { chooser.add() }
        for key in 0..<100 {
            var looks = 0
            let place = chooser.choose(DistributionKey(key)) { _ in
                looks += 1
                return .waiting
            }
            #expect(place != nil && looks == (way == 2 || way == 4 ? 2 : 0))
        }
    }

    /// With a cost that grows with the number of members this takes minutes.
    @Test(.timeLimit(.minutes(15)), arguments: ways.indices)
    func leavingDoesNotDependOnTheOthers(way: Int) {
        let count = way == 3 ? 1_000 : 20_000
        var chooser = Chooser(Self.ways[way], seed: 1)
        for _ in 0..<count { chooser.add() }
        // From the front: all others stand behind it. Somebody is chosen each time, but on the ring, which is put in order then.
        for number in 0..<count - 1 {
            chooser.remove(number)
            guard way != 3 || number % 100 == 0 else { continue }
            let choice = chooser.choose(DistributionKey(number)) { _ in .waiting }
            if !(choice.map { number + 1..<count ~= $0 } ?? false) { Issue.record("\(choice as Any) is no member") }
        }
        #expect(chooser.members == [count - 1])
    }

    /// Ten members; the one at a place leaves and another comes: that one inherits its keys, nobody else's move.
    @Test func whoComesAfterOneThatLeftInheritsItsKeys() {
        var chooser = Chooser(.consistentHash, seed: 1)
        for _ in 0..<10 { chooser.add() }
        let keys = (0..<500).map { DistributionKey($0) }
        let before = keys.map { chooser.place($0) { _ in .idle }! }
        chooser.remove(at: 4)
        chooser.add()
        let after = keys.map { chooser.place($0) { _ in .idle }! }
        for (old, new) in zip(before, after) { #expect(new == (old == 4 ? 9 : old > 4 ? old - 1 : old)) }
    }

    @Test func strategiesAreTheSameOrNot() {
        for (i, mine) in Self.ways.enumerated() {
            for (j, others) in Self.ways.enumerated() { #expect(mine.isSame(as: others) == (i == j)) }
        }
        let keyed = DistributionStrategy.consistentHash { (n: Int) in DistributionKey(n) }
        #expect(keyed.isSame(as: keyed) && !keyed.isSame(as: .consistentHash))
        #expect(!DistributionStrategy.sticky(limit: 3).isSame(as: .sticky(limit: 4)))
        #expect(!DistributionStrategy.firstAnswer(of: 2).isSame(as: .firstAnswer))
        let custom = DistributionStrategy.custom { _, _ in 0 }
        #expect(custom.isSame(as: custom) && !custom.isSame(as: .custom { _, _ in 0 }))
    }
}
