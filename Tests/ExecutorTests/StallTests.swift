// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import Synchronization
import TestSupport
import Testing

@testable import Executor
@testable import LightProc

@Suite struct StallDetectorTests {
    private typealias Look = StallDetector.Look

    @Test func aStallIsToldOnceThenItsEnd() {
        var detector = StallDetector(workers: 2, threshold: 100)
        func look(_ turns: UInt, _ isBusy: Bool, _ now: UInt64) -> [StallDetector.Finding] {
            detector.look(
                at: [Look(turns: turns, isBusy: isBusy), Look(turns: now.magnitude.word, isBusy: true)],
                now: now
            )
        }
        #expect(look(7, true, 1_000) == [])
        #expect(look(7, true, 1_050) == [])
        #expect(look(7, true, 1_100) == [.stalled(worker: 0, nanoseconds: 100)])
        #expect(detector.hasStalled)
        #expect(look(7, true, 1_150) == [.stillStalled(worker: 0, nanoseconds: 150)])
        #expect(look(8, true, 1_200) == [.recovered(worker: 0, nanoseconds: 200)])
        #expect(!detector.hasStalled)
        // The next turn counts from where it was first seen.
        #expect(look(8, true, 1_290) == [])
        #expect(look(8, true, 1_310) == [.stalled(worker: 0, nanoseconds: 110)])
        #expect(look(8, false, 1_320) == [.recovered(worker: 0, nanoseconds: 120)])
    }

    @Test func whoGetsOnOrRestsIsNotStalled() {
        var detector = StallDetector(workers: 1, threshold: 100)
        for now in stride(from: UInt64(0), to: 10_000, by: 99) {
            #expect(detector.look(at: [Look(turns: UInt(now), isBusy: true)], now: now) == [])
        }
        for now in stride(from: UInt64(10_000), to: 20_000, by: 99) {
            #expect(detector.look(at: [Look(turns: 5, isBusy: false)], now: now) == [])
        }
    }

    /// Against what is known about random workers.
    @Test func everyStallOfTheThresholdIsFoundAndNoOther() {
        var random = SeededGenerator(seed: RandomRun.seed)
        for _ in 0..<200 {
            let workers = Int.random(in: 1...4, using: &random)
            var detector = StallDetector(workers: workers, threshold: 100)
            var turns = [UInt](repeating: 0, count: workers)
            var busySince = [UInt64?](repeating: nil, count: workers)
            var stalled = Set<Int>()
            var now: UInt64 = 0
            for _ in 0..<300 {
                now += UInt64.random(in: 1...60, using: &random)
                for worker in 0..<workers where Int.random(in: 0..<4, using: &random) == 0 {
                    turns[worker] += 1
                    busySince[worker] = Bool.random(using: &random) ? now : nil
                }
                let findings = detector.look(
                    at: (0..<workers).map { Look(turns: turns[$0], isBusy: busySince[$0] != nil) },
                    now: now
                )
                for worker in 0..<workers {
                    let isStalled = busySince[worker].map { now - $0 >= 100 } ?? false
                    let time = busySince[worker].map { now - $0 } ?? 0
                    if isStalled, stalled.insert(worker).inserted {
                        #expect(
                            findings.contains(.stalled(worker: worker, nanoseconds: time)),
                            "SEED=\(RandomRun.seed)"
                        )
                    } else if isStalled {
                        #expect(findings.contains(.stillStalled(worker: worker, nanoseconds: time)))
                    } else if stalled.remove(worker) != nil {
                        #expect(
                            findings.contains { if case .recovered(worker, _) = $0 { true } else { false } },
                            "SEED=\(RandomRun.seed)"
                        )
                    }
                }
                #expect(detector.hasStalled == !stalled.isEmpty)
            }
        }
    }

    private func seats(_ machine: String) throws -> [Seat] {
        try Placement(Topology(synthetic: machine), options: .init(pinning: .never)).seats
    }

    @Test func thereAreAsManyStandInsAsSeats() throws {
        var standIns = try StandIns(seats("core:2 pu:1"))
        #expect(standIns.take(for: 0) == 0)
        // One for each.
        #expect(standIns.take(for: 0) == nil)
        // Who stands in for another may be stuck, too.
        #expect(standIns.take(for: 2) == 1)
        #expect(standIns.take(for: 1) == nil)
        #expect(standIns.count == 2)
        #expect(standIns.standIn(for: 2) == 1)
        standIns.free(0)
        #expect(standIns.standIn(for: 0) == nil)
        #expect(standIns.take(for: 1) == 0)
    }

    @Test func whoStandsInIsTheNearestThatIsFree() throws {
        // Two packages of two nodes with two workers each.
        var standIns = try StandIns(seats("pack:2 numa:2 core:2 pu:1"))
        #expect(standIns.take(for: 6) == 6)
        #expect(standIns.take(for: 1) == 1)
        // Who stands in for the sixth is stuck, too: of the same node. Then the seventh, whose own is taken.
        #expect(standIns.take(for: 8 + 6) == 7)
        #expect([4, 5].contains(standIns.take(for: 7)))
        standIns.free(7)
        standIns.free(6)
        #expect(standIns.take(for: 6) == 6)
    }
}

extension UInt64 {
    fileprivate var word: UInt { UInt(self) }
}

/// Workers that are stuck, on real threads. Each test ends because the others go on; without the watch it would hang.
@Suite(.serialized) struct StallPoolTests {
    private func pool(_ workers: Int) throws -> WorkerPool { try pool(machine: "core:\(workers) pu:1") }

    private func pool(machine: String) throws -> WorkerPool {
        try WorkerPool(
            placement: Placement(Topology(synthetic: machine), options: .init(pinning: .never)),
            stallThreshold: .milliseconds(5)
        )
    }

    private final class Flag: Sendable {
        let isSet = Atomic<Bool>(false)
    }

    private final class Reports: Sendable {
        let all = Locked<[StallReport]>([])
        /// Ends: the watch finds it.
        func blockingWait(for stage: StallReport.Stage, of proc: LightProc) -> StallReport {
            while true {
                let report = all.withLock { $0.first { $0.stage == stage && $0.process == proc.id } }
                if let report { return report }
                sched_yield()
            }
        }
        func clear() { all.withLock { $0 = [] } }
    }

    /// Has a process be stuck, and get on. A worker that is not given a processor for long may seem stuck before it comes to
    /// where it will be: then another time.
    private func reports(
        of proc: LightProc,
        in function: String,
        _ reports: Reports,
        _ begin: (PollGate) -> Void
    ) -> (stuck: StallReport, recovered: StallReport) {
        for _ in 0..<100 {
            reports.clear()
            let goOn = PollGate()
            begin(goOn)
            let stuck = reports.blockingWait(for: .stuck, of: proc)
            goOn.open()
            let recovered = reports.blockingWait(for: .recovered, of: proc)
            if Sanitizer.isAny || stuck.frames().contains(where: { $0.function?.contains(function) == true }) {
                return (stuck, recovered)
            }
            print("stuck elsewhere: \(stuck.text())")
        }
        Issue.record("no report names \(function)")
        return (reports.blockingWait(for: .stuck, of: proc), reports.blockingWait(for: .recovered, of: proc))
    }

    /// The only worker waits for what only it could run: what it made ready itself, last.
    @Test func whatAStuckWorkerWouldHaveRunNextIsRunByAnother() async throws {
        let pool = try pool(1)
        let goOn = PollGate()
        let stuck = LightProc.reactive(Doer(), on: pool)
        let helper = LightProc.reactive(Doer(), on: pool)
        let done = BlockingGate()
        stuck.tell { _ in
            helper.tell { _ in goOn.open() }
            goOn.blockingWait()
            done.open()
        }
        done.blockingWait()
        await pool.shutDownElsewhere()
    }

    /// Its queues, its memory and its place are of the node of the worker that is stuck.
    @Test func whoStandsInIsOfTheSameNode() async throws {
        let pool = try pool(machine: "pack:2 [numa] core:2 pu:1")
        for stuck in [3, 1, 2] {
            while !pool.isAtRest { sched_yield() }
            let (isStuck, goOn) = (BlockingGate(), PollGate())
            let proc = LightProc.reactive(Doer(), on: pool)
            proc.move(to: ProcTag.home(ofWorker: stuck))
            proc.tell { _ in
                #expect(pool.queues.withOwnWorker { $0?.index } == stuck)
                isStuck.open()
                goOn.blockingWait()
            }
            isStuck.blockingWait()
            // Ends: the watch finds it, and seats a thread as the last thing.
            while pool.seatedThreads.dropFirst(pool.workerCount).allSatisfy({ $0 == nil }) { sched_yield() }
            let standIn = pool.staff.withLock { $0.standIns.standIn(for: stuck) }
            let worker = pool.workers[pool.workerCount + (standIn ?? 0)]
            #expect(standIn == stuck)
            #expect(worker.node == pool.workers[stuck].node)
            #expect(worker.queues === pool.workers[stuck].queues)
            #expect(worker.tiers.map(\.workers).first == [stuck])
            func areAway() -> [Bool] {
                [pool.workers[stuck], worker].map { $0.isAway.load(ordering: .sequentiallyConsistent) }
            }
            #expect(areAway() == [true, false])
            goOn.open()
            // Ends: the watch sees that it got on.
            while pool.staff.withLock({ $0.standIns.count }) > 0 { sched_yield() }
            #expect(areAway() == [false, true])
        }
        await pool.shutDownElsewhere()
    }

    /// Likewise with what waits in its queues, and a worker that computes instead of waiting.
    @Test func aWorkerThatComputesForLongIsNoObstacle() async throws {
        let pool = try pool(1)
        let flag = Flag()
        let arrived = Rendezvous(100)
        let stuck = LightProc.reactive(Doer(), on: pool)
        let done = BlockingGate()
        stuck.tell { _ in
            for _ in 0..<100 { LightProc.reactive(Doer(), on: pool).tell { _ in arrived.arrive() } }
            // Ends: the others are run, elsewhere.
            while !flag.isSet.load(ordering: .relaxed) {}
            done.open()
        }
        arrived.everybody.blockingWait()
        flag.isSet.store(true, ordering: .relaxed)
        done.blockingWait()
        await pool.shutDownElsewhere()
    }

    @Test func theReportSaysWhoIsStuckWhereAndForHowLong() async throws {
        let pool = try pool(2)
        let seen = Reports()
        let observation = pool.observeStalls { report in seen.all.withLock { $0.append(report) } }
        let proc = LightProc.reactive(on: pool) { Doer() }
        proc.prepare(name: "slow", stack: nil, observer: nil, shutdownTime: .seconds(5))
        proc.restart()
        let (stuck, recovered) = reports(of: proc, in: "blockingWait", seen) { goOn in
            proc.tell { _ in goOn.blockingWait() }
        }
        #expect(stuck.name == "slow")
        #expect(stuck.messageType == "Deed")
        #expect(stuck.duration >= .milliseconds(5))
        if !Sanitizer.isAny {
            #expect(stuck.backtrace.count > 3)
            let functions = stuck.frames().compactMap(\.function)
            #expect(functions.contains { $0.contains("PollGate") && $0.contains("blockingWait") }, "\(stuck.text())")
        }
        #expect(stuck.summary.contains("slow\(proc.id), handling Deed since"), "\(stuck.summary)")
        #expect(recovered.duration >= stuck.duration)
        observation.cancel()
        await pool.shutDownElsewhere()
    }

    /// In which function, that is: what it does with its messages only its code knows.
    @Test func theReportOfAnAsyncProcessSaysWhere() async throws {
        let pool = try pool(2)
        let seen = Reports()
        let observation = pool.observeStalls { report in seen.all.withLock { $0.append(report) } }
        let proc = LightProc.async(on: pool) { proc in
            while let goOn = await proc.receiveNode()?.open(as: PollGate.self).message { handleNumber(goOn) }
        }
        proc.declareMessages(of: PollGate.self)
        proc.prepare(name: "slow", stack: nil, observer: nil, shutdownTime: .seconds(5))
        proc.restart()
        let (stuck, recovered) = reports(of: proc, in: "handleNumber", seen) { proc.send($0) }
        expect(stuck, of: proc, in: "handleNumber")
        #expect(recovered.name == "slow")
        proc.stop()
        _ = await exit(of: proc)
        observation.cancel()
        await pool.shutDownElsewhere()
    }

    private actor Clerk {
        let executor: ProcSerialExecutor
        nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }
        init(on scheduler: any ProcScheduler) { executor = ProcSerialExecutor(on: scheduler, name: "clerk") }
        func file(_ goOn: PollGate) { handleNumber(goOn) }
    }

    /// A job in an actor is its caller's.
    @Test func theReportOfAnActorNamesTheProcessThatCalled() async throws {
        let pool = try pool(2)
        let seen = Reports()
        let observation = pool.observeStalls { report in seen.all.withLock { $0.append(report) } }
        let clerk = Clerk(on: pool)
        let proc = LightProc.async(on: pool) { proc in
            while let goOn = await proc.receiveNode()?.open(as: PollGate.self).message { await clerk.file(goOn) }
        }
        proc.declareMessages(of: PollGate.self)
        proc.prepare(name: "slow", stack: nil, observer: nil, shutdownTime: .seconds(5))
        proc.restart()
        let (stuck, _) = reports(of: proc, in: "handleNumber", seen) { proc.send($0) }
        expect(stuck, of: proc, in: "handleNumber")
        if !Sanitizer.isAny {
            #expect(stuck.frames().contains { $0.function?.contains("Clerk") == true }, "\(stuck.text())")
        }
        proc.stop()
        _ = await exit(of: proc)
        observation.cancel()
        await pool.shutDownElsewhere()
    }

    private func expect(_ report: StallReport, of proc: LightProc, in function: String) {
        #expect(report.process == proc.id)
        #expect(report.name == "slow")
        #expect(report.messageType == nil)
        #expect(report.summary.contains("slow\(proc.id) since"), "\(report.summary)")
        if !Sanitizer.isAny {
            #expect(report.frames().contains { $0.function?.contains(function) == true }, "\(report.text())")
        }
    }

    @Test func whoStoodInLeavesWhenTheWorkerGetsOn() async throws {
        await #expect(processExitsWith: .success) {
            let pool = try WorkerPool(
                placement: Placement(Topology(synthetic: "core:2 pu:1"), options: .init(pinning: .never)),
                stallThreshold: .milliseconds(5)
            )
            let threads = OurThreads.atRest(pool)
            #expect(OurThreads.blockingWait(forCount: threads), "\(OurThreads.names())")
            for _ in 0..<3 {
                let goOn = PollGate()
                let stuck = (0..<2).map { _ in LightProc.reactive(Doer(), on: pool) }
                for proc in stuck { proc.tell { _ in goOn.blockingWait() } }
                #expect(OurThreads.blockingWait(forCount: threads + 2), "\(OurThreads.names())")
                // With both workers stuck others are served, and traps contained.
                #expect(try await pool.spawn { 1 }.outcome().get() == 1)
                #expect(await pool.spawn { Misdeed.overflow.commit() }.handle.exit().trapReport != nil)
                goOn.open()
                #expect(OurThreads.blockingWait(forCount: threads), "\(OurThreads.names())")
            }
            // A stuck process that traps in the end is contained like others.
            let goOn = PollGate()
            let handle = pool.spawn {
                goOn.blockingWait()
                Misdeed.overflow.commit()
            }
            #expect(OurThreads.blockingWait(forCount: threads + 1), "\(OurThreads.names())")
            goOn.open()
            #expect(await handle.handle.exit().trapReport != nil)
            #expect(OurThreads.blockingWait(forCount: threads), "\(OurThreads.names())")
            await pool.shutDownElsewhere()
            #expect(OurThreads.blockingWait(forCount: 0), "\(OurThreads.names())")
        }
    }

    /// Interrupted in the middle of sends all the time, nothing is lost or run twice.
    @Test func aWorkerThatIsSampledWhileItSendsLosesNothing() async throws {
        let pool = try pool(1)
        let bystander = LightProc.reactive(Bystander(), on: pool)
        let flag = Flag()
        let rescued = Atomic<Int>(0)
        let count = 200_000 * RandomRun.scale
        let sender = LightProc.reactive(Doer(), on: pool)
        let done = BlockingGate()
        sender.tell { _ in
            for number in 0..<count {
                bystander.send(Bystander.Message.number(number))
                // Each goes through the slot for the next.
                LightProc.reactive(Doer(), on: pool).tell { _ in rescued.add(1, ordering: .relaxed) }
            }
            flag.isSet.store(true, ordering: .relaxed)
            done.open()
        }
        done.blockingWait()
        let (received, isInOrder) = await bystander.bystanderCount()
        #expect(received == count)
        #expect(isInOrder)
        // Ends: all of them are run.
        while rescued.load(ordering: .relaxed) < count { sched_yield() }
        await pool.shutDownElsewhere()
        #expect(rescued.load(ordering: .relaxed) == count)
    }
}

/// What a stuck process is stuck in.
@inline(never) private func handleNumber(_ goOn: PollGate) { goOn.blockingWait() }
