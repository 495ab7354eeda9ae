// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc
import RuntimeServices
import ServiceLifecycle
import Supervision
import Testing

@Suite struct SupervisionServiceTests {
    @Test func groupShutsATreeDownInOrder() async throws {
        try await withPool { system in
            let trace = Trace()
            let group = ServiceGroup(
                services: [
                    Obedient("first", trace),
                    SupervisionService(system) {
                        Children("a", service: Obedient("a", trace), shutdownTime: .seconds(1_000))
                        Children("b", shutdownTime: .seconds(1_000)) { context in
                            trace("run b")
                            await context.untilStopped()
                            trace("return b")
                        }
                    },
                ],
                logger: .silent
            )
            async let outcome: Void = group.run()
            for name in ["first", "a", "b"] { await trace.wait(for: "run \(name)") }
            await group.triggerGracefulShutdown()
            try await outcome
            #expect(
                trace.lines.suffix(5) == ["return b", "shutdown a", "return a", "shutdown first", "return first"]
            )
            #expect((try? system.supervisor(at: "/root")) == nil)
        }
    }

    @Test func givingUpIsAnErrorOfTheGroup() async throws {
        try await withPool { system in
            let trace = Trace()
            let group = ServiceGroup(
                services: [
                    Obedient("first", trace),
                    SupervisionService(system, name: "shop", intensity: RestartIntensity(1, within: .seconds(100))) {
                        Children("a") { _ in throw Failure() }
                    },
                ],
                logger: .silent
            )
            let error = await #expect(throws: SupervisorGaveUp.self) { try await group.run() }
            #expect(error?.supervisor == ProcPath("/shop"))
            guard case .linked(_, .error(let cause))? = error?.reason else {
                Issue.record("gave up for \(String(describing: error))")
                return
            }
            #expect(cause is Failure)
            #expect(trace.lines.last == "return first")
        }
    }

    @Test func cancellationKillsAllAtATime() async throws {
        try await withPool { system in
            let trace = Trace()
            let service = SupervisionService(system) {
                // Stopped in order, `b` would keep `a` waiting.
                Children("a", service: Obedient("a", trace, obeys: .cancellation), shutdownTime: .seconds(1_000))
                Children("b", service: Obedient("b", trace, obeys: .cancellation), shutdownTime: .seconds(1_000))
            }
            let task = Task { try await service.run() }
            for name in ["a", "b"] { await trace.wait(for: "run \(name)") }
            task.cancel()
            await #expect(throws: CancellationError.self) { try await task.value }
            #expect(trace.lines.count { $0.hasPrefix("return") } == 2)
        }
    }

    @Test func cancelledBeforeItRunsStartsNothing() async throws {
        try await withPool { system in
            let trace = Trace()
            let service = SupervisionService(system) {
                let _ = trace("starts")
                Children("a", service: Obedient("a", trace))
            }
            let task = Task {
                withUnsafeCurrentTask { $0?.cancel() }
                try await service.run()
            }
            await #expect(throws: CancellationError.self) { try await task.value }
            #expect(trace.lines.isEmpty)
        }
    }

    @Test func returnsWhenSomebodyElseStopsTheTree() async throws {
        try await withPool { system in
            let trace = Trace()
            let tree = try system.supervise {
                Children("a", service: Obedient("a", trace), shutdownTime: .seconds(1_000))
            }
            async let outcome: Void = SupervisionService(tree).run()
            await trace.wait(for: "run a")
            await tree.stop()
            try await outcome
            // And at once when it has ended before.
            try await SupervisionService(tree).run()
        }
    }

    @Test func specificationThatCannotBeCarriedOutIsAnError() async throws {
        try await withPool { system in
            let service = SupervisionService(system) { Children("a", redundancy: 0) { _ in } }
            let error = await #expect(throws: SupervisionError.self) { try await service.run() }
            #expect(error?.code == .badRedundancy)
        }
    }

    @Test func treeIsASupervisedChild() async throws {
        try await withPool { system in
            let trace = Trace()
            let runs = Locked(0)
            let inner = SupervisionService(system, name: "inner", intensity: RestartIntensity(0, within: .seconds(1))) {
                Children("a", shutdownTime: .seconds(1_000)) { context in
                    let run = runs.withLock { runs in
                        runs += 1
                        return runs
                    }
                    if run == 1 { throw Failure() }
                    trace("run a")
                    await context.untilStopped()
                    trace("return a")
                }
            }
            let tree = try system.supervise(intensity: .unlimited) {
                Children("inner", service: inner)
            }
            await trace.wait(for: "run a")
            #expect(runs.withLock { $0 } == 2)
            await tree.stop()
            #expect(trace.lines == ["run a", "return a"])
        }
    }
}
