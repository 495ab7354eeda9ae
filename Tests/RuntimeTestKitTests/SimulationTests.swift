// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc
import RuntimeTestKit
import Supervision
import Testing

/// Driving, time, probes, and what failures say.
@Suite struct SimulationTests {
    @Test func anHourOfBackoffPasses() throws {
        let simulation = Simulation(seed: 2, faults: [.refuseToStart("database", times: 12)])
        let tree = try simulation.system.supervise(intensity: .unlimited) {
            Children("database", Counter(), backoff: .constant(.seconds(300)))
        }
        let database = try tree.group("database", of: Counter.Message.self).next
        let total = try simulation.run { try await database.ask(within: .seconds(7200)) { .total($0) } }
        #expect(total == 0)
        #expect(simulation.now == .seconds(3600))
        #expect(database.proc.restarts == 12)
    }

    @Test func theClockIsTheSimulations() throws {
        let simulation = Simulation(seed: 2)
        let clock = simulation.clock
        let start = clock.now
        try simulation.run { try await clock.sleep(for: .seconds(30)) }
        #expect(start.duration(to: clock.now) == .seconds(30))
        try simulation.advance(by: .seconds(5))
        #expect(clock.now == VirtualClock.Instant(offset: .seconds(35)))
        let cancelled = try simulation.run {
            await withTaskGroup(of: Bool.self) { group in
                group.addTask { (try? await clock.sleep(until: clock.now.advanced(by: .seconds(9)))) == nil }
                await Task.yield()
                group.cancelAll()
                return await group.next() == true
            }
        }
        #expect(cancelled)
        #expect(clock.now == VirtualClock.Instant(offset: .seconds(35)))
    }

    @Test func whatIsRunThrowsAsItIs() {
        let simulation = Simulation(seed: 2)
        #expect(throws: Failure.self) { try simulation.run { throw Failure() } }
    }

    @Test func aDeadlockSaysWhoWaitsForWhat() throws {
        let simulation = Simulation(seed: 11)
        let tree = try simulation.system.supervise("shop") {
            Children("left", Counter())
            Children("right") { context in
                for await message in context.messages(of: Counter.Message.self) {
                    if case .total(let reply) = message { reply(try await context.receive(Int.self)) }
                }
            }
        }
        let left = try tree.group("left", of: Counter.Message.self).next
        let right = try tree.group("right", of: Counter.Message.self).next
        let error = #expect(throws: SimulationError.self) {
            try simulation.run(within: .seconds(1_000)) {
                async let first = left.ask(within: .seconds(5000)) { .keep($0) }
                async let second = right.ask(within: .seconds(5000)) { .total($0) }
                return try await first + second
            }
        }
        #expect(error?.kind == .timeLimit)
        #expect(error?.seed == 11)
        #expect(
            error?.description == """
                seed 11 at 1000.0 seconds: 1000.0 seconds have passed, and the closure that is run has not ended
                  /shop/left-0 owes 1 answer
                  /shop/right-0 waits for a message, owes 1 answer
                  test waits for an answer from /shop/left-0, waits for an answer from /shop/right-0
                repeat it with BASTION_SEED=11
                """
        )
    }

    @Test func whenNothingCanRunAnyMoreItSaysSo() throws {
        let simulation = Simulation(seed: 12)
        let counter = simulation.system.spawn(Counter())
        let error = #expect(throws: SimulationError.self) {
            try simulation.run(until: { counter.proc.isClosed }, within: .seconds(100))
        }
        #expect(error?.kind == .deadlock)
        #expect(
            error?.description == """
                seed 12 at 0.0 seconds: nothing can run any more, and the condition does not hold
                  #0 is idle
                repeat it with BASTION_SEED=12
                """
        )
        let stuck = #expect(throws: SimulationError.self) {
            try simulation.run { await withUnsafeContinuation { (_: UnsafeContinuation<Void, Never>) in } }
        }
        #expect(stuck?.kind == .deadlock)
        #expect(stuck?.waiting.contains("test is suspended, and not in receive") == true)
    }

    @Test func whatNeverRestsReachesTheStepLimit() {
        let simulation = Simulation(seed: 13, stepLimit: 500)
        let error = #expect(throws: SimulationError.self) {
            try simulation.run { while !Task.isCancelled { await Task.yield() } }
        }
        #expect(error?.kind == .stepLimit)
        #expect(error?.description.hasPrefix("seed 13 at 0.0 seconds: still not at rest after 500 steps") == true)
    }

    @Test func aProbeSeesWhatComes() throws {
        let simulation = Simulation(seed: 3)
        let probe = simulation.probe(of: Int.self)
        probe.ref.tell(1)
        simulation.executor.schedule(after: .seconds(3)) { probe.ref.tell(2) }
        try probe.expect(1)
        try probe.expectNoMessage(for: .seconds(2))
        try probe.expect(2, within: .seconds(1))
        #expect(simulation.now == .seconds(3))
        let late = #expect(throws: SimulationError.self) { try probe.expect(3, within: .seconds(1)) }
        #expect(late?.kind == .deadlock)
        #expect(late?.what.contains("probe expects a Int") == true)
        probe.ref.tell(4)
        let wrong = #expect(throws: SimulationError.self) { try probe.expect(5) }
        #expect(wrong?.what == "probe expects 5, got 4; unread: []")
        probe.ref.tell(6)
        #expect(throws: SimulationError.self) { try probe.expectNoMessage() }
    }

    @Test func aProbeAnswers() throws {
        let simulation = Simulation(seed: 3)
        let probe = simulation.probe(of: Counter.Message.self)
        probe.onMessage { if case .total(let reply) = $0 { reply(42) } }
        let ref = probe.ref
        #expect(try simulation.run { try await ref.ask { .total($0) } } == 42)
        #expect(probe.messages.count == 1)
    }

    @Test func asyncTestCodeDrivesToo() async throws {
        let simulation = Simulation(seed: 4)
        let probe = simulation.probe(of: Int.self)
        simulation.executor.schedule(after: .seconds(3)) { probe.ref.tell(2) }
        try await probe.expect(2)
        #expect(simulation.now == .seconds(3))
        // And from inside.
        try simulation.run {
            simulation.executor.schedule(after: .seconds(3)) { probe.ref.tell(3) }
            try await probe.expectNoMessage(for: .seconds(2))
            try await probe.expect(3)
            let counter = simulation.system.spawn(Counter())
            counter.tell(.fail)
            let reason = try await probe.expectEnd(of: counter)
            if case .error = reason { probe.ref.tell(4) }
        }
        try await probe.expect(4)
        #expect(simulation.now == .seconds(6))
    }

    @Test func seedsRunUntilOneFails() throws {
        var tried: [UInt64] = []
        let failure = #expect(throws: SeedFailure.self) {
            try forEachSeed(count: 10, from: 5) { seed in
                tried.append(seed)
                if seed == 8 { throw Failure() }
            }
        }
        guard Seeds.fromEnvironment == nil else { return }
        #expect(tried == [5, 6, 7, 8])
        #expect(failure?.seed == 8)
        #expect(failure?.description == "seed 8 failed (repeat with BASTION_SEED=8): Failure()")
    }

    @Test func aRaceThatOnlySomeSeedsFindIsFoundAndRepeated() throws {
        /// Two processes read, yield, and write: an update may be lost.
        func total(_ seed: UInt64) throws -> Int {
            let simulation = Simulation(seed: seed)
            let shared = Shared()
            try simulation.run {
                await withTaskGroup(of: Void.self) { group in
                    for _ in 0..<2 {
                        group.addTask {
                            let read = shared.value
                            await Task.yield()
                            shared.value = read + 1
                        }
                    }
                }
            }
            return shared.value
        }
        let totals = try (1...40 as ClosedRange<UInt64>).map { try total($0) }
        #expect(totals.contains(1))
        #expect(totals.contains(2))
        let index = try #require(totals.firstIndex(of: 1))
        for _ in 0..<3 { #expect(try total(UInt64(index + 1)) == 1) }
    }
}
