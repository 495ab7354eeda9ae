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

/// Notes of where code ran: the processor, as the kernel says.
private final class Places: Sendable {
    private let seen = Locked<[Int: Int]>([:])
    /// Notes the caller's.
    func note() {
        let here = ThreadPlacement.currentPU() ?? -1
        seen.withLock { $0[here, default: 0] += 1 }
    }
    func note(worker: Int) { seen.withLock { $0[worker, default: 0] += 1 } }
    var all: Set<Int> { seen.withLock { Set($0.keys) } }
    var count: Int { seen.withLock { $0.values.reduce(0, +) } }
}

/// The processors that this program may use.
private enum Machine {
    static let plan = try? Placement(Topology.current())
    static var osPUs: [Int] { plan?.seats.map(\.osPU).sorted() ?? [] }
    static var hasTwo: Bool { osPUs.count >= 2 && plan?.pinsWorkers == true }
    /// Each of two of them, and the other one.
    static var pairs: [[Int]] { osPUs.count >= 2 ? [[osPUs[0], osPUs[1]], [osPUs[1], osPUs[0]]] : [] }
}

/// Keeps processes busy that are pinned to nothing and send to each other, until it is stopped: they are worth stealing.
private final class Pressure: Sendable {
    private let isOver = Atomic<Bool>(false)
    private let gone: Rendezvous
    private let procs: [LightProc]

    init(on pool: WorkerPool, _ count: Int) {
        gone = Rendezvous(count)
        procs = (0..<count).map { _ in LightProc.reactive(Doer(), on: pool) }
        for index in procs.indices { go(index) }
    }

    private func go(_ index: Int) {
        procs[index].tell { [self] _ in
            // ordering: relaxed: a flag.
            if isOver.load(ordering: .relaxed) { return gone.arrive() }
            for _ in 0..<100 { crt_pause() }
            // Each turn is that of another one: a turn of many messages would take long.
            go((index + 1) % procs.count)
        }
    }

    func blockingStop() {
        isOver.store(true, ordering: .relaxed)
        gone.everybody.blockingWait()
    }
}

/// Pinned processes on this machine's processors.
@Suite(.serialized, .enabled(if: Machine.hasTwo, "needs two processors")) struct PinnedProcessTests {
    private func pool(stallThreshold: Duration? = nil) throws -> WorkerPool {
        WorkerPool(placement: try #require(Machine.plan), stallThreshold: stallThreshold)
    }

    private func pinned(_ pool: WorkerPool, to pu: Int, _ priority: ProcPriority = .normal) throws -> LightProc {
        let proc = LightProc.reactive(Doer(), on: pool)
        try proc.pin(to: .cores([pu]))
        proc.priority = priority
        #expect(proc.cores == .cores([pu]))
        return proc
    }

    /// One processor has far more to do than it can, the other nothing: it helps nobody.
    @Test(arguments: Machine.pairs)
    func aLoadedProcessorIsNotHelpedByAnIdleOne(_ pair: [Int]) async throws {
        let pool = try pool()
        let places = Places()
        let done = Rendezvous(50 * 100)
        let procs = try (0..<50).map { index in
            try pinned(pool, to: pair[0], ProcPriority.allCases[index % 3])
        }
        for _ in 0..<100 {
            for proc in procs {
                proc.tell { _ in
                    places.note()
                    done.arrive()
                }
            }
        }
        done.everybody.blockingWait()
        #expect(places.all == [pair[0]])
        #expect(places.count == 5000)
        #expect(pool.pinnedQueueDepths == [.cores([pair[0]]): 0])
        #expect(pool.warnings.filter { $0.contains("pinned to workers") } == [])
        await pool.shutDownElsewhere()
    }

    /// Woken by the other processor, by itself, from outside and by timers, while there is much to steal.
    @Test(arguments: Machine.pairs)
    func whoeverWakesItItRunsWhereItIsPinned(_ pair: [Int]) async throws {
        let pool = try pool()
        let pressure = Pressure(on: pool, 8)
        let (here, there) = (Places(), Places())
        // Many at a time: on a machine that is busy each way to the other processor takes long.
        let (chains, rounds) = (20, 25)
        let done = Rendezvous(2 * chains * rounds + 20)
        let left = try pinned(pool, to: pair[0])
        let right = try pinned(pool, to: pair[1])
        // Two that send to each other, each on its own.
        @Sendable func pass(_ round: Int) {
            left.tell { _ in
                here.note()
                done.arrive()
                right.tell { _ in
                    there.note()
                    done.arrive()
                    if round + 1 < rounds { pass(round + 1) }
                }
            }
        }
        for _ in 0..<chains { pass(0) }
        for number in 0..<20 {
            pool.wake(after: .microseconds(number * 100)) {
                left.tell { _ in
                    here.note()
                    done.arrive()
                }
            }
        }
        done.everybody.blockingWait()
        pressure.blockingStop()
        #expect(here.all == [pair[0]])
        #expect(there.all == [pair[1]])
        #expect(here.count == chains * rounds + 20 && there.count == chains * rounds)
        await pool.shutDownElsewhere()
    }

    /// All of an async process: its body, its child tasks, what they wait for, and its exit hooks.
    @Test(arguments: Machine.pairs)
    func anAsyncProcessIsPinnedWithAllOfItsTasks(_ pair: [Int]) async throws {
        let pool = try pool()
        let pressure = Pressure(on: pool, 8)
        let places = Places()
        let clock = BastionClock(pool)
        let hooked = BlockingGate()
        let handle = try pool.spawn(pinnedTo: .cores([pair[0]])) {
            places.note()
            LightProc.current?.onExit { _ in
                places.note()
                hooked.open()
            }
            @Sendable func work(_ rounds: Int) async throws -> Int {
                for round in 0..<rounds {
                    places.note()
                    if round % 4 == 0 { try await clock.sleep(for: .microseconds(50)) } else { await Task.yield() }
                    places.note()
                }
                return rounds
            }
            async let first = work(20)
            async let second = work(20)
            let sum = try await withThrowingTaskGroup(of: Int.self) { group in
                for _ in 0..<10 { group.addTask { try await work(10) } }
                return try await group.reduce(0, +)
            }
            places.note()
            return try await first + second + sum
        }
        guard case .finished(let sum) = await handle.outcome() else {
            Issue.record("it did not end by itself")
            return
        }
        #expect(sum == 140)
        hooked.blockingWait()
        pressure.blockingStop()
        #expect(places.all == [pair[0]])
        #expect(places.count == 2 * 140 + 3)
        await pool.shutDownElsewhere()
    }

    /// Its blocking work is on other threads, and it comes back.
    @Test(arguments: Machine.pairs)
    func blockingWorkIsElsewhereAndComesBack(_ pair: [Int]) async throws {
        let pool = try pool()
        let places = Places()
        let names = Locked<Set<String>>([])
        let handle = try pool.spawn(pinnedTo: .cores([pair[0]])) {
            for _ in 0..<50 {
                places.note()
                try await pool.blocking { _ = names.withLock { $0.insert(OurThreads.currentName) } }
                places.note()
            }
        }
        _ = await handle.outcome()
        #expect(places.all == [pair[0]] && places.count == 100)
        #expect(names.withLock { $0 } == ["bastion-blocker"])
        // Nor can a process of the blocking threads be pinned.
        let (proc, _) = LightProc.recoverableBlocking(on: pool.blockingScheduler, stack: ProcStack()) {}
        #expect(throws: PinningError.self) { try proc.pin(to: .cores([pair[0]])) }
        proc.close()
        await pool.shutDownElsewhere()
    }

    /// The heir of a worker on which it trapped has the same seat; so have the next incarnations.
    @Test(arguments: Machine.pairs)
    func trapsLeaveItWhereItIs(_ pair: [Int]) async throws {
        await #expect(processExitsWith: .success) { [pair] in try await Self.trap(pair) }
    }

    private static func trap(_ pair: [Int]) async throws {
        // The program has the mask of the thread that has started it.
        try ThreadPlacement.restrict(toOSPUs: pair)
        let pool = try WorkerPool(workers: 2, stallThreshold: nil)
        let pressure = Pressure(on: pool, 4)
        let places = Places()
        let incarnations = 12
        let over = BlockingGate()
        let proc = LightProc.async(on: pool) { proc in
            places.note()
            proc.onExit { _ in places.note() }
            await Task.yield()
            places.note()
            if proc.restarts % 2 == 0 { Misdeed.index.commit() }
            async let child = Misdeed.fatal.commit()
            _ = await child
        }
        let observer = Restarter(limit: incarnations, over: over)
        proc.prepare(name: "trapper", stack: nil, observer: observer, shutdownTime: .seconds(5))
        try proc.pin(to: .cores([pair[0]]))
        proc.restart()
        over.blockingWait()
        #expect(observer.traps.withLock { $0 } == incarnations)
        #expect(places.all == [pair[0]])
        #expect(places.count == 3 * incarnations)
        pressure.blockingStop()
        await pool.shutDownElsewhere()
    }

    private final class Restarter: ProcObserver {
        let limit: Int
        let over: BlockingGate
        let traps = Locked(0)
        init(limit: Int, over: BlockingGate) {
            self.limit = limit
            self.over = over
        }
        func procDiscarded(messageOf type: Any.Type, by proc: LightProc) {}
        func procEnded(_ proc: LightProc, reason: ExitReason) {
            let traps = traps.withLock { traps in
                if reason.trapReport != nil { traps += 1 }
                return traps
            }
            if proc.restarts + 1 < limit { return proc.restart() }
            proc.close()
            #expect(traps == limit)
            over.open()
        }
    }

    /// Who stands in for a stuck worker runs what waits behind it, on its processor, and what is not pinned, too.
    @Test(arguments: Machine.pairs)
    func whoStandsInForAStuckWorkerKeepsToItsProcessor(_ pair: [Int]) async throws {
        let pool = try pool(stallThreshold: .milliseconds(20))
        let places = Places()
        let (isStuck, goOn) = (BlockingGate(), PollGate())
        let stuck = try pinned(pool, to: pair[0])
        stuck.tell { _ in
            places.note()
            isStuck.open()
            goOn.blockingWait()
            places.note()
        }
        isStuck.blockingWait()
        let pressure = Pressure(on: pool, 4)
        for _ in 0..<20 {
            let done = Rendezvous(10)
            for _ in 0..<10 {
                try pinned(pool, to: pair[0]).tell { _ in
                    places.note()
                    done.arrive()
                }
            }
            // Ends: only because somebody stands in.
            done.everybody.blockingWait()
        }
        goOn.open()
        // Ends: the watch sees that it got on.
        while pool.staff.withLock({ $0.standIns.count }) > 0 { sched_yield() }
        let done = BlockingGate()
        stuck.tell { _ in
            places.note()
            done.open()
        }
        done.blockingWait()
        pressure.blockingStop()
        #expect(places.all == [pair[0]])
        #expect(places.count == 203)
        await pool.shutDownElsewhere()
    }
}

/// Pinned processes on machines that are made up: which of the workers runs them.
@Suite(.serialized) struct PinnedQueueTests {
    private func pool(_ machine: String, stallThreshold: Duration? = nil) throws -> WorkerPool {
        try WorkerPool(
            placement: Placement(Topology(synthetic: machine), options: .init(pinning: .never)),
            stallThreshold: stallThreshold,
            writesWarnings: false
        )
    }

    private static func worker(of pool: WorkerPool) -> Int { pool.queues.withOwnWorker { $0?.index ?? -1 } }

    private func pinned(_ pool: WorkerPool, to cores: CoreSet) throws -> LightProc {
        let proc = LightProc.reactive(Doer(), on: pool)
        try proc.pin(to: cores)
        return proc
    }

    @Test func workersThatAreNotPinnedAreAWarning() async throws {
        let pool = try pool("core:2 pu:1")
        #expect(pool.warnings == [])
        for _ in 0..<3 { _ = try pinned(pool, to: .node(0)) }
        #expect(pool.warnings.count == 1)
        #expect(pool.warnings[0].hasPrefix("processes are pinned to workers that are not pinned to processors"))
        await pool.shutDownElsewhere()
    }

    /// Two processes of a set that wait for each other run on two workers: both are woken, also while others search.
    @Test(arguments: [CoreSet.node(1), .cores([1, 2]), .cores([0, 3])])
    func aSetUsesAllOfItsWorkersAndNoOther(_ cores: CoreSet) async throws {
        let pool = try pool("pack:2 [numa] core:2 pu:1")
        let seats = Set(try pool.placement.place(of: cores).seats)
        let places = Places()
        for _ in 0..<300 {
            let (met, done) = (Rendezvous(2), Rendezvous(2))
            for _ in 0..<2 {
                try pinned(pool, to: cores).tell { _ in
                    places.note(worker: Self.worker(of: pool))
                    met.arrive()
                    met.everybody.blockingWait()
                    done.arrive()
                }
            }
            done.everybody.blockingWait()
        }
        #expect(places.all == seats)
        await pool.shutDownElsewhere()
    }

    /// What a worker makes ready for its own set behind a turn that does not end is run by the other one.
    @Test func aLongTurnDoesNotKeepTheSetWaiting() async throws {
        for threshold in [nil, Duration.milliseconds(500)] {
            let pool = try pool("core:3 pu:1", stallThreshold: threshold)
            let places = Places()
            for _ in 0..<20 {
                let goOn = PollGate()
                let done = BlockingGate()
                let other = try pinned(pool, to: .cores([0, 1]))
                try pinned(pool, to: .cores([0, 1])).tell { _ in
                    places.note(worker: Self.worker(of: pool))
                    other.tell { _ in
                        places.note(worker: Self.worker(of: pool))
                        goOn.open()
                    }
                    goOn.blockingWait()
                    done.open()
                }
                done.blockingWait()
            }
            #expect(places.all == [0, 1])
            await pool.shutDownElsewhere()
        }
    }

    /// On one worker: neither those that are pinned nor the others, who are always ready, have to wait for ever.
    @Test(arguments: [true, false])
    func whoIsAlwaysReadyStarvesNobody(greedyIsPinned: Bool) async throws {
        let pool = try pool("core:1 pu:1")
        let isOver = Atomic<Bool>(false)
        let ended = BlockingGate()
        let greedy = LightProc.reactive(Doer(), on: pool)
        let modest = LightProc.reactive(Doer(), on: pool)
        for proc in greedyIsPinned ? [greedy] : [modest] { try proc.pin(to: .cores([0])) }
        @Sendable func again() {
            greedy.tell { _ in
                // ordering: relaxed: a flag.
                if isOver.load(ordering: .relaxed) { ended.open() } else { again() }
            }
        }
        again()
        for _ in 0..<100 {
            let done = BlockingGate()
            modest.tell { _ in done.open() }
            // Ends: it has its share of the turns.
            done.blockingWait()
        }
        isOver.store(true, ordering: .relaxed)
        ended.blockingWait()
        await pool.shutDownElsewhere()
    }

    /// By their priority; those of one in the order in which they came.
    @Test func theUrgentComeFirstAndTheOthersInOrder() async throws {
        let pool = try WorkerPool.ofOneWorkerWithoutTime()
        let order = Locked<[(ProcPriority, Int)]>([])
        let done = Rendezvous(90)
        let (isBusy, goOn) = (BlockingGate(), BlockingGate())
        LightProc.reactive(Doer(), on: pool).tell { _ in
            isBusy.open()
            goOn.blockingWait()
        }
        isBusy.blockingWait()
        for number in 0..<30 {
            for priority in [ProcPriority.low, .normal, .high] {
                let proc = try pinned(pool, to: .cores([0]))
                proc.priority = priority
                proc.tell { _ in
                    order.withLock { $0.append((priority, number)) }
                    done.arrive()
                }
            }
        }
        goOn.open()
        done.everybody.blockingWait()
        let turns = order.withLock { $0 }
        for priority in ProcPriority.allCases {
            #expect(turns.filter { $0.0 == priority }.map(\.1) == Array(0..<30), "\(priority)")
        }
        // Of 16 turns one is for those of normal priority; before they are found up to 16 are taken.
        #expect(turns.prefix(36).count { $0.0 == .high } >= 30)
        #expect(turns.prefix(60).count { $0.0 == .low } <= 2)
        await pool.shutDownElsewhere()
    }

    /// A yield and spent reductions put a pinned process behind the others of its set, not out of it.
    @Test func whoGivesWayStaysInTheSet() async throws {
        let pool = try pool("core:3 pu:1")
        let places = Places()
        let handles = try (0..<4).map { _ in
            try pool.spawn(pinnedTo: .cores([1])) {
                for _ in 0..<200 {
                    places.note(worker: Self.worker(of: pool))
                    await Task.yield()
                }
            }
        }
        let flooded = try pinned(pool, to: .cores([1]))
        let done = Rendezvous(20_000)
        for sender in 0..<2 {
            let proc = sender == 0 ? try pinned(pool, to: .cores([2])) : LightProc.reactive(Doer(), on: pool)
            for _ in 0..<10 {
                proc.tell { _ in
                    for _ in 0..<1000 {
                        flooded.tell { _ in
                            places.note(worker: Self.worker(of: pool))
                            done.arrive()
                        }
                    }
                }
            }
        }
        done.everybody.blockingWait()
        for handle in handles { _ = await handle.outcome() }
        #expect(places.all == [1])
        #expect(places.count == 20_800)
        await pool.shutDownElsewhere()
    }

    /// What is made ready while the pool shuts down, for a worker that has left already, is run all the same.
    @Test func aShutdownLeavesNothingThatIsPinned() async throws {
        let pool = try pool("core:2 pu:1")
        let count = Atomic<Int>(0)
        for round in 1...20 {
            let procs = try [0, 1].map { try pinned(pool, to: .cores([$0])) }
            @Sendable func pass(_ left: Int) {
                procs[left % 2].tell { _ in
                    count.add(1, ordering: .relaxed)
                    if left > 0 { pass(left - 1) }
                }
            }
            pass(499)
            await pool.shutDownElsewhere()
            #expect(count.load(ordering: .relaxed) == 500 * round)
            // What comes while it is down waits.
            let gate = BlockingGate()
            procs[1].tell { _ in gate.open() }
            #expect(pool.pinnedQueueDepths[.cores([1])] == 1)
            pool.start()
            gate.blockingWait()
        }
        await pool.shutDownElsewhere()
    }

    @Test func aPoolKnowsAThousandSets() async throws {
        let pool = try pool("core:11 pu:1")
        for number in 1...1024 {
            let set = CoreSet.cores((0..<11).filter { number & (1 << $0) != 0 })
            #expect(try pool.pinNumber(of: set) == number - 1)
        }
        #expect(try pool.pinNumber(of: .cores([0])) == 0, "known ones are still there")
        do throws(PinningError) {
            _ = try pool.pinNumber(of: .cores([0, 10]))
            Issue.record("there was room for another one")
        } catch {
            #expect(error.code == .tooManySets)
        }
        let places = Places()
        let done = BlockingGate()
        try pinned(pool, to: .cores([10])).tell { _ in
            places.note(worker: Self.worker(of: pool))
            done.open()
        }
        done.blockingWait()
        #expect(places.all == [10])
        await pool.shutDownElsewhere()
    }

    /// Processes with random sets that send to random others, from everywhere, until so many messages have arrived.
    @Test(arguments: 0..<4)
    func randomTrafficStaysInItsSets(_ number: UInt64) async throws {
        let seed = RandomRun.seed &+ 63 &+ number
        var random = SeededGenerator(seed: seed)
        let pool = try pool("pack:2 [numa] core:2 pu:1", stallThreshold: number % 2 == 0 ? nil : .milliseconds(20))
        struct Party: Sendable {
            let proc: LightProc
            let seats: Set<Int>
        }
        let sets: [CoreSet?] = [
            .node(0), .node(1), .cores([0]), .cores([3]), .cores([1, 2]), .cores([0, 1, 2, 3]), nil, nil,
        ]
        let parties = try (0..<40).map { _ in
            let proc = LightProc.reactive(Doer(), on: pool)
            guard let set = sets.randomElement(using: &random)! else { return Party(proc: proc, seats: Set(0..<8)) }
            try proc.pin(to: set)
            proc.priority = ProcPriority.allCases.randomElement(using: &random)!
            return Party(proc: proc, seats: Set(try pool.placement.place(of: set).seats))
        }
        let hops = 200
        let chains = 100
        let done = Rendezvous(chains)
        let strays = Atomic<Int>(0)
        @Sendable func hop(_ left: Int, _ state: UInt64) {
            var random = SeededGenerator(seed: state)
            let party = parties[Int(random.next() % UInt64(parties.count))]
            party.proc.tell { [next = random.next()] _ in
                let worker = Self.worker(of: pool)
                // Who stands in belongs to the seat that it stands in for.
                let seat = worker < 4 ? worker : pool.queues.pinned.seat(ofStandIn: worker) ?? -1
                if !party.seats.contains(seat) { strays.add(1, ordering: .relaxed) }
                if left == 0 { return done.arrive() }
                if next % 7 == 0 {
                    pool.wake(after: .microseconds(Int64(next % 50))) { hop(left - 1, next) }
                } else {
                    hop(left - 1, next)
                }
            }
        }
        for chain in 0..<chains { hop(hops, seed &+ UInt64(1000 * chain)) }
        done.everybody.blockingWait()
        #expect(strays.load(ordering: .relaxed) == 0, "SEED=\(RandomRun.seed)")
        #expect(pool.pinnedQueueDepths.values.allSatisfy { $0 == 0 })
        await pool.shutDownElsewhere()
    }

    // MARK: The seeded executor

    @Test func theSeededExecutorLooksAtSetsAndRunsAnywhere() throws {
        let executor = SeededExecutor(seed: 7)
        let places = Places()
        for _ in 0..<50 {
            let proc = LightProc.reactive(Doer(), on: executor)
            try proc.pin(to: .node(1))
            #expect(proc.cores == .node(1))
            #expect(!proc.tag.isPinned)
            for _ in 0..<3 { proc.tell { _ in places.note(worker: executor.queues.withOwnWorker { $0?.index ?? -1 }) } }
        }
        executor.drain()
        #expect(places.count == 150)
        #expect(places.all.count > 2, "not only the two of node 1")
        let proc = LightProc.reactive(Doer(), on: executor)
        #expect(throws: PinningError.self) { try proc.pin(to: .cores([4])) }
        #expect(proc.cores == nil)
        #expect(throws: PinningError.self) { try executor.spawn(pinnedTo: .node(2)) {} }
    }
}
