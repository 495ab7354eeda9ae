// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import Glibc
import LightProc

/// What the calling thread is called.
func threadName() -> String {
    guard let file = fopen("/proc/thread-self/comm", "r") else { return "" }
    defer { fclose(file) }
    var line = [CChar](repeating: 0, count: 64)
    guard fgets(&line, 64, file) != nil else { return "" }
    return String(decoding: line.prefix { $0 != 0 && $0 != 10 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
}

actor Counter {
    private var count = 0
    func next() -> (Int, String) {
        count += 1
        return (count, threadName())
    }
}

/// Where an actor ran that many child tasks called at a time.
nonisolated func namesOfCallers() async -> Set<String> {
    let counter = Counter()
    return await withTaskGroup(of: String.self) { group in
        for _ in 0..<100 { group.addTask { await counter.next().1 } }
        return await group.reduce(into: Set()) { $0.insert($1) }
    }
}

@MainActor func check(_ pool: WorkerPool) async throws {
    // The first task of the program.
    let first = await Task.detached { threadName() }.value
    precondition(first == "bastion-worker", "a task ran on \(first)")

    let names = await namesOfCallers()
    precondition(names == ["bastion-worker"], "an actor ran on \(names)")

    let woken = try await Task.detached {
        try await Task.sleep(for: .milliseconds(5))
        return threadName()
    }.value
    precondition(woken == "bastion-worker", "a task that slept went on on \(woken)")

    let blocked = try await Task.detached { try await pool.blocking { threadName() } }.value
    precondition(blocked == "bastion-blocker", "blocking work ran on \(blocked)")

    pool.shutdown()
    let after = await Task.detached { threadName() }.value
    precondition(after != "bastion-worker" && !after.isEmpty, "after the shutdown a task ran on \(after)")
}

let pool = try WorkerPool()
try pool.installAsGlobalExecutor()
try await check(pool)
print("ok GlobalExecutorConsumer")
