// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import TestSupport
import Testing

@testable import Executor
@testable import LightProc

/// Defects that were found and mended; each test failed once. Those that hung or went on for ever have a time limit.
@Suite(.serialized, .timeLimit(.minutes(15))) struct RegressionTests {
    private final class Bomb: Sendable { deinit { Misdeed.index.commit() } }
    private struct Holder: ReactiveBody {
        let bomb = Bomb()
        mutating func receive(_ message: consuming Int, on proc: LightProc) { proc.finish() }
    }

    @Test func aTrapInTheDeinitOfTheStateHappensOnce() async {
        await #expect(processExitsWith: .success) {
            let pool = try WorkerPool(workers: 2)
            let proc = LightProc.reactive(Holder(), on: pool)
            proc.send(1)
            #expect(await exit(of: proc).description == "normal")
            while !proc.isClosed { await Task.yield() }
            #expect(Containment.contained == 1)
        }
    }

    private struct Unprintable: CustomStringConvertible {
        var description: String {
            Misdeed.index.commit()
            return ""
        }
    }

    /// `print` asks a value for its description while it holds the lock of standard output.
    @Test func whoeverPrintsAfterATrapInADescriptionDoesNotHang() async {
        let result = await #expect(processExitsWith: .success, observing: [\.standardOutputContent]) {
            let pool = try WorkerPool(workers: 2)
            let handle = pool.spawn { print("before", Unprintable()) }
            guard case .failed(.trap) = await handle.outcome() else {
                preconditionFailure("the description did not trap")
            }
            try await pool.spawn { print("after") }.outcome().get()
            await pool.shutDownElsewhere()
        }
        let said = String(decoding: result?.standardOutputContent ?? [], as: UTF8.self)
        #expect(said.contains("after"))
    }

    /// The lock of the task's status stays with the dead thread, and whoever resumes the task later would wait for it.
    @Test func aTrapInACancellationHandlerIsNotContained() async {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
            let pool = try WorkerPool(workers: 2)
            let (started, gate) = (AsyncGate(), AsyncGate())
            let handle = pool.spawn {
                await withTaskCancellationHandler {
                    started.open()
                    await gate.wait()
                } onCancel: {
                    Misdeed.index.commit()
                }
            }
            await started.wait()
            handle.cancel()
            _ = await handle.handle.exit()
        }
        let said = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
        #expect(said.contains("a cancellation handler was running"))
    }

    enum Canceller: CaseIterable, Codable, Sendable {
        case task, group, timeout
    }

    /// Also where the process cancels by itself, on a worker that runs one of its jobs.
    @Test(arguments: Canceller.allCases)
    func aTrapInACancellationHandlerIsNotContainedWhoeverCancels(canceller: Canceller) async {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) { [canceller] in
            let pool = try WorkerPool(workers: 2)
            let started = AsyncGate()
            let handle = pool.spawn {
                @Sendable func suspend() async {
                    let hasBegun = Locked(false)
                    await withTaskCancellationHandler {
                        hasBegun.withLock { $0 = true }
                        started.open()
                        if !Task.isCancelled { await AsyncGate().wait() }
                    } onCancel: {
                        // Called under no lock if the task was cancelled before.
                        if hasBegun.withLock({ $0 }) { Misdeed.index.commit() }
                    }
                }
                switch canceller {
                case .task:
                    let task = Task { await suspend() }
                    await started.wait()
                    task.cancel()
                case .group:
                    await withTaskGroup(of: Void.self) { group in
                        group.addTask { await suspend() }
                        await started.wait()
                        group.cancelAll()
                    }
                case .timeout:
                    // Again, where the time was up before the body had begun.
                    while true { try? await LightProc.current?.withTimeout(.milliseconds(10)) { await suspend() } }
                }
            }
            _ = await handle.handle.exit()
        }
        let said = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
        #expect(said.contains("a cancellation handler was running"))
    }

    /// A handler that is called because the task is cancelled already runs under no lock.
    @Test func aTrapInACancellationHandlerOfACancelledTaskIsContained() async {
        await #expect(processExitsWith: .success) {
            let pool = try WorkerPool(workers: 2)
            let handle = pool.spawn {
                withUnsafeCurrentTask { $0?.cancel() }
                await withTaskCancellationHandler {
                } onCancel: {
                    Misdeed.index.commit()
                }
            }
            #expect(await handle.handle.exit().trapReport?.process == handle.id)
            await pool.shutDownElsewhere()
        }
    }

    @Test func theThreadsOfTheBlockingPoolHaveTheirName() async throws {
        let pool = try WorkerPool(workers: 1)
        let names = try await pool.spawnBlocking { OurThreads.names() }.outcome().get()
        #expect(names.contains { $0.hasPrefix("bastion-block") }, "\(names)")
        await pool.shutDownElsewhere()
    }

    #if DEBUG
    /// In a program of its own: the words of traps at the same instant may be exchanged.
    @Test func anOverlappingAccessIsCalledSo() async {
        await #expect(processExitsWith: .success) {
            let pool = try WorkerPool(workers: 1)
            let report = await pool.spawn { Misdeed.exclusivity.commit() }.handle.exit().trapReport
            #expect(report?.kind == .exclusivityViolation, "\(report?.message ?? "")")
            await pool.shutDownElsewhere()
        }
    }
    #endif

    @Test func runOnTheSeededExecutorRuns() async {
        await #expect(processExitsWith: .success) {
            let outcome = SeededExecutor(seed: 1).run { 1 }
            guard case .finished(1) = outcome else { _exit(4) }
        }
    }

    /// One pool shuts down at the moment another is made: the first must not wait for the end of the second.
    @Test func aShutdownDoesNotWaitForAPoolThatIsMadeAtTheSameTime() async {
        await #expect(processExitsWith: .success) {
            for _ in 0..<400 {
                TrapReaper.shared.retain()
                let rendezvous = Rendezvous(2)
                let first = PlainThread(name: "first") {
                    rendezvous.arrive()
                    rendezvous.everybody.blockingWait()
                    TrapReaper.shared.release()
                }
                let second = PlainThread(name: "second") {
                    rendezvous.arrive()
                    rendezvous.everybody.blockingWait()
                    TrapReaper.shared.retain()
                }
                first.join()
                second.join()
                TrapReaper.shared.release()
            }
        }
    }
}
