// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc
import Supervision
import Testing

/// Supervisors that belong to a process, in virtual time.
@Suite struct OwnershipTests {
    @Test func anOwnerEndsAsLinkedWhenItsSupervisorGivesUp() throws {
        let sim = Simulation()
        let trace = sim.trace
        let tree = try sim.system.supervise(intensity: .unlimited) {
            Children("owner", restart: .transient) { context in
                trace("owner starts")
                context.onExit { trace("owner: \(name($0))") }
                let below = try context.supervise(intensity: .init(1, within: .seconds(1))) {
                    Children("echo", Echo("echo", trace))
                }
                let echo = try below.group("echo", of: Echo.Message.self)
                if context.restarts == 0 { for _ in 0..<2 { echo.tell(.fail) } }
                await context.untilStopped()
            }
        }
        sim.drain()
        #expect(
            sim.trace.lines == [
                "owner starts", "start echo", "start echo", "owner: linked error", "owner starts", "start echo",
            ]
        )
        #expect(try tree.group("owner", of: Int.self).members[0].proc.restarts == 1)

        @Sendable func name(_ reason: ExitReason) -> String {
            if case .linked(_, .error) = reason { "linked error" } else { "\(reason)" }
        }
    }

    @Test func ownedSupervisorsEndBeforeTheNextIncarnationStarts() throws {
        for seed in RandomTest.seeds(#function, count: 30) {
            let sim = Simulation(seed: seed)
            let trace = sim.trace
            let tree = try sim.system.supervise(intensity: .unlimited) {
                Children("owner") { context in
                    trace("owner starts")
                    for name in ["a", "b"] {
                        try context.supervise(name) {
                            Children(name) { context in
                                context.onExit { _ in trace("\(name) ended") }
                                await context.untilStopped()
                            }
                        }
                    }
                    let _: Int = try await context.receive()
                    trace("owner fails")
                    throw Failure()
                }
            }
            let owner = try tree.group("owner", of: Int.self)
            for _ in 0..<3 {
                sim.drain()
                owner.tell(1)
            }
            sim.drain()
            #expect(sim.stops(tree))
            let round = ["owner starts", "owner fails", "b ended", "a ended"]
            #expect(
                sim.trace.lines == round + round + round + ["owner starts", "b ended", "a ended"],
                "SEED=\(seed)"
            )
        }
    }

    @Test func anOwnerThatIsKilledTakesItsChildrenAlong() throws {
        let sim = Simulation()
        let trace = sim.trace
        let tree = try sim.system.supervise {
            Children("owner", restart: .temporary) { context in
                try context.supervise {
                    Children("below", redundancy: 2) { context in
                        context.onExit { trace("\(context.name): \($0)") }
                        await context.untilStopped()
                    }
                }
                await context.untilStopped()
            }
        }
        sim.drain()
        try tree.group("owner", of: Int.self).members[0].proc.kill()
        sim.drain()
        #expect(sim.trace.lines == ["below-1: shutdown", "below-0: shutdown"])
    }

    @Test func anOwnerThatReturnsTakesItsChildrenAlong() throws {
        let sim = Simulation()
        let trace = sim.trace
        try sim.system.supervise {
            Children("owner", restart: .transient) { context in
                try context.supervise { Children("echo", Echo("echo", trace)) }
                try context.supervise {
                    Children("below") { context in
                        context.onExit { trace("\(context.name): \($0)") }
                        await context.untilStopped()
                    }
                }
                try await context.sleep(for: .seconds(1))
            }
        }
        sim.advance(by: .seconds(2))
        #expect(sim.trace.lines.last == "below-0: shutdown")
    }

    @Test func childrenOfAProcessTakeMessages() throws {
        let sim = Simulation()
        let trace = sim.trace
        try sim.system.supervise {
            Children("owner") { context in
                let workers = try context.children("worker", of: Int.self, redundancy: 3) { context in
                    for await n in context.messages(of: Int.self) { trace("\(context.name) \(n)") }
                }
                for n in 0..<6 { workers.tell(n) }
                await context.untilStopped()
            }
        }
        sim.drain()
        let expected = (0..<6).map { "worker-\($0 % 3) \($0)" }
        #expect(sim.trace.lines.sorted() == expected.sorted())
    }
}
