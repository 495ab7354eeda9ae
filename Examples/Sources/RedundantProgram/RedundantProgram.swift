// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Runtime
import Synchronization

/// Two bodies side by side: the program ends when both have returned. `BASTION_REDUNDANCY=5` makes it five.
@main
struct RedundantProgram: FortProgram {
    static let redundancy = 2
    private static let running = Atomic(0)

    func run(in context: Context) async throws {
        print("\(context.name) runs")
        Self.running.add(1, ordering: .relaxed)
        // Each waits for the other to have come so far: they do run at the same time.
        while Self.running.load(ordering: .relaxed) < Self.redundancy { await Task.yield() }
    }
}
