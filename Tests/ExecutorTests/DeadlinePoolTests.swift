// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import TestSupport
import Testing

@testable import Executor
@testable import LightProc

/// Deadlines in real time, on a pool of two workers. What is waited for is their coming, never how long it took.
@Suite struct DeadlinePoolTests {
    @Test func theTimersOfAPoolEndBodiesAndIncarnations() async throws {
        let pool = try WorkerPool(workers: 2)
        let caught = pool.spawn {
            guard let proc = LightProc.current else { return false }
            do {
                try await proc.withTimeout(.milliseconds(1)) { _ = await proc.receiveNode() }
                return false
            } catch let error as DeadlineExceeded {
                return error.process == proc.id && !Task.isCancelled
            }
        }
        #expect(try await caught.outcome().get())
        let never = AsyncGate()
        let limited = pool.spawn(ProcStack(deadline: .milliseconds(1))) { await never.wait() }
        guard case .deadlineExceeded(.milliseconds(1)) = await limited.handle.exit() else {
            return #expect(Bool(false), "ended otherwise")
        }
        never.open()
        await pool.shutDownElsewhere()
    }

    @Test func aTrapWithinADeadlineIsTheProcesss() async throws {
        let pool = try WorkerPool(workers: 2)
        let handle = pool.spawn {
            guard let proc = LightProc.current else { return }
            try await proc.withTimeout(.seconds(600)) { _ = Misdeed.index.commit() }
        }
        #expect(await handle.handle.exit().trapReport?.process == handle.id)
        #expect(try await pool.spawn { 1 }.outcome().get() == 1)
        await pool.shutDownElsewhere()
    }

    /// Many bodies that end about when their time is up: each ends as exactly one thing.
    @Test func manyDeadlinesThatRaceWithTheirBodies() async throws {
        let pool = try WorkerPool(workers: 2)
        let handles = (0..<400).map { number in
            pool.spawn {
                guard let proc = LightProc.current else { return -1 }
                let gate = AsyncGate()
                pool.schedule(after: .microseconds(number)) { gate.open() }
                do {
                    return try await proc.withTimeout(.microseconds(200)) {
                        await gate.wait()
                        return number
                    }
                } catch is DeadlineExceeded {
                    return number
                }
            }
        }
        for (number, handle) in handles.enumerated() { #expect(try await handle.outcome().get() == number) }
        await pool.shutDownElsewhere()
    }
}
