// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import RuntimeServices
import ServiceLifecycle
import Supervision
import Synchronization

/// Traps the first time; then shuts its group down, and waits for that to reach it.
struct Flaky: Service {
    static let runs = Atomic(0)
    static let shutdowns = Atomic(0)
    let numbers: [Int]
    let group: @Sendable () async -> Void

    func run() async throws {
        if Self.runs.wrappingAdd(1, ordering: .relaxed).newValue == 1 { print(numbers[1]) }
        await group()
        try await gracefulShutdown()
        Self.shutdowns.wrappingAdd(1, ordering: .relaxed)
    }
}

/// The group is made of the tree, and the tree's child shuts the group down.
let present = Mutex<ServiceGroup?>(nil)
let tree = SupervisionService(bastion) {
    Children(
        "flaky",
        service: Flaky(numbers: []) { await present.withLock { $0 }?.triggerGracefulShutdown() }
    )
}
let group = ServiceGroup(services: [tree], logger: bastion.log)
present.withLock { $0 = group }
try await group.run()
precondition(Flaky.runs.load(ordering: .relaxed) == 2, "ran \(Flaky.runs.load(ordering: .relaxed)) times")
precondition(Flaky.shutdowns.load(ordering: .relaxed) == 1, "was not shut down gracefully")
precondition(bastion.restarts == 1, "restarted \(bastion.restarts) times")
print("ok ServicesConsumer")
