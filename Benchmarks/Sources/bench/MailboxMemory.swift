// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import Runtime
import Synchronization

/// What the program occupies while a fast sender floods a slow consumer, for each policy of a mailbox.
///
/// Guards the bound: with a policy, memory stays flat however much is sent. Prints lines `policy,sent,megabytes,handled,dropped`,
/// from which `plot-mailboxes.py` draws docs/mailboxes.svg.
enum MailboxMemory {
    private static let capacity = 10_000

    static func print(_ system: BastionSystem, _ messages: Int) async {
        let policies: [(String, MailboxPolicy)] = [
            ("suspend", .bounded(capacity)),
            ("fail", .bounded(capacity, .fail)),
            ("drop newest", .bounded(capacity, .dropNewest)),
            ("drop oldest", .bounded(capacity, .dropOldest)),
            ("expire after 5 ms", .unbounded.expiring(after: .milliseconds(5))),
            ("shed above 5 ms", .unbounded.shedding(above: .milliseconds(5), for: .milliseconds(20))),
        ]
        Swift.print("policy,sent,megabytes,handled,dropped")
        for (name, policy) in policies {
            do {
                try await flood(system, name, policy, messages)
            } catch {
                Swift.print("\(name): \(error)")
                exit(1)
            }
        }
    }

    private static func flood(
        _ system: BastionSystem,
        _ name: String,
        _ policy: MailboxPolicy,
        _ messages: Int
    ) async throws {
        let tally = Handled()
        let tree = try system.supervise(name) {
            Children("consumer", handling: Parcel.self) { parcel, context in
                tally.add(parcel)
                // Slower than the sender.
                if parcel.number % 512 == 0 { try await context.sleep(for: .milliseconds(1)) }
            }.mailbox(policy)
        }
        let consumer: ProcRef<Parcel> = try tree.group("consumer").members[0]
        let before = IdleMemory.residentBytes()
        let sender = system.executor.spawn {
            for number in 0..<messages {
                let parcel = Parcel(number: number)
                // Refused where the policy is to fail.
                try? await consumer.send(parcel)
                if number % (messages / 50) == 0 {
                    let megabytes = Double(max(0, IdleMemory.residentBytes() - before)) / 1_048_576
                    Swift.print(
                        "\(name),\(number),\(megabytes),\(tally.count),\(consumer.mailboxCounters?.dropped ?? 0)"
                    )
                }
                if number % 1_024 == 0 { await Task.yield() }
            }
        }
        _ = await sender.outcome()
        await tree.stop()
    }

    /// A message that owns memory, so that one which is lost shows.
    private struct Parcel: Sendable {
        let number: Int
        let content: [UInt8]
        init(number: Int) {
            self.number = number
            content = [UInt8](repeating: 1, count: 64)
        }
    }

    private final class Handled: Sendable {
        private let word = Atomic(0)
        var count: Int { word.load(ordering: .relaxed) }
        func add(_ parcel: Parcel) { word.wrappingAdd(parcel.content.count > 0 ? 1 : 0, ordering: .relaxed) }
    }
}
