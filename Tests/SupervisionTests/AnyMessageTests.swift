// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import LightProc
import Testing

@testable import Supervision

/// A reactive process that takes messages of any type: `any Sendable` rides on the same mailbox.
@Suite(.timeLimit(.minutes(15))) struct AnyMessageTests {
    private struct Large: Sendable, Equatable {
        var words = (1, 2, 3, 4, 5, 6, 7, 8, 9)
        static func == (first: Large, second: Large) -> Bool {
            first.words.0 == second.words.0 && first.words.8 == second.words.8
        }
    }

    private final class Counted: Sendable {
        let freed: @Sendable () -> Void
        init(_ freed: @escaping @Sendable () -> Void) { self.freed = freed }
        deinit { freed() }
    }

    private struct Question: Sendable { let reply: Reply<[String]> }

    /// Keeps a line for each message.
    private struct Anything: Reactive {
        private var lines: [String] = []
        mutating func receive(_ message: consuming any Sendable, in context: borrowing ReactiveContext<Self>) throws {
            let message = message
            switch message {
            case let number as Int: lines.append("Int \(number)")
            case let text as String: lines.append("String \(text)")
            case let large as Large: lines.append("Large \(large == Large())")
            case is Counted: lines.append("Counted")
            case let function as @Sendable () -> Int: lines.append("function \(function())")
            case let question as Question: question.reply(lines)
            case is Never.Type: _ = opaque([1])[opaque(9)]
            default: lines.append("\(type(of: message))")
            }
        }
    }

    private static let said = ["Int 7", "String seven", "Large true", "Counted", "Double", "Optional<Int>"]

    private func tellAll(_ anything: ProcRef<any Sendable>, _ trace: Trace) {
        anything.tell(7)
        anything.tell("seven")
        anything.tell(Large())
        anything.tell(Counted { trace("freed") })
        anything.tell(7.0)
        anything.tell(Int?.none)
    }

    @Test func messagesOfAllTypesArriveInOrderAndAreFreed() async throws {
        let system = BastionSystem(name: "any", executor: try WorkerPool(workers: 1), log: .silent)
        let trace = Trace()
        let anything = system.spawn(Anything())
        tellAll(anything, trace)
        let lines = try await anything.ask(within: .seconds(60)) { Question(reply: $0) }
        #expect(lines == Self.said)
        #expect(trace.lines == ["freed"])
    }

    @Test(arguments: [false, true])
    func aSupervisedOneIsRestartedAndKeepsItsMessages(isManaged: Bool) async throws {
        let system = BastionSystem(name: "any", executor: try WorkerPool(workers: 2), log: .silent)
        let trace = Trace()
        let children = Children("anything", Anything())
        let tree = try system.supervise { isManaged ? children.mailbox(.unbounded) : children }
        let anything = try tree.group("anything", of: (any Sendable).self).next
        anything.tell("lost with the trap")
        anything.tell(Never.self)
        tellAll(anything, trace)
        let lines = try await anything.ask(within: .seconds(60)) { Question(reply: $0) }
        #expect(lines == Self.said)
        #expect(anything.proc.restarts == 1)
        #expect(anything.proc.lastExit?.trapReport?.messageType == "Never.Type")
        #expect(trace.lines == ["freed"])
        await tree.stop()
    }

    /// Traps at a string.
    private struct Fragile: Reactive {
        mutating func receive(_ message: consuming AnyMessage, in context: borrowing ReactiveContext<Self>) {
            if message.payload is String { _ = opaque([1])[opaque(9)] }
        }
    }

    @Test func theReportOfATrapNamesTheTypeThatTheMessageReallyHad() async throws {
        let system = BastionSystem(name: "any", executor: try WorkerPool(workers: 1), log: .silent)
        let anything = system.spawn(Anything())
        anything.tell(7)
        anything.tell(Never.self)
        #expect(await ProcHandle(anything.proc).exit().trapReport?.messageType == "Never.Type")
        let fragile = system.spawn(Fragile())
        fragile.dynamic.tell(7)
        fragile.dynamic.tell("seven")
        #expect(await ProcHandle(fragile.proc).exit().trapReport?.messageType == "String")
    }

    @Test func whatIsLeftOfAClosedOneIsDestroyed() throws {
        let simulation = Simulation()
        let tree = try simulation.system.supervise { Children("anything", Anything(), restart: .temporary) }
        let anything = try tree.group("anything", of: (any Sendable).self).next
        simulation.drain()
        anything.proc.stop()
        for _ in 0..<3 { anything.tell(Counted { simulation.note("freed") }) }
        simulation.drain()
        #expect(anything.proc.isClosed)
        #expect(simulation.trace.lines.count == 3)
        #expect(!anything.tell(7))
    }
}
