// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Runtime

/// Guards that a send through a distributor costs the same whatever its number of members: compare each scenario with its
/// floor, which sends to the same members without one. The members themselves cost more the more they are: each is woken
/// for fewer messages, and lies in the cache less often.
///
/// In the scenarios `send_*` the sender sends all in one turn, so that each member is woken once: counted in instructions, and in
/// allocations, an operation costs the same with 10 members and with 1,000, whatever chooses among them.
extension Scenario {
    static let distributors: [Scenario] = inTurns + atOnce

    private static let inTurns: [Scenario] = [10, 1_000].flatMap { members in
        [
            Scenario(
                name: "members_tell_\(members)",
                unit: "message, by reference",
                operations: 1_000_000
            ) { system, count in
                let refs = (0..<members).map { _ in system.spawn(Summing()) }
                try await send(count, in: system, to: refs) { refs[$0 % members].tell(.add(1)) }
            },
            distributor("distributor_tell_\(members)", members, .roundRobin),
            distributor("distributor_least_loaded_\(members)", members, .leastLoaded),
            distributor("distributor_hash_\(members)", members, .consistentHash),
        ]
    }

    private static let strategies: [(name: String, strategy: DistributionStrategy)] = [
        ("round_robin", .roundRobin), ("random", .random), ("least_loaded", .leastLoaded), ("hash", .consistentHash),
        ("sticky", .sticky()), ("custom", .custom { members, key in Int(key == nil ? 0 : members.count - 1) }),
    ]

    private static let atOnce: [Scenario] = [10, 1_000].flatMap { members in
        [
            sending("reference", members) { _, _, refs in { refs[$0 % members].tell(.add(1)) } },
            sending("dispatcher", members) { system, name, _ in
                { _ in _ = try? system.broadcast(Summing.Message.add(1), to: .group(name)) }
            },
            asking(members),
        ]
            + strategies.map { way in
                sending(way.name, members) { system, name, refs in
                    let distributor = Distributor<Summing.Message>(name, in: system)
                    for ref in refs { try distributor.subscribe(ref, way.strategy) }
                    // As many keys as a sticky distributor remembers, and more.
                    return { _ = try? distributor.tellOne(.add(1), key: DistributionKey($0 % 20_000)) }
                }
            }
    }

    /// A process sends all in one turn.
    private static func sending(
        _ way: String,
        _ members: Int,
        _ prepare:
            @escaping @Sendable (BastionSystem, String, [ProcRef<Summing.Message>]) throws -> @Sendable (Int) -> Void
    ) -> Scenario {
        let name = "send_\(way)_\(members)"
        return Scenario(
            name: name,
            unit: "message",
            operations: 100_000,
            floor: way == "reference" ? nil : "send_reference_\(members)"
        ) { system, count in
            let tree = try system.supervise(name) {
                Children("member", Summing(), redundancy: members).dispatcher(name)
            }
            let refs = try tree.group("member", of: Summing.Message.self).members
            let one = try prepare(system, name, refs)
            try await send(count, in: system, to: refs, portion: .max, one)
            await tree.stop()
        }
    }

    /// Two of the members are asked, one after the other, and the first answer counts.
    private static func asking(_ members: Int) -> Scenario {
        Scenario(name: "send_first_of_2_\(members)", unit: "ask of two", operations: 20_000) { system, count in
            let distributor = Distributor<Summing.Message>("first_of_2", in: system)
            let refs = (0..<members).map { _ in system.spawn(Summing()) }
            for ref in refs { try distributor.subscribe(ref, .firstAnswer(of: 2)) }
            let asker = system.executor.spawn {
                for _ in 0..<count { let _: Int = try await distributor.ask { .sum($0) } }
            }
            try await asker.outcome().get()
            for ref in refs { distributor.unsubscribe(ref) }
        }
    }

    private static func distributor(_ name: String, _ members: Int, _ strategy: DistributionStrategy) -> Scenario {
        Scenario(
            name: name,
            unit: "message, by distributor",
            operations: 1_000_000,
            floor: "members_tell_\(members)"
        ) { system, count in
            let distributor = Distributor<Summing.Message>(name, in: system)
            let refs = (0..<members).map { _ in system.spawn(Summing()) }
            for ref in refs { try distributor.subscribe(ref, strategy) }
            try await send(count, in: system, to: refs) { number in
                _ = try? distributor.tellOne(.add(1), key: DistributionKey(number))
            }
            for ref in refs { distributor.unsubscribe(ref) }
        }
    }

    /// Has a process send, and waits until all has been handled.
    private static func send(
        _ count: Int,
        in system: BastionSystem,
        to members: [ProcRef<Summing.Message>],
        portion: Int = 255,
        _ one: @escaping @Sendable (Int) -> Void
    ) async throws {
        let gate = Gate()
        system.spawn(Sending(left: count, portion: portion, gate: gate, one: one)).tell(0)
        await gate.wait()
        // All at once: one after the other they would take as long as the messages.
        let pending: [PendingReply<Int>] = members.map { $0.request(within: .seconds(60)) { .sum($0) } }
        var sum = 0
        for one in pending { sum += try await one.value() }
        precondition(sum == count, "\(sum) of \(count) messages were handled")
    }
}

/// Adds up what it gets.
struct Summing: Reactive {
    enum Message: Sendable {
        case add(Int)
        case sum(Reply<Int>)
    }
    var sum = 0

    mutating func receive(_ message: consuming Message, in context: borrowing ReactiveContext<Self>) {
        switch message {
        case .add(let number): sum &+= number
        case .sum(let reply): reply(sum)
        }
    }
}

/// Sends in portions, as of what one turn may.
struct Sending: Reactive {
    var left: Int
    let portion: Int
    let gate: Gate
    let one: @Sendable (Int) -> Void

    mutating func receive(_ message: consuming Int, in context: borrowing ReactiveContext<Self>) {
        for _ in 0..<min(left, portion) {
            one(left)
            left -= 1
        }
        let gate = self.gate
        if left > 0 { context.me.tell(0) } else { Task { await gate.open() } }
    }
}
