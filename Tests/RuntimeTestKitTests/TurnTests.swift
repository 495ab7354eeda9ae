// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc
import RuntimeTestKit
import Supervision
import Testing

/// No process keeps a worker for longer than its reductions while others wait, whatever it is and however it gets its
/// messages: those that it received and those that it sent both count.
@Suite struct TurnTests {
    private struct Relay: Reactive {
        let sink: ProcRef<Int>?
        mutating func receive(_ message: consuming Int, in context: borrowing ReactiveContext<Self>) {
            sink?.tell(message)
        }
    }

    private func children(_ kind: ChildKind, _ name: String, sink: ProcRef<Int>?, selects: Bool = false) -> Children {
        let policy = MailboxPolicy.bounded(100_000, .fail)
        let body: @Sendable (Context) async throws -> Void = { context in
            // Ends: with the process.
            while selects { _ = try await context.receive(Int.self, matching: { _ in true }) }
            for await number in context.messages(of: Int.self) { sink?.tell(number) }
        }
        return switch kind {
        case .reactive: Children(name, Relay(sink: sink))
        case .managedReactive: Children(name, Relay(sink: sink)).mailbox(policy)
        case .async: Children(name, body: { try await body($0) })
        case .managedAsync: Children(name, body: { try await body($0) }).mailbox(policy)
        }
    }

    /// What a process does with each message that it gets.
    enum Deed: CaseIterable { case nothing, select, send, sendToAFullMailbox, sendInVain }

    private func sink(_ deed: Deed, in simulation: Simulation) throws -> ProcRef<Int>? {
        let overflow: MailboxPolicy.Overflow
        switch deed {
        case .nothing, .select: return nil
        case .send: return simulation.system.spawn(Relay(sink: nil))
        case .sendToAFullMailbox: overflow = .dropOldest
        case .sendInVain: overflow = .fail
        }
        let tree = try simulation.system.supervise("sinks") {
            Children("sink", Relay(sink: nil)).mailbox(.bounded(1, overflow))
        }
        return try tree.group("sink", of: Int.self).next
    }

    @Test(arguments: ChildKind.allCases, Deed.allCases)
    func aTurnIsOverWhenItsReductionsAreSpent(_ kind: ChildKind, _ deed: Deed) throws {
        let limit = deed == .nothing || deed == .select ? 256 : 128
        // A selective receive looks at all that waits.
        let count = deed == .select ? 600 : 6_000
        let most = try Seeds.list(count: 2).map { seed in
            let simulation = Simulation(seed: seed, workers: 1)
            let sink = try sink(deed, in: simulation)
            let tree = try simulation.system.supervise("shop") {
                children(kind, "flooded", sink: sink, selects: deed == .select)
                children(kind, "other", sink: nil)
            }
            let flooded = try tree.group("flooded", of: Int.self).next
            let other = try tree.group("other", of: Int.self).next
            try simulation.runUntilIdle()
            for number in 0..<count { flooded.tell(number) }
            other.tell(0)
            try simulation.runUntilIdle()

            var (inTurn, most, received, beforeOther) = (0, 0, 0, 0)
            for event in simulation.trace.events {
                switch (event.process, event.what) {
                case ("/shop/flooded-0", "runs"), ("/shop/flooded-0", "runs a job"): inTurn = 0
                case ("/shop/flooded-0", "receives Int"):
                    inTurn += 1
                    received += 1
                    most = max(most, inTurn)
                case ("/shop/other-0", "receives Int"): beforeOther = received
                default: break
                }
            }
            #expect(received == count, "\(simulation)")
            // An async one that waits is handed a message before its turn.
            #expect(most <= limit + 1, "\(simulation)")
            // Messages that come from outside, as here, have their turn at every 16th at the latest.
            #expect(beforeOther > 0 && beforeOther <= 16 * (limit + 1), "\(simulation)")
            return most
        }
        // The seed cuts turns short; not all of them.
        #expect(most.contains { $0 >= limit }, "\(most)")
    }
}
