// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CLightProc
import Glibc
import Synchronization
import TestSupport
import Testing

@testable import Executor
@testable import LightProc

/// Threads for blocking work: how many, where, and what becomes of traps, kills and shutdowns on them.
@Suite(.serialized) struct BlockingPoolTests {
    static func pool(
        _ limits: BlockingGrowth.Limits = .init(),
        machine: String = "core:2 pu:1"
    ) throws -> WorkerPool {
        try WorkerPool(
            placement: Placement(Topology(synthetic: machine), options: .init(pinning: .never)),
            blockingLimits: limits,
            stallThreshold: nil
        )
    }

    // MARK: Growth

    @Test func aHundredBlockedJobsRunSideBySide() async throws {
        let pool = try Self.pool()
        let rendezvous = Rendezvous(100)
        let handles = (0..<100).map { number in
            pool.spawnBlocking {
                rendezvous.arrive()
                rendezvous.everybody.blockingWait()
                return number
            }
        }
        for (number, handle) in handles.enumerated() { #expect(try await handle.outcome().get() == number) }
        #expect(pool.blockingCounters.peak == 100)
        await down(pool)
    }

    /// It could take all 512; how many it takes depends on the machine, and on what else that does.
    @Test func aBurstOfTinyJobsDoesNotTakeAllThreads() async throws {
        let pool = try Self.pool()
        let done = Rendezvous(10_000)
        for _ in 0..<10_000 { pool.spawnBlocking { done.arrive() } }
        done.everybody.blockingWait()
        let counters = pool.blockingCounters
        #expect(counters.peak < 512, "\(counters)")
        #expect(counters.jobs >= 10_000)
        await down(pool)
    }

    @Test func idleThreadsLeaveAndOthersComeAgain() async throws {
        var limits = BlockingGrowth.Limits()
        limits.idleTime = .milliseconds(1)
        let pool = try Self.pool(limits)
        for round in 0..<3 {
            let rendezvous = Rendezvous(20)
            for _ in 0..<20 {
                pool.spawnBlocking {
                    rendezvous.arrive()
                    rendezvous.everybody.blockingWait()
                }
            }
            rendezvous.everybody.blockingWait()
            // Ends: nothing is left to do, so all of them leave.
            while pool.blockingCounters.threads > 0 { sched_yield() }
            #expect(pool.blockingCounters.queued == 0)
            #expect(try await pool.spawnBlocking { round }.outcome().get() == round)
        }
        await down(pool)
    }

    @Test func countersTellWhatWaits() async throws {
        var limits = BlockingGrowth.Limits()
        limits.maximumThreads = 1
        let pool = try Self.pool(limits)
        #expect(
            pool.blockingCounters
                == BlockingCounters(threads: 0, idle: 0, queued: 0, oldestWait: .zero, jobs: 0, peak: 0)
        )
        let (isBusy, goOn) = (BlockingGate(), BlockingGate())
        let first = pool.spawnBlocking {
            isBusy.open()
            goOn.blockingWait()
        }
        isBusy.blockingWait()
        let rest = (0..<5).map { number in pool.spawnBlocking { number } }
        let busy = pool.blockingCounters
        #expect((busy.threads, busy.idle, busy.queued, busy.jobs, busy.peak) == (1, 0, 5, 1, 1))
        // Ends: time passes.
        while pool.blockingCounters.oldestWait < .milliseconds(2) { sched_yield() }
        goOn.open()
        _ = await first.outcome()
        for (number, handle) in rest.enumerated() { #expect(try await handle.outcome().get() == number) }
        // Ends: the thread goes to sleep.
        while pool.blockingCounters.idle < 1 { sched_yield() }
        let after = pool.blockingCounters
        #expect((after.threads, after.queued, after.jobs, after.peak) == (1, 0, 6, 1))
        #expect(after.oldestWait == .zero)
        await down(pool)
    }

    @Test func theKernelsLetterIsFoundBehindAnyName() {
        let rows: [(String, Character?)] = [
            ("12 (bastion-blocker) S 1 2", "S"), ("12 (a) b) R) R 1 2", "R"), ("12 (x)", nil), ("12", nil), ("", nil),
        ]
        for (line, letter) in rows {
            #expect(KernelThread.state(in: Array(line.utf8)) == letter.flatMap(\.asciiValue), "\(line)")
        }
        #expect(!KernelThread.isRunnable(-1))
    }

    @Test func theKernelTellsWhoSleeps() async throws {
        let pool = try Self.pool()
        let sleeper = Locked<Int32>(-1)
        let (isThere, goOn) = (BlockingGate(), BlockingGate())
        let handle = pool.spawnBlocking {
            sleeper.withLock { $0 = WorkerThread.current?.record.pointee.number ?? -1 }
            isThere.open()
            goOn.blockingWait()
        }
        isThere.blockingWait()
        // Ends: it is about to sleep.
        while KernelThread.isRunnable(sleeper.withLock { $0 }) { sched_yield() }
        let sees = pool.spawnBlocking { WorkerThread.current.map { KernelThread.isRunnable($0.record.pointee.number) } }
        #expect(try await sees.outcome().get() == true)
        goOn.open()
        _ = await handle.outcome()
        await down(pool)
    }

    // MARK: Nodes

    /// Two nodes, which this machine may not have: the decisions are the same.
    @Test func jobsGoToTheNodeOfWhoSubmitsThem() async throws {
        let pool = try Self.pool(machine: "pack:2 [numa] core:1 pu:1")
        for worker in [0, 1, 0] {
            let seen = Locked<(worker: Int?, node: Int)>((nil, -1))
            let done = BlockingGate()
            let proc = LightProc.reactive(Doer(), on: pool)
            proc.move(to: ProcTag.home(ofWorker: worker))
            proc.tell { _ in
                seen.withLock { $0.worker = pool.queues.withOwnWorker { $0?.node } }
                pool.spawnBlocking {
                    let seat = ownSeat()
                    seen.withLock { $0.node = seat }
                    // From there on it stays on the node.
                    pool.spawnBlocking {
                        #expect(ownSeat() == seat)
                        done.open()
                    }
                }
            }
            done.blockingWait()
            let (node, threadsNode) = seen.withLock { $0 }
            #expect(node == threadsNode)
        }
        await down(pool)
    }

    @Test func threadsMayUseAllProcessingUnitsOfTheirNode() async throws {
        let topology = try Topology.current()
        let placement = try Placement(topology, options: .init(workerCount: 1, pinning: .always))
        let pool = WorkerPool(placement: placement)
        let all = placement.usableOSPUs(ofNode: placement.seats[0].node)
        #expect(!all.isEmpty)
        // Submitted by a worker, who is tied to one.
        let seen = try await pool.spawn {
            let own = try ThreadPlacement.affinity()
            return (own, try await blocking { try ThreadPlacement.affinity() }, try ThreadPlacement.affinity())
        }.outcome().get()
        #expect(seen.0 == [placement.seats[0].osPU])
        #expect(seen.1 == all)
        #expect(seen.2 == seen.0)
        await down(pool)
    }

    @Test func unitsOfANodeIncludeThoseWithoutAWorker() throws {
        let machine = try Topology(synthetic: "pack:2 [numa] core:2 pu:2")
        let plan = try Placement(machine, options: .init(workerCount: 3, pinning: .always))
        let nodes = NodePlan(plan)
        #expect(nodes.sites.map { $0.osPUs?.count } == Array(repeating: 4, count: nodes.count))
        #expect(Set(nodes.sites.flatMap { $0.osPUs ?? [] }).count == 4 * nodes.count)
        #expect(NodePlan(try Placement(machine, options: .init(pinning: .never))).sites.allSatisfy { $0 == .init() })
    }

    // MARK: Traps

    @Test func trapsTakeTheirThreadAndNothingElse() async throws {
        var limits = BlockingGrowth.Limits()
        limits.maximumThreads = 2
        let pool = try Self.pool(limits)
        let handles = (0..<200).map { number in
            pool.spawnBlocking { number % 2 == 0 ? number : Misdeed.index.commit() }
        }
        for (number, handle) in handles.enumerated() {
            switch await handle.outcome() {
            case .finished(let value): #expect(value == number && number % 2 == 0)
            case .failed(let reason): #expect(number % 2 == 1 && reason.trapReport?.process == handle.id)
            }
        }
        #expect(pool.blockingCounters.peak <= 2)
        await down(pool)
    }

    // MARK: Shutdown

    private func shutDown(_ pool: WorkerPool, _ mode: WorkerPool.ShutdownMode, meanwhile: () -> Void) {
        let isDown = BlockingGate()
        let thread = PlainThread(name: "test-shutdown") {
            pool.shutdown(mode)
            isDown.open()
        }
        // Ends: the pool says so before it waits for its threads.
        while !pool.isBlockingStopping { sched_yield() }
        meanwhile()
        isDown.blockingWait()
        thread.join()
    }

    @Test(arguments: [WorkerPool.ShutdownMode.drain, .drop])
    func aShutdownWaitsForWhatRunsAndDrainsOrDropsWhatWaits(_ mode: WorkerPool.ShutdownMode) async throws {
        var limits = BlockingGrowth.Limits()
        limits.maximumThreads = 1
        let pool = try Self.pool(limits)
        let (isBusy, goOn) = (BlockingGate(), BlockingGate())
        let hasReturned = Locked(false)
        let first = pool.spawnBlocking {
            isBusy.open()
            goOn.blockingWait()
            hasReturned.withLock { $0 = true }
        }
        isBusy.blockingWait()
        let run = Locked(0)
        let waiting = (0..<10).map { _ in pool.spawnBlocking { run.withLock { $0 += 1 } } }
        shutDown(pool, mode) { goOn.open() }
        #expect(hasReturned.withLock { $0 })
        #expect(run.withLock { $0 } == (mode == .drain ? 10 : 0))
        #expect(pool.blockingCounters.threads == 0)
        // The process that ran ended as it was asked to; those that waited, too. Nobody hangs.
        guard case .finished = await first.outcome() else {
            Issue.record("what ran was not finished")
            return
        }
        for handle in waiting {
            switch (await handle.outcome(), mode) {
            case (.finished, .drain), (.failed(.killed), .drop): break
            case (let outcome, _): Issue.record("\(mode): \(outcome)")
            }
        }
    }

    /// More of them than threads when the shutdown begins, and each waits for all: the pool still grows.
    @Test func aPoolThatDrainsStillGrows() throws {
        let pool = try Self.pool()
        let (isBusy, rendezvous) = (BlockingGate(), Rendezvous(50))
        for _ in 0..<50 {
            pool.spawnBlocking {
                isBusy.open()
                rendezvous.arrive()
                rendezvous.everybody.blockingWait()
            }
        }
        isBusy.blockingWait()
        shutDown(pool, .drain) {}
        #expect(pool.blockingCounters.threads == 0)
        #expect(pool.blockingCounters.jobs >= 50)
    }

    @Test func whatComesWhileThePoolIsDownRunsAfterTheNextStart() async throws {
        let pool = try Self.pool()
        #expect(try await pool.spawnBlocking { 1 }.outcome().get() == 1)
        await down(pool)
        let late = (0..<20).map { number in pool.spawnBlocking { number } }
        #expect(pool.blockingCounters.queued == 20)
        pool.start()
        for (number, handle) in late.enumerated() { #expect(try await handle.outcome().get() == number) }
        await down(pool)
        #expect(pool.blockingCounters.threads == 0)
    }
}

/// The seat of the calling thread, of the blocking pool the node.
private func ownSeat() -> Int {
    WorkerThread.current?.seat ?? -1
}

private func down(_ pool: WorkerPool) async { await pool.shutDownElsewhere() }
