// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Runtime

/// Guards that a send through a distributor costs the same whatever its number of members: compare each scenario with its
/// floor, which sends to the same members without one. The members themselves cost more the more they are: each is woken
/// for fewer messages, and lies in the cache less often.
extension Scenario {
    static let distributors: [Scenario] = [10, 1_000].flatMap { members in
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
        _ one: @escaping @Sendable (Int) -> Void
    ) async throws {
        let gate = Gate()
        system.spawn(Sending(left: count, gate: gate, one: one)).tell(0)
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

/// Sends in portions of what one turn may.
struct Sending: Reactive {
    var left: Int
    let gate: Gate
    let one: @Sendable (Int) -> Void

    mutating func receive(_ message: consuming Int, in context: borrowing ReactiveContext<Self>) {
        for _ in 0..<min(left, 255) {
            one(left)
            left -= 1
        }
        let gate = self.gate
        if left > 0 { context.me.tell(0) } else { Task { await gate.open() } }
    }
}
