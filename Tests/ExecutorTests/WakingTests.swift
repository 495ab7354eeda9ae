// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Testing

@testable import Executor
@testable import LightProc

/// Who is woken, and how many look for work: the queues of workers that no thread is.
@Suite struct WakingTests {
    /// As `#expect` takes no part of a value that cannot be copied.
    private final class Idle: Sendable {
        private let workers = IdleWorkers()
        func beginSearch(of count: Int) -> Bool { workers.beginSearch(of: count) }
        func endSearch() -> Bool { workers.endSearch() }
        func wakeOne() {
            workers.beginSleep()
            workers.endSleep(toSearch: true)
        }
    }

    private static func queues(_ machine: String) throws -> RunQueues {
        let placement = try Placement(Topology(synthetic: machine), options: .init(pinning: .never))
        return RunQueues(
            placement,
            NodePlan(placement),
            standInCount: placement.seats.count,
            timers: PoolTimers(workers: 2 * placement.seats.count),
            memory: placement.seats.map { _ in .anywhere },
            sharing: .always,
            nearNode: { 0 }
        )
    }

    private func sleepers(_ queues: RunQueues) -> [Int] {
        queues.workers.filter(\.isParked).map(\.index)
    }

    /// Has all seats' workers sleep.
    private func layDown(_ queues: RunQueues) {
        for worker in queues.workers.prefix(queues.seatCount) { queues.lieDown(worker) { false } }
        #expect(sleepers(queues) == Array(0..<queues.seatCount))
        let count = queues.idle.sleeperCount
        #expect(count == queues.seatCount)
    }

    /// Two packages, each a node of two level 3 caches with two workers.
    @Test(arguments: [
        (0, [0, 1, 2, 3, 4, 5, 6, 7]), (3, [3, 2, 0, 1, 4, 5, 6, 7]), (5, [5, 4, 6, 7, 0, 1, 2, 3]),
        (6, [6, 7, 4, 5, 0, 1, 2, 3]),
    ])
    func theNearestThatSleepsIsWoken(_ worker: Int, _ order: [Int]) throws {
        let queues = try Self.queues("pack:2 [numa] l3:2 core:2 pu:1")
        layDown(queues)
        var woken: [Int] = []
        while let before = Optional(sleepers(queues)), !before.isEmpty {
            queues.wakeIfNeeded(near: queues.workers[worker])
            let now = Set(before).subtracting(sleepers(queues))
            #expect(now.count == 1)
            woken += now
            // One at a time: who was woken searches.
            let isSearching = queues.idle.hasSearchers
            #expect(isSearching)
            queues.wakeIfNeeded(near: queues.workers[worker])
            #expect(sleepers(queues).count == before.count - 1)
            _ = queues.idle.endSearch()
        }
        #expect(woken == order)
    }

    @Test func ofAMachineWithDistancesTheNearerNodeIsWoken() throws {
        let machine = try Topology(synthetic: "pack:3 numa:1 core:2 pu:1").changed(
            distances: [[10, 40, 20], [40, 10, 15], [20, 15, 10]]
        )
        let placement = try Placement(machine, options: .init(pinning: .never))
        let queues = RunQueues(
            placement,
            NodePlan(placement),
            standInCount: 0,
            timers: PoolTimers(workers: placement.seats.count),
            memory: placement.seats.map { _ in .anywhere },
            sharing: .always,
            nearNode: { 0 }
        )
        for index in 2..<6 { queues.lieDown(queues.workers[index]) { false } }
        queues.wakeIfNeeded(near: queues.workers[1])
        #expect(sleepers(queues) == [2, 3, 5])
    }

    @Test(arguments: [(1, 1), (2, 1), (3, 2), (4, 2), (7, 4), (8, 4)])
    func halfOfTheWorkersSearchByThemselves(_ workers: Int, _ limit: Int) {
        let idle = Idle()
        for _ in 0..<limit { #expect(idle.beginSearch(of: workers)) }
        #expect(!idle.beginSearch(of: workers))
        for left in (0..<limit).reversed() { #expect(idle.endSearch() == (left == 0)) }
        #expect(idle.beginSearch(of: workers))
    }

    @Test func whoIsWokenSearchesInAnyCase() {
        let idle = Idle()
        #expect(idle.beginSearch(of: 2))
        #expect(!idle.beginSearch(of: 2))
        idle.wakeOne()
        #expect(!idle.endSearch())
        // As long as the woken one does, no other begins.
        #expect(!idle.beginSearch(of: 2))
        #expect(idle.endSearch())
    }

    /// A worker that may not search leaves what is there to those that do.
    @Test func whoWouldBeOneTooManyDoesNotSearch() throws {
        let queues = try Self.queues("core:4 pu:1")
        let executor = SeededExecutor(seed: 1)
        let item = RunItem(LightProc.reactive(Doer(), on: executor))
        let isPushed = queues.workers[3].ring.push(item)
        #expect(isPushed)
        for _ in 0..<2 { _ = queues.idle.beginSearch(of: 4) }
        #expect(queues.search(queues.workers[0]) == nil)
        _ = queues.idle.endSearch()
        #expect(queues.search(queues.workers[0]) == item)
        let isSearching = queues.idle.hasSearchers
        #expect(isSearching)
        if case .proc(let proc) = item.content { proc.release() }
    }
}
