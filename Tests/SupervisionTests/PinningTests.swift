// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import LightProc
import Testing

@testable import Supervision

/// Groups that are pinned: what each member is pinned to, in virtual time; that it runs there is the pool's business, and once more
/// looked at on this machine.
@Suite struct PinningTests {
    private static let waits: @Sendable (Context) async throws -> Void = { context in
        for await _ in context.messages(of: Int.self) {}
    }

    private func error(_ cores: CoreSet) -> SupervisionError? {
        let sim = Simulation()
        do {
            try sim.system.supervise {
                Children("fine", body: Self.waits)
                Children("pinned", redundancy: 3, body: Self.waits).pinned(to: cores)
            }
        } catch let error as SupervisionError {
            sim.drain()
            #expect(sim.executor.steps == 0, "nothing was started")
            return error
        } catch {
            Issue.record("another error: \(error)")
        }
        return nil
    }

    /// The seeded executor has two nodes of two workers.
    @Test func aGroupThatCannotBePinnedIsNotStarted() {
        let there = "workers are on processors 0-3 (NUMA node 0: 0-1; NUMA node 1: 2-3)"
        let node = error(.node(2))
        #expect(node?.code == .badPinning)
        #expect(node?.description == "group pinned: cannot pin to NUMA node 2: no worker is there; \(there)")
        #expect(error(.cores([3, 4]))?.code == .badPinning)
        #expect(error(.cores([]))?.description == "group pinned: cannot pin to an empty set of processors; \(there)")
        #expect(error(.node(1)) == nil)
        #expect(error(.cores([0, 3])) == nil)
    }

    @Test func allMembersArePinnedOverRestarts() throws {
        let sim = Simulation()
        let tree = try sim.system.supervise(intensity: .unlimited) {
            Children("reactive", Echo("echo", Trace()), redundancy: 2).pinned(to: .node(1))
            Children("async", redundancy: 2, body: Self.waits).mailbox(.bounded(5)).pinned(to: .cores([0]))
            Children("free", body: Self.waits)
        }
        sim.drain()
        let reactive = try tree.group("reactive", of: Echo.Message.self).members.map(\.proc)
        let procs = try reactive + ["async", "free"].flatMap { try tree.group($0, of: Int.self).members.map(\.proc) }
        func check() {
            for proc in procs {
                let name = proc.name ?? ""
                let expected: CoreSet? =
                    name.hasPrefix("reactive") ? .node(1) : name.hasPrefix("async") ? .cores([0]) : nil
                #expect(proc.cores == expected, "\(name)")
            }
        }
        #expect(procs.count == 5)
        check()
        for proc in procs { proc.kill() }
        sim.advance(by: .seconds(10))
        #expect(procs.allSatisfy { $0.restarts == 1 })
        check()
    }

    /// A supervisor of a pinned child has its members pinned likewise, unless they say something else.
    @Test func whatStandsBelowIsPinnedLikewise() throws {
        let sim = Simulation()
        let found = Locked<[String: CoreSet?]>([:])
        @Sendable func note(_ context: Context) {
            found.withLock { $0[context.proc.path ?? ""] = .some(context.proc.cores) }
        }
        try sim.system.supervise("shop") {
            Children("parent") { context in
                note(context)
                let below = try context.supervise("below") {
                    Children("like") { context in
                        note(context)
                        for await _ in context.messages(of: Int.self) {}
                    }
                    Children("unlike") { context in
                        note(context)
                        for await _ in context.messages(of: Int.self) {}
                    }.pinned(to: .cores([2]))
                }
                try below.children {
                    Children("late") { context in
                        note(context)
                        for await _ in context.messages(of: Int.self) {}
                    }
                }
                for await _ in context.messages(of: Int.self) {}
            }.pinned(to: .node(0))
        }
        sim.drain()
        let expected: [String: CoreSet] = [
            "parent-0": .node(0), "like-0": .node(0), "unlike-0": .cores([2]), "late-0": .node(0),
        ]
        let byName = found.withLock { found in
            Dictionary(uniqueKeysWithValues: found.map { (String($0.key.split(separator: "/").last ?? ""), $0.value) })
        }
        #expect(byName == expected.mapValues { .some($0) })
    }

    @Test func aDefaultDoesNotReplaceWhatAGroupSays() {
        let group = Children("a", body: Self.waits)
        #expect(group.cores == nil)
        #expect(group.pinned(byDefault: nil).cores == nil)
        #expect(group.pinned(byDefault: .node(3)).cores == .node(3))
        #expect(group.pinned(to: .cores([1])).pinned(byDefault: .node(3)).cores == .cores([1]))
    }

    /// On a pool: members that are told things by all others run on the processor that they are pinned to, resized ones too.
    @Test func membersRunWhereTheyArePinned() async throws {
        let plan = try Placement(Topology.current(), options: .init(workerCount: 2, oversubscribes: true))
        guard plan.pinsWorkers, let last = plan.seats.map(\.osPU).max() else { return }
        try await withPool { system in
            let tree = try system.supervise {
                Children("pinned", redundancy: 2) { context in
                    for await reply in context.messages(of: Reply<[Int?]>.self) {
                        async let child = ThreadPlacement.currentPU()
                        reply([ThreadPlacement.currentPU(), await child])
                    }
                }.pinned(to: .cores([last])).mailbox(.unbounded)
            }
            try tree.resize(group: "pinned", to: 4)
            let group = try tree.group("pinned", of: Reply<[Int?]>.self)
            // Ends: the group grows.
            while group.members.count < 4 { await Task.yield() }
            for _ in 0..<50 {
                for member in group.members {
                    #expect(try await member.ask(within: .seconds(60)) { $0 } == [last, last])
                }
            }
        }
    }
}
