// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

extension BastionSystem {
    /// Calls `listener` for everything that happens under the supervisors of this system, as long as that lives.
    ///
    /// It is called at once, in the supervisor's turn: it must not block or trap, so it may not ask errors for their descriptions.
    package func witnessEvents(_ listener: @escaping @Sendable (SupervisionEvent) -> Void) {
        _ = eventHub.add(listener)
    }
}
