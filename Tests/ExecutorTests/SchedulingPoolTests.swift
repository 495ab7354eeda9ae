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

/// In which order processes get their turns, and on which worker.
@Suite(.serialized) struct SchedulingPoolTests {
    private func pool(_ machine: String, workers: Int? = nil) throws -> WorkerPool {
        try WorkerPool(
            placement: Placement(
                Topology(synthetic: machine),
                options: .init(workerCount: workers, pinning: .never, oversubscribes: true)
            ),
            // Whoever is blocked here stays alone.
            stallThreshold: nil
        )
    }

    /// Which worker runs the caller.
    private static func worker(of pool: WorkerPool) -> Int { pool.queues.withOwnWorker { $0?.index ?? -1 } }

    /// Waits until every worker sleeps, but for those that are kept busy. Ends: nothing is left to do.
    private func blockingWaitUntilIdle(_ pool: WorkerPool, butFor busy: Int = 0) {
        let sleepers = pool.workerCount - busy
        while pool.queues.idle.sleeperCount < sleepers
            || pool.workers.prefix(pool.workerCount).count(where: { $0.isParked }) < sleepers
        { sched_yield() }
    }

    /// Keeps the only worker busy while `body` queues something, then lets it go on.
    private func whileBusy(_ pool: WorkerPool, _ body: () -> Void) {
        let (isBusy, goOn) = (BlockingGate(), BlockingGate())
        let plug = LightProc.reactive(Doer(), on: pool)
        plug.tell { _ in
            isBusy.open()
            goOn.blockingWait()
        }
        isBusy.blockingWait()
        body()
        goOn.open()
    }

    @Test func turnsGoByPriority() async throws {
        let pool = try WorkerPool.ofOneWorkerWithoutTime()
        let order = Locked<[ProcPriority]>([])
        let count = 45
        let done = Rendezvous(3 * count)
        whileBusy(pool) {
            for priority in [ProcPriority.low, .normal, .high] {
                for _ in 0..<count {
                    let proc = LightProc.reactive(Doer(), on: pool)
                    proc.priority = priority
                    proc.tell { _ in
                        order.withLock { $0.append(priority) }
                        done.arrive()
                    }
                }
            }
        }
        done.everybody.blockingWait()
        let turns = order.withLock { $0 }
        // Of 16 turns one or two are for others than the most urgent.
        #expect(turns.prefix(count + 6).count { $0 == .high } == count)
        #expect(turns.dropLast(count - 4).count { $0 == .low } <= 4)
        await pool.shutDownElsewhere()
    }

    /// The urgent one is always ready; it gives up after a million messages.
    @Test(arguments: [ProcPriority.high, .normal])
    func whoIsAlwaysReadyStarvesNobody(_ priority: ProcPriority) async throws {
        let pool = try pool("core:1 pu:1")
        let missing = Atomic<Int>(2)
        let isOver = BlockingGate()
        let greedy = LightProc.reactive(Greedy(missing: missing.load(ordering: .relaxed), isOver: isOver), on: pool)
        greedy.priority = priority
        let (low, normal) = (LightProc.reactive(Doer(), on: pool), LightProc.reactive(Doer(), on: pool))
        low.priority = .low
        whileBusy(pool) {
            greedy.send(Greedy.Message.again(greedy))
            low.tell { _ in greedy.send(Greedy.Message.oneIsThrough) }
            normal.tell { _ in greedy.send(Greedy.Message.oneIsThrough) }
        }
        isOver.blockingWait()
        let rounds = await greedy.rounds()
        #expect(rounds < 1_000_000)
        await pool.shutDownElsewhere()
    }

    /// A process that sends to itself until as many others as are missing were handled.
    private struct Greedy: ReactiveBody {
        enum Message: Sendable {
            case again(LightProc)
            case oneIsThrough
        }
        var missing: Int
        let isOver: BlockingGate
        private var rounds = 0

        init(missing: Int, isOver: BlockingGate) {
            self.missing = missing
            self.isOver = isOver
        }

        mutating func receive(_ message: consuming Message, on proc: LightProc) {
            switch message {
            case .oneIsThrough: missing -= 1
            case .again(let me):
                rounds += 1
                if missing == 0 || rounds == 1_000_000 {
                    proc.note(rounds)
                    isOver.open()
                } else {
                    me.send(Message.again(me))
                }
            }
        }
    }

    /// Holds all workers, does something with their queues in their stead, and lets them go on.
    private func whileAllAreHeld(_ pool: WorkerPool, _ body: () throws -> Void) rethrows {
        let (arrived, goOn) = (Rendezvous(pool.workerCount), BlockingGate())
        for _ in 0..<pool.workerCount {
            LightProc.reactive(Doer(), on: pool).tell { _ in
                arrived.arrive()
                goOn.blockingWait()
            }
        }
        arrived.everybody.blockingWait()
        defer { goOn.open() }
        try body()
    }

    @Test func thievesLookAtTheirOwnNodeFirst() async throws {
        let pool = try pool("pack:2 numa:1 core:2 pu:1")
        let item = RunItem(LightProc.reactive(Doer(), on: pool))
        whileAllAreHeld(pool) {
            let (thief, far) = (pool.workers[0], pool.workers[3])
            let isPushed = far.ring.push(item)
            #expect(isPushed)
            let before = thief.tally.pointee.farSteals.known
            for round in 0..<RunQueues.roundsOnOwnNode { #expect(pool.queues.steal(thief, round) == nil) }
            #expect(pool.queues.steal(thief, RunQueues.roundsOnOwnNode) == item)
            #expect(thief.tally.pointee.farSteals.known == before + 1)
            // From a neighbour at once.
            let isPushedNear = pool.workers[1].ring.push(item)
            #expect(isPushedNear && pool.queues.steal(thief, 0) == item)
        }
        await drop(item, on: pool)
    }

    @Test func whatAWorkerWasWokenForIsLeftToItsNode() async throws {
        let pool = try pool("pack:3 numa:1 core:2 pu:1")
        let item = RunItem(LightProc.reactive(Doer(), on: pool))
        whileAllAreHeld(pool) {
            let thief = pool.workers[0]
            #expect(thief.otherNodes.sorted() == [1, 2])
            pool.nodes[1].normal.push(item)
            pool.workers[3].parking.set(2)
            #expect(pool.queues.takeFromOtherNodes(thief) == nil)
            pool.workers[3].parking.set(0)
            let before = thief.tally.pointee.farSteals.known
            #expect(pool.queues.takeFromOtherNodes(thief) == item)
            #expect(thief.tally.pointee.farSteals.known == before + 1)
        }
        await drop(item, on: pool)
    }

    /// From outside, while nobody sleeps.
    @Test func nothingIsPutThereForAWorkerThatIsAway() async throws {
        let pool = try pool("core:2 pu:1")
        let done = Rendezvous(3)
        whileAllAreHeld(pool) {
            // Stuck; has left; and, for comparison, neither.
            pool.workers[0].isAway.store(true, ordering: .sequentiallyConsistent)
            for index in [0, 2, 1] {
                let proc = LightProc.reactive(Doer(), on: pool)
                proc.move(to: ProcTag.home(ofWorker: index))
                proc.tell { _ in done.arrive() }
            }
            #expect(pool.workers.map { $0.inbox.count } == [0, 1, 0, 0])
            #expect(pool.nodes[0].normal.count == 2)
        }
        done.everybody.blockingWait()
        await pool.shutDownElsewhere()
    }

    /// Gives up an item that no queue has, and ends the pool. A process that has nothing to do is not to be run.
    private func drop(_ item: RunItem, on pool: WorkerPool) async {
        if case .proc(let proc) = item.content { proc.release() }
        await pool.shutDownElsewhere()
    }

    enum Kind: CaseIterable { case reactive, async }

    /// A process of a kind that does what its messages say.
    private func doer(_ kind: Kind, on pool: WorkerPool) -> LightProc {
        if kind == .reactive { return LightProc.reactive(Doer(), on: pool) }
        let proc = LightProc.async(on: pool) { proc in
            while let deed = await proc.receiveNode()?.open(as: Doer.Deed.self).message { try deed.act(proc) }
        }
        proc.declareMessages(of: Doer.Deed.self)
        proc.restart()
        return proc
    }

    /// Keeps the first worker busy, to which everything goes that was nowhere before.
    private func plug(_ pool: WorkerPool, _ begin: @escaping @Sendable () -> Void, _ goOn: BlockingGate) {
        blockingWaitUntilIdle(pool)
        plug(pool, 0, begin, goOn)
    }

    /// Keeps a worker busy that sleeps, while nobody searches.
    private func plug(
        _ pool: WorkerPool,
        _ index: Int,
        _ begin: @escaping @Sendable () -> Void,
        _ goOn: BlockingGate
    ) {
        let plug = LightProc.reactive(Doer(), on: pool)
        plug.move(to: ProcTag.home(ofWorker: index))
        plug.tell { _ in
            #expect(Self.worker(of: pool) == index)
            begin()
            goOn.blockingWait()
        }
    }

    private func whileTheFirstIsBusy(_ pool: WorkerPool, _ body: () -> Void) {
        let (isBusy, goOn) = (BlockingGate(), BlockingGate())
        plug(pool, isBusy.open, goOn)
        isBusy.blockingWait()
        body()
        goOn.open()
    }

    private func end(_ proc: LightProc, _ kind: Kind) async {
        proc.stop()
        if kind == .async { _ = await exit(of: proc) }
    }

    @Test(arguments: Kind.allCases) func aProcessIsWokenWhereItRanLast(_ kind: Kind) async throws {
        let pool = try pool("core:4 pu:1")
        let places = Locked<[Int]>([])
        let proc = doer(kind, on: pool)
        func visit(_ round: Int) {
            proc.tell { _ in places.withLock { $0.append(Self.worker(of: pool)) } }
            // Ends: the message is handled.
            while places.withLock({ $0.count }) < round { sched_yield() }
        }
        whileTheFirstIsBusy(pool) { visit(1) }
        for round in 2...50 {
            blockingWaitUntilIdle(pool)
            visit(round)
        }
        let seen = places.withLock { $0 }
        #expect(Set(seen).count == 1, "\(seen)")
        #expect(seen.first != 0)
        #expect(proc.tag.worker == seen.first)
        await end(proc, kind)
        await pool.shutDownElsewhere()
    }

    @Test func anActorIsWokenWhereItRanLast() async throws {
        let pool = try pool("core:4 pu:1")
        let actor = Seated(ProcSerialExecutor(on: pool))
        let (isBusy, goOn) = (AsyncGate(), BlockingGate())
        plug(pool, isBusy.open, goOn)
        await isBusy.wait()
        var places: Set = [await actor.place { Self.worker(of: pool) }]
        goOn.open()
        for _ in 2...50 {
            blockingWaitUntilIdle(pool)
            places.insert(await actor.place { Self.worker(of: pool) })
        }
        #expect(places.count == 1 && !places.contains(0), "\(places)")
        await pool.shutDownElsewhere()
    }

    private actor Seated {
        private let executor: ProcSerialExecutor
        nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }
        init(_ executor: ProcSerialExecutor) { self.executor = executor }
        func place(_ look: @Sendable () -> Int) -> Int { look() }
    }

    /// It is not kept waiting for that worker, though.
    @Test(arguments: Kind.allCases) func aProcessMovesWhenItsWorkerIsBusyAndAnotherIdles(_ kind: Kind) async throws {
        let pool = try pool("core:2 pu:1")
        let places = Locked<[Int]>([])
        let proc = doer(kind, on: pool)
        func place() -> Int {
            let count = places.withLock { $0.count }
            proc.tell { _ in places.withLock { $0.append(Self.worker(of: pool)) } }
            while places.withLock({ $0.count }) == count { sched_yield() }
            return places.withLock { $0[count] }
        }
        blockingWaitUntilIdle(pool)
        let first = place()
        blockingWaitUntilIdle(pool)
        // Busy: a process at home on the same worker blocks it.
        let (isBusy, goOn) = (BlockingGate(), BlockingGate())
        let blocker = LightProc.reactive(Doer(), on: pool)
        blocker.move(to: ProcTag.home(ofWorker: first))
        let blockersPlace = Locked(-1)
        blocker.tell { _ in
            blockersPlace.withLock { $0 = Self.worker(of: pool) }
            isBusy.open()
            goOn.blockingWait()
        }
        isBusy.blockingWait()
        #expect(blockersPlace.withLock { $0 } == first)
        #expect(place() == 1 - first)
        goOn.open()
        await end(proc, kind)
        await pool.shutDownElsewhere()
    }

    /// Two nodes with two workers each, which this machine may not have: the decisions are the same.
    @Test(arguments: Kind.allCases) func whatIsWokenFromAnotherNodeGoesBackToItsOwn(_ kind: Kind) async throws {
        let pool = try pool("pack:2 [numa] core:2 pu:1")
        #expect(pool.nodes.count == 2)
        #expect(pool.workers.prefix(4).map(\.node) == [0, 0, 1, 1])
        let places = Locked<[Int]>([])
        let (waker, sleeper) = (LightProc.reactive(Doer(), on: pool), doer(kind, on: pool))
        // Each of the two at home on another node, by turns.
        for (wakers, home) in [(3, 1), (0, 2)] {
            // The neighbours of both are busy, and so is who woke it, until it has run: none of them could take it from there.
            let goOn = BlockingGate()
            for (busy, index) in [wakers ^ 1, home ^ 1].enumerated() {
                blockingWaitUntilIdle(pool, butFor: busy)
                let isBusy = BlockingGate()
                plug(pool, index, isBusy.open, goOn)
                isBusy.blockingWait()
            }
            blockingWaitUntilIdle(pool, butFor: 2)
            let before = pool.counters
            waker.move(to: ProcTag.home(ofWorker: wakers))
            for _ in 1...20 {
                blockingWaitUntilIdle(pool, butFor: 2)
                sleeper.move(to: ProcTag.home(ofWorker: home))
                let count = places.withLock { $0.count }
                waker.tell { _ in
                    #expect(Self.worker(of: pool) == wakers)
                    sleeper.tell { _ in places.withLock { $0.append(Self.worker(of: pool)) } }
                    while places.withLock({ $0.count }) == count { sched_yield() }
                }
                while places.withLock({ $0.count }) == count { sched_yield() }
                #expect(places.withLock { $0[count] } == home)
            }
            blockingWaitUntilIdle(pool, butFor: 2)
            let after = pool.counters
            // It was put there, not fetched; and who woke that worker is counted.
            #expect(after[home].farSteals == before[home].farSteals)
            #expect(after[wakers].wakes >= before[wakers].wakes + 20)
            goOn.open()
        }
        blockingWaitUntilIdle(pool)
        // Within a node it stays with who woke it.
        waker.move(to: ProcTag.home(ofWorker: 2))
        sleeper.move(to: ProcTag.home(ofWorker: 3))
        waker.tell { _ in sleeper.tell { _ in places.withLock { $0.append(Self.worker(of: pool)) } } }
        while places.withLock({ $0.count }) == 40 { sched_yield() }
        #expect(places.withLock { $0[40] } == 2)
        await end(sleeper, kind)
        await pool.shutDownElsewhere()
    }

    @Test func countersTellWhatWorkersDid() async throws {
        let pool = try pool("core:2 pu:1")
        let before = pool.counters.reduce(0) { $0 + $1.polls }
        let (one, other) = (LightProc.reactive(Doer(), on: pool), LightProc.reactive(Doer(), on: pool))
        let done = BlockingGate()
        @Sendable func volley(_ left: Int, _ from: LightProc, _ to: LightProc) {
            if left == 0 { return done.open() }
            to.tell { _ in volley(left - 1, to, from) }
        }
        one.tell { _ in volley(10_000, one, other) }
        done.blockingWait()
        blockingWaitUntilIdle(pool)
        // At rest nothing is counted, also not time. Ends: a worker on its way to sleep gets there.
        var counters = pool.counters
        while pool.counters != counters { counters = pool.counters }
        #expect(counters.map(\.worker) == [0, 1])
        #expect(counters.reduce(0) { $0 + $1.polls } >= before + 10_000)
        #expect(counters.reduce(0) { $0 + $1.lifoHits } >= 9_000)
        #expect(counters.reduce(0) { $0 + $1.injected } >= 1)
        #expect(counters.allSatisfy { $0.parks > 0 && $0.isParked && $0.queueDepth == 0 })
        #expect(counters.contains { $0.busyTime > .zero })
        await pool.shutDownElsewhere()
    }

    @Test func countersTellWhatWaits() async throws {
        let pool = try pool("pack:2 [numa] core:1 pu:1")
        let (arrived, isReady, goOn) = (Rendezvous(2), BlockingGate(), BlockingGate())
        let done = Rendezvous(2 + 4 + 3)
        for index in 0..<2 {
            let proc = LightProc.reactive(Doer(), on: pool)
            proc.move(to: ProcTag.home(ofWorker: index))
            // Ends: it lies down.
            while !pool.workers[index].isParked { sched_yield() }
            proc.tell { _ in
                arrived.arrive()
                arrived.everybody.blockingWait()
                // The last one is next, the others are behind it. On the other worker nothing is.
                for _ in 0..<(index == 0 ? 4 : 0) { LightProc.reactive(Doer(), on: pool).tell { _ in done.arrive() } }
                if index == 0 { isReady.open() }
                goOn.blockingWait()
                done.arrive()
            }
        }
        isReady.blockingWait()
        #expect(pool.counters.map(\.queueDepth) == [4, 0])
        #expect(pool.nodeQueueDepths == [0, 0])
        // For the worker that ran it last, as nobody sleeps; and two of other priorities, for its node.
        for priority in ProcPriority.allCases {
            let proc = LightProc.reactive(Doer(), on: pool)
            proc.priority = priority
            proc.move(to: ProcTag.home(ofWorker: 1))
            proc.tell { _ in done.arrive() }
        }
        #expect(pool.counters.map(\.queueDepth) == [4, 1])
        #expect(pool.nodeQueueDepths == [0, 2])
        goOn.open()
        done.everybody.blockingWait()
        blockingWaitUntilIdle(pool)
        #expect(pool.counters.map(\.queueDepth) == [0, 0])
        #expect(pool.nodeQueueDepths == [0, 0])
        await pool.shutDownElsewhere()
    }

    @Test func stealsAreCountedByDistance() async throws {
        // Two workers that share a cache, and two of another node.
        let pool = try pool("pack:2 [numa] l3:1 core:2 pu:1")
        #expect(pool.workers[0].tiers.map(\.distance) == [.local, .far])
        blockingWaitUntilIdle(pool)
        let everybody = Rendezvous(4)
        let counted = Rendezvous(3)
        // Ready on one worker, which waits for the others to take them.
        let first = LightProc.reactive(Doer(), on: pool)
        first.tell { _ in
            for _ in 0..<4 {
                let proc = LightProc.reactive(Doer(), on: pool)
                proc.tell { _ in
                    everybody.arrive()
                    everybody.everybody.blockingWait()
                    counted.arrive()
                }
            }
        }
        counted.everybody.blockingWait()
        blockingWaitUntilIdle(pool)
        let counters = pool.counters
        #expect(counters.reduce(0) { $0 + $1.localSteals } >= 1, "\(counters)")
        #expect(counters.reduce(0) { $0 + $1.farSteals } >= 1, "\(counters)")
        #expect(counters.reduce(0) { $0 + $1.nearSteals } == 0)
        await pool.shutDownElsewhere()
    }

    @Test func aPoolThatWasShutDownMayBeStartedAgain() async throws {
        await #expect(processExitsWith: .success) {
            let pool = try WorkerPool(workers: 2)
            let threads = OurThreads.atRest(pool)
            let counter = LightProc.reactive(Bystander(), on: pool)
            for round in 0..<5 {
                #expect(OurThreads.blockingWait(forCount: threads), "\(OurThreads.names())")
                counter.send(Bystander.Message.number(2 * round))
                #expect(try await pool.spawn { round }.outcome().get() == round)
                #expect(try await pool.spawnBlocking { round }.outcome().get() == round)
                #expect(await pool.spawn { Misdeed.overflow.commit() }.handle.exit().trapReport != nil)
                await pool.shutDownElsewhere()
                #expect(OurThreads.blockingWait(forCount: 0), "\(OurThreads.names())")
                // While it is down messages wait.
                counter.send(Bystander.Message.number(2 * round + 1))
                pool.start()
            }
            let (count, isInOrder) = await counter.bystanderCount()
            #expect(count == 10)
            #expect(isInOrder)
            await pool.shutDownElsewhere()
        }
    }

    @Test func whatIsDroppedIsKilledAndReleasesWhatItOwns() async throws {
        let pool = try pool("core:1 pu:1")
        let handled = Atomic<Int>(0)
        let released = Rendezvous(20)
        var procs: [LightProc] = []
        let (isBusy, goOn) = (BlockingGate(), BlockingGate())
        let plug = LightProc.reactive(Doer(), on: pool)
        plug.tell { _ in
            isBusy.open()
            goOn.blockingWait()
        }
        isBusy.blockingWait()
        for _ in 0..<20 {
            let proc = LightProc.reactive(Doer(), on: pool)
            proc.onExit { _ in released.arrive() }
            proc.tell { _ in handled.add(1, ordering: .relaxed) }
            procs.append(proc)
        }
        let handle = pool.spawn { handled.add(1, ordering: .relaxed) }
        let isDown = BlockingGate()
        let thread = PlainThread(name: "test-shutdown") {
            pool.shutdown(.drop)
            isDown.open()
        }
        // Ends: the shutdown begins before it waits for the worker.
        while !pool.isDropping.load(ordering: .sequentiallyConsistent) { sched_yield() }
        goOn.open()
        isDown.blockingWait()
        thread.join()
        released.everybody.blockingWait()
        #expect(handled.load(ordering: .relaxed) == 0)
        for proc in procs { #expect(proc.lastExit.map { "\($0)" } == "killed") }
        guard case .failed(.killed) = await handle.outcome() else {
            Issue.record("the async one ended otherwise")
            return
        }
    }
}

extension LightProc {
    /// A number that a test asks for later: kept as the state of the stack would be, but without one.
    fileprivate func note(_ number: Int) { noted.withLock { $0[id] = number } }

    fileprivate func rounds() async -> Int { noted.withLock { $0[id] ?? 0 } }
}

private let noted = Locked<[ProcID: Int]>([:])
