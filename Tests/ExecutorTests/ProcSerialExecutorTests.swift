// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Synchronization
import TestSupport
import Testing

@testable import Executor
@testable import LightProc

/// An actor that several processes use, on an executor of ours.
private actor Ledger {
    let executor: ProcSerialExecutor
    nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }
    private(set) var entries: [Int] = []
    private(set) var total = 0

    init(on scheduler: any ProcScheduler, name: String? = nil) {
        executor = ProcSerialExecutor(on: scheduler, name: name)
    }

    func add(_ number: Int) {
        entries.append(number)
        total += number
    }

    func commit(_ misdeed: Misdeed) -> Int { misdeed.commit() }

    /// Keeps the actor until the gate opens.
    func hold(_ inside: AsyncGate, until release: BlockingGate) {
        inside.open()
        release.blockingWait()
    }

    func callers() -> (current: ProcID?, isIsolated: Bool) {
        preconditionIsolated()
        return (LightProc.current?.id, assumeIsolated { _ in true })
    }

    /// Suspends in the middle; others come in meanwhile.
    func addTwice(_ number: Int, _ between: AsyncGate) async {
        add(number)
        await between.wait()
        add(number)
    }

    func open(_ gate: AsyncGate) {
        add(-1)
        gate.open()
    }
}

private final class Flag: Sendable {
    private let word = Atomic(false)
    // ordering: sequentiallyConsistent: tests are not in a hurry.
    var isSet: Bool { word.load(ordering: .sequentiallyConsistent) }
    func set() { word.store(true, ordering: .sequentiallyConsistent) }
}

@Suite(.timeLimit(.minutes(15))) struct ProcSerialExecutorTests {
    // MARK: As any executor of an actor

    @Test func oneJobRunsAtATimeAndEachProcessIsServedInOrder() async throws {
        let pool = try WorkerPool(workers: 2)
        let ledger = Ledger(on: pool)
        let handles = (0..<8).map { number in
            pool.spawn {
                for entry in 0..<1000 { await ledger.add(entry * 8 + number) }
            }
        }
        for handle in handles { try await handle.outcome().get() }
        let entries = await ledger.entries
        #expect(entries.count == 8000)
        for number in 0..<8 {
            #expect(entries.filter { $0 % 8 == number } == (0..<1000).map { $0 * 8 + number })
        }
        await pool.shutDownElsewhere()
    }

    @Test func aJobRunsInTheNameOfItsProcess() async throws {
        let pool = try WorkerPool(workers: 2)
        let ledger = Ledger(on: pool)
        let handle = pool.spawn {
            let (current, isIsolated) = await ledger.callers()
            // A child task's job is its process's, too.
            async let child = ledger.callers()
            return (current, isIsolated, await child.current, LightProc.current?.id)
        }
        let (current, isIsolated, child, after) = try await handle.outcome().get()
        #expect(current == handle.id)
        #expect(child == handle.id)
        #expect(after == handle.id)
        #expect(isIsolated)
        // A task of no process runs in the actor's own name.
        #expect(await ledger.callers().current == ledger.executor.id)
        await pool.shutDownElsewhere()
    }

    @Test func theActorIsFreeWhileAMethodIsSuspended() async throws {
        let pool = try WorkerPool(workers: 2)
        let ledger = Ledger(on: pool)
        let gate = AsyncGate()
        let first = pool.spawn { await ledger.addTwice(7, gate) }
        while await ledger.entries.isEmpty { await Task.yield() }
        try await pool.spawn { await ledger.open(gate) }.outcome().get()
        try await first.outcome().get()
        #expect(await ledger.entries == [7, -1, 7])
        await pool.shutDownElsewhere()
    }

    @Test func anActorWithoutCallersIsFreed() async throws {
        final class Witness: Sendable {
            let freed: AsyncGate
            init(_ freed: AsyncGate) { self.freed = freed }
            deinit { freed.open() }
        }
        actor Room {
            private let executor: ProcSerialExecutor
            private let witness: Witness
            nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }
            init(_ pool: WorkerPool, _ witness: Witness) {
                executor = ProcSerialExecutor(on: pool)
                self.witness = witness
            }
            func visit() -> Bool { true }
        }
        let pool = try WorkerPool(workers: 2)
        let freed = AsyncGate()
        let visited = try await pool.spawn { await Room(pool, Witness(freed)).visit() }.outcome().get()
        #expect(visited)
        await freed.wait()
        await pool.shutDownElsewhere()
    }

    @Test func onTheSeededExecutorTheSameSeedGivesTheSameOrder() throws {
        func order(_ seed: UInt64) throws -> [Int] {
            let executor = SeededExecutor(seed: seed)
            let ledger = Ledger(on: executor)
            return try executor.run {
                await withTaskGroup(of: Void.self) { group in
                    for number in 0..<50 { group.addTask { await ledger.add(number) } }
                }
                return await ledger.entries
            }.get()
        }
        #expect(try order(1).sorted() == Array(0..<50))
        #expect(try order(1) == order(1))
        #expect(try (2..<5).contains { try order($0) != order(1) })
    }

    // MARK: A process that ends

    @Test func aProcessThatWasKilledWhileItWaitsNeverRunsInTheActor() async throws {
        let pool = try WorkerPool(workers: 2)
        let ledger = Ledger(on: pool)
        let (inside, release) = (AsyncGate(), BlockingGate())
        let holder = pool.spawn { await ledger.hold(inside, until: release) }
        await inside.wait()
        let waiting = await callThatWaits(on: pool) { await ledger.add(1) }
        let proc = waiting.handle.proc
        waiting.kill()
        while !proc.isClosed { await Task.yield() }
        release.open()
        try await holder.outcome().get()
        try await pool.spawn { await ledger.add(2) }.outcome().get()
        #expect(await ledger.entries == [2])
        #expect(ledger.executor.poison == nil)
        await pool.shutDownElsewhere()
    }

    /// Its code runs on, so it is not over yet: the next incarnation does not begin beside it.
    @Test func aProcessIsNotSealedWhileOneOfItsJobsRunsInTheActor() async throws {
        let pool = try WorkerPool(workers: 2)
        let ledger = Ledger(on: pool)
        let (inside, release) = (AsyncGate(), BlockingGate())
        let holder = pool.spawn { await ledger.hold(inside, until: release) }
        await inside.wait()
        let proc = holder.handle.proc
        let ended = AsyncGate()
        proc.onExit { _ in ended.open() }
        // The job that called may still be on its way back to its worker.
        while proc.state.activations > 1 { await Task.yield() }
        holder.kill()
        // The kill, too, counts until it is carried out.
        while proc.state.activations > 1 { await Task.yield() }
        #expect(!proc.state.isSealed)
        release.open()
        await ended.wait()
        #expect(await holder.handle.exit().description == "killed")
        await pool.shutDownElsewhere()
    }

    // MARK: Poison

    @Test(arguments: [Misdeed.index, .fatal, .forcedCast, .endlessRecursion])
    func whoWaitsInAPoisonedActorOrCallsItLaterFails(misdeed: Misdeed) async {
        await #expect(processExitsWith: .success) { [misdeed] in
            let pool = try WorkerPool(workers: 2)
            let ledger = Ledger(on: pool, name: "ledger")
            let bystander = LightProc.reactive(Bystander(), on: pool)
            try await pool.spawn { await ledger.add(1) }.outcome().get()
            let (inside, release) = (AsyncGate(), BlockingGate())
            let holder = pool.spawn {
                await ledger.hold(inside, until: release)
                return "innocent"
            }
            await inside.wait()
            let culprit = await callThatWaits(on: pool) { await ledger.commit(misdeed) }
            var waiting: [RecoverableHandle<Void>] = []
            for _ in 0..<5 { waiting.append(await callThatWaits(on: pool) { await ledger.add(2) }) }
            for number in 0..<100 { bystander.send(Bystander.Message.number(number)) }
            release.open()

            // The culprit ends with the trap itself.
            let reason = await culprit.handle.exit()
            guard case .trap(let report) = reason else {
                Issue.record("\(reason)")
                return
            }
            #expect(report.process == culprit.id)
            // Who was done in the actor goes on.
            #expect(try await holder.outcome().get() == "innocent")
            let late = pool.spawn { await ledger.add(3) }
            for handle in waiting + [late] {
                guard case .linked(ledger.executor.id, .trap(let report)) = await handle.handle.exit() else {
                    Issue.record("\(await handle.handle.exit())")
                    continue
                }
                #expect(report.process == culprit.id)
            }
            #expect(ledger.executor.poison?.process == culprit.id)
            #expect(ledger.executor.strandedTasks == 0)
            let (count, isInOrder) = await bystander.bystanderCount()
            #expect(count == 100)
            #expect(isInOrder)
            #expect(Containment.contained == 1)
            await pool.shutDownElsewhere()
        }
    }

    @Test func theStateOfAPoisonedActorIsNotTouchedAgain() async {
        await #expect(processExitsWith: .success) {
            let pool = try WorkerPool(workers: 2)
            let ledger = Ledger(on: pool)
            let culprit = pool.spawn { await ledger.commit(.unwrapping) }
            #expect(await culprit.handle.exit().trapReport != nil)
            for _ in 0..<50 {
                let reason = await pool.spawn { await ledger.add(1) }.handle.exit()
                #expect(reason.trapReport?.process == culprit.id, "\(reason)")
            }
            // A look past the isolation: nobody runs there any more.
            let count = await pool.spawn {
                let executor = ledger.executor
                return executor.poison == nil ? 0 : 1
            }.handle.exit()
            #expect(count.description == "normal")
            await pool.shutDownElsewhere()
        }
    }

    @Test func aTaskOfNoProcessThatWaitsInAPoisonedActorIsCounted() async {
        let result = await #expect(processExitsWith: .success, observing: [\.standardErrorContent]) {
            let pool = try WorkerPool(workers: 2)
            let ledger = Ledger(on: pool, name: "ledger")
            _ = await pool.spawn { await ledger.commit(.index) }.handle.exit()
            for _ in 0..<2 { Task { await ledger.add(1) } }
            while ledger.executor.strandedTasks < 2 { await Task.yield() }
            #expect(try await pool.spawn { 1 }.outcome().get() == 1)
            await pool.shutDownElsewhere()
        }
        let said = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
        #expect(
            said.split(separator: "\n").filter { $0.contains("a task that belongs to no process waits") }.count == 1
        )
        #expect(said.contains("the actor on ledger<0."))
    }

    @Test func aTrapOfATaskThatBelongsToNoProcessEndsTheProgram() async {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
            let pool = try WorkerPool(workers: 2)
            let ledger = Ledger(on: pool)
            _ = await ledger.commit(.index)
        }
        let said = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
        #expect(said.contains("the current task belongs to no process"))
    }

    /// One child of a process traps in the actor, another waits there, a third is somewhere else.
    @Test func theSiblingsOfAChildThatPoisonsAnActorMayReturn() async {
        await #expect(processExitsWith: .success) {
            let pool = try WorkerPool(workers: 2)
            let ledger = Ledger(on: pool)
            let (inside, release) = (AsyncGate(), BlockingGate())
            let holder = pool.spawn { await ledger.hold(inside, until: release) }
            await inside.wait()
            let (begun, elsewhere, returned) = (AsyncGate(), AsyncGate(), Flag())
            let family = pool.spawn {
                await withTaskGroup(of: Void.self) { group in
                    group.addTask { _ = await ledger.commit(.index) }
                    // If it is served first, it comes again.
                    group.addTask { while !Task.isCancelled { await ledger.add(1) } }
                    group.addTask {
                        begun.open()
                        await elsewhere.wait()
                        returned.set()
                    }
                }
            }
            let proc = family.handle.proc
            await begun.wait()
            // Three children live and nothing of them is queued here: two wait in the actor, in this order or the other.
            while proc.state.activations != 3 { await Task.yield() }
            let ended = AsyncGate()
            proc.onExit { _ in ended.open() }
            release.open()
            let reason = await family.handle.exit()
            guard case .trap = reason else {
                Issue.record("\(reason)")
                return
            }
            try await holder.outcome().get()
            // The one that waits in the actor is lost as well: only the third is waited for.
            while proc.state.activations != 1 { await Task.yield() }
            #expect(!proc.state.isSealed)
            elsewhere.open()
            await ended.wait()
            #expect(returned.isSet)
            await pool.shutDownElsewhere()
        }
    }

    /// `SCALE=10` runs ten times as many.
    @Test func aStormOfTrapsInSharedActorsLeavesNobodyHanging() async {
        await #expect(processExitsWith: .success) {
            let pool = try WorkerPool(workers: 2)
            var random = SeededGenerator(seed: RandomRun.seed)
            print("SEED=\(RandomRun.seed)")
            for _ in 0..<100 * RandomRun.scale {
                let ledgers = (0..<3).map { _ in Ledger(on: pool) }
                let badOne = Int(random.next() % 16)
                let plans = (0..<16).map { _ in (0..<20).map { _ in Int(random.next() % 3) } }
                let handles = plans.enumerated().map { number, plan in
                    pool.spawn {
                        await withTaskGroup(of: Void.self) { group in
                            for half in [plan.prefix(10), plan.suffix(10)] {
                                group.addTask {
                                    for ledger in half { await ledgers[ledger].add(number) }
                                    if number == badOne { _ = await ledgers[0].commit(.overflow) }
                                }
                            }
                        }
                        return number
                    }
                }
                for (number, handle) in handles.enumerated() {
                    switch await handle.outcome() {
                    case .finished(let value): #expect(value == number && number != badOne)
                    case .failed(.trap(let report)):
                        #expect(number == badOne)
                        #expect(report.process == handle.id)
                    case .failed(.linked(ledgers[0].executor.id, .trap(let report))):
                        #expect(number != badOne)
                        #expect(report.process == handles[badOne].id)
                    case .failed(let reason): Issue.record("\(reason)")
                    }
                }
                // The culprit is told first.
                while ledgers[0].executor.poison == nil { await Task.yield() }
                #expect(ledgers[1].executor.poison == nil)
                for ledger in ledgers.dropFirst() { try await pool.spawn { await ledger.add(0) }.outcome().get() }
            }
            await pool.shutDownElsewhere()
        }
    }
}
