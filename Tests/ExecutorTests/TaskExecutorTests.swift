// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import Synchronization
import TestSupport
import Testing

@testable import Executor
@testable import LightProc

/// Tasks and actors that belong to no process, on a pool.
@Suite(.serialized) struct TaskExecutorTests {
    private static var worker: String { OurThreads.currentName }

    @Test func aTaskRunsWhereItPrefersTo() async throws {
        let pool = try BlockingPoolTests.pool()
        let names = await Task(executorPreference: pool) {
            let before = Self.worker
            await Task.yield()
            // Nothing else is preferred by what it calls.
            let within = await Self.nonisolatedName()
            try? await Task.sleep(for: .milliseconds(1))
            return [before, within, Self.worker]
        }.value
        #expect(names == ["bastion-worker", "bastion-worker", "bastion-worker"])
        let detached = await Task.detached(executorPreference: pool) { (Self.worker, LightProc.current == nil) }.value
        #expect(detached == ("bastion-worker", true))
        await pool.shutDownElsewhere()
    }

    @concurrent private static func nonisolatedName() async -> String { worker }

    @Test func aPreferenceLastsAsLongAsItsScope() async throws {
        let pool = try BlockingPoolTests.pool()
        let other = try BlockingPoolTests.pool()
        let (names, isOfPool) = await withTaskExecutorPreference(pool) {
            let outer = pool.queues.withOwnWorker { $0 != nil }
            let inner = await withTaskExecutorPreference(other) { other.queues.withOwnWorker { $0 != nil } }
            return ([Self.worker], [outer, inner, pool.queues.withOwnWorker { $0 != nil }])
        }
        #expect(names == ["bastion-worker"])
        #expect(isOfPool == [true, true, true])
        #expect(Self.worker != "bastion-worker")
        await other.shutDownElsewhere()
        await pool.shutDownElsewhere()
    }

    /// Has a task yield again and again on the only worker, with another one that is ready. Returns who got on when.
    static func yields(
        _ start: @escaping @Sendable (@escaping @Sendable () async -> Void) -> Task<Void, Never>
    ) async -> [String] {
        let order = Notes()
        await start {
            let other = start {
                for _ in 0..<3 {
                    order.add("other")
                    await Task.yield()
                }
            }
            for _ in 0..<3 {
                await Task.yield()
                order.add("self")
            }
            await other.value
        }.value
        return order.list
    }

    private final class Notes: Sendable {
        private let notes = Locked<[String]>([])
        var list: [String] { notes.withLock { $0 } }
        func add(_ note: String) { notes.withLock { $0.append(note) } }
    }

    @Test func aTaskThatYieldsLetsOthersGoFirst() async throws {
        let pool = try BlockingPoolTests.pool(machine: "core:1 pu:1")
        let order = await Self.yields { Task(executorPreference: pool, operation: $0) }
        #expect(order == ["other", "self", "other", "self", "other", "self"])
        await pool.shutDownElsewhere()
    }

    /// What the process before it has spent is not the task's.
    @Test(.timeLimit(.minutes(15))) func aTaskThatReceivesForAProcessGetsOn() async throws {
        let pool = try BlockingPoolTests.pool()
        let isOver = AsyncGate()
        let proc = LightProc.async(on: pool) { _ in await isOver.wait() }
        proc.declareMessages(of: Int.self)
        proc.restart()
        for number in 0..<3 { proc.send(number) }
        let received = await Task(executorPreference: pool) { () async -> [Int] in
            var numbers: [Int] = []
            while numbers.count < 3, let node = await proc.receiveNode() {
                numbers.append(node.open(as: Int.self).message)
                LightProc.endTurn()
            }
            return numbers
        }.value
        #expect(received == [0, 1, 2])
        isOver.open()
        _ = await exit(of: proc)
        await pool.shutDownElsewhere()
    }

    @Test func childTasksInheritAPreferenceOrHaveTheirOwn() async throws {
        let pool = try BlockingPoolTests.pool()
        let inherited = await withTaskExecutorPreference(pool) {
            async let one = Self.worker
            let rest = await withTaskGroup(of: String.self) { group in
                for _ in 0..<100 { group.addTask { Self.worker } }
                return await group.reduce(into: Set()) { $0.insert($1) }
            }
            return await rest.union([one])
        }
        #expect(inherited == ["bastion-worker"])
        let given = await withTaskGroup(of: String.self) { group in
            for _ in 0..<100 { group.addTask(executorPreference: pool) { Self.worker } }
            return await group.reduce(into: Set()) { $0.insert($1) }
        }
        #expect(given == ["bastion-worker"])
        await withDiscardingTaskGroup { group in
            group.addTask(executorPreference: pool) { #expect(Self.worker == "bastion-worker") }
        }
        await pool.shutDownElsewhere()
    }

    @Test func manyTasksAllEnd() async throws {
        let pool = try BlockingPoolTests.pool()
        let tasks = (0..<2_000).map { number in
            Task(executorPreference: pool) {
                await Task.yield()
                return number
            }
        }
        var sum = 0
        for task in tasks { sum += await task.value }
        #expect(sum == 1_999_000)
        await pool.shutDownElsewhere()
    }

    @Test func aCancelledTaskOnThePoolLearnsOfIt() async throws {
        let pool = try BlockingPoolTests.pool()
        let isThere = AsyncGate()
        let task = Task(executorPreference: pool) {
            isThere.open()
            // Ends: it is cancelled.
            while !Task.isCancelled { await Task.yield() }
            return Self.worker
        }
        await isThere.wait()
        task.cancel()
        #expect(await task.value == "bastion-worker")
        await pool.shutDownElsewhere()
    }

    // MARK: Actors

    /// A default actor has no executor of its own: with a task that prefers one it runs there.
    private actor Plain {
        private(set) var count = 0
        func add() -> String {
            count += 1
            return TaskExecutorTests.worker
        }
    }

    @Test func aDefaultActorRunsWhereItsCallerPrefersTo() async throws {
        let pool = try BlockingPoolTests.pool()
        let actor = Plain()
        let names = await withTaskGroup(of: String.self) { group in
            for _ in 0..<200 { group.addTask(executorPreference: pool) { await actor.add() } }
            return await group.reduce(into: Set()) { $0.insert($1) }
        }
        #expect(await actor.count == 200)
        #expect(names == ["bastion-worker"])
        await pool.shutDownElsewhere()
    }

    private actor Housed {
        private let executor: ProcSerialExecutor
        private var count = 0
        nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }
        init(on pool: WorkerPool) { executor = ProcSerialExecutor(on: pool) }

        func add() -> String {
            preconditionIsolated()
            // What is called without `await` knows where it is.
            addSynchronously()
            return TaskExecutorTests.worker
        }

        private nonisolated func addSynchronously() { assumeIsolated { $0.count += 1 } }

        /// Two turns, with others between them.
        func addTwice() async -> Int {
            let before = count
            count += 1
            await Task.yield()
            preconditionIsolated()
            count += 1
            return count - before
        }

        var total: Int { count }

        nonisolated func touch() -> Int { assumeIsolated { $0.count } }
    }

    /// Called from tasks of no process, from such that prefer the pool, and from processes: one at a time.
    @Test func anActorLivesOnThePoolWhoeverCalls() async throws {
        let pool = try BlockingPoolTests.pool()
        let actor = Housed(on: pool)
        let handles = (0..<50).map { _ in pool.spawn { await actor.add() } }
        let names = await withTaskGroup(of: String.self) { group in
            for number in 0..<50 {
                group.addTask { await actor.add() }
                group.addTask(executorPreference: pool) { await actor.add() }
                if number % 10 == 0 {
                    group.addTask {
                        #expect(await actor.addTwice() >= 2)
                        return "bastion-worker"
                    }
                }
            }
            return await group.reduce(into: Set()) { $0.insert($1) }
        }
        for handle in handles { #expect(try await handle.outcome().get() == "bastion-worker") }
        #expect(names == ["bastion-worker"])
        #expect(await actor.total == 160)
        await pool.shutDownElsewhere()
    }

    /// The runtime asks the executor, which does not say that it is its own: that is a trap, here of no process.
    @Test func whoIsNotInTheActorMayNotAssumeSo() async {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
            let pool = try BlockingPoolTests.pool()
            let actor = Housed(on: pool)
            #expect(await actor.add() == "bastion-worker")
            // Within a job of the pool, but not of the actor.
            await Task(executorPreference: pool) { _ = actor.touch() }.value
        }
        let said = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
        #expect(said.contains("Unexpected isolation context"), "\(said)")
    }

    // MARK: Traps

    private static func installOwnHandler() {
        var action = sigaction()
        // By a signal: at an exit ThreadSanitizer would look for threads that nobody has joined.
        action.__sigaction_handler.sa_handler = { _ in
            kill(getpid(), SIGUSR1)
            while true { pause() }
        }
        for signal in [SIGILL, SIGTRAP] { sigaction(signal, &action, nil) }
    }

    /// There is no process to end: the signal reaches whoever had it before the first pool, or ends the program.
    @Test func aTrapInATaskOfNoProcessReachesThePreviousHandler() async {
        await #expect(processExitsWith: .signal(SIGUSR1)) {
            Self.installOwnHandler()
            let pool = try BlockingPoolTests.pool()
            #expect(await pool.spawn { Misdeed.index.commit() }.handle.exit().trapReport != nil)
            _ = await Task(executorPreference: pool) { Misdeed.index.commit() }.value
        }
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
            let pool = try BlockingPoolTests.pool()
            _ = await Task(executorPreference: pool) { Misdeed.fatal.commit() }.value
        }
        let said = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
        #expect(said.contains("enough"))
    }

    private typealias MessageBuffer = @convention(c) () -> UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?

    /// A crash reporter finds there what it would find without us.
    @Test func thePreviousHandlerFindsWhatTheRuntimeSaid() async {
        let result = await #expect(processExitsWith: .signal(SIGUSR1), observing: [\.standardErrorContent]) {
            var action = sigaction()
            action.__sigaction_handler.sa_handler = { _ in
                let symbol = dlsym(nil, "swift_getFatalErrorMessageBuffer")
                // safety: that is its type in the runtime; it takes no arguments, so the calling conventions agree.
                let buffer = symbol.map { unsafeBitCast($0, to: MessageBuffer.self) }
                _ = write(STDERR_FILENO, "left: ", 6)
                if let words = buffer?()?.pointee { _ = write(STDERR_FILENO, words, strlen(words)) }
                kill(getpid(), SIGUSR1)
                while true { pause() }
            }
            for signal in [SIGILL, SIGTRAP] { sigaction(signal, &action, nil) }
            let pool = try BlockingPoolTests.pool()
            _ = await Task(executorPreference: pool) { Misdeed.fatal.commit() }.value
        }
        let said = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
        let left = said.split(separator: "left: ", maxSplits: 1).dropFirst().first
        #expect(left?.contains("enough") == true, "\(said)")
    }

    @Test func aTrapInAnActorOfATaskOfNoProcessDoesSoToo() async {
        let result = await #expect(processExitsWith: .signal(SIGUSR1), observing: [\.standardErrorContent]) {
            Self.installOwnHandler()
            let pool = try BlockingPoolTests.pool()
            await Trapping(on: pool).trap()
        }
        let said = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
        #expect(said.contains("Index out of range"))
    }

    private actor Trapping {
        private let executor: ProcSerialExecutor
        nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }
        init(on pool: WorkerPool) { executor = ProcSerialExecutor(on: pool) }
        func trap() { Misdeed.index.commit() }
    }

    /// The preference is what says to which process a task belongs.
    @Test func aTaskThatPrefersAPoolLeavesItsProcess() async throws {
        let pool = try BlockingPoolTests.pool()
        let seen = try await pool.spawn {
            let inside = LightProc.current != nil
            let outside = await withTaskExecutorPreference(pool) { LightProc.current == nil }
            return [inside, outside, LightProc.current != nil]
        }.outcome().get()
        #expect(seen == [true, true, true])
        await pool.shutDownElsewhere()
    }
}
