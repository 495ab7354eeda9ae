// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import Runtime

/// A group that grows and shrinks with two waves of load, in virtual time: every run is the same, and takes no four minutes.
///
/// `--csv` prints second, messages a second, members, and the longest wait in milliseconds; scripts/plot-scaling.py draws that.
@main
enum ScalingGroups {
    /// How long a member works on one message: it handles 50 a second.
    static let work = Duration.milliseconds(20)
    static let seconds = 240

    static func main() throws {
        let printsTable = CommandLine.arguments.contains("--csv")
        let executor = SeededExecutor(seed: 1)
        let system = BastionSystem(name: "scaling", executor: executor)
        let handled = Tally()
        let tree = try system.supervise {
            Children("worker") { context in
                for await job in context.messages(of: Int.self) {
                    try await context.sleep(for: work)
                    handled.add(job)
                }
            }.resizer(
                Resizer(
                    1...10,
                    growingAbove: .queueDelay(.milliseconds(100)),
                    every: .seconds(1),
                    patience: .seconds(5)
                )
            )
        }
        let workers: Group<Int> = try tree.group("worker")
        executor.drain()

        if printsTable { print("second,load,members,wait") }
        var (sent, most) = (0, 0)
        for second in 0..<seconds {
            let rate = load(at: second)
            for _ in 0..<rate {
                guard workers.tell(sent) else { fail("message \(sent) was refused") }
                sent += 1
                executor.advance(by: .seconds(1) / rate)
            }
            let members = workers.members
            most = max(most, members.count)
            guard (1...10).contains(members.count) else { fail("\(members.count) members") }
            if printsTable {
                let wait = members.compactMap { $0.mailboxCounters?.queueDelay }.max() ?? .zero
                print("\(second),\(rate),\(members.count),\(Int(wait / .milliseconds(1)))")
            }
        }
        executor.advance(by: .seconds(30))

        // Nothing was lost while members came and went, and nothing came twice.
        guard handled.count == sent, handled.sum == sent * (sent - 1) / 2 else {
            fail("\(handled.count) of \(sent) messages were handled")
        }
        guard most >= 6, workers.members.count == 1 else {
            fail("\(most) members at most, \(workers.members.count) at the end")
        }
        if !printsTable { print("\(sent) messages, up to \(most) members, 1 at the end") }
    }

    /// Messages a second: between 10 and 310, up and down twice.
    static func load(at second: Int) -> Int {
        10 + Int(300 * pow(sin(.pi * Double(second) / 120), 2))
    }

    static func fail(_ what: String) -> Never {
        print("wrong: \(what)")
        exit(1)
    }
}

/// How many messages were handled, and the sum of their numbers. All on the one thread that drives the executor.
final class Tally: @unchecked Sendable {
    // Sendable: the seeded executor runs everything on the thread that calls it.
    private(set) var count = 0
    private(set) var sum = 0

    func add(_ number: Int) {
        count += 1
        sum += number
    }
}
