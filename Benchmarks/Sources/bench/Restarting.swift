// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Runtime

extension Scenario {
    static let restarting: [Scenario] = [
        Scenario(name: "restart", unit: "failure to first message", operations: 50_000) { system, count in
            try await restart(system, count, .oneForOne)
        },
        Scenario(name: "restart_dynamic", unit: "the same, strategy dynamic", operations: 50_000) { system, count in
            try await restart(system, count, .dynamic)
        },
    ]

    /// A child fails, its supervisor starts it again, and the next incarnation handles the message behind; again and again.
    private static func restart(_ system: BastionSystem, _ count: Int, _ strategy: RestartStrategy) async throws {
        let tree = try system.supervise(strategy: strategy, intensity: .unlimited) { Children("child", Mortal()) }
        let gate = Gate()
        system.spawn(Tormentor(left: count, child: try tree.group("child").members[0], gate: gate)).tell(1)
        await gate.wait()
        await tree.stop()
    }
}

private struct Mortal: Reactive {
    struct Failure: Error {}
    enum Message: Sendable {
        case fail
        case greet(ProcRef<Int>)
    }
    mutating func receive(_ message: consuming Message, in context: borrowing ReactiveContext<Self>) throws {
        switch message {
        case .fail: throw Failure()
        case .greet(let ref): ref.tell(1)
        }
    }
}

private struct Tormentor: Reactive {
    var left: Int
    let child: ProcRef<Mortal.Message>
    let gate: Gate
    mutating func receive(_ message: consuming Int, in context: borrowing ReactiveContext<Self>) {
        if left == 0 { return gate.openLater() }
        left -= 1
        child.tell(.fail)
        child.tell(.greet(context.me))
    }
}
