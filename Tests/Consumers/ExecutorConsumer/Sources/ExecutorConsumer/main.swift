// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import LightProc

func check() async throws {
    let pool = try WorkerPool()
    precondition(pool.workerCount > 0, "the pool has no workers")

    let sum = pool.spawn { (1...10).reduce(0, +) }
    guard case .finished(55) = await sum.outcome() else { fatalError("a process did not compute its value") }

    let blocked = pool.spawnBlocking { 56 }
    guard case .finished(56) = await blocked.outcome() else { fatalError("a blocking process did not either") }

    let names = ["a", "b"]
    let trapping = pool.spawn(ProcStack(name: "trapping")) { names[names.count + 97] }
    guard case .failed(.trap(let report)) = await trapping.outcome() else { fatalError("a trap has another outcome") }
    precondition(report.kind == .indexOutOfRange && report.name == "trapping", "\(report.summary) of \(report.process)")
    precondition(Containment.contained == 1, "the trap was not counted")

    // The worker that the trap ended was replaced: the pool goes on.
    let after = pool.spawn { try await Task.sleep(for: .milliseconds(1)) }
    guard case .finished = await after.outcome() else { fatalError("nothing runs after a trap") }
}

try await check()
print("ok ExecutorConsumer")
