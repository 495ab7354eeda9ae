// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import Testing

@testable import Executor
@testable import LightProc

/// The seeded executor goes by the rules of the pool.
@Suite struct SeededProtocolTests {
    /// Processes that wake each other, of every priority; begun by one message from outside.
    ///
    /// - Returns: The order in which they ran.
    private func order(on executor: any ProcScheduler, waitingWith wait: (BlockingGate) -> Void) -> [String] {
        let notes = ProtocolNotes()
        let done = BlockingGate()
        let procs = (0..<12).map { _ in LightProc.reactive(Doer(), on: executor) }
        for (index, proc) in procs.enumerated() { proc.priority = ProcPriority(rawValue: UInt8(index % 3)) ?? .normal }
        @Sendable func visit(_ index: Int, _ depth: Int) {
            notes.add("\(index).\(depth)")
            if depth == 0 { return }
            for step in 1...3 { procs[(index * 5 + step) % 12].tell { _ in visit((index * 5 + step) % 12, depth - 1) } }
        }
        let last = LightProc.reactive(Doer(), on: executor)
        last.priority = .low
        procs[0].tell { _ in
            visit(0, 2)
            last.tell { _ in last.tell { _ in done.open() } }
        }
        wait(done)
        return notes.list
    }

    @Test func withOneWorkerTheOrderIsThatOfThePool() async throws {
        let pool = try WorkerPool.ofOneWorkerWithoutTime()
        // Every 16th look begins elsewhere: both have looked once, and sleep, when it begins.
        while !pool.counters.allSatisfy(\.isParked) { sched_yield() }
        #expect(pool.counters.map(\.polls) == [1])
        // Until nothing is left: some come after the last that is waited for.
        let real = await Task.detached {
            order(on: pool) {
                $0.blockingWait()
                pool.shutdown()
            }
        }.value
        #expect(real.count == 13)
        for seed in 1...10 as ClosedRange<UInt64> {
            let seeded = SeededExecutor(seed: seed, workers: 1)
            seeded.drain()
            #expect(seeded.queues.workers.map(\.counters.polls) == [1])
            #expect(order(on: seeded) { _ in seeded.drain() } == real, "seed \(seed)")
        }
    }

    /// A run may be cut short wherever a long one would end: of processes of every kind.
    @Test func turnsOfAsyncProcessesAreCutShort() {
        let turns = (1...10 as ClosedRange<UInt64>).map { seed in
            let seeded = SeededExecutor(seed: seed, workers: 1)
            let notes = ProtocolNotes()
            let proc = LightProc.async(on: seeded) { proc in
                while let number = await proc.receiveNode()?.open(as: Int.self).message { notes.add("\(number)") }
            }
            proc.declareMessages(of: Int.self)
            proc.restart()
            seeded.drain()
            let before = seeded.steps
            for number in 0..<100 { proc.send(number) }
            seeded.drain()
            #expect(notes.list == (0..<100).map(String.init))
            return seeded.steps - before
        }
        // Uncut it takes one turn for all, once it has the first.
        #expect(turns.allSatisfy { $0 >= 1 })
        #expect(turns.contains { $0 > 10 }, "\(turns)")
    }

    @Test func severalWorkersStealAndWakeEachOther() {
        var (local, far, wakes, parks, ran) = (UInt(0), UInt(0), UInt(0), 0, Set<Int>())
        for seed in 1...20 as ClosedRange<UInt64> {
            let executor = SeededExecutor(seed: seed, workers: 4)
            #expect(executor.workerCount == 4)
            for _ in 0..<5 {
                let notes = order(on: executor) { _ in executor.drain() }
                #expect(notes.count == 13, "seed \(seed)")
                parks += executor.queues.workers.count(where: \.isParked)
            }
            for worker in executor.queues.workers {
                let counters = worker.counters
                local += UInt(counters.localSteals + counters.nearSteals)
                far += UInt(counters.farSteals)
                wakes += UInt(counters.wakes)
                if counters.polls > 0 { ran.insert(worker.index) }
            }
        }
        #expect(local > 0)
        #expect(far > 0)
        #expect(wakes > 0)
        #expect(ran == [0, 1, 2, 3])
        // At rest everybody sleeps.
        #expect(parks == 400)
    }

    @Test func itSitsOnAnyMachine() throws {
        let topology = try Topology(synthetic: "pack:2 numa:2 l3:1 core:4 pu:2")
        let placement = try Placement(topology, options: .init(pinning: .never))
        let executor = SeededExecutor(seed: 3, placement: placement)
        #expect(executor.workerCount == 32)
        #expect(executor.queues.nodes.count == 4)
        let first = order(on: executor) { _ in executor.drain() }
        let again = SeededExecutor(seed: 3, placement: placement)
        #expect(order(on: again) { _ in again.drain() } == first)
    }

    @Test func trapsAreContainedIfAskedFor() async {
        await #expect(processExitsWith: .success) {
            for seed in 1...20 as ClosedRange<UInt64> {
                let executor = SeededExecutor(seed: seed, containsTraps: true)
                let first = executor.spawn { opaque([1, 2])[Int(seed % 2) + 2] }
                let second = executor.spawn { () -> Int in
                    await Task.yield()
                    return opaque([1, 2])[1]
                }
                executor.drain()
                guard case .failed(.trap(let report)) = first.knownOutcome, report.kind == .indexOutOfRange,
                    case .finished(2) = second.knownOutcome
                else { fatalError("seed \(seed): \(first.knownOutcome), \(second.knownOutcome)") }
            }
        }
    }

    @Test func itsProcessesHoldIt() {
        weak var known: SeededExecutor?
        var proc: LightProc?
        do {
            let executor = SeededExecutor(seed: 1)
            known = executor
            executor.spawn { for _ in 0..<10 { LightProc.runOnce(on: executor) {} } }
            executor.drain()
            proc = LightProc.reactive(Doer(), on: executor)
        }
        #expect(known != nil)
        withExtendedLifetime(proc) {}
        proc = nil
        #expect(known == nil)
    }
}

private final class ProtocolNotes: Sendable {
    private let notes = Locked<[String]>([])
    var list: [String] { notes.withLock { $0 } }
    func add(_ note: String) { notes.withLock { $0.append(note) } }
}
