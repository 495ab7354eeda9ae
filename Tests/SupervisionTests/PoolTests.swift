// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc
import Supervision
import Testing

/// On a pool of two workers, with traps. Bounded by what they wait for: answers and ends, never time.
@Suite struct PoolTests {
    struct Work: Sendable {
        let index: Int
        let reply: Reply<Int>
    }

    @Test func aReactiveProcessCountsAndAnswers() async throws {
        try await withPool { system in
            let trace = Trace()
            let echo = system.spawn(Echo("echo", trace))
            for n in 0..<1000 { echo.tell(.value(n)) }
            let count = try await echo.ask(within: .seconds(60)) { .count($0) }
            #expect(count == 1000)
            #expect(trace.lines.dropFirst() == (0..<1000).map { "echo \($0)" }[...])
        }
    }

    /// In an OS process of its own: traps at the same instant may find each other's words.
    @Test func whoAsksAProcessThatTrapsLearnsItAtOnceWithTheReport() async {
        await #expect(processExitsWith: .success) { try await Self.askProcessesThatTrap() }
    }

    private static func askProcessesThatTrap() async throws {
        try await withPool { system in
            let tree = try system.supervise(intensity: .unlimited) {
                Children("trapper", Trapper(), redundancy: 2)
                Children("worker") { context in
                    for await work in context.messages(of: Work.self) { work.reply(opaque([1])[work.index]) }
                }
            }
            let trapper = try tree.group("trapper", of: Trapper.Message.self).members[1]
            await #expect { _ = try await trapper.ask(within: .seconds(60)) { .trapWith($0) } } throws: { error in
                isTrap(error, of: trapper.id, name: "trapper-1")
            }
            let worker = try tree.group("worker", of: Work.self).members[0]
            await #expect { _ = try await worker.ask(within: .seconds(60)) { Work(index: 9, reply: $0) } } throws: {
                isTrap($0, of: worker.id, name: "worker-0")
            }
            #expect(try await worker.ask(within: .seconds(60)) { Work(index: 0, reply: $0) } == 1)
            #expect(try await trapper.ask(within: .seconds(60)) { .count($0) } == 0)
            #expect(worker.proc.restarts == 1 && trapper.proc.restarts == 1)
        }

        @Sendable func isTrap(_ error: any Error, of id: ProcID, name: String) -> Bool {
            guard let error = error as? AskError, case .trap(let report)? = error.reason else { return false }
            return error.code == .processEnded && error.process == id && report.process == id && report.name == name
                && report.kind == .indexOutOfRange
        }
    }

    @Test func whatWasQueuedBehindATrapIsHandledAfterIt() async throws {
        try await withPool { system in
            let tree = try system.supervise(intensity: .unlimited) { Children("trapper", Trapper()) }
            let trapper = try tree.group("trapper", of: Trapper.Message.self).members[0]
            trapper.tell(.add)
            trapper.tell(.trap(.indexOutOfRange))
            for _ in 0..<5 { trapper.tell(.add) }
            #expect(try await trapper.ask(within: .seconds(60)) { .count($0) } == 5)
            #expect(trapper.proc.restarts == 1)
        }
    }

    @Test func asyncChildrenComeBackAfterTraps() async {
        await #expect(processExitsWith: .success) { try await Self.asyncChildrenThatTrap() }
    }

    private static func asyncChildrenThatTrap() async throws {
        try await withPool { system in
            let tree = try system.supervise(intensity: .unlimited) {
                Children("worker", redundancy: 4) { context in
                    for await work in context.messages(of: Work.self) { work.reply(opaque([1, 2, 3])[work.index]) }
                }
            }
            let workers = try tree.group("worker", of: Work.self)
            for i in 0..<60 {
                do {
                    let value = try await workers.ask(within: .seconds(60)) { Work(index: i % 5, reply: $0) }
                    #expect(value == i % 5 + 1)
                } catch let error as AskError {
                    #expect(i % 5 > 2)
                    #expect(error.code == .processEnded)
                }
            }
            for worker in workers.members {
                #expect(try await worker.ask(within: .seconds(60)) { Work(index: 0, reply: $0) } == 1)
            }
            #expect(system.restarts == 24)
        }
    }

    /// In an OS process of its own, because so many traps would meet those of other tests.
    @Test func fiveHundredMixedTrapsAreCountedExactly() async {
        await #expect(processExitsWith: .success) { try await Self.fiveHundredMixedTraps() }
    }

    private static func fiveHundredMixedTraps() async throws {
        try await withPool { system in
            let tree = try system.supervise(intensity: .unlimited) {
                Children("trapper", Trapper(), redundancy: 3)
                Children("worker", redundancy: 2) { context in
                    for await message in context.messages(of: Trapper.Message.self) {
                        switch message {
                        case .trap(let fault): fault.happen()
                        case .count(let reply): reply(context.restarts)
                        case .add, .trapWith: break
                        }
                    }
                }
            }
            let members =
                try tree.group("trapper", of: Trapper.Message.self).members
                + tree.group("worker", of: Trapper.Message.self).members
            for i in 0..<500 { members[i % 5].tell(.trap(Fault.allCases[i / 5 % Fault.allCases.count])) }
            for member in members {
                _ = try await member.ask(within: .seconds(120)) { .count($0) }
                #expect(member.proc.restarts == 100)
                guard case .trap(let report)? = member.proc.lastExit else {
                    Issue.record("no trap: \(String(describing: member.proc.lastExit))")
                    continue
                }
                #expect(report.process == member.id)
            }
            #expect(system.restarts == 500)
        }
    }

    @Test func aGroupIsServedRoundRobin() async throws {
        try await withPool { system in
            let trace = Trace()
            let tree = try system.supervise { Children("echo", Echo("echo", trace), redundancy: 3) }
            let group = try tree.group("echo", of: Echo.Message.self)
            for n in 0..<30 { group.tell(.value(n)) }
            for member in group.members {
                #expect(try await member.ask(within: .seconds(60)) { .count($0) } == 10)
            }
        }
    }

    @Test func aBroadcastReachesEveryMember() async throws {
        try await withPool { system in
            let trace = Trace()
            let tree = try system.supervise {
                Children("echo", Echo("echo", trace), redundancy: 3, restart: .temporary)
            }
            let group = try tree.group("echo", of: Echo.Message.self)
            #expect(group.broadcast(.value(1)) == 3)
            for member in group.members {
                #expect(try await member.ask(within: .seconds(60)) { .count($0) } == 1)
            }
            let member = group.members[1]
            member.tell(.finish)
            _ = await ProcHandle(member.proc).exit()
            await tree.stop()
            #expect(group.broadcast(.value(2)) == 0)
        }
    }

    @Test func exitHooksRunAfterATrap() async throws {
        try await withPool { system in
            let trace = Trace()
            let tree = try system.supervise(intensity: .unlimited) {
                Children("worker") { context in
                    let restarts = context.restarts
                    for i in 0..<2 { context.onExit { trace("\(restarts) hook \(i) \($0.trapReport != nil)") } }
                    for await work in context.messages(of: Work.self) { work.reply(opaque([7])[work.index]) }
                }
            }
            let worker = try tree.group("worker", of: Work.self).members[0]
            let lost = worker.request(within: .seconds(60)) { Work(index: 1, reply: $0) }
            await #expect(throws: AskError.self) { try await lost.value() }
            let value = try await worker.ask(within: .seconds(60)) { Work(index: 0, reply: $0) }
            #expect(value == 7)
            #expect(trace.lines == ["0 hook 1 true", "0 hook 0 true"])
        }
    }

    @Test func aSystemStopsAllItsTreesTheLastStartedFirst() async throws {
        try await withPool { system in
            let trace = Trace()
            for name in ["a", "b", "c"] {
                let tree = try system.supervise(name) {
                    Children(name) { context in
                        context.onExit { _ in trace(name) }
                        for await work in context.messages(of: Work.self) { work.reply(0) }
                    }
                }
                _ = try await tree.group(name, of: Work.self).ask(within: .seconds(60)) { Work(index: 0, reply: $0) }
            }
            await system.stop()
            #expect(trace.lines == ["c", "b", "a"])
        }
    }
}

enum Fault: CaseIterable, Sendable {
    case indexOutOfRange, nilUnwrapped, overflow, divisionByZero, fatal

    func happen() {
        switch self {
        case .indexOutOfRange: _ = opaque([1])[opaque(5)]
        case .nilUnwrapped: _ = opaque(Int?.none)!
        case .overflow: _ = opaque(Int.max) + opaque(1)
        case .divisionByZero: _ = opaque(1) / opaque(0)
        case .fatal: fatalError("as told")
        }
    }
}

/// A reactive child that traps when told to.
struct Trapper: Reactive {
    enum Message: Sendable {
        case add
        case trap(Fault)
        case trapWith(Reply<Int>)
        case count(Reply<Int>)
    }
    var count = 0

    mutating func receive(_ message: consuming Message, in context: borrowing ReactiveContext<Self>) throws {
        switch message {
        case .add: count += 1
        case .trap(let fault): fault.happen()
        case .trapWith(let reply): reply(opaque([1])[opaque(9)])
        case .count(let reply): reply(count)
        }
    }
}
