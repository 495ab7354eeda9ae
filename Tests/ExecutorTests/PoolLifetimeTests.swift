// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Synchronization
import TestSupport
import Testing

@testable import Executor
@testable import LightProc

/// A pool lives until it was shut down and its last process is gone, wherever processes are made and let go of.
@Suite struct PoolLifetimeTests {
    private final class Brood: Sendable {
        let list = Locked<[LightProc]>([])
    }

    private struct Idle: ReactiveBody {
        mutating func receive(_ message: consuming Void, on proc: LightProc) {}
    }

    /// Makes processes on a worker and hands them out, or takes them and lets go of them there.
    private struct Nest: ReactiveBody {
        enum Message: Sendable {
            case make(Int)
            case drop
        }
        let made: Brood
        let gate: AsyncGate
        mutating func receive(_ message: consuming Message, on proc: LightProc) {
            switch message {
            case .make(let count):
                let new = (0..<count).map { _ in LightProc.reactive(Idle(), on: proc.scheduler) }
                made.list.withLock { $0 += new }
            case .drop:
                _ = made.list.withLock { list in
                    defer { list = [] }
                    return list
                }
            }
            gate.open()
        }
    }

    private func onWorker(_ pool: WorkerPool, _ message: Nest.Message, _ made: Brood) async {
        let gate = AsyncGate()
        let nest = LightProc.reactive(Nest(made: made, gate: gate), on: pool)
        #expect(nest.push(MessageNode.make(message)))
        await gate.wait()
    }

    @Test(arguments: [true, false], [true, false])
    func thePoolGoesWithItsLastProcess(madeOnWorker: Bool, droppedOnWorker: Bool) async throws {
        let made = Brood()
        weak var watched: WorkerPool?
        do {
            let pool = try WorkerPool(workers: 2)
            watched = pool
            if madeOnWorker {
                await onWorker(pool, .make(100), made)
            } else {
                made.list.withLock { $0 = (0..<100).map { _ in LightProc.reactive(Idle(), on: pool) } }
            }
            if droppedOnWorker { await onWorker(pool, .drop, made) }
            await pool.shutDownElsewhere()
        }
        // The processes that are left hold it, and may still be sent to.
        if !droppedOnWorker { #expect(watched != nil) }
        for proc in made.list.withLock({ $0 }) { #expect(proc.scheduler === watched) }
        made.list.withLock { $0 = [] }
        #expect(watched == nil)
    }

    @Test func idsThatWorkersTakeInBlocksAreUnique() async throws {
        let pool = try WorkerPool(workers: 2)
        let made = Brood()
        for _ in 0..<20 { await onWorker(pool, .make(150), made) }
        let here = (0..<300).map { _ in LightProc.reactive(Idle(), on: pool) }
        let ids = (made.list.withLock { $0 } + here).map(\.id)
        #expect(ids.count == 3300)
        #expect(Set(ids).count == ids.count)
        await pool.shutDownElsewhere()
    }
}
