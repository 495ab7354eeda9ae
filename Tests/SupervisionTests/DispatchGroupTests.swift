// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import LightProc
import Testing

@testable import Supervision

@Suite struct DispatchGroupTests {
    let sim = Simulation()
    var groups: ProcessGroups { sim.system.groups }

    @Test func membersAreInTheGroupUntilTheyLeave() {
        let (one, two) = (sim.system.spawn(Taker("a", sim.trace)), sim.system.spawn(NumberTaker()))
        #expect(groups.join("g", one) && groups.join("g", two) && groups.join("h", two))
        #expect(groups.members(of: "g").map(\.id) == [one.id, two.id] && groups.members(of: "none").isEmpty)
        #expect(groups.members(of: "g", as: Int.self).map(\.id) == [two.id])
        #expect(groups.names == ["g", "h"])
        #expect(groups.leave("g", one) && !groups.leave("g", one) && !groups.leave("none", one))
        #expect(groups.members(of: "g").map(\.id) == [two.id])
    }

    /// A body that joins when it starts joins again after each restart.
    @Test func joiningAgainChangesNothing() {
        let one = sim.system.spawn(NumberTaker())
        #expect(groups.join("g", one) && !groups.join("g", one))
        #expect(groups.members(of: "g").count == 1)
        #expect(groups.leave("g", one) && groups.members(of: "g").isEmpty && groups.names == [])
    }

    @Test func aProcessLeavesAllGroupsWhenItEndsForGoodAndNotAtARestart() throws {
        let tree = try sim.system.supervise(intensity: .unlimited) {
            Children("taker", Taker("t", sim.trace), restart: .transient)
        }
        let taker = try tree.group("taker", of: Taker.Message.self).members[0]
        sim.drain()
        groups.join("g", taker)
        groups.join("h", taker)
        taker.tell(.fail)
        sim.drain()
        #expect(taker.proc.restarts == 1 && groups.names == ["g", "h"])
        taker.tell(.finish)
        sim.drain()
        #expect(groups.names == [] && !groups.join("g", taker) && groups.names == [])
        #expect(sim.system.departures.count == 0)
    }

    @Test func monitorsLearnOfEachChangeOnceAndInOrder() async throws {
        let (one, two) = (sim.system.spawn(NumberTaker()), sim.system.spawn(Taker("a", sim.trace)))
        groups.join("g", one)
        var changes = groups.changes(of: "g").makeAsyncIterator()
        groups.join("g", two)
        groups.join("g", two)
        groups.join("other", two)
        groups.leave("g", one)
        two.tell(.finish)
        sim.drain()
        let expected: [GroupChange] = [
            .joined(Recipient(one.proc)), .joined(Recipient(two.proc)), .left(Recipient(one.proc)),
            .left(Recipient(two.proc)),
        ]
        for change in expected { #expect(await changes.next() == change) }
        #expect(groups.monitorCount == 1)
    }

    @Test func changesEndWithTheTaskThatWaitsForThem() async throws {
        let groups = self.groups
        let task = Task {
            var count = 0
            for await _ in groups.changes(of: "g") { count += 1 }
            return count
        }
        while groups.monitorCount == 0 { await Task.yield() }
        task.cancel()
        #expect(await task.value == 0)
        #expect(groups.monitorCount == 0)
    }

    @Test func aProcessIsToldOfChangesByMessagesOfItsOwn() throws {
        let watcher = sim.system.spawn(Taker("w", sim.trace))
        let (one, two) = (sim.system.spawn(NumberTaker()), sim.system.spawn(NumberTaker()))
        groups.join("g", one)
        let number: @Sendable (GroupChange) -> Taker.Message = { change in
            switch change {
            case .joined(let member): .number(member.id == one.id ? 1 : 2)
            case .left(let member): .number(member.id == one.id ? -1 : -2)
            }
        }
        groups.monitor("g", telling: watcher, number)
        groups.join("g", two)
        groups.leave("g", one)
        sim.drain()
        #expect(sim.trace.lines == ["w 1", "w 2", "w -1"])
        // A second monitor of the same process takes the place of the first.
        sim.trace.clear()
        groups.monitor("g", telling: watcher, number)
        groups.leave("g", two)
        sim.drain()
        #expect(sim.trace.lines == ["w 2", "w -2"] && groups.monitorCount == 1)
        groups.stopMonitoring("g", telling: watcher)
        groups.join("g", one)
        sim.drain()
        #expect(sim.trace.lines == ["w 2", "w -2"] && groups.monitorCount == 0)
    }

    @Test func aMonitorEndsWithTheProcessThatItTells() throws {
        let watcher = sim.system.spawn(Taker("w", sim.trace))
        groups.monitor("g", telling: watcher) { _ in .number(1) }
        #expect(groups.monitorCount == 1)
        watcher.tell(.finish)
        sim.drain()
        #expect(groups.monitorCount == 0)
        groups.monitor("g", telling: watcher) { _ in .number(1) }
        #expect(groups.monitorCount == 0)
    }

    /// While one thread tells what it has collected, another one must not tell what came later.
    @Test func oneThreadDeliversAtATimeAndInOrder() {
        var outbox = Outbox<Int>()
        #expect(outbox.collect() == nil)
        outbox.post(1)
        outbox.post(2)
        #expect(outbox.collect() == [1, 2])
        outbox.post(3)
        #expect(outbox.collect() == nil)
        outbox.delivered()
        #expect(outbox.collect() == [3])
        outbox.delivered()
        #expect(outbox.collect() == nil)
    }
}
