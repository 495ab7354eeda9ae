// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import LightProc
import Synchronization
import TestSupport
import Testing

@testable import Executor

@inline(never) func opaque<T>(_ value: T) -> T { value }

struct Boom: Error {}

/// Values, errors, threads: what the pool does when nothing traps.
@Suite(.serialized) struct WorkerPoolTests {
    @Test func aProcessReturnsItsValue() async throws {
        let pool = try WorkerPool(workers: 2)
        let outcome = await pool.spawn { 41 + 1 }.outcome()
        #expect(try outcome.get() == 42)
        await pool.shutDownElsewhere()
    }

    @Test func anErrorIsTheReasonOfTheEnd() async throws {
        let pool = try WorkerPool(workers: 1)
        for handle in [pool.spawn { throw Boom() }, pool.spawnBlocking { throw Boom() }] {
            guard case .failed(.error(let error)) = await handle.outcome() else {
                Issue.record("ended otherwise")
                continue
            }
            #expect(error is Boom)
        }
        await pool.shutDownElsewhere()
    }

    @Test func anIndexOutOfRangeEndsOneProcess() async throws {
        let pool = try WorkerPool(workers: 2)
        for i in 0..<100 {
            let outcome = await pool.spawn { opaque([1, 2, 3])[opaque(7 + i)] }.outcome()
            guard case .failed(.trap(let report)) = outcome else {
                Issue.record("ended otherwise: \(outcome)")
                break
            }
            #expect(report.process.rawValue > 0)
        }
        #expect(try await pool.spawn { "still here" }.outcome().get() == "still here")
        await pool.shutDownElsewhere()
    }

    @Test func runBlocksTheCallerUntilTheEnd() throws {
        let pool = try WorkerPool(workers: 1)
        #expect(try pool.run { "value" }.get() == "value")
        let failed = pool.run { throw Boom() }
        guard case .failed(.error) = failed else {
            Issue.record("no error: \(failed)")
            return
        }
        let trapped = pool.run { Misdeed.overflow.commit() }
        guard case .failed(.trap) = trapped else {
            Issue.record("no trap: \(trapped)")
            return
        }
        pool.shutdown()
    }

    /// Contained like every precondition failure of a process: it ends that process.
    @Test func runOnAWorkerIsAPreconditionFailure() async {
        let result = await #expect(processExitsWith: .success, observing: [\.standardErrorContent]) {
            let pool = try WorkerPool(workers: 2)
            let report = await pool.spawn { _ = pool.run { 1 } }.handle.exit().trapReport
            #expect(report?.kind == .preconditionFailure)
            let blocking = await pool.spawnBlocking { _ = pool.run { 1 } }.handle.exit().trapReport
            #expect(blocking?.kind == .preconditionFailure)
            await pool.shutDownElsewhere()
        }
        let said = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
        #expect(said.contains("run would block the worker it is called on; await spawn(...).outcome() instead"))
    }

    @Test func shutdownOnAWorkerIsAPreconditionFailure() async throws {
        let pool = try WorkerPool(workers: 1)
        #expect(await pool.spawn { pool.shutdown() }.handle.exit().trapReport != nil)
        await pool.shutDownElsewhere()
    }

    @Test func manyProcessesAllEnd() async throws {
        let pool = try WorkerPool(workers: 2)
        let handles = (0..<1_000).map { number in
            pool.spawn {
                await Task.yield()
                return number
            }
        }
        var sum = 0
        for handle in handles { sum += try await handle.outcome().get() }
        #expect(sum == 499_500)
        await pool.shutDownElsewhere()
    }

    @Test func messagesBetweenProcessesArriveOnceAndInOrder() async throws {
        let pool = try WorkerPool(workers: 2)
        let bystander = LightProc.reactive(Bystander(), on: pool)
        let sender = LightProc.reactive(Doer(), on: pool)
        for number in 0..<5_000 { sender.tell { _ in bystander.send(Bystander.Message.number(number)) } }
        let done = AsyncGate()
        sender.tell { _ in done.open() }
        await done.wait()
        let (count, isInOrder) = await bystander.bystanderCount()
        #expect(count == 5_000)
        #expect(isInOrder)
        await pool.shutDownElsewhere()
    }

    @Test func theBlockingPoolGrowsBeyondTheProcessors() async throws {
        let pool = try WorkerPool(workers: 1)
        let count = 3 * sysconf(Int32(_SC_NPROCESSORS_ONLN)) + 5
        // Nobody gets on before all are there: they must run at the same time.
        let rendezvous = Rendezvous(count)
        let handles = (0..<count).map { number in
            pool.spawnBlocking {
                rendezvous.arrive()
                rendezvous.everybody.blockingWait()
                return number
            }
        }
        var sum = 0
        for handle in handles { sum += try await handle.outcome().get() }
        #expect(sum == count * (count - 1) / 2)
        await pool.shutDownElsewhere()
    }

    @Test func theBlockingPoolKeepsItsBound() async throws {
        let placement = try Placement(Topology.current(), options: .init(workerCount: 1))
        let pool = WorkerPool(placement: placement, maximumBlockingThreads: 2)
        let running = Counter()
        let handles = (0..<20).map { _ in
            pool.spawnBlocking {
                running.enter()
                sched_yield()
                running.leave()
            }
        }
        for handle in handles { try await handle.outcome().get() }
        #expect(running.most <= 2)
        await pool.shutDownElsewhere()
    }

    @Test func shutdownJoinsAllThreadsAndAPoolCanBeMadeAgain() async {
        await #expect(processExitsWith: .success) {
            for _ in 0..<3 {
                let pool = try WorkerPool(workers: 2)
                #expect(OurThreads.blockingWait(forCount: OurThreads.atRest(pool)), "\(OurThreads.names())")
                #expect(try await pool.spawn { 1 }.outcome().get() == 1)
                #expect(try await pool.spawnBlocking { 2 }.outcome().get() == 2)
                await pool.shutDownElsewhere()
                #expect(OurThreads.blockingWaitForNone(), "\(OurThreads.names())")
            }
        }
    }

    @Test func twoPoolsLiveSideBySide() async throws {
        let (first, second) = (try WorkerPool(workers: 1), try WorkerPool(workers: 1))
        let outcome = await first.spawn {
            await second.spawn { Misdeed.index.commit() }.handle.exit().trapReport != nil
        }
        .outcome()
        #expect(try outcome.get())
        await second.shutDownElsewhere()
        #expect(await first.spawn { Misdeed.index.commit() }.handle.exit().trapReport != nil)
        await first.shutDownElsewhere()
    }

    @Test func whatIsQueuedAtTheShutdownIsFinished() async throws {
        let pool = try WorkerPool(workers: 1)
        let handles = (0..<100).map { number in pool.spawn { number } }
        await pool.shutDownElsewhere()
        var sum = 0
        for handle in handles { sum += try await handle.outcome().get() }
        #expect(sum == 4_950)
    }

    @Test func trapsAtTheShutdownAreFinishedToo() async {
        await #expect(processExitsWith: .success) {
            for _ in 0..<10 {
                let pool = try WorkerPool(workers: 1)
                let handles = (0..<5).map { _ in pool.spawn { Misdeed.index.commit() } }
                let blocking = (0..<3).map { _ in pool.spawnBlocking { Misdeed.index.commit() } }
                await pool.shutDownElsewhere()
                for handle in handles + blocking { #expect(await handle.handle.exit().trapReport != nil) }
                #expect(OurThreads.blockingWaitForNone(), "\(OurThreads.names())")
            }
        }
    }

    @Test func anIdlePoolUsesNoProcessorTime() async {
        await #expect(processExitsWith: .success) {
            let pool = try WorkerPool()
            #expect(try await pool.spawn { 1 }.outcome().get() == 1)
            #expect(OurThreads.blockingWait(forCount: OurThreads.atRest(pool)))
            // What the start has left to do may take its time on a machine that is busy. Who polls never rests.
            var used: [Duration] = []
            while used.count < 20, used.last.map({ $0 >= .milliseconds(30) }) ?? true {
                let gate = BlockingGate()
                let before = Self.processorTime
                pool.schedule(after: .milliseconds(300)) { gate.open() }
                gate.blockingWait()
                used.append(Self.processorTime - before)
            }
            #expect(used.last.map { $0 < .milliseconds(30) } == true, "\(used)")
            await pool.shutDownElsewhere()
        }
    }

    private static var processorTime: Duration {
        var time = timespec()
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
        return .seconds(time.tv_sec) + .nanoseconds(time.tv_nsec)
    }
}

/// How many are inside at a time, at most.
private final class Counter: Sendable {
    private let inside = Locked((now: 0, most: 0))
    var most: Int { inside.withLock { $0.most } }
    func enter() {
        inside.withLock {
            $0.now += 1
            $0.most = max($0.most, $0.now)
        }
    }
    func leave() { inside.withLock { $0.now -= 1 } }
}
