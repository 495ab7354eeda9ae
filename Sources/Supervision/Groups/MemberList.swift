// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// Members in the order in which they came, each found by its number: a pure value. What it costs is what a ``PlaceList`` does.
struct MemberList<Member: AnyObject> {
    /// By number; nil where one has left.
    private var members: [Member?] = []
    private var order = PlaceList()

    var count: Int { order.count }
    var isEmpty: Bool { order.isEmpty }

    /// All, in order. O(n).
    var all: [Member] { order.all.map { member(of: $0) } }

    /// The last ones, the very last first, as far as they are wanted.
    var reversed: some Sequence<(member: Member, number: Int)> {
        order.reversed.lazy.map { (member: member(of: $0), number: $0) }
    }

    /// Whether a member has this number, and is this one.
    func contains(_ member: Member, number: Int) -> Bool { number < members.count && members[number] === member }

    /// - Precondition: No other has this number.
    mutating func append(_ member: Member, number: Int) {
        order.append(number)
        while members.count <= number { members.append(nil) }
        members[number] = member
    }

    /// False if it is no member.
    mutating func remove(_ member: Member, number: Int) -> Bool {
        guard contains(member, number: number) else { return false }
        members[number] = nil
        order.remove(number)
        return true
    }

    /// The member at a place in the order, from 0.
    ///
    /// - Precondition: There are more members than that.
    mutating func member(at place: Int) -> Member { member(of: order.number(at: place)) }

    private func member(of number: Int) -> Member {
        guard let member = members[number] else { preconditionFailure("impossible: who is in the order is a member") }
        return member
    }
}

extension MemberList: Sendable where Member: Sendable {}

/// Numbers from 0 on, each given to one at a time, the lowest first: a pure value. Costs the logarithm of those given back.
struct NumberPool: Sendable {
    /// Given back, and lower than `next`; a heap, the lowest in front.
    private var free: [Int] = []
    /// From here on none was given.
    private var next = 0
    private var sum = 0
    private(set) var count = 0

    var isEmpty: Bool { count == 0 }
    /// The number that is in use, if it is the only one.
    var only: Int? { count == 1 ? sum : nil }

    mutating func take() -> Int {
        let number = takeFree() ?? next
        if number == next { next += 1 }
        count += 1
        sum += number
        return number
    }

    /// - Precondition: The number is in use.
    mutating func giveBack(_ number: Int) {
        count -= 1
        sum -= number
        if isEmpty {
            self = NumberPool()
            return
        }
        free.append(number)
        var child = free.count - 1
        while child > 0, free[child] < free[(child - 1) / 2] {
            free.swapAt(child, (child - 1) / 2)
            child = (child - 1) / 2
        }
    }

    private mutating func takeFree() -> Int? {
        guard let lowest = free.first else { return nil }
        let last = free.removeLast()
        if free.isEmpty { return lowest }
        free[0] = last
        var parent = 0
        while true {
            let first = 2 * parent + 1
            guard first < free.count else { return lowest }
            let lower = first + 1 < free.count && free[first + 1] < free[first] ? first + 1 : first
            if free[parent] <= free[lower] { return lowest }
            free.swapAt(parent, lower)
            parent = lower
        }
    }
}
