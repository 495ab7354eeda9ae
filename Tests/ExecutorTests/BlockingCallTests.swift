// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import Synchronization
import TestSupport
import Testing

@testable import Executor
@testable import LightProc

/// `blocking { }` in async code: where it runs, whose it is, and how it ends.
@Suite(.serialized) struct BlockingCallTests {
    @Test func theClosureRunsOnABlockingThreadAndTheCallerOnAWorkerAgain() async throws {
        let pool = try BlockingPoolTests.pool()
        let names = try await pool.spawn {
            let before = OurThreads.currentName
            let within = try await blocking { OurThreads.currentName }
            return [before, within, OurThreads.currentName]
        }.outcome().get()
        #expect(names == ["bastion-worker", "bastion-blocker", "bastion-worker"])
        await pool.shutDownElsewhere()
    }

    @Test func workersGoOnWhileClosuresBlock() async throws {
        let pool = try BlockingPoolTests.pool(machine: "core:1 pu:1")
        let goOn = BlockingGate()
        let blocked = (0..<20).map { number in
            pool.spawn {
                try await blocking {
                    goOn.blockingWait()
                    return number
                }
            }
        }
        // Ends: all of them have left the only worker.
        while pool.blockingCounters.threads - pool.blockingCounters.idle < 20 { sched_yield() }
        #expect(try await pool.spawn { 1 }.outcome().get() == 1)
        goOn.open()
        for (number, handle) in blocked.enumerated() { #expect(try await handle.outcome().get() == number) }
        await pool.shutDownElsewhere()
    }

    @TaskLocal private static var label = ""

    @Test func itIsAJobOfTheSameTask() async throws {
        let pool = try BlockingPoolTests.pool()
        let handle = pool.spawn {
            let me = LightProc.current?.id
            return try await Self.$label.withValue("mine") {
                try await blocking { (Self.label, LightProc.current?.id == me, Task.isCancelled) }
            }
        }
        let (label, isSame, isCancelled) = try await handle.outcome().get()
        #expect(label == "mine")
        #expect(isSame)
        #expect(!isCancelled)
        await pool.shutDownElsewhere()
    }

    @Test func anErrorIsThrownToTheCaller() async throws {
        let pool = try BlockingPoolTests.pool()
        let handle = pool.spawn {
            do {
                try await blocking { throw Boom() }
            } catch is Boom {
                return true
            }
            return false
        }
        #expect(try await handle.outcome().get())
        await pool.shutDownElsewhere()
    }

    @Test(arguments: [Misdeed.index, .overflow, .endlessRecursion])
    func aTrapEndsTheProcessThatCalled(_ misdeed: Misdeed) async throws {
        let pool = try BlockingPoolTests.pool()
        for _ in 0..<20 {
            let bystander = pool.spawn { try await blocking { 7 } }
            let hooked = AsyncGate()
            let handle = pool.spawn {
                LightProc.current?.onExit { _ in hooked.open() }
                _ = try await blocking { misdeed.commit() }
            }
            let report = await handle.handle.exit().trapReport
            #expect(report?.process == handle.id)
            await hooked.wait()
            #expect(handle.handle.proc.lostTasks == 0, "the one that trapped is none of them")
            #expect(try await bystander.outcome().get() == 7)
        }
        await pool.shutDownElsewhere()
    }

    /// The parent awaits the child, which never completes; the process ends all the same.
    @Test func aTrapInAChildTaskEndsTheProcess() async throws {
        let pool = try BlockingPoolTests.pool()
        let hooked = AsyncGate()
        let (proc, handle) = LightProc.recoverable(on: pool) {
            try await withThrowingTaskGroup(of: Int.self) { group in
                for number in 0..<5 {
                    group.addTask { try await blocking { number == 3 ? Misdeed.index.commit() : number } }
                }
                return try await group.reduce(0, +)
            }
        }
        proc.prepare(name: nil, stack: nil, observer: nil, shutdownTime: .seconds(60))
        proc.onExit { _ in hooked.open() }
        proc.restart()
        #expect(await handle.handle.exit().trapReport?.process == handle.id)
        await hooked.wait()
        #expect(proc.lostTasks == 1, "the parent")
        await pool.shutDownElsewhere()
    }

    @Test func childTasksBlockSideBySide() async throws {
        let pool = try BlockingPoolTests.pool()
        let rendezvous = Rendezvous(30)
        let handle = pool.spawn {
            try await withThrowingTaskGroup(of: Int.self) { group in
                for number in 0..<30 {
                    group.addTask {
                        try await blocking {
                            rendezvous.arrive()
                            rendezvous.everybody.blockingWait()
                            return number
                        }
                    }
                }
                return try await group.reduce(0, +)
            }
        }
        #expect(try await handle.outcome().get() == 435)
        await pool.shutDownElsewhere()
    }

    @Test func aKilledProcessEndsWhileTheClosureRunsOn() async throws {
        let pool = try BlockingPoolTests.pool()
        let (isBusy, goOn) = (AsyncGate(), BlockingGate())
        let wentOn = Atomic<Bool>(false)
        let (proc, handle) = LightProc.recoverable(on: pool) {
            try await blocking {
                isBusy.open()
                goOn.blockingWait()
            }
            // Sealed by now: never reached.
            wentOn.store(true, ordering: .relaxed)
        }
        proc.prepare(name: nil, stack: nil, observer: nil, shutdownTime: .milliseconds(1))
        let ended = AsyncGate()
        proc.onExit { _ in ended.open() }
        proc.restart()
        await isBusy.wait()
        handle.kill()
        guard case .failed(.killed) = await handle.outcome() else {
            Issue.record("ended otherwise")
            return
        }
        // The hooks do not wait for the closure, whose thread is still taken.
        await ended.wait()
        #expect(pool.blockingCounters.threads - pool.blockingCounters.idle == 1)
        goOn.open()
        // Ends: the closure returns.
        while pool.blockingCounters.idle < pool.blockingCounters.threads { sched_yield() }
        let hasGoneOn = wentOn.load(ordering: .relaxed)
        #expect(!hasGoneOn)
        #expect(proc.lostTasks == 1)
        await pool.shutDownElsewhere()
    }

    @Test func aClosureSeesThatItsTaskWasCancelled() async throws {
        let pool = try BlockingPoolTests.pool()
        let isBusy = AsyncGate()
        let handle = pool.spawn {
            try await blocking {
                isBusy.open()
                // Ends: the process is stopped.
                while !Task.isCancelled { sched_yield() }
                return "saw it"
            }
        }
        await isBusy.wait()
        handle.cancel()
        #expect(try await handle.outcome().get() == "saw it")
        await pool.shutDownElsewhere()
    }

    @Test func whatWaitsWhenItsProcessIsKilledIsNotRun() async throws {
        var limits = BlockingGrowth.Limits()
        limits.maximumThreads = 1
        let pool = try BlockingPoolTests.pool(limits)
        let (isBusy, goOn) = (BlockingGate(), BlockingGate())
        let first = pool.spawnBlocking {
            isBusy.open()
            goOn.blockingWait()
        }
        isBusy.blockingWait()
        let hasRun = Atomic<Bool>(false)
        let hasThrown = AsyncGate()
        let handle = pool.spawn {
            do {
                try await blocking { hasRun.store(true, ordering: .relaxed) }
            } catch is CancellationError {
                hasThrown.open()
            }
        }
        // Ends: its turn does not come.
        while pool.blockingCounters.queued == 0 { sched_yield() }
        handle.kill()
        goOn.open()
        await hasThrown.wait()
        let ran = hasRun.load(ordering: .relaxed)
        #expect(!ran)
        _ = await first.outcome()
        await pool.shutDownElsewhere()
    }

    @Test func outsideOfProcessesItIsAProcessOfItsOwn() async throws {
        let pool = try BlockingPoolTests.pool()
        #expect(try await pool.blocking { OurThreads.currentName } == "bastion-blocker")
        await #expect(throws: Boom.self) { try await pool.blocking { throw Boom() } }
        do {
            _ = try await pool.blocking { Misdeed.index.commit() }
            Issue.record("no trap")
        } catch let failure as ProcFailure {
            #expect(failure.reason.trapReport != nil)
        }
        // Also in a task that prefers the pool.
        let plain = try await withTaskExecutorPreference(pool) { try await pool.blocking { LightProc.current != nil } }
        #expect(plain)
        await pool.shutDownElsewhere()
    }

    @Test func withoutAProcessTheFunctionSaysWhatToUse() async {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
            try await blocking {}
        }
        let said = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
        #expect(said.contains("use blocking of an executor"))
    }

    @Test func underTheSeededExecutorItRunsOnTheCallersThread() throws {
        let executor = SeededExecutor(seed: .random(in: 0 ... .max))
        let outcome = executor.run {
            let number = try await blocking { 42 }
            return try await number + executor.blocking { 1 }
        }
        #expect(try outcome.get() == 43)
    }

    /// An actor that processes share: while the closure blocks, it lets others in.
    @Test func anActorIsFreeWhileOneOfItsMethodsBlocks() async throws {
        let pool = try BlockingPoolTests.pool(machine: "core:1 pu:1")
        let library = Library(on: pool)
        let (isBusy, goOn) = (AsyncGate(), BlockingGate())
        let reader = pool.spawn { try await library.read(isBusy, goOn) }
        await isBusy.wait()
        #expect(try await pool.spawn { await library.visit() }.outcome().get() == 1)
        goOn.open()
        #expect(try await reader.outcome().get() == 2)
        await pool.shutDownElsewhere()
    }

    private actor Library {
        private let executor: ProcSerialExecutor
        private var visits = 0
        nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }
        init(on scheduler: any ProcScheduler) { executor = ProcSerialExecutor(on: scheduler) }

        func visit() -> Int {
            visits += 1
            return visits
        }

        func read(_ isBusy: AsyncGate, _ goOn: BlockingGate) async throws -> Int {
            try await blocking {
                isBusy.open()
                goOn.blockingWait()
            }
            preconditionIsolated()
            return visit()
        }
    }

    @Test func whatIsDroppedAtTheShutdownIsNotRun() async throws {
        var limits = BlockingGrowth.Limits()
        limits.maximumThreads = 1
        let pool = try BlockingPoolTests.pool(limits)
        let (isBusy, goOn) = (BlockingGate(), BlockingGate())
        pool.spawnBlocking {
            isBusy.open()
            goOn.blockingWait()
        }
        isBusy.blockingWait()
        let hasRun = Atomic<Int>(0)
        let handles = (0..<5).map { _ in
            pool.spawn { try await blocking { _ = hasRun.add(1, ordering: .relaxed) } }
        }
        // Ends: all of them wait for the only thread.
        while pool.blockingCounters.queued < 5 { sched_yield() }
        let isDown = BlockingGate()
        let thread = PlainThread(name: "test-shutdown") {
            pool.shutdown(.drop)
            isDown.open()
        }
        while !pool.isBlockingStopping { sched_yield() }
        goOn.open()
        isDown.blockingWait()
        thread.join()
        #expect(hasRun.load(ordering: .relaxed) == 0)
        for handle in handles {
            guard case .failed(.killed) = await handle.outcome() else {
                Issue.record("ended otherwise")
                return
            }
        }
    }
}
