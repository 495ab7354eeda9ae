// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import Synchronization
import TestSupport
import Testing

@testable import Executor
@testable import LightProc

/// A worker is stuck while the others always have something to run, so that none of them looks for what others have.
///
/// Each test ends because what waits for the stuck worker is run all the same; otherwise it would hang.
@Suite(.serialized, .timeLimit(.minutes(15))) struct StallLoadTests {
    /// Processes that send to themselves, until it is over.
    private final class Load: Sendable {
        private let isOver = Atomic<Bool>(false)
        private let pool: WorkerPool
        private let running: PollRendezvous
        private static let count = 20

        init(on pool: WorkerPool) {
            self.pool = pool
            running = PollRendezvous(Self.count)
        }

        func begin() {
            for _ in 0..<Self.count {
                LightProc.reactive(Doer(), on: pool).tell { [self] proc in
                    running.arrive()
                    again(proc)
                }
            }
        }

        /// Waits until all of them have run.
        func blockingWaitUntilRunning() { running.everybody.blockingWait() }

        private func again(_ proc: LightProc) {
            // ordering: relaxed: tests are not in a hurry.
            if !isOver.load(ordering: .relaxed) { proc.tell { [self] in again($0) } }
        }

        func end() { isOver.store(true, ordering: .relaxed) }
    }

    /// A pool with one worker, which is stuck in `body` and in what follows, and others that keep its stand-in busy.
    private struct Scene {
        let pool: WorkerPool
        let load: Load
        private let goOn = PollGate()
        private let isStuck = BlockingGate()

        init(
            before: @escaping @Sendable (WorkerPool) -> Void = { _ in },
            after: @escaping @Sendable (WorkerPool) -> Void = { _ in }
        ) throws {
            let pool = try WorkerPool(
                placement: Placement(Topology(synthetic: "core:1 pu:1"), options: .init(pinning: .never)),
                stallThreshold: .milliseconds(5)
            )
            self.pool = pool
            load = Load(on: pool)
            LightProc.reactive(Doer(), on: pool).tell { [load, goOn, isStuck] _ in
                load.begin()
                before(pool)
                load.blockingWaitUntilRunning()
                after(pool)
                isStuck.open()
                goOn.blockingWait()
            }
        }

        func blockingWaitUntilStuck() { isStuck.blockingWait() }

        /// Lets the worker go on and waits until who stood in for it has left.
        func recover() {
            goOn.open()
            // Ends: the watch sees that it got on.
            while pool.staff.withLock({ $0.standIns.count }) > 0 { sched_yield() }
        }

        func end() async {
            load.end()
            await pool.shutDownElsewhere()
        }
    }

    @Test func allThatWaitsForAStuckWorkerIsRun() async throws {
        let arrived = Rendezvous(10)
        let scene = try Scene(before: { pool in
            // Behind the load: none of them in the older half of the queue.
            for _ in 0..<10 { LightProc.reactive(Doer(), on: pool).tell { _ in arrived.arrive() } }
        })
        arrived.everybody.blockingWait()
        scene.recover()
        await scene.end()
    }

    @Test func whatAStuckWorkerMakesReadyLaterIsRun() async throws {
        let arrived = Rendezvous(10)
        let scene = try Scene(after: { pool in
            for _ in 0..<10 { LightProc.reactive(Doer(), on: pool).tell { _ in arrived.arrive() } }
        })
        arrived.everybody.blockingWait()
        scene.recover()
        await scene.end()
    }

    /// It ran there last, and nobody sleeps who could run it.
    @Test func whatWouldGoBackToAStuckWorkerIsRun() async throws {
        let scene = try Scene()
        scene.blockingWaitUntilStuck()
        let done = BlockingGate()
        let proc = LightProc.reactive(Doer(), on: scene.pool)
        proc.move(to: ProcTag.home(ofWorker: 0))
        proc.tell { _ in done.open() }
        done.blockingWait()
        scene.recover()
        await scene.end()
    }

    @Test func whatWouldGoBackToAStandInThatHasLeftIsRun() async throws {
        let scene = try Scene()
        scene.blockingWaitUntilStuck()
        let (before, done) = (BlockingGate(), BlockingGate())
        let proc = LightProc.reactive(Doer(), on: scene.pool)
        proc.tell { _ in before.open() }
        before.blockingWait()
        #expect(proc.tag.worker == 1)
        scene.recover()
        proc.tell { _ in done.open() }
        done.blockingWait()
        await scene.end()
    }

    /// Has what becomes ready wait in the inbox of a worker, as if it had been found able to run it a moment ago.
    private final class Detour: ProcScheduler {
        private let pool: WorkerPool
        private let worker: Int
        init(to worker: Int, of pool: WorkerPool) {
            self.pool = pool
            self.worker = worker
        }
        func schedule(_ proc: LightProc) { pool.workers[worker].inbox.push(RunItem(proc)) }
        func schedule(_ job: UnownedJob, of executor: ProcTaskExecutor) { pool.schedule(job, of: executor) }
        func schedule(after duration: Duration, _ action: @escaping @Sendable () -> Void) -> TimerToken {
            pool.schedule(after: duration, action)
        }
        var now: Duration { pool.now }
    }

    @Test func whatComesTooLateIntoAnInboxIsRun() async throws {
        let scene = try Scene()
        scene.blockingWaitUntilStuck()
        for worker in [0, 1] {
            // The second has left by then.
            if worker == 1 { scene.recover() }
            let done = BlockingGate()
            LightProc.reactive(Doer(), on: Detour(to: worker, of: scene.pool)).tell { _ in done.open() }
            done.blockingWait()
        }
        await scene.end()
    }
}
