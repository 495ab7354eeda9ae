// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc
import Testing

@testable import Supervision

/// Finding processes by path and by id, and what a child knows of its place. In virtual time.
@Suite struct LookupTests {
    private let sim = Simulation()

    private func shop(_ trace: Trace) throws -> SupervisorRef {
        try sim.system.supervise("shop", intensity: .unlimited) {
            Children("orders", redundancy: 2, restart: .transient) { context in
                try context.supervise("below") {
                    Children("items", Echo("item", trace))
                    Children("deep", restart: .transient) { context in _ = try await context.receive(Int.self) }
                }
                for await n in context.messages(of: Int.self) { if n == 0 { throw Failure() } else { return } }
            }
            Children("echo", Echo("echo", trace), restart: .temporary)
        }
    }

    private func code<Value>(_ body: () throws -> Value) -> LookupError.Code? {
        do {
            _ = try body()
            return nil
        } catch {
            return (error as? LookupError)?.code
        }
    }

    @Test func aProcessIsFoundByPathAndById() throws {
        let tree = try shop(sim.trace)
        sim.drain()
        let orders = try tree.group("orders", of: Int.self).members
        let found = try sim.system.lookup("/shop/orders-1", of: Int.self)
        #expect(found.id == orders[1].id)
        #expect(try sim.system.lookup(orders[1].id, of: Int.self).proc === orders[1].proc)
        #expect(sim.system.path(of: orders[1].id) == "/shop/orders-1" && orders[1].path == "/shop/orders-1")
        let item = try sim.system.lookup("/shop/orders-0/below/items-0", of: Echo.Message.self)
        #expect(item.path == "/shop/orders-0/below/items-0")
        #expect(try sim.system.lookup(item.id, of: Echo.Message.self).id == item.id)
        // An async one takes any type, and so it may be asked for without.
        let untyped = try sim.system.lookup("/shop/orders-0")
        #expect(untyped.id == orders[0].id)
        untyped.tell(1)
        sim.drain()
        #expect(orders[0].proc.isClosed && sim.system.deadLetters == 0)
    }

    @Test func whatIsNotThereIsToldWithWhatLivesNearest() throws {
        let tree = try shop(sim.trace)
        sim.system.spawn("alone") { context in _ = try await context.receive(Int.self) }
        sim.drain()
        func message(_ path: ProcPath) -> String {
            do {
                _ = try sim.system.lookup(path)
                return "found"
            } catch {
                return error.description
            }
        }
        #expect(
            message("/shop/orders-7")
                == "nothing lives at /shop/orders-7; under the supervisor /shop there is echo-0, orders-0, orders-1"
        )
        #expect(message("/nowhere/a") == "nothing lives at /nowhere/a; at the top there is shop, alone")
        #expect(
            message("/shop/orders-0/other/a")
                == "nothing lives at /shop/orders-0/other/a; under the process /shop/orders-0 there is below"
        )
        #expect(
            message("/shop/echo-0/x/y")
                == "nothing lives at /shop/echo-0/x/y; under the process /shop/echo-0 there is nothing"
        )
        #expect(code { try sim.system.lookup("/shop") } == .noProcess)
        #expect(code { try sim.system.lookup("/") } == .noProcess)
        #expect(code { try sim.system.lookup("/shop/echo-0", of: Int.self) } == .wrongMessageType)
        let echo = try tree.group("echo", of: Echo.Message.self).members[0]
        #expect(code { try sim.system.lookup(echo.id, of: Int.self) } == .wrongMessageType)
        #expect(code { try sim.system.lookup(sim.system.spawn(Echo("free", sim.trace)).id) } == .notFound)
    }

    @Test func whoIsRestartedIsFoundAndWhoHasEndedForGoodIsNot() throws {
        let tree = try shop(sim.trace)
        sim.drain()
        let order = try tree.group("orders", of: Int.self).members[0]
        let items = try sim.system.lookup("/shop/orders-0/below/items-0", of: Echo.Message.self)
        order.tell(0)
        sim.drain()
        #expect(try sim.system.lookup("/shop/orders-0", of: Int.self).id == order.id)
        // What it supervised is there again, as another process.
        let again = try sim.system.lookup("/shop/orders-0/below/items-0", of: Echo.Message.self)
        #expect(again.id != items.id && code { try sim.system.lookup(items.id, of: Echo.Message.self) } == .notFound)
        order.tell(1)
        sim.drain()
        #expect(code { try sim.system.lookup("/shop/orders-0") } == .notFound)
        #expect(code { try sim.system.lookup(order.id) } == .notFound && sim.system.path(of: order.id) == nil)
        #expect(code { try sim.system.lookup("/shop/orders-0/below/items-0") } == .notFound)
        #expect(sim.stops(tree))
        #expect(code { try sim.system.lookup("/shop/orders-1") } == .notFound)
    }

    @Test func treesOfOneNameAreLookedThroughInTheirOrder() throws {
        for name in ["a", "b"] {
            try sim.system.supervise("tree") { Children(name, Echo(name, sim.trace)) }
        }
        sim.drain()
        #expect(code { try sim.system.lookup("/tree/a-0", of: Echo.Message.self) } == nil)
        #expect(code { try sim.system.lookup("/tree/b-0", of: Echo.Message.self) } == nil)
        #expect(code { try sim.system.lookup("/tree/c-0", of: Echo.Message.self) } == .notFound)
    }

    @Test func namesThatCannotStandInAPathAreRefused() throws {
        let (trace, system) = (sim.trace, sim.system)
        for name in ["a/b", "..", "a\n"] {
            func isRefused(_ body: () throws -> Void) -> Bool {
                do { try body() } catch { return (error as? SupervisionError)?.code == .badName }
                return false
            }
            #expect(isRefused { try system.supervise(name) { Children("a", Echo("a", trace)) } })
            #expect(isRefused { try system.supervise { Children(name, Echo("a", trace)) } })
        }
        sim.drain()
        #expect(system.trees.isEmpty)
        system.spawn("owner") { context in
            do {
                try context.supervise("x/y") { Children("a", Echo("a", trace)) }
            } catch {
                trace("\((error as? SupervisionError)?.code == .badName)")
            }
            trace("\(context.proc.record?.supervisors.count ?? -1)")
        }
        sim.drain()
        #expect(trace.lines == ["true", "0"])
    }

    @Test func aChildKnowsItsPlace() throws {
        let trace = sim.trace
        let tree = try sim.system.supervise("shop") {
            Children("orders", redundancy: 2) { context in
                trace("\(context.procPath) \(context.parent().map { "\($0)" } ?? "no parent")")
                let group = try context.group(of: Int.self)
                trace("\(group.name) \(group.members.count) \(group.members.contains { $0.id == context.id })")
                if context.name == "orders-1" {
                    let own = context.id
                    try context.supervise("below") {
                        Children("items", redundancy: 3) { context in
                            trace("\(context.procPath) \(context.parent()?.id == own)")
                            _ = try context.supervisor?.group("items", of: Int.self)
                            let other = try context.system.lookup(context.procPath)
                            trace("\(other.id == context.id)")
                            await context.untilStopped()
                        }
                    }
                }
                let mates = try context.supervisor?.group("mates", of: Mate.Message.self)
                _ = try await mates?.members[0].ask { .place($0) }
                await context.untilStopped()
            }
            Children("mates", Mate(trace))
        }
        sim.drain()
        let lines = trace.lines
        #expect(
            lines.filter { $0.hasPrefix("/shop/orders-") && $0.hasSuffix(" no parent") }.sorted()
                == ["/shop/orders-0 no parent", "/shop/orders-1 no parent"]
        )
        #expect(lines.count { $0 == "orders 2 true" } == 2)
        #expect(lines.count { $0.hasPrefix("/shop/orders-1/below/items-") && $0.hasSuffix(" true") } == 3)
        #expect(lines.count { $0 == "true" } == 3)
        #expect(lines.count { $0 == "/shop/mates-0 mates 1 2 no parent" } == 2)
        #expect(sim.stops(tree))
    }

    private struct Mate: Reactive {
        enum Message: Sendable { case place(Reply<Int>) }
        let trace: Trace
        init(_ trace: Trace) { self.trace = trace }
        mutating func receive(_ message: consuming Message, in context: borrowing ReactiveContext<Self>) throws {
            guard case .place(let reply) = message else { return }
            let group = try context.group()
            let others = try context.supervisor?.group("orders", of: Int.self).members.count ?? 0
            let path = context.procPath.map { "\($0)" } ?? ""
            trace(
                "\(path) \(group.name) \(group.members.count) \(others) \(context.parent() == nil ? "no parent" : "")"
            )
            reply(1)
        }
    }

    @Test func aProcessThatNobodyRestartsStandsUnderTheSystem() throws {
        let (trace, system) = (sim.trace, sim.system)
        let ref = system.spawn("alone", of: Int.self) { context in
            trace("\(context.path) \(context.supervisor == nil) \(context.parent() == nil)")
            do { _ = try context.group(of: Int.self) } catch let error as SupervisionError {
                trace("\(error.code == .unknownGroup)")
            }
            if try await context.receive(Int.self) == 0 { throw Failure() }
        }
        let other = system.spawn { context in trace(context.path) }
        sim.drain()
        #expect(trace.lines.sorted() == ["/alone true true", "/process-\(other.id.rawValue)", "true"])
        #expect(try system.lookup("/alone").id == ref.id)
        ref.tell(0)
        sim.drain()
        #expect(ref.proc.isClosed && ref.proc.restarts == 0 && code { try system.lookup("/alone") } == .notFound)
        // With the last of them everything that was made for them is gone.
        #expect(system.trees.isEmpty)
    }

    @Test func theSystemStopsThemToo() async throws {
        try await withPool { system in
            let refs = (0..<20).map { _ in
                system.spawn { context in
                    try context.supervise { Children("below", Echo("below", Trace())) }
                    await context.untilStopped()
                }
            }
            await system.stop()
            for ref in refs { #expect(ref.proc.isClosed) }
            // And it goes on afterwards.
            let late = system.spawn { _ in }
            guard case .normal = await ProcHandle(late.proc).exit() else {
                Issue.record("it ended with \(late.proc.lastExit as Any)")
                return
            }
        }
    }

    @Test func theTablesKeepNothingAlive() throws {
        weak var system: BastionSystem?
        weak var proc: LightProc?
        func runOne() throws {
            let sim = Simulation()
            system = sim.system
            let tree = try sim.system.supervise("shop") { Children("echo", Echo("echo", sim.trace)) }
            let ref = sim.system.spawn("alone") { context in await context.untilStopped() }
            sim.drain()
            proc = try sim.system.lookup("/shop/echo-0", of: Echo.Message.self).proc
            ref.proc.stop()
            #expect(sim.stops(tree))
        }
        try runOne()
        #expect(system == nil && proc == nil)
    }
}
