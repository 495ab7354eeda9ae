// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc
import Testing

@testable import Supervision

/// Random programs for the machine.
@Suite struct SupervisorMachineRandomTests {
    /// Children end while others are stopped, leave while they start, are restarted while all are swept away, ...
    @Test(arguments: RestartStrategy.allCases)
    func whateverHappensAtOnceNobodyIsForgotten(_ strategy: RestartStrategy) {
        for seed in RandomTest.seeds("\(#function) \(strategy)", count: 120) {
            var chaos = SupervisorChaos(seed: seed, strategy: strategy)
            let problems = chaos.run(steps: 80)
            guard !problems.isEmpty else { continue }
            Issue.record("SEED=\(seed) \(strategy): \(problems)\n\(chaos.story.suffix(40).joined(separator: "\n"))")
            return
        }
    }

    /// One thing after the other: the same order, the same who runs, the same starts and stops in the same order, the same end.
    @Test(arguments: RestartStrategy.allCases)
    func atRestItIsWhatOTPWouldBe(_ strategy: RestartStrategy) {
        for seed in RandomTest.seeds("\(#function) \(strategy)", count: 120) {
            var comparison = SupervisorComparison(seed: seed, strategy: strategy)
            let problems = comparison.run(events: 40)
            guard !problems.isEmpty else { continue }
            Issue.record("SEED=\(seed) \(strategy): \(problems)\n\(comparison.story.joined(separator: "; "))")
            return
        }
    }
}
