// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor

/// The plan for programs, in the schema of `docs/topology-json.md`: numbers only, so nothing needs escaping.
struct PlanJSON {
    private let plan: Placement

    init(_ plan: Placement) { self.plan = plan }

    var text: String { "{\"workers\":[\(plan.seats.map(object).joined(separator: ","))]}" }

    private func object(_ seat: Seat) -> String {
        let steal = seat.steal.map { tier in "[\(tier.map(String.init).joined(separator: ","))]" }.joined(
            separator: ","
        )
        let fields = [
            ("index", seat.index), ("pu", seat.pu), ("osPU", seat.osPU), ("core", seat.core ?? -1),
            ("l3", seat.l3 ?? -1), ("node", seat.node ?? -1), ("kind", seat.kind),
        ]
        return "{\(fields.map { "\"\($0)\":\($1)" }.joined(separator: ",")),\"steal\":[\(steal)]}"
    }
}
