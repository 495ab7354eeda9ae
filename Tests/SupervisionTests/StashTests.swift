// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import LightProc
import Testing

@testable import Supervision

/// Messages set aside and put back, in virtual time.
@Suite struct StashTests {
    private let sim = Simulation()

    /// Stashes numbers while it is closed; "open" puts them back.
    private func gate(_ receiver: Receiver, restart: RestartType = .permanent, capacity: Int = 100) throws -> AnyRef {
        let trace = sim.trace
        let isOpen = Locked(false)
        let tree = try sim.system.supervise(intensity: .unlimited) {
            receiver.children("gate", restart: restart) { message, context in
                try message.onTell(String.self) { text, _ in
                    trace(text)
                    switch text {
                    case "fail": throw Failure()
                    case "open": context.unstash()
                    default: if let count = Int(text) { context.unstash(count) }
                    }
                    isOpen.withLock { $0 = text == "open" }
                }
                .onFallback { message in
                    if !isOpen.withLock({ $0 }) { return try context.stash(message, capacity: capacity) }
                    trace("\(message.payload)")
                    message.reply?("answer")
                }
            }
        }
        return try tree.refs("gate")[0]
    }

    @Test(arguments: Receiver.allCases)
    func stashedMessagesComeBackInOrderBeforeWhatWaits(receiver: Receiver) throws {
        let gate = try gate(receiver)
        for n in 1...3 { gate.tell(n) }
        gate.tell("open")
        gate.tell(4)
        sim.drain()
        #expect(sim.trace.lines == ["open", "1", "2", "3", "4"])
    }

    @Test(arguments: Receiver.allCases)
    func someOfThemMayBePutBack(receiver: Receiver) throws {
        let gate = try gate(receiver)
        for n in 1...3 { gate.tell(n) }
        gate.tell("2")
        gate.tell("open")
        sim.drain()
        // The two were stashed again, behind the third.
        #expect(sim.trace.lines == ["2", "open", "3", "1", "2"])
    }

    @Test(arguments: Receiver.allCases)
    func aStashedAskStaysAlive(receiver: Receiver) throws {
        let gate = try gate(receiver)
        let answer = Answer(gate.request(1, as: String.self))
        sim.drain()
        // The incarnation that stashed it ends: the ask does not.
        gate.tell("fail")
        sim.drain()
        #expect(answer.count == 0)
        gate.tell("open")
        sim.drain()
        #expect(answer.value == "answer")
    }

    @Test(arguments: Receiver.allCases)
    func theStashSurvivesARestartAndComesFirst(receiver: Receiver) throws {
        let gate = try gate(receiver)
        for n in 1...3 { gate.tell(n) }
        gate.tell("fail")
        gate.tell("open")
        gate.tell(4)
        sim.drain()
        #expect(sim.trace.lines == ["fail", "open", "1", "2", "3", "4"])
        #expect(sim.system.restarts == 1)
    }

    @Test(arguments: Receiver.allCases)
    func whatIsLeftAtTheEndIsADeadLetter(receiver: Receiver) throws {
        let gate = try gate(receiver, restart: .temporary)
        for n in 1...3 { gate.tell(n) }
        let answer = Answer(gate.request(1, as: String.self))
        gate.tell("fail")
        sim.drain()
        #expect(sim.system.deadLetters == 4)
        #expect(answer.error?.code == .processEnded)
    }

    @Test(arguments: Receiver.allCases)
    func aFullStashSaysSoAndTheMessageStaysInHand(receiver: Receiver) throws {
        let errors = Locked<[StashFull<AnyMessage>]>([])
        let tree = try sim.system.supervise {
            receiver.children("gate") { message, context in
                do { try context.stash(message, capacity: 2) } catch let error as StashFull<AnyMessage> {
                    errors.withLock { $0.append(error) }
                    message.reply?("full")
                }
            }
        }
        let gate = try tree.refs("gate")[0]
        gate.tell(1)
        gate.tell(2)
        let answer = Answer(gate.request(3, as: String.self))
        sim.drain()
        #expect(answer.value == "full")
        let error = try #require(errors.withLock { $0.first })
        #expect(error.capacity == 2 && error.process == gate.id && error.message.payload as? Int == 3)
    }

    /// Leaving loses nothing, neither what was set aside.
    @Test(arguments: Receiver.allCases)
    func whoLeavesItsGroupEmptiesItsStashFirst(receiver: Receiver) throws {
        let trace = sim.trace
        let tree = try sim.system.supervise {
            receiver.children("gate", redundancy: 2) { message, context in
                if message.payload as? String == "open" {
                    trace("open")
                    context.unstash()
                } else if trace.lines.isEmpty {
                    try context.stash(message)
                } else {
                    trace("\(message.payload)")
                    message.reply?("answer")
                }
            }
        }
        let gate = try tree.refs("gate")[1]
        gate.tell(1)
        let answer = Answer(gate.request(2, as: String.self, within: .seconds(60)))
        sim.drain()
        try tree.resize(group: "gate", to: 1)
        sim.advance(by: .seconds(1))
        #expect(!gate.proc.isClosed && answer.count == 0)
        gate.tell("open")
        sim.advance(by: .seconds(1))
        #expect(gate.proc.isClosed && answer.value == "answer")
        #expect(sim.trace.lines == ["open", "1", "2"] && sim.system.deadLetters == 0)
    }

    private struct Typed: Reactive {
        enum Message: Sendable {
            case get(Reply<Int>)
            case open
        }
        var isOpen = false
        mutating func receive(_ message: consuming Message, in context: borrowing ReactiveContext<Self>) throws {
            switch message {
            case .open:
                isOpen = true
                context.unstashAll()
            case .get(let reply): if isOpen { reply(1) } else { try context.stash(message) }
            }
        }
    }

    @Test(arguments: [false, true])
    func aTypedAskInHandIsStashedWithItsMessage(isManaged: Bool) throws {
        let tree = try sim.system.supervise(intensity: .unlimited) {
            let children = Children("typed", Typed())
            if isManaged { children.mailbox(.unbounded) } else { children }
        }
        let ref = try tree.group("typed", of: Typed.Message.self).members[0]
        let answer = Answer(ref.request { .get($0) })
        sim.drain()
        ref.proc.kill()
        sim.drain()
        #expect(sim.system.restarts == 1 && answer.count == 0)
        ref.tell(.open)
        sim.drain()
        #expect(answer.value == 1)
    }

    @Test func theStashOfAProcessThatIsDroppedIsDeadLetters() throws {
        var ref: ProcRef<AnyMessage>? = sim.system.spawn(Handler { message, context in try context.stash(message) })
        for n in 1...2 { ref?.tell(AnyMessage(n)) }
        sim.drain()
        ref = nil
        sim.drain()
        #expect(sim.system.deadLetters == 2)
    }

    /// Handles, stashes, unstashes and fails at random: everything is handled once, except what was in hand at a failure.
    @Test(arguments: Receiver.allCases)
    func nothingIsLostOrHandledTwice(receiver: Receiver) throws {
        for seed in RandomTest.seeds("nothingIsLostOrHandledTwice", count: 30) {
            let sim = Simulation(seed: seed)
            let random = Locked(SplitMix64(seed: seed))
            let isQuiet = Locked(false)
            let (handled, lost) = (Trace(), Trace())
            let tree = try sim.system.supervise(intensity: .unlimited) {
                receiver.children("worker") { message, context in
                    guard let n = message.payload as? Int else {
                        _ = context.unstash()
                        return
                    }
                    switch isQuiet.withLock({ $0 }) ? 9 : random.withLock({ Int.random(in: 0..<10, using: &$0) }) {
                    case 0:
                        lost("\(n)")
                        throw Failure()
                    case 1...4: try context.stash(message)
                    case 5:
                        context.unstash(2)
                        fallthrough
                    default:
                        handled("\(n)")
                        message.reply?(n)
                    }
                }
            }
            let worker = try tree.refs("worker")[0]
            var answers: [Int: Answer<Int>] = [:]
            for n in 0..<60 {
                let (isAsk, lane, pauses) = random.withLock { random in
                    (Bool.random(using: &random), Int.random(in: 0..<5, using: &random), Bool.random(using: &random))
                }
                if isAsk {
                    answers[n] = Answer(
                        worker.request(n, as: Int.self, within: .seconds(60), lane: lane == 0 ? .control : .user)
                    )
                } else {
                    worker.tell(n, lane: lane == 0 ? .control : .user)
                }
                if pauses { sim.drain() }
            }
            sim.drain()
            isQuiet.withLock { $0 = true }
            worker.tell("unstash")
            sim.drain()
            let all = (handled.lines + lost.lines).compactMap { Int($0) }
            #expect(all.sorted() == Array(0..<60), "seed \(seed)")
            let lostNumbers = Set(lost.lines)
            for (n, answer) in answers {
                #expect(answer.count == 1, "seed \(seed): \(n)")
                #expect(answer.value == (lostNumbers.contains("\(n)") ? nil : n), "seed \(seed): \(n)")
            }
            #expect(sim.system.restarts == lost.lines.count && sim.system.deadLetters == 0, "seed \(seed)")
        }
    }
}
