// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import LightProc
import Testing

@testable import Supervision

@Suite struct DispatchDispatcherTests {
    typealias Problem = DispatcherError<Taker.Message>
    let sim = Simulation()

    /// Sends to members by their names, and notes what it is told.
    final class Noting: DispatcherHandler {
        let trace: Trace
        init(_ trace: Trace) { self.trace = trace }

        func notify(from: Recipient?, entries: Recipients, notification: NotificationType) {
            trace("\(notification) \(from?.name ?? "nobody") of \(entries.map { $0.name ?? "" })")
        }

        func broadcastMessage<Message: Sendable>(entries: Recipients, message: Message) -> Int {
            entries.count { $0.name == "taker-1" && $0.tell(message) }
        }
    }

    func takers(_ name: String = "taker", _ count: Int = 3) -> Children {
        Children(name, Taker(name, sim.trace), redundancy: count, restart: .transient)
    }

    @Test func byDefaultMembersTakeTurns() throws {
        let names = Locked<[String]>([])
        let tree = try sim.system.supervise {
            Children("async", redundancy: 3) { context in
                for await n in context.messages(of: Int.self) { names.withLock { $0.append("\(context.name) \(n)") } }
            }.dispatcher("input")
        }
        for n in 0..<6 { #expect(try sim.system.broadcast(n, to: .group("input")) == 1) }
        sim.drain()
        let expected = (0..<6).map { "async-\($0 % 3) \($0)" }
        #expect(names.withLock { $0.sorted() } == expected.sorted())
        #expect(sim.stops(tree))
    }

    @Test func aBroadcastHandlerDeliversToEveryMemberOfEveryGroup() throws {
        let handler = BroadcastHandler()
        _ = try sim.system.supervise {
            takers("a", 3).dispatcher(.named("input", handler: handler))
            takers("b", 2).dispatcher(.named("input", handler: handler))
            takers("c", 1).dispatcher(Dispatcher(handler: BroadcastHandler()))
        }
        #expect(try sim.system.broadcast(Taker.Message.number(1), to: .group("input")) == 5)
        sim.drain()
        #expect(sim.trace.lines.sorted() == ["a 1", "a 1", "a 1", "b 1", "b 1"])
        sim.trace.clear()
        #expect(try sim.system.broadcast(Taker.Message.number(2), to: .all) == 6)
        sim.drain()
        #expect(sim.trace.lines.sorted() == ["a 2", "a 2", "a 2", "b 2", "b 2", "c 2"])
    }

    @Test func whatReachesNobodyComesBackInATypedError() throws {
        let nobody = thrown(Problem.self) { try sim.system.broadcast(Taker.Message.number(1), to: .group("nobody")) }
        #expect(nobody?.code == .noDispatcher && nobody?.target == .group("nobody") && nobody?.message == .number(1))
        #expect(
            thrown(Problem.self) { try sim.system.broadcast(Taker.Message.number(1), to: .all) }?.code == .noDispatcher
        )
        let tree = try sim.system.supervise { takers("a", 1).dispatcher("input") }
        sim.drain()
        // Another type: nobody takes it.
        let wrong = thrown(DispatcherError<String>.self) { try sim.system.broadcast("x", to: .group("input")) }
        #expect(wrong?.code == .notTaken && wrong?.message == "x")
        try sim.system.broadcast(Taker.Message.finish, to: .group("input"))
        sim.drain()
        #expect(
            thrown(Problem.self) { try sim.system.broadcast(Taker.Message.number(1), to: .group("input")) }?.code
                == .emptyRecipients
        )
        #expect(sim.stops(tree))
        #expect(
            thrown(Problem.self) { try sim.system.broadcast(Taker.Message.number(1), to: .group("input")) }?.code
                == .noDispatcher
        )
        #expect(sim.system.dispatchers.count == 0)
    }

    @Test func theFirstGroupToStopDoesNotRemoveASharedDispatcher() throws {
        let first = try sim.system.supervise("first") { takers("a", 2).dispatcher("input") }
        let second = try sim.system.supervise("second") { takers("b", 1).dispatcher("input") }
        #expect(sim.system.members(ofDispatcher: "input")?.map(\.name) == ["a-0", "a-1", "b-0"])
        #expect(sim.stops(first))
        #expect(sim.system.members(ofDispatcher: "input")?.map(\.name) == ["b-0"])
        #expect(try sim.system.broadcast(Taker.Message.number(1), to: .group("input")) == 1)
        sim.drain()
        #expect(sim.trace.lines == ["b 1"])
        #expect(sim.stops(second) && sim.system.members(ofDispatcher: "input") == nil)
    }

    /// Whichever way the group was started: under a supervisor of a process, too.
    @Test func groupsOfNestedSupervisorsAreMembersAndComeBackWithTheirProcess() throws {
        let trace = sim.trace
        let tree = try sim.system.supervise(intensity: .unlimited) {
            Children("parent") { context in
                try context.supervise {
                    Children("child", Taker("child", trace)).dispatcher("input").registered(as: "c")
                }
                for await _ in context.messages(of: Int.self) { throw Failure() }
            }
        }
        sim.drain()
        #expect(sim.system.members(ofDispatcher: "input")?.map(\.name) == ["child-0"])
        let before = sim.system.members(ofDispatcher: "input")?.first?.id
        try tree.group("parent", of: Int.self).tell(1)
        sim.drain()
        let after = sim.system.members(ofDispatcher: "input")?.first?.id
        #expect(
            before != nil && after != nil && before != after && sim.system.members(ofDispatcher: "input")?.count == 1
        )
        #expect(try sim.system.registry.whereis("c", of: Taker.Message.self)?.id == after)
        #expect(sim.stops(tree) && sim.system.members(ofDispatcher: "input") == nil)
    }

    @Test func aHandlerOfOnesOwnChoosesAndIsToldOfMembersInOrder() throws {
        let (trace, notes) = (sim.trace, Trace())
        let tree = try sim.system.supervise(intensity: .unlimited) {
            takers("taker", 2).dispatcher(.named("input", handler: Noting(notes)))
        }
        #expect(try sim.system.broadcast(Taker.Message.number(1), to: .group("input")) == 1)
        sim.drain()
        #expect(
            notes.lines == [
                #"register taker-0 of ["taker-0"]"#, #"register taker-1 of ["taker-0", "taker-1"]"#,
            ]
        )
        try tree.group("taker", of: Taker.Message.self).members[0].tell(.fail)
        sim.drain()
        #expect(notes.lines.count == 2 && trace.lines == ["taker 1"])
        #expect(sim.stops(tree))
        #expect(notes.lines[2...] == [#"remove taker-1 of ["taker-0"]"#, #"remove taker-0 of []"#])
    }

    @Test func aProcessNotifiesDispatchers() throws {
        let notes = Trace()
        let system = sim.system
        let tree = try system.supervise {
            Children("a", NumberTaker()).dispatcher(.named("input", handler: Noting(notes)))
            Children("notifier", restart: .temporary) { context in try context.system.notify(.group("input"), .register)
            }
        }
        sim.drain()
        #expect(notes.lines.contains(#"register notifier-0 of ["a-0"]"#))
        try system.notify(.all, .remove)
        #expect(notes.lines.last == #"remove nobody of ["a-0"]"#)
        let error = thrown(DispatcherError<NotificationType>.self) { try system.notify(.group("none"), .remove) }
        #expect(error?.code == .noDispatcher)
        #expect(sim.stops(tree))
    }

    @Test func twoGroupsDoNotShareADispatcherWithDifferentHandlers() throws {
        let error = thrown(SupervisionError.self) {
            try sim.system.supervise {
                takers("a").dispatcher(.named("input", handler: BroadcastHandler()))
                takers("b").dispatcher(.named("input", handler: BroadcastHandler()))
            }
        }
        #expect(error?.code == .conflictingDispatcher)
        #expect(sim.system.dispatchers.count == 0)
        let empty = thrown(SupervisionError.self) { try sim.system.supervise { takers("a").dispatcher("") } }
        #expect(empty?.code == .emptyName)
    }

    /// In an OS process of its own: traps at the same instant may find each other's words.
    @Test func aHandlerThatTrapsEndsWhoSendsAndNobodyElse() async {
        final class Trapping: DispatcherHandler {
            func notify(from: Recipient?, entries: Recipients, notification: NotificationType) {
                _ = opaque([1])[entries.count]
            }
            func broadcastMessage<Message: Sendable>(entries: Recipients, message: Message) -> Int {
                opaque([1])[entries.count]
            }
        }
        await #expect(processExitsWith: .success) {
            try await withPool { system in
                let tree = try system.supervise {
                    Children("a", NumberTaker(), redundancy: 2).dispatcher(.named("input", handler: Trapping()))
                }
                let sender = system.executor.spawn { try system.broadcast(1, to: .group("input")) }
                #expect(
                    await thrown(ProcFailure.self) { _ = try await sender.outcome().get() }?.reason.isFailure == true
                )
                #expect(system.members(ofDispatcher: "input")?.count == 2)
                await tree.stop()
                #expect(system.members(ofDispatcher: "input") == nil)
            }
        }
    }
}
