// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc
import Testing

@testable import Supervision

/// What children own by way of their contexts, in virtual time.
@Suite struct ContextResourceTests {
    private let sim = Simulation()

    @Test func aContextRegistersWithItsOwnIncarnation() throws {
        let trace = sim.trace
        let first = Locked<Context?>(nil)
        let tree = try sim.system.supervise(intensity: .unlimited) {
            Children("worker") { context in
                first.withLock { if $0 == nil { $0 = context } }
                context.own(context.restarts) { trace("release \($0)") }
                let hook = context.onExit { _ in trace("never") }
                hook.cancel()
                let _: Int = try await context.receive()
                throw Failure()
            }
        }
        sim.drain()
        guard let context = first.withLock({ $0 }) else { return #expect(Bool(false), "no context") }
        context.onExit { _ in trace("in time") }
        try tree.group("worker", of: Int.self).tell(1)
        sim.drain()
        #expect(trace.lines == ["in time", "release 0"])
        trace.clear()
        // The first incarnation is over, the second lives.
        context.own("late") { trace("release \($0)") }
        context.onExit { trace("late hook: \($0)") }
        sim.drain()
        #expect(trace.lines.sorted() == ["late hook: error: failure 0", "release late"])
        trace.clear()
        #expect(sim.stops(tree))
        #expect(trace.lines == ["release 1"])
    }

    @Test func aReactiveChildOwnsWhatItRegisters() throws {
        let trace = sim.trace
        let tree = try sim.system.supervise(intensity: .unlimited) { Children("owner", Owner(trace: trace)) }
        let owner = try tree.group("owner", of: Owner.Message.self)
        for number in 0..<3 { owner.tell(.own(number)) }
        owner.tell(.giveUp)
        owner.tell(.fail)
        owner.tell(.own(9))
        sim.drain()
        #expect(trace.lines == ["release 1", "release 0"])
        trace.clear()
        #expect(sim.stops(tree))
        #expect(trace.lines == ["release 9"])
    }
}

/// Owns numbers as it is told.
private struct Owner: Reactive {
    enum Message: Sendable {
        case own(Int)
        case giveUp
        case fail
    }
    let trace: Trace
    var last: OwnedResource<Int>?

    init(trace: Trace) { self.trace = trace }

    mutating func receive(_ message: consuming Message, in context: borrowing ReactiveContext<Self>) throws {
        switch message {
        case .own(let number): last = context.own(number) { [trace] in trace("release \($0)") }
        case .giveUp: last?.disown()
        case .fail: throw Failure()
        }
    }
}
