// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc
import Supervision

/// Has the program replaced, or stopped where nobody replaces it, when contained traps have leaked what they may.
enum LeakWatch {
    /// - Parameter stop: Begins an orderly stop of the program.
    static func start(
        _ system: BastionSystem,
        _ state: ProgramState,
        _ options: FortOptions,
        stop: @escaping @Sendable () -> Void
    ) {
        Containment.leakBudget = options.leakBudget
        Containment.observe(on: system.executor) { event in
            switch event {
            case .trapped: break
            case .leakBudgetNear(let estimate):
                Fort.tell(.leakBudgetNear(leaked: estimate.bytes, budget: estimate.budget))
                system.log.warning(
                    "contained traps have leaked most of what they may",
                    metadata: ["bytes": "\(estimate.bytes)", "budget": "\(estimate.budget)"]
                )
            case .leakBudgetReached(let estimate):
                Fort.tell(.leakBudgetReached(leaked: estimate.bytes, budget: estimate.budget))
                state.leave("contained traps have leaked \(estimate.bytes) bytes, of \(estimate.budget) that they may")
                system.log.error(
                    "contained traps have leaked what they may: the program is to be started anew",
                    metadata: ["bytes": "\(estimate.bytes)", "budget": "\(estimate.budget)"]
                )
                if let link = state.link, !link.isInit {
                    link.askForReplacement()
                } else {
                    stop()
                }
            }
        }
    }
}
