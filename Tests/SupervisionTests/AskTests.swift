// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import LightProc
import Testing

@testable import Supervision

/// Asks, in virtual time.
@Suite struct AskTests {
    private let sim = Simulation()

    private func echo(_ restart: RestartType = .permanent) throws -> (SupervisorRef, ProcRef<Echo.Message>) {
        let trace = sim.trace
        let tree = try sim.system.supervise(intensity: .unlimited) {
            Children("echo", Echo("echo", trace), restart: restart)
        }
        return (tree, try tree.group("echo", of: Echo.Message.self).members[0])
    }

    @Test func anAskIsAnswered() throws {
        let (_, echo) = try echo()
        for n in 0..<3 { echo.tell(.value(n)) }
        let answer = Answer(echo.request { .count($0) })
        sim.drain()
        #expect(answer.value == 3)
        sim.advance(by: .seconds(60))
        #expect(answer.count == 1, "the timer was given up")
    }

    @Test func anAskWithoutAnAnswerTimesOutExactlyThen() throws {
        let (_, echo) = try echo()
        let answer = Answer(echo.request(within: .seconds(3)) { .keep($0) })
        sim.advance(by: .milliseconds(2999))
        #expect(answer.count == 0)
        sim.advance(by: .milliseconds(1))
        #expect(answer.error?.code == .timeout)
        #expect(answer.error?.process == echo.id)
    }

    @Test func aLateReplyIsDropped() throws {
        let (_, echo) = try echo()
        let answer = Answer(echo.request(within: .seconds(3)) { .keep($0) })
        sim.advance(by: .seconds(3))
        echo.tell(.answerKept(1))
        sim.drain()
        #expect(answer.error?.code == .timeout)
        #expect(answer.count == 1)
    }

    @Test func aSecondAnswerIsIgnored() throws {
        let system = sim.system
        let tree = try system.supervise {
            Children("twice") { context in
                let reply: Reply<Int> = try await context.receive()
                reply(1)
                reply(2)
            }
        }
        let answer = Answer(try tree.group("twice", of: Reply<Int>.self).request { $0 })
        sim.drain()
        #expect(answer.value == 1)
        #expect(answer.count == 1)
    }

    @Test func whoAsksAProcessThatThrowsLearnsTheReason() throws {
        let (_, echo) = try echo()
        let kept = Answer(echo.request { .keep($0) })
        let inHand = Answer(echo.request { .failWith($0) })
        let later = Answer(echo.request { .count($0) })
        sim.drain()
        for answer in [kept, inHand] {
            #expect(answer.error?.code == .processEnded)
            guard case .error(let error)? = answer.error?.reason else {
                Issue.record("no reason: \(String(describing: answer.error))")
                continue
            }
            #expect(error as? Failure == Failure(number: 7))
        }
        #expect(later.value == 0, "an ask that was not in hand is answered by the next incarnation")
    }

    @Test func whoAsksAnAsyncProcessThatThrowsLearnsTheReason() throws {
        let tree = try sim.system.supervise {
            Children("worker", restart: .temporary) { context in
                let _: Reply<Int> = try await context.receive()
                let _: Reply<Int> = try await context.receive()
                throw Failure(number: 3)
            }
        }
        let worker = try tree.group("worker", of: Reply<Int>.self).members[0]
        let answers = (0..<3).map { _ in Answer(worker.request { $0 }) }
        sim.drain()
        // Two were in hand, the third was still in the mailbox.
        #expect(answers.map { $0.error?.code } == [.processEnded, .processEnded, .processEnded])
    }

    @Test func anAskThatIsLeftInTheMailboxOfAClosedProcessLearnsOfItsEnd() throws {
        let (_, echo) = try echo(.temporary)
        echo.tell(.fail)
        let answer = Answer(echo.request { .count($0) })
        sim.drain()
        #expect(answer.error?.code == .processEnded)
        guard case .error? = answer.error?.reason else { return #expect(Bool(false), "no reason") }
    }

    @Test func anAskOfAClosedProcessIsRefusedAtOnce() throws {
        let (tree, echo) = try echo()
        #expect(sim.stops(tree))
        let answer = Answer(echo.request { .count($0) })
        #expect(answer.error?.code == .refused)
        guard case .shutdown? = answer.error?.reason else { return #expect(Bool(false), "no reason") }
    }

    @Test func anAskThatIsGivenUpIsCancelled() throws {
        let (_, echo) = try echo()
        let pending = echo.request { .keep($0) }
        let answer = Answer(pending)
        sim.drain()
        pending.cancel()
        #expect(answer.error?.code == .cancelled)
        echo.tell(.answerKept(1))
        sim.drain()
        #expect(answer.count == 1)
        #expect(Answer(pending).error?.code == .cancelled, "who comes late is told at once")
    }

    @Test func aStopCancelsTheAsksOfTheAskingProcess() throws {
        let (_, echo) = try echo()
        let trace = sim.trace
        let tree = try sim.system.supervise {
            Children("asker") { context in
                do {
                    _ = try await echo.ask { .keep($0) }
                } catch let error as AskError {
                    trace("\(error.code)")
                }
            }
        }
        sim.drain()
        #expect(sim.stops(tree))
        #expect(sim.trace.lines.last == "the ask was cancelled")
    }

    @Test func aReplyThatIsDroppedTellsTheAskerAtOnce() throws {
        let (_, echo) = try echo()
        let answer = Answer(echo.request { .drop($0) })
        sim.drain()
        #expect(answer.error?.code == .unanswered)
        #expect(sim.milliseconds == 0)
    }

    @Test func anAskOfAnotherTypeIsUnansweredAndADeadLetter() throws {
        let tree = try sim.system.supervise {
            Children("worker") { context in
                for await _ in context.messages(of: String.self) {}
            }
        }
        let answer = Answer(try tree.group("worker", of: Reply<Int>.self).request { $0 })
        sim.drain()
        #expect(answer.error?.code == .unanswered)
        #expect(sim.system.deadLetters == 1)
    }

    @Test func anAskThatWasGivenUpBeforeItWasTakenIsNotKeptByTheProcess() throws {
        let (_, echo) = try echo()
        weak var ask: Ask?
        do {
            let pending = echo.request { .count($0) }
            ask = pending.ask
            pending.cancel()
        }
        sim.drain()
        #expect(ask == nil)
    }

    @Test func whenCompleteCallsOnceOnTheExecutor() throws {
        let (_, echo) = try echo()
        let trace = sim.trace
        let pending = echo.request { .count($0) }
        pending.whenComplete { result in trace("early \((try? result.get()) ?? -1)") }
        sim.drain()
        pending.whenComplete { result in trace("late \((try? result.get()) ?? -1)") }
        #expect(sim.trace.lines == ["start echo", "early 0"], "not on the caller's thread")
        sim.drain()
        #expect(sim.trace.lines == ["start echo", "early 0", "late 0"])
    }

    @Test func anAskHasExactlyOneEndingWhateverRaces() throws {
        var endings: [String: Int] = [:]
        for seed in RandomTest.seeds(#function, count: 150) {
            let sim = Simulation(seed: seed)
            let trace = sim.trace
            var random = SplitMix64(seed: seed)
            let tree = try sim.system.supervise(intensity: .unlimited) {
                Children("echo", Echo("echo", trace), restart: seed % 4 == 0 ? .transient : .permanent)
            }
            let echo = try tree.group("echo", of: Echo.Message.self).members[0]
            var answers: [Answer<Int>] = []
            for _ in 0..<40 {
                let within = Duration.milliseconds(Int.random(in: 1...20, using: &random))
                let choice = Int.random(in: 0..<14, using: &random)
                switch choice {
                case 0..<5:
                    let pending = echo.request(within: within) { reply in
                        [.count(reply), .drop(reply), .keep(reply), .keep(reply), .failWith(reply)][choice]
                    }
                    answers.append(Answer(pending))
                    if Int.random(in: 0..<5, using: &random) == 0 { pending.cancel() }
                case 5: echo.tell(.answerKept(9))
                case 6: echo.tell(.fail)
                case 7: echo.proc.kill()
                case 8: echo.proc.stop()
                case 9, 10: sim.advance(by: .milliseconds(Int.random(in: 0...5, using: &random)))
                default: for _ in 0..<choice { sim.executor.step() }
                }
            }
            sim.advance(by: .milliseconds(20))
            for answer in answers {
                #expect(answer.count == 1, "SEED=\(seed)")
                endings[answer.error?.code.description ?? "answered", default: 0] += 1
            }
            #expect(sim.stops(tree), "SEED=\(seed)")
        }
        #expect(endings.count == 6, "every ending occurs: \(endings)")
    }
}
