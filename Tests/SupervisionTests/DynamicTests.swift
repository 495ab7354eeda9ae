// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc
import Testing

@testable import Supervision

/// Messages of any type, told apart by the receiver, in virtual time.
@Suite struct DynamicTests {
    private let sim = Simulation()

    private final class Shared: Sendable {}

    @Test(arguments: Receiver.allCases)
    func messagesAreToldApartByKindAndType(receiver: Receiver) throws {
        let trace = sim.trace
        let tree = try sim.system.supervise {
            receiver.children("worker") { message, _ in
                message.onTell(String.self) { text, sender in trace("told \(text), \(sender.isIdentified)") }
                    .onQuestion(Int.self) { n, reply in reply(n * 2) }
                    .onQuestion(String.self) { text, reply in reply("\(text)!") }
                    .onBroadcast(Int.self) { n in trace("broadcast \(n)") }
                    .onTell(Int.self) { n, _ in trace("told \(n)") }
                    .onFallback { unknown in trace("unknown \(unknown.kind) \(type(of: unknown.payload))") }
            }
        }
        let worker = try tree.refs("worker")[0]
        #expect(worker.tell("hello"))
        #expect(worker.tell(1))
        #expect(worker.tell(1.0))
        #expect([worker].broadcast(2) == 1)
        #expect([worker].broadcast("all") == 1)
        let doubled = Answer(worker.request(21, as: Int.self))
        let louder = Answer(worker.request("loud", as: String.self))
        let unanswered = Answer(worker.request(1.5, as: Int.self))
        sim.drain()
        #expect(doubled.value == 42 && louder.value == "loud!")
        #expect(unanswered.error?.code == .unanswered)
        #expect(
            sim.trace.lines == [
                "told hello, false", "told 1", "unknown tell Double", "broadcast 2", "unknown broadcast String",
                "unknown ask Double",
            ]
        )
        #expect(sim.system.deadLetters == 0)
    }

    @Test(arguments: Receiver.allCases)
    func whatNoArmTakesIsADeadLetter(receiver: Receiver) throws {
        let letters = Locked<[DeadLetter]>([])
        let observation = sim.system.observeDeadLetters { letter in letters.withLock { $0.append(letter) } }
        let tree = try sim.system.supervise {
            receiver.children("worker") { message, _ in message.onTell(String.self) { _, _ in } }
        }
        let worker = try tree.refs("worker")[0]
        worker.tell("text")
        worker.tell(7)
        let answer = Answer(worker.request("text", as: Int.self))
        sim.drain()
        let types = letters.withLock { $0.map { "\($0.messageType) \($0.reason.description)" } }
        let reason = DeadLetter.Reason.unhandled.description
        #expect(types.sorted() == ["Int \(reason)", "String \(reason)"])
        #expect(answer.error?.code == .unanswered)
        observation.cancel()
    }

    @Test func theFirstArmThatFitsWinsAndItsResultIsHandedOut() {
        let message = AnyMessage(5)
        let text = message.onTell(String.self) { text, _ in text }
            .onTell(Int.self) { n, _ in "first \(n)" }
            .onTell(Int.self) { n, _ in "second \(n)" }
            .onFallback { _ in "none" }
        #expect(text == "first 5")
        #expect(message.onTell(String.self) { _, _ in 1 }.onFallback { _ in 2 } == 2)
        #expect(message.onTell(Int.self) { _, _ in 1 }.result() == 1)
        #expect(message.onTell(String.self) { _, _ in 1 }.result() == nil)
        // A protocol fits what conforms to it.
        #expect(message.onTell((any CustomStringConvertible & Sendable).self) { n, _ in "\(n)" }.result() == "5")
    }

    @Test func anArmThatThrowsIsTheLastOne() {
        #expect(throws: Failure.self) {
            try AnyMessage(5).onTell(Int.self) { _, _ in throw Failure() }.onFallback { _ in }
        }
    }

    @Test func armsMaySuspend() throws {
        let sim = self.sim
        let tree = try sim.system.supervise {
            Children("worker") { context in
                for await message in context {
                    try await message.onTell(Int.self) { n, _ in
                        try await context.sleep(for: .seconds(n))
                        sim.note("slept")
                    }
                    .onQuestion(Int.self) { n, reply in reply(n) }
                    .onFallback { _ in sim.note("other") }
                }
            }
        }
        let worker = try tree.refs("worker")[0]
        worker.tell(2)
        worker.tell("other")
        let answer = Answer(worker.request(3, as: Int.self))
        sim.advance(by: .seconds(3))
        #expect(sim.trace.lines == ["2000: slept", "2000: other"])
        #expect(answer.value == 3)
    }

    @Test func anAnswerOfAnotherTypeIsAnErrorThatNamesBoth() throws {
        let tree = try sim.system.supervise {
            Receiver.reactive.children("worker") { message, _ in message.onQuestion(Int.self) { n, reply in reply(n) } }
        }
        let answer = Answer(try tree.refs("worker")[0].request(1, as: String.self))
        sim.drain()
        let error = try #require(answer.error)
        #expect(error.code == .wrongAnswer)
        #expect(error.types?.asked == String.self && error.types?.answered == Int.self)
        #expect(error.description.contains("Int") && error.description.contains("String"))
    }

    @Test(arguments: [false, true])
    func typedReceivesTakeWhatWasToldDynamically(isManaged: Bool) throws {
        let trace = sim.trace
        let tree = try sim.system.supervise {
            let children = Children("worker") { context in
                for await n in context.messages(of: Int.self) { trace("\(n)") }
            }
            if isManaged { children.mailbox(.unbounded) } else { children }
        }
        let worker = try tree.refs("worker")[0]
        let typed: ProcRef<Int> = try tree.group("worker").members[0]
        worker.tell(1)
        typed.tell(2)
        [worker].broadcast(3)
        worker.tell("text")
        let answer = Answer(worker.request(4, as: Int.self))
        sim.drain()
        #expect(sim.trace.lines == ["1", "2", "3"])
        #expect(sim.system.deadLetters == 2)
        #expect(answer.error?.code == .unanswered)
    }

    @Test(arguments: [false, true])
    func dynamicReceivesTakeWhatTypedReferencesSend(isManaged: Bool) throws {
        let trace = sim.trace
        let tree = try sim.system.supervise {
            let children = Children("worker") { context in
                while true {
                    try await context.receive().onTell(Echo.Message.self) { message, sender in
                        if case .count(let reply) = message { reply(7) } else { trace("told, \(sender)") }
                    }
                }
            }
            if isManaged { children.mailbox(.unbounded) } else { children }
        }
        let worker: ProcRef<Echo.Message> = try tree.group("worker").members[0]
        worker.tell(.value(1))
        let answer = Answer(worker.request { .count($0) })
        sim.drain()
        #expect(sim.trace.lines == ["told, anonymous"])
        #expect(answer.value == 7)
    }

    @Test(arguments: [false, true])
    func aTypedReactiveProcessTakesWhatIsExactlyOfItsType(isManaged: Bool) throws {
        let trace = sim.trace
        let tree = try sim.system.supervise {
            let echo = Children("echo", Echo("echo", trace))
            if isManaged { echo.mailbox(.bounded(9)) } else { echo }
        }
        let echo = AnyRef(try tree.group("echo", of: Echo.Message.self).members[0])
        #expect(echo.tell(Echo.Message.value(1)))
        #expect([echo].broadcast(Echo.Message.value(2)) == 1)
        #expect(!echo.tell(3))
        let error = #expect(throws: SendError<Int>.self) { try echo.trySend(3) }
        guard case .wrongType(3, echo.id)? = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        let answer = Answer(echo.request(Echo.Message.value(4), as: Int.self))
        sim.drain()
        #expect(answer.error?.code == .wrongMessage)
        #expect(sim.trace.lines == ["start echo", "echo 1", "echo 2"])
    }

    @Test func tryVariantsGiveTheMessageBack() throws {
        let tree = try sim.system.supervise {
            Children("worker") { context in await context.untilStopped() }.mailbox(.bounded(1, .fail))
        }
        let worker = try tree.refs("worker")[0]
        try worker.trySend("first")
        let full = #expect(throws: SendError<String>.self) { try worker.trySendAnonymously("second") }
        guard case .full("second", worker.id)? = full else {
            Issue.record("\(String(describing: full))")
            return
        }
        sim.drain()
        #expect(sim.stops(tree))
        let closed = #expect(throws: SendError<String>.self) { try worker.trySend("third") }
        guard case .closed("third", worker.id)? = closed else {
            Issue.record("\(String(describing: closed))")
            return
        }
    }

    @Test(arguments: Receiver.allCases)
    func theSenderCanBeToldAndAsked(receiver: Receiver) throws {
        let trace = sim.trace
        let tree = try sim.system.supervise {
            receiver.children("answering") { message, _ in
                message.onTell(String.self) { text, sender in
                    guard sender.isIdentified else { return trace("anonymous: \(text)") }
                    trace("from \(sender.path ?? "nowhere")")
                    sender.tell(text.count)
                }
            }
        }
        let answering = try tree.refs("answering")[0]
        try sim.system.supervise("others") {
            receiver.children("sender") { message, context in
                message.onTell(Bool.self) { isAnonymous, _ in
                    if isAnonymous { answering.tellAnonymously("secret") } else { answering.tell("four") }
                }
                .onTell(Int.self) { n, sender in trace("\(n) from \(sender.ref == answering)") }
            }
        }.refs("sender")[0].broadcastToSelf([false, true])
        sim.drain()
        #expect(sim.trace.lines.sorted() == ["4 from true", "anonymous: secret", "from /others/sender-0"])
    }

    @Test func aBroadcastSharesOneValue() throws {
        let seen = Locked<[ObjectIdentifier]>([])
        let tree = try sim.system.supervise {
            for receiver in Receiver.allCases {
                receiver.children(receiver.rawValue, redundancy: 2) { message, _ in
                    message.onBroadcast(Shared.self) { value in seen.withLock { $0.append(ObjectIdentifier(value)) } }
                }
            }
        }
        let shared = Shared()
        #expect(tree.broadcast(shared) == 8)
        sim.drain()
        #expect(seen.withLock { $0 } == Array(repeating: ObjectIdentifier(shared), count: 8))
    }

    @Test func aTimedReceiveGivesUp() throws {
        let sim = self.sim
        let tree = try sim.system.supervise {
            Children("worker") { context in
                do {
                    let message = try await context.receive(within: .seconds(1))
                    sim.note("\(message.payload)")
                    _ = try await context.receive(within: .seconds(1))
                } catch is DeadlineExceeded {
                    sim.note("none")
                    await context.untilStopped()
                }
            }
        }
        try tree.refs("worker")[0].tell("hello")
        sim.advance(by: .seconds(5))
        #expect(sim.trace.lines == ["0: hello", "1000: none"])
    }
}

extension AnyRef {
    func broadcastToSelf(_ values: [Bool]) { for value in values { tellAnonymously(value) } }
}
