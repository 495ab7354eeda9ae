// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import LightProc
import Testing

@testable import Supervision

/// The same on real threads: nothing is lost, nothing comes twice, nothing comes of what was cancelled.
@Suite(.serialized, .timeLimit(.minutes(5))) struct DynamicPoolTests {
    private static let senders = 4
    private static let messages = 500

    /// Sends all numbers from several tasks.
    private func flood(_ ref: ProcRef<Int>) async {
        await withTaskGroup(of: Void.self) { group in
            for sender in 0..<Self.senders {
                group.addTask {
                    for n in 0..<Self.messages {
                        ref.tell(n * Self.senders + sender, lane: n % 16 == 0 ? .control : .user)
                        if n % 32 == 0 { await Task.yield() }
                    }
                }
            }
        }
    }

    @Test(arguments: [false, true])
    func selectiveReceivesLoseNothing(isManaged: Bool) async throws {
        try await withPool { system in
            let (seen, note) = AsyncStream.makeStream(of: Int.self)
            let tree = try system.supervise {
                let children = Children("worker") { context in
                    await withTaskGroup(of: Void.self) { group in
                        for rest in 0..<3 {
                            group.addTask {
                                while let n = try? await context.receive(Int.self, matching: { $0 % 3 == rest }) {
                                    note.yield(n)
                                }
                            }
                        }
                        group.addTask {
                            for _ in 0..<100 { if let n = try? await context.receive(Int.self) { note.yield(n) } }
                        }
                    }
                }
                if isManaged { children.mailbox(.unbounded) } else { children }
            }
            await flood(try tree.group("worker").members[0])
            var numbers = Set<Int>()
            let total = Self.senders * Self.messages
            for await n in seen {
                #expect(numbers.insert(n).inserted, "\(n) came twice")
                if numbers.count == total { break }
            }
            #expect(numbers == Set(0..<total))
        }
    }

    private struct Restless: Reactive {
        enum Message: Sendable {
            case again
            case fired(Int)
            case report(Reply<[Int]>)
        }
        var generation = 0
        var fired = 0
        var wrong = 0

        mutating func receive(_ message: consuming Message, in context: borrowing ReactiveContext<Self>) throws {
            switch message {
            case .again:
                generation += 1
                if generation % 3 == 0 { context.timers.cancel("timer") }
                context.timers.start("timer", after: .nanoseconds(generation % 7 * 1_000), .fired(generation))
            case .fired(let number):
                fired += 1
                if number != generation { wrong += 1 }
            case .report(let reply):
                if !context.timers.isActive("timer") { reply([fired, wrong]) } else { context.me.tell(.report(reply)) }
            }
        }
    }

    @Test(arguments: [false, true])
    func nothingOfAReplacedTimerIsReceived(isManaged: Bool) async throws {
        try await withPool { system in
            let tree = try system.supervise {
                let children = Children("restless", Restless())
                if isManaged { children.mailbox(.unbounded) } else { children }
            }
            let ref = try tree.group("restless", of: Restless.Message.self).members[0]
            for n in 0..<5_000 {
                ref.tell(.again)
                if n % 20 == 0 { await Task.yield() }
            }
            let report = try await ref.ask(within: .seconds(60)) { .report($0) }
            #expect(report[0] > 0 && report[1] == 0)
        }
    }

    @Test(arguments: Receiver.allCases)
    func everyForwardedAskEndsOnce(receiver: Receiver) async throws {
        try await withPool { system in
            let last = try system.supervise("last", intensity: .unlimited) {
                receiver.children("last") { message, _ in
                    try message.onQuestion(Int.self) { n, reply in
                        if n % 7 == 0 { throw Failure() }
                        reply(n)
                    }.onFallback { _ in }
                }
            }.refs("last")[0]
            let middle = try system.supervise("middle", intensity: .unlimited) {
                receiver.children("middle", redundancy: 2) { message, context in
                    try message.onQuestion(Int.self) { n, _ in
                        _ = context.forward(message, to: last)
                        if n % 11 == 0 { throw Failure() }
                    }.onFallback { _ in }
                }
            }.refs("middle")
            let pending = (0..<1_000).map { n in middle[n % 2].request(n, as: Int.self, within: .seconds(60)) }
            for (n, pending) in pending.enumerated() {
                do throws(AskError) {
                    #expect(try await pending.value() == n)
                } catch {
                    // Unanswered if the forwarder was the last to let go of the reply.
                    let isExpected =
                        error.code == .unanswered || error.code == .processEnded && error.process == last.id
                    #expect(n % 7 == 0 && isExpected, "\(n): \(error)")
                }
            }
        }
    }
}
