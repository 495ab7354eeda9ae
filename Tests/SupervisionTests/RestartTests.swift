// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc
import Supervision
import Testing

/// One-for-one supervision in virtual time.
@Suite struct RestartTests {
    @Test func aChildThatThrowsIsRestartedAndKeepsItsReference() throws {
        let sim = Simulation()
        let trace = sim.trace
        let tree = try sim.system.supervise(intensity: .unlimited) { Children("echo", Echo("echo", trace)) }
        let echo = try tree.group("echo", of: Echo.Message.self).members[0]
        echo.tell(.value(1))
        echo.tell(.fail)
        echo.tell(.value(2))
        sim.drain()
        #expect(sim.trace.lines == ["start echo", "echo 1", "start echo", "echo 2"])
        #expect(echo.proc.restarts == 1)
        #expect(sim.system.restarts == 1)
    }

    @Test func aChildThatIsKilledIsRestarted() throws {
        let sim = Simulation()
        let trace = sim.trace
        let tree = try sim.system.supervise(intensity: .unlimited) {
            Children("echo", Echo("echo", trace))
            Children("other", Echo("other", trace))
        }
        sim.drain()
        sim.trace.clear()
        let echo = try tree.group("echo", of: Echo.Message.self).members[0]
        echo.proc.kill()
        echo.tell(.value(1))
        sim.drain()
        #expect(sim.trace.lines == ["start echo", "echo 1"])
        guard case .killed = echo.proc.lastExit else { return #expect(Bool(false), "not killed") }
    }

    @Test func queuedMessagesSurviveRestartsInOrderExactlyOnce() throws {
        for seed in RandomTest.seeds(#function, count: 30) {
            let sim = Simulation(seed: seed)
            let trace = sim.trace
            let tree = try sim.system.supervise(intensity: .unlimited) { Children("echo", Echo("echo", trace)) }
            let echo = try tree.group("echo", of: Echo.Message.self).members[0]
            for i in 0..<600 {
                echo.tell(.value(i))
                if i % 7 == 3 { echo.tell(.fail) }
                if i % 50 == 49 { sim.executor.step() }
                if i % 100 == 99 { echo.proc.kill() }
            }
            sim.drain()
            let values = sim.trace.lines.filter { $0 != "start echo" }
            #expect(values == (0..<600).map { "echo \($0)" }, "SEED=\(seed)")
        }
    }

    @Test func theMessageInHandIsNotDeliveredAgain() throws {
        let sim = Simulation()
        let trace = sim.trace
        let tree = try sim.system.supervise(intensity: .unlimited) {
            Children("worker") { context in
                for await n in context.messages(of: Int.self) {
                    trace("got \(n)")
                    if n % 2 == 1 { throw Failure(number: n) }
                }
            }
        }
        let worker = try tree.group("worker", of: Int.self).members[0]
        for n in 0..<6 { worker.tell(n) }
        sim.drain()
        #expect(sim.trace.lines == (0..<6).map { "got \($0)" })
        #expect(worker.proc.restarts == 3)
    }

    @Test func aFailingFactoryCountsAsAFailureAndIsRetriedWithBackoff() throws {
        let sim = Simulation()
        let attempts = Locked(0)
        let make: @Sendable () throws -> Echo = {
            sim.note("attempt")
            let attempt = attempts.withLock { attempts in
                attempts += 1
                return attempts
            }
            if attempt < 6 { throw Failure() }
            return Echo("echo", sim.trace)
        }
        let tree = try sim.system.supervise(intensity: .unlimited) {
            Children("echo", try make(), backoff: .exponential(.milliseconds(10), cap: .milliseconds(50)))
        }
        try tree.group("echo", of: Echo.Message.self).tell(.value(1))
        sim.advance(by: .seconds(10))
        #expect(
            sim.trace.lines == [
                "0: attempt", "10: attempt", "30: attempt", "70: attempt", "120: attempt", "170: attempt",
                "start echo", "echo 1",
            ]
        )
    }

    @Test func backoffStartsOverAfterGoodUptime() throws {
        let sim = Simulation()
        let tree = try sim.system.supervise(intensity: .unlimited) {
            Children("worker", backoff: .exponential(.milliseconds(10), cap: .seconds(1))) { context in
                sim.note("start")
                let uptime: Int = try await context.receive()
                try await context.sleep(for: .milliseconds(uptime))
                throw Failure()
            }
        }
        let worker = try tree.group("worker", of: Int.self)
        for uptime in [0, 0, 30, 31, 31, 0] { worker.tell(uptime) }
        sim.advance(by: .seconds(1))
        // Delays: 10, 20 | up 30 = last 20 + first 10: still in a row: 40 | up 31: still (40 + 10): 80 | 160 | 320
        #expect(sim.trace.lines == [0, 10, 30, 100, 211, 402, 722].map { "\($0): start" })
        worker.tell(331)
        sim.advance(by: .seconds(2))
        // Last delay 320 and the first 10 are over after 331 ms: the next delay is 10 again. The message came at 1000.
        #expect(sim.trace.lines.last == "1341: start")
    }

    @Test func backoffStartsOverAfterTheUptimeThatWasGiven() throws {
        let sim = Simulation()
        let backoff = Backoff.exponential(.milliseconds(10), cap: .seconds(1), resetAfter: .milliseconds(100))
        let tree = try sim.system.supervise(intensity: .unlimited) {
            Children("worker", backoff: backoff) { context in
                sim.note("start")
                let uptime: Int = try await context.receive()
                try await context.sleep(for: .milliseconds(uptime))
                throw Failure()
            }
        }
        let worker = try tree.group("worker", of: Int.self)
        for uptime in [0, 100, 100, 101, 0] { worker.tell(uptime) }
        sim.advance(by: .seconds(1))
        // Delays: 10 | up 100: still in a row: 20 | up 100: 40 | up 101: 10 again | 20
        #expect(sim.trace.lines == [0, 10, 130, 270, 381, 401].map { "\($0): start" })
        #expect(sim.stops(tree))
    }

    @Test(arguments: [RestartType.transient, .temporary])
    func whatIsNotPermanentIsNotRestartedAfterANormalEnd(_ type: RestartType) throws {
        let sim = Simulation()
        let trace = sim.trace
        let tree = try sim.system.supervise { Children("echo", Echo("echo", trace), restart: type) }
        let echo = try tree.group("echo", of: Echo.Message.self).members[0]
        echo.tell(.finish)
        sim.drain()
        #expect(sim.trace.lines == ["start echo"])
        #expect(echo.proc.isClosed)
        #expect(!echo.tell(.value(1)))
    }

    @Test func aTransientChildIsRestartedAfterAnError() throws {
        let sim = Simulation()
        let trace = sim.trace
        let tree = try sim.system.supervise { Children("echo", Echo("echo", trace), restart: .transient) }
        try tree.group("echo", of: Echo.Message.self).tell(.fail)
        sim.drain()
        #expect(sim.trace.lines == ["start echo", "start echo"])
    }

    @Test func aTemporaryChildIsNotRestartedAfterAnError() throws {
        let sim = Simulation()
        let trace = sim.trace
        let tree = try sim.system.supervise { Children("echo", Echo("echo", trace), restart: .temporary) }
        try tree.group("echo", of: Echo.Message.self).tell(.fail)
        sim.drain()
        #expect(sim.trace.lines == ["start echo"])
        #expect(sim.system.restarts == 0)
    }

    @Test func aPermanentChildThatIsStoppedIsRestarted() throws {
        let sim = Simulation()
        let trace = sim.trace
        let tree = try sim.system.supervise { Children("echo", Echo("echo", trace)) }
        let echo = try tree.group("echo", of: Echo.Message.self).members[0]
        sim.drain()
        echo.proc.stop()
        sim.drain()
        #expect(sim.trace.lines == ["start echo", "start echo"])
    }

    @Test func moreRestartsThanTheIntensityAllowsStopAll() throws {
        let sim = Simulation()
        let trace = sim.trace
        let causes = Locked<[String]>([])
        let note: @Sendable (ExitReason) -> Void = { reason in causes.withLock { $0.append("\(reason)") } }
        let tree = try sim.system.supervise(intensity: .init(2, within: .seconds(10)), onGivingUp: note) {
            Children("echo", Echo("echo", trace))
            Children("other", redundancy: 2) { context in
                context.onExit { trace("\(context.name): \($0)") }
                await context.untilStopped()
            }
        }
        let echo = try tree.group("echo", of: Echo.Message.self).members[0]
        sim.drain()
        for second in [0, 4, 11] {
            sim.advance(by: .seconds(second) - sim.executor.now)
            echo.tell(.fail)
            sim.drain()
        }
        #expect(echo.proc.restarts == 3, "the one at 0 s was forgotten at 11 s")
        echo.tell(.fail)
        sim.drain()
        #expect(tree.gaveUp)
        #expect(echo.proc.isClosed)
        #expect(sim.trace.lines.suffix(2) == ["other-1: shutdown", "other-0: shutdown"])
        #expect(causes.withLock { $0 } == ["linked process \(echo.id) ended: error: failure 0"])
    }

    @Test func restartsAreCountedBySystemAndProcess() throws {
        let sim = Simulation()
        let trace = sim.trace
        let tree = try sim.system.supervise(intensity: .unlimited) {
            Children("echo", Echo("echo", trace), redundancy: 3)
        }
        let echo = try tree.group("echo", of: Echo.Message.self)
        for i in 0..<30 { echo.members[i % 2].tell(.fail) }
        sim.drain()
        #expect(echo.members.map { $0.proc.restarts } == [15, 15, 0])
        #expect(sim.system.restarts == 30)
    }
}
