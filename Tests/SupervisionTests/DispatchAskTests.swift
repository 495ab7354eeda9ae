// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import LightProc
import Testing

@testable import Supervision

/// Asks through distributors, on a pool; bounded by answers, never by time.
@Suite struct DispatchAskTests {
    struct Question: Sendable {
        let how: How
        let reply: Reply<Int>
        enum How: Sendable { case answer, keep, drop, fail }
    }

    /// Answers with its number, or not.
    struct Answering: Reactive {
        let number: Int
        let how: @Sendable (Int) -> Question.How?
        var kept: [Reply<Int>] = []

        mutating func receive(_ message: consuming Question, in context: borrowing ReactiveContext<Self>) throws {
            switch how(number) ?? message.how {
            case .answer: message.reply(number)
            case .keep: kept.append(message.reply)
            case .drop: break
            case .fail: throw Failure(number: number)
            }
        }
    }

    /// Members 0, 1, ... of a distributor, each with its own way to answer.
    static func answering(
        _ system: BastionSystem,
        _ count: Int = 3,
        _ how: @escaping @Sendable (Int) -> Question.How? = { _ in nil }
    ) throws -> Distributor<Question> {
        let distributor = Distributor<Question>("answers", in: system)
        for number in 0..<count { try distributor.subscribe(system.spawn(Answering(number: number, how: how))) }
        return distributor
    }

    @Test func oneIsAskedAfterTheOther() async throws {
        try await withPool { system in
            let answers = try Self.answering(system)
            for n in 0..<6 { #expect(try await answers.askOne { Question(how: .answer, reply: $0) } == n % 3) }
            let pending: PendingReply<Int> = try answers.request { Question(how: .answer, reply: $0) }
            #expect(try await pending.value() == 0)
        }
    }

    @Test func anAskWithoutAnswerSaysHowItEnded() async throws {
        try await withPool { system in
            let answers = try Self.answering(system)
            for (how, code) in [(Question.How.drop, AskError.Code.unanswered), (.fail, .processEnded)] {
                let error = await thrown(DistributorError<Question>.self) {
                    let _: Int = try await answers.askOne { Question(how: how, reply: $0) }
                }
                #expect(error?.code == .noAnswer && error?.ask?.code == code && error?.message == nil)
            }
            let late = await thrown(DistributorError<Question>.self) {
                let _: Int = try await answers.askOne(within: .milliseconds(1)) { Question(how: .keep, reply: $0) }
            }
            #expect(late?.ask?.code == .timeout)
            // The one that failed has ended for good.
            #expect(answers.members.count == 2)
        }
    }

    @Test func everyoneAnswersOrSaysWhyNot() async throws {
        try await withPool { system in
            let answers = try Self.answering(system, 4) { [.answer, .fail, .drop, .answer][$0] }
            let results: [Result<Int, AskError>] = try await answers.askEveryone(within: .seconds(300)) {
                Question(how: .answer, reply: $0)
            }
            #expect(results.map { try? $0.get() } == [0, nil, nil, 3])
            let codes = results.map { result -> AskError.Code? in
                if case .failure(let error) = result { error.code } else { nil }
            }
            #expect(codes == [nil, .processEnded, .unanswered, nil])
        }
    }

    /// In virtual time, as the others must have answered by then.
    @Test func whoDoesNotAnswerInTimeDoesNotKeepTheOthersAnswersBack() throws {
        let sim = Simulation()
        let answers = try Self.answering(sim.system, 3) { [.answer, .keep, .answer][$0] }
        let asker = sim.executor.spawn {
            let some: [Result<Int, AskError>] = try await answers.askEveryone(within: .milliseconds(50)) {
                Question(how: .answer, reply: $0)
            }
            sim.note("\(some.map { (try? $0.get()) ?? -1 })")
        }
        sim.advance(by: .seconds(1))
        #expect(sim.trace.lines == ["50: [0, -1, 2]"])
        withExtendedLifetime(asker) {}
    }

    @Test func everyoneIsAskedAlsoWhereSendersWaitForRoom() throws {
        let sim = Simulation()
        let tree = try sim.system.supervise {
            Children("slow", handling: Question.self, redundancy: 2) { question, context in
                try await context.sleep(for: .seconds(1))
                question.reply(7)
            }.mailbox(.bounded(1)).distributor("slow", .roundRobin)
        }
        let members = try tree.group("slow", of: Question.self).members
        // One in hand, one that waits: full.
        var before: [PendingReply<Int>] = []
        for _ in 0..<2 {
            before += members.map { $0.request(within: .seconds(60)) { Question(how: .answer, reply: $0) } }
            sim.drain()
        }
        let asker = sim.executor.spawn {
            let slow = Distributor<Question>("slow", in: sim.system)
            let all: [Result<Int, AskError>] = try await slow.askEveryone { Question(how: .answer, reply: $0) }
            sim.note("\(all.map { (try? $0.get()) ?? -1 })")
        }
        sim.advance(by: .seconds(10))
        #expect(sim.trace.lines.map { $0.drop { $0 != "[" } } == ["[7, 7]"])
        withExtendedLifetime((asker, before)) {}
    }

    @Test func theFirstAnswerCountsAndTheOthersAreGivenUp() async throws {
        try await withPool { system in
            let answers = try Self.answering(system, 3) { [.keep, .fail, .answer][$0] }
            #expect(try await answers.askFirst(within: .seconds(60)) { Question(how: .answer, reply: $0) } == 2)
            // The one that keeps its reply was given up: only that is left, and nobody else to answer.
            let keeping = try Self.answering(system, 0)
            #expect(keeping.members.count == 2)
        }
    }

    @Test func onlyWhenNobodyAnswersThereIsAnError() async throws {
        try await withPool { system in
            let answers = try Self.answering(system, 3) { [.drop, .fail, .drop][$0] }
            let error = await thrown(DistributorError<Question>.self) {
                let _: Int = try await answers.askFirst(within: .seconds(60)) { Question(how: .answer, reply: $0) }
            }
            #expect(error?.code == .noAnswer && error?.ask != nil)
            let none = Distributor<Question>("none", in: system)
            let nobody = await thrown(DistributorError<Question>.self) {
                let _: Int = try await none.askFirst { Question(how: .answer, reply: $0) }
            }
            #expect(nobody?.code == .noDistributor)
        }
    }

    @Test func someAreAskedInTurn() async throws {
        try await withPool { system in
            let asked = Locked<[Int]>([])
            let answers = try Self.answering(system, 4) { number in
                asked.withLock { $0.append(number) }
                return .drop
            }
            for _ in 0..<2 {
                _ = await thrown(DistributorError<Question>.self) {
                    let _: Int = try await answers.askFirst(of: 2, within: .seconds(60)) {
                        Question(how: .answer, reply: $0)
                    }
                }
            }
            #expect(asked.withLock { $0.sorted() } == [0, 1, 1, 2])
        }
    }

    @Test func askingTheFirstCanBeCancelled() async throws {
        try await withPool { system in
            let asked = Topic<Int>("asked", in: system)
            let answers = try Self.answering(system, 2) { number in
                asked.publish(number)
                return .keep
            }
            let (stream, continuation) = AsyncStream.makeStream(of: Int.self)
            struct Telling: Reactive {
                let continuation: AsyncStream<Int>.Continuation
                mutating func receive(_ message: consuming Int, in context: borrowing ReactiveContext<Self>) {
                    continuation.yield(message)
                }
            }
            asked.subscribe(system.spawn(Telling(continuation: continuation)))
            let ask = Task { () throws -> Int in
                try await answers.askFirst(within: .seconds(600)) { Question(how: .answer, reply: $0) }
            }
            var iterator = stream.makeAsyncIterator()
            _ = (await iterator.next(), await iterator.next())
            ask.cancel()
            let error = await thrown(DistributorError<Question>.self) { _ = try await ask.value }
            #expect(error?.ask?.code == .cancelled)
        }
    }

    @Test(arguments: [
        (DistributionStrategy.broadcast, 1), (.firstAnswer, 1), (.firstAnswer(of: 2), 1), (.roundRobin, 0),
    ])
    func askDoesWhatTheStrategySays(strategy: DistributionStrategy, answer: Int) async throws {
        try await withPool { system in
            let answers = Distributor<Question>("answers", in: system)
            for number in 0..<2 {
                let how: @Sendable (Int) -> Question.How? = { _ in answer == 1 && number == 0 ? .drop : .answer }
                try answers.subscribe(system.spawn(Answering(number: number, how: how)), strategy)
            }
            #expect(try await answers.ask(within: .seconds(60)) { Question(how: .answer, reply: $0) } == answer)
        }
    }
}
