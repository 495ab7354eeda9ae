// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import TestSupport
import Testing

@testable import Executor
@testable import LightProc

/// Who lets go of a handle has nothing to do with the process any more, and the process goes on.
@Suite(.timeLimit(.minutes(15))) struct DroppedHandleTests {
    private final class Note: Sendable {
        let reason = Locked<String?>(nil)
        let ended = AsyncGate()
        func end(_ reason: ExitReason) {
            self.reason.withLock { $0 = "\(reason)" }
            ended.open()
        }
    }

    /// Returns when nobody but the process itself refers to it.
    private func start(on pool: WorkerPool, _ note: Note, _ body: @escaping @Sendable () async -> Void) async {
        let begun = AsyncGate()
        _ = pool.spawn {
            LightProc.current?.onExit { note.end($0) }
            begun.open()
            await body()
        }
        await begun.wait()
    }

    @Test func anAsyncProcessGoesOnAndEndsNormally() async throws {
        let pool = try WorkerPool(workers: 2)
        let (go, gone) = (AsyncGate(), AsyncGate())
        let note = Note()
        await start(on: pool, note) {
            await go.wait()
            await Task.yield()
            if !Task.isCancelled { gone.open() }
        }
        #expect(note.reason.withLock { $0 } == nil)
        go.open()
        await gone.wait()
        await note.ended.wait()
        #expect(note.reason.withLock { $0 } == "normal")
        await pool.shutDownElsewhere()
    }

    @Test func aTrapOfAProcessThatNobodyRefersToIsContained() async throws {
        let pool = try WorkerPool(workers: 2)
        let go = AsyncGate()
        let note = Note()
        await start(on: pool, note) {
            await go.wait()
            Misdeed.index.commit()
        }
        go.open()
        await note.ended.wait()
        #expect(note.reason.withLock { $0 }?.hasPrefix("trap: ") == true)
        #expect(try await pool.spawn { 7 }.outcome().get() == 7)
        await pool.shutDownElsewhere()
    }

    @Test func aReactiveProcessHandlesWhatItWasSent() async throws {
        let pool = try WorkerPool(workers: 2)
        let (go, done) = (BlockingGate(), AsyncGate())
        let note = Note()
        func start() {
            let proc = LightProc.reactive(Doer(), on: pool)
            proc.tell { _ in go.blockingWait() }
            for _ in 0..<500 { proc.tell { _ in } }
            proc.tell { proc in
                proc.onExit { note.end($0) }
                proc.finish()
                done.open()
            }
        }
        start()
        go.open()
        await done.wait()
        await note.ended.wait()
        #expect(note.reason.withLock { $0 } == "normal")
        await pool.shutDownElsewhere()
    }

    /// What a body returns and nobody awaits is destroyed.
    @Test func aResultThatNobodyWantsIsFreed() async throws {
        final class Result: Sendable {
            let freed: AsyncGate
            init(_ freed: AsyncGate) { self.freed = freed }
            deinit { freed.open() }
        }
        let pool = try WorkerPool(workers: 2)
        let (go, freed) = (AsyncGate(), AsyncGate())
        _ = pool.spawn {
            await go.wait()
            return Result(freed)
        }
        go.open()
        await freed.wait()
        await pool.shutDownElsewhere()
    }
}
