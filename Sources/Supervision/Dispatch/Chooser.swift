// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import LightProc

/// Which member gets the next message: the built-in strategies as one pure value. Randomness is a seed, load an argument.
///
/// A member is known by the smallest number that was free; who comes after one has left inherits its keys. What a choice costs does not
/// depend on how many there are, but for the logarithm of their number with a hash ring, and where places are counted after some have left.
/// So it is with who comes and goes, on average.
struct Chooser: Sendable {
    private enum Way: Sendable {
        case roundRobin, random, leastLoaded, hashed, sticky
    }
    private let way: Way
    private var roundRobin = RoundRobin()
    private var loads = LeastLoaded()
    /// Empty unless the way is `hashed`.
    private var ring = HashRing()
    /// Empty unless the way is `sticky`.
    private var table = StickyTable(limit: 1)
    private var random: SplitMix64
    /// Members in the order in which they joined.
    private var order = PlaceList()
    private var numbers = NumberPool()
    /// By number: how many members had it before, so that a key does not stick to another one.
    private var generations: [UInt32] = []

    init(_ strategy: DistributionStrategy, seed: UInt64) {
        random = SplitMix64(seed: seed)
        switch strategy.way {
        case .roundRobin, .broadcast, .firstAnswer, .custom: way = .roundRobin
        case .random: way = .random
        case .leastLoaded: way = .leastLoaded
        case .hashed: way = .hashed
        case .sticky(_, let limit):
            way = .sticky
            table = StickyTable(limit: limit)
        }
    }

    var count: Int { order.count }

    /// The members' numbers, in the order in which they joined. O(n).
    var members: [Int] { order.all }

    /// Whether a key decides.
    var isKeyed: Bool { way == .hashed || way == .sticky }

    /// A member joined, behind all others.
    ///
    /// - Returns: Its number.
    @discardableResult
    mutating func add() -> Int {
        let number = numbers.take()
        order.append(number)
        while generations.count <= number { generations.append(0) }
        loads.add(number)
        if way == .hashed { ring.add(UInt32(number)) }
        return number
    }

    /// A member left; those behind it move up.
    mutating func remove(_ number: Int) {
        roundRobin.removed(at: order.place(of: number))
        order.remove(number)
        numbers.giveBack(number)
        generations[number] &+= 1
        if way == .hashed { ring.remove(UInt32(number)) }
    }

    /// The place whose turn it is, round robin.
    ///
    /// - Precondition: There is a member.
    mutating func nextTurn() -> Int { roundRobin.choose(of: count) }

    /// - Parameters:
    ///   - key: Of the message; a keyed strategy needs one.
    ///   - load: Of the member of a number.
    /// - Returns: The number of a member; nil when there is none, or the strategy needs a key and there is none.
    mutating func choose(_ key: DistributionKey?, load: (Int) -> ProcLoad) -> Int? {
        if count == 0 { return nil }
        switch way {
        case .roundRobin: return order.number(at: roundRobin.choose(of: count))
        case .random: return order.number(at: Int(random.next(upperBound: UInt64(count))))
        case .leastLoaded: return loads.choose(&random, of: &order, load: load)
        case .hashed: return key.flatMap { ring.slot(of: $0) }.map { Int($0) }
        case .sticky:
            guard let key else { return nil }
            if let member = table.member(of: key) {
                let number = Int(member >> 32)
                if order.contains(number), generations[number] == UInt32(truncatingIfNeeded: member) { return number }
            }
            let number = loads.choose(&random, of: &order, load: load)
            table.stick(key, to: UInt64(number) << 32 | UInt64(generations[number]))
            return number
        }
    }
}
