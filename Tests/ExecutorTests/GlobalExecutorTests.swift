// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import Synchronization
import Testing

@testable import Executor
@testable import LightProc

/// A pool in the place of the program's global executor. Each in a program of its own.
@Suite struct GlobalExecutorTests {
    private actor Plain {
        private var count = 0
        func add() -> String {
            count += 1
            return OurThreads.currentName
        }
        func total() -> Int { count }
    }

    private static func pool(workers: Int = 2) throws -> WorkerPool {
        try WorkerPool(
            placement: Placement(Topology.current(), options: .init(workerCount: workers, oversubscribes: true))
        )
    }

    /// Everything that runs on the global executor, and where it did.
    private static func names() async throws -> Set<String> {
        var names: Set<String> = []
        names.insert(await Task { OurThreads.currentName }.value)
        names.insert(
            await Task.detached {
                await Task.yield()
                return OurThreads.currentName
            }.value
        )
        names.formUnion(
            try await Task.detached {
                try await Task.sleep(for: .milliseconds(2))
                let first = OurThreads.currentName
                try await Task.sleep(nanoseconds: 1_000_000)
                let second = OurThreads.currentName
                try await Task.sleep(until: SuspendingClock.now + .milliseconds(1), clock: .suspending)
                return [first, second, OurThreads.currentName]
            }.value
        )
        let actor = Plain()
        names.formUnion(
            await Task.detached {
                await withTaskGroup(of: String.self) { group in
                    for _ in 0..<500 { group.addTask { await actor.add() } }
                    return await group.reduce(into: Set()) { $0.insert($1) }
                }
            }.value
        )
        #expect(await actor.total() == 500)
        return names
    }

    @Test func whatHasNoExecutorOfItsOwnRunsOnWorkers() async {
        await #expect(processExitsWith: .success) {
            let pool = try Self.pool()
            #expect(!pool.isGlobalExecutor)
            #expect(await Task { OurThreads.currentName }.value != "bastion-worker")
            try pool.installAsGlobalExecutor()
            #expect(pool.isGlobalExecutor)
            #expect(try await Self.names() == ["bastion-worker"])
            #expect(await MainActor.run { OurThreads.currentName } != "bastion-worker")
            // Processes live beside.
            #expect(try await pool.spawn { LightProc.current != nil }.outcome().get())
            #expect(await pool.spawn { Misdeed.index.commit() }.handle.exit().trapReport != nil)
            // Sleeps that are cancelled.
            let sleeper = Task { try await Task.sleep(for: .seconds(1_000_000)) }
            sleeper.cancel()
            await #expect(throws: CancellationError.self) { try await sleeper.value }
        }
    }

    @Test func itIsInstalledOnce() async {
        await #expect(processExitsWith: .success) {
            let (pool, other) = (try Self.pool(), try Self.pool())
            try pool.installAsGlobalExecutor()
            #expect(throws: GlobalExecutorError.alreadyInstalled) { try pool.installAsGlobalExecutor() }
            #expect(throws: GlobalExecutorError.alreadyInstalled) { try other.installAsGlobalExecutor() }
            #expect(!other.isGlobalExecutor)
        }
    }

    /// On the main thread: tasks run on workers, where nobody may shut the pool down.
    @MainActor private static func shutDownOnMain(_ pool: WorkerPool) { pool.shutdown() }

    @Test func whileThePoolIsDownTasksRunElsewhere() async {
        await #expect(processExitsWith: .success) {
            let pool = try Self.pool()
            try pool.installAsGlobalExecutor()
            for _ in 0..<3 {
                #expect(try await Self.names() == ["bastion-worker"])
                // Sleeps over the shutdown, and tasks that go on during it.
                let isAsleep = AsyncGate()
                let isDown = Locked(false)
                let sleeper = Task {
                    isAsleep.open()
                    // On a machine that is busy the pool may still be up afterwards: then once more.
                    repeat { try await Task.sleep(for: .milliseconds(200)) } while !isDown.withLock { $0 }
                    return OurThreads.currentName
                }
                let isOver = Locked(false)
                let busy = Task {
                    // Ends: told to, below.
                    while !isOver.withLock({ $0 }) { await Task.yield() }
                    return OurThreads.currentName
                }
                await isAsleep.wait()
                await Self.shutDownOnMain(pool)
                isDown.withLock { $0 = true }
                #expect(try await sleeper.value != "bastion-worker")
                isOver.withLock { $0 = true }
                #expect(await busy.value != "bastion-worker")
                #expect(try await !Self.names().contains("bastion-worker"))
                pool.start()
            }
            #expect(try await Self.names() == ["bastion-worker"])
        }
    }

    /// Threads that queue tasks while the pool goes down and up: none gets lost.
    @Test func noTaskGetsLostWhenThePoolGoesDown() async {
        await #expect(processExitsWith: .success) {
            let pool = try Self.pool()
            try pool.installAsGlobalExecutor()
            let count = 20_000
            let done = Rendezvous(3 * count)
            let submitters = (0..<3).map { _ in
                PlainThread(name: "test-submitter") {
                    for number in 0..<count {
                        Task.detached {
                            if number % 64 == 0 { try? await Task.sleep(for: .milliseconds(1)) }
                            done.arrive()
                        }
                    }
                }
            }
            let isOver = Locked(false)
            let toggler = PlainThread(name: "test-toggler") {
                // Ends: told to, below.
                while !isOver.withLock({ $0 }) {
                    pool.shutdown()
                    pool.start()
                }
            }
            for submitter in submitters { submitter.join() }
            done.everybody.blockingWait()
            isOver.withLock { $0 = true }
            toggler.join()
        }
    }

    @Test func aTrapInSuchATaskEndsTheProgram() async {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
            let pool = try Self.pool()
            try pool.installAsGlobalExecutor()
            await Task.detached {
                #expect(OurThreads.currentName == "bastion-worker")
                Misdeed.fatal.commit()
            }.value
        }
        let said = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
        #expect(said.contains("enough"))
    }
}
