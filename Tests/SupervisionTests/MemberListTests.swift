// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import Testing

@testable import Supervision

/// The members of a group as a plain array would have them, and numbers as a plain set would give them.
@Suite struct MemberListTests {
    private final class Member {}

    @Test(arguments: RandomTest.seeds("members", count: 4)) func isAnArrayInTheOrderInWhichTheyCame(seed: UInt64) throws
    {
        var random = SplitMix64(seed: seed)
        for size in [3, 40, 300] {
            var list = MemberList<Member>()
            var numbers = NumberPool()
            var model: [(member: Member, number: Int)] = []
            for step in 0..<4_000 {
                // Grows and shrinks in turn, so that it is full, has gaps, and is empty.
                let grows = (step / (2 * size)) % 2 == 0
                if model.isEmpty || Int.random(in: 0..<4, using: &random) < (grows ? 3 : 1) {
                    let number = numbers.take()
                    let lowest = Set(0...model.count).subtracting(model.map(\.number)).min()
                    #expect(number == lowest)
                    model.append((Member(), number))
                    list.append(model[model.count - 1].member, number: number)
                } else {
                    let (member, number) = model.remove(at: Int.random(in: model.indices, using: &random))
                    let removals = [list.remove(member, number: number), list.remove(member, number: number)]
                    try #require(removals == [true, false])
                    #expect(!list.contains(member, number: number))
                    numbers.giveBack(number)
                }
                try #require(list.count == model.count)
                #expect(numbers.count == model.count)
                #expect(numbers.only == (model.count == 1 ? model[0].number : nil))
                if let place = model.indices.randomElement(using: &random) {
                    let found = list.member(at: place)
                    try #require(found === model[place].member)
                    #expect(list.contains(model[place].member, number: model[place].number))
                    #expect(!list.contains(Member(), number: model[place].number))
                }
                if step % 16 == 0 {
                    let expected = model.map { ObjectIdentifier($0.member) }
                    let places = model.indices.map { ObjectIdentifier(list.member(at: $0)) }
                    let reversed = Array(list.reversed)
                    try #require(places == expected)
                    try #require(list.all.map { ObjectIdentifier($0) } == expected)
                    try #require(reversed.map { ObjectIdentifier($0.member) } == expected.reversed())
                    try #require(reversed.map(\.number) == model.reversed().map(\.number))
                }
            }
        }
    }

    @Test(arguments: RandomTest.seeds("places", count: 4)) func aPlaceIsFoundBothWays(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        for size in [3, 40, 300] {
            var list = PlaceList()
            var model: [Int] = []
            for step in 0..<4_000 {
                let grows = (step / (2 * size)) % 2 == 0
                if model.isEmpty || Int.random(in: 0..<4, using: &random) < (grows ? 3 : 1) {
                    // Any that is not there.
                    var number = Int.random(in: 0...2 * size, using: &random)
                    while model.contains(number) { number += 1 }
                    list.append(number)
                    model.append(number)
                } else {
                    let number = model.remove(at: Int.random(in: model.indices, using: &random))
                    list.remove(number)
                    #expect(!list.contains(number))
                }
                try #require(list.count == model.count && list.isEmpty == model.isEmpty)
                guard let place = model.indices.randomElement(using: &random) else { continue }
                let (found, number) = (list.place(of: model[place]), list.number(at: place))
                try #require(found == place && number == model[place] && list.contains(number))
                if step % 16 == 0 { try #require(list.all == model && Array(list.reversed) == model.reversed()) }
            }
        }
    }

    /// One that leaves moves the others at most once on average, wherever it stands. Bounded by the work, not by the time: with a
    /// cost that grows with the number of members this takes minutes.
    @Test(.timeLimit(.minutes(15))) func leavingDoesNotDependOnTheOthers() {
        let count = 100_000
        var list = MemberList<Member>()
        let members = (0..<count).map { _ in Member() }
        for (number, member) in members.enumerated() { list.append(member, number: number) }
        // From the front: all others stand behind it. Somebody asks for one in the middle each time.
        for (number, member) in members.dropLast().enumerated() {
            if !list.remove(member, number: number) { Issue.record("\(number) is no member") }
            let place = list.count / 2
            let found = list.member(at: place)
            if found !== members[number + 1 + place] { Issue.record("another one stands at \(place)") }
        }
        #expect(list.all.count == 1)
    }
}
