// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc
import Testing

@testable import Supervision

/// Deadlines and lanes as children see them, in virtual time.
@Suite struct DeadlineTests {
    private let sim = Simulation()

    @Test func anAskWaitsNoLongerThanTheDeadlineOfWhoAsks() throws {
        let sim = self.sim
        let mute = sim.system.spawn(Echo("mute", sim.trace))
        try sim.system.supervise {
            Children("asker", restart: .temporary) { context in
                do {
                    try await context.withTimeout(.seconds(2)) {
                        do {
                            let _: Int = try await mute.ask(within: .seconds(60)) { .keep($0) }
                        } catch {
                            sim.note("\((error as? AskError)?.code.description ?? "?")")
                            throw error
                        }
                    }
                } catch let error as DeadlineExceeded {
                    sim.note("exceeded \(error.timeout)")
                }
            }
        }
        sim.advance(by: .seconds(10))
        // Both timers are due at once; whichever comes first, the error is that of the deadline.
        #expect(sim.trace.lines.count == 3)
        #expect(["2000: no answer within the time", "2000: the ask was cancelled"].contains(sim.trace.lines[1]))
        #expect(sim.trace.lines.last == "2000: exceeded 2.0 seconds")
    }

    /// Not awaited in the deadline's stretch, so that only the ask's own timer can end it.
    @Test func aRequestTakesTheDeadlineOfWhoAsksWithIt() throws {
        let sim = self.sim
        let mute = sim.system.spawn(Echo("mute", sim.trace))
        try sim.system.supervise {
            Children("asker", restart: .temporary) { context in
                let pending: PendingReply<Int> = try await context.withTimeout(.seconds(2)) {
                    mute.request(within: .seconds(60)) { .keep($0) }
                }
                do { _ = try await pending.value() } catch let error as AskError { sim.note("\(error.code)") }
                let other: PendingReply<Int> = mute.request(within: .seconds(3)) { .keep($0) }
                do { _ = try await other.value() } catch let error as AskError { sim.note("\(error.code)") }
            }
        }
        sim.advance(by: .seconds(10))
        #expect(sim.trace.lines.dropFirst() == ["2000: no answer within the time", "5000: no answer within the time"])
    }

    @Test func receiveWaitsForSomeTimeAtMost() throws {
        let sim = self.sim
        let tree = try sim.system.supervise {
            Children("worker", restart: .temporary) { context in
                let first = try await context.receive(Int.self, within: .seconds(2))
                sim.note("\(first)")
                do {
                    _ = try await context.receive(Int.self, within: .seconds(2))
                } catch let error as DeadlineExceeded {
                    sim.note("exceeded \(error.timeout)")
                }
                sim.note("\(try await context.receive(Int.self))")
            }
        }
        let worker = try tree.group("worker", of: Int.self)
        sim.advance(by: .seconds(1))
        worker.tell(1)
        sim.advance(by: .seconds(2))
        worker.tell(2)
        sim.drain()
        #expect(sim.trace.lines == ["1000: 1", "3000: exceeded 2.0 seconds", "3000: 2"])
    }

    @Test func sleepAndMessagesEndWithTheDeadline() throws {
        let sim = self.sim
        try sim.system.supervise {
            Children("worker", restart: .temporary) { context in
                do {
                    try await context.withTimeout(.seconds(1)) { try await context.sleep(for: .seconds(60)) }
                } catch {
                    sim.note("\(type(of: error))")
                }
                do {
                    try await context.withDeadline(context.deadline(after: .seconds(1))) {
                        sim.note("\(context.remainingTime == .seconds(1))")
                        for await _ in context.messages(of: Int.self) {}
                        sim.note("messages ended")
                    }
                } catch {
                    sim.note("\(type(of: error)), stopping: \(context.isStopping)")
                }
            }
        }
        sim.advance(by: .seconds(5))
        #expect(
            sim.trace.lines == [
                "1000: DeadlineExceeded", "1000: true", "2000: messages ended",
                "2000: DeadlineExceeded, stopping: false",
            ]
        )
    }

    @Test func aChildWithADeadlineIsRestartedAfterIt() throws {
        let sim = self.sim
        let tree = try sim.system.supervise(intensity: .unlimited) {
            Children("worker", restart: .transient, deadline: .seconds(2)) { context in
                sim.note("start, \(context.remainingTime ?? .zero) left")
                context.onExit { sim.note("\($0)") }
                await context.untilStopped()
            }
            Children("echo", Echo("echo", sim.trace), restart: .transient, deadline: .seconds(3))
        }
        sim.advance(by: .seconds(4))
        let reason = "not over after its deadline of"
        #expect(
            sim.trace.lines.filter { $0.contains(":") } == [
                "0: start, 2.0 seconds left", "2000: \(reason) 2.0 seconds", "2000: start, 2.0 seconds left",
                "4000: \(reason) 2.0 seconds", "4000: start, 2.0 seconds left",
            ]
        )
        #expect(sim.trace.lines.filter { $0 == "start echo" }.count == 2)
        #expect(sim.stops(tree))
    }

    @Test func aProcessIsSpawnedWithADeadline() {
        let echo = sim.system.spawn(Echo("echo", sim.trace), deadline: .seconds(1))
        let answer = Answer(echo.request(within: .seconds(60)) { .keep($0) })
        sim.advance(by: .seconds(2))
        guard case .deadlineExceeded(.seconds(1))? = answer.error?.reason else {
            return #expect(Bool(false), "\(String(describing: answer.result))")
        }
        #expect(!echo.tell(.finish))
        let (_, handle) = (sim, sim.executor.spawn(ProcStack(deadline: .seconds(1))) { await Nothing.comes() })
        sim.advance(by: .seconds(1))
        guard case .deadlineExceeded? = handle.handle.proc.lastExit else {
            return #expect(Bool(false), "no deadline")
        }
    }

    // MARK: Lanes

    @Test func aChildReceivesControlMessagesFirst() throws {
        let trace = sim.trace
        let tree = try sim.system.supervise {
            Children("worker") { context in
                for await word in context.messages(of: String.self) { trace(word) }
            }
            Children("echo", Echo("echo", trace))
        }
        let worker = try tree.group("worker", of: String.self).members[0]
        let echo = try tree.group("echo", of: Echo.Message.self).members[0]
        for n in 0..<2 {
            worker.tell("user \(n)")
            echo.tell(.value(n))
        }
        worker.tell("control", lane: .control)
        worker.tell("user lane", lane: .user)
        echo.tell(.value(9), lane: .control)
        let answer = Answer(echo.request(lane: .control) { .count($0) })
        sim.drain()
        #expect(answer.value == 1, "the ask overtook the messages of the user lane")
        #expect(trace.lines.filter { !$0.contains("echo") } == ["control", "user 0", "user 1", "user lane"])
        #expect(trace.lines.filter { $0.contains("echo") } == ["start echo", "echo 9", "echo 0", "echo 1"])
        #expect(sim.stops(tree))
        #expect(!worker.tell("late", lane: .control))
        #expect(!echo.tell(.finish, lane: .control))
        let other = try tree.group("worker", of: Echo.Message.self).members[0]
        let late = Answer(other.request(lane: .control) { .count($0) })
        #expect(late.error?.code == .refused)
    }

    @Test func whatIsLeftInTheControlLaneIsADeadLetter() throws {
        let tree = try sim.system.supervise {
            Children("worker", restart: .temporary) { context in await context.untilStopped() }
        }
        let worker = try tree.group("worker", of: Echo.Message.self).members[0]
        sim.drain()
        worker.tell(.value(1))
        let answer = Answer(worker.request(lane: .control) { .count($0) })
        #expect(sim.stops(tree))
        #expect(answer.error?.code == .processEnded)
        #expect(sim.system.deadLetters == 2)
    }
}

private enum Nothing {
    /// Waits until the task is cancelled.
    static func comes() async {
        let stream = AsyncStream<Int> { _ in }
        for await _ in stream {}
    }
}
