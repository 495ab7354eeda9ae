// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import RuntimeTestKit
import Shop
import Supervision

func check() throws {
    var traces: Set<SimulationTrace> = []
    try forEachSeed(count: 10) { seed in
        let trace = try Simulation.checkEqualRuns(seed: seed, faults: [.trap("order", atMessage: 3)]) { simulation in
            let stock = simulation.system.spawn(Stock(["tea": 2]))
            let tree = try simulation.system.supervise(intensity: .unlimited) { shop(stock: stock) }
            let customer = simulation.probe(of: Answer.self)
            let orders = try tree.group("order", of: Order.self)
            for _ in 0..<4 { orders.tell(Order(item: "tea", customer: customer.ref)) }
            // One order is lost with the trap.
            for _ in 0..<2 { try customer.expect(.sent("tea")) }
            try customer.expect(.soldOut("tea"))
            try customer.expectNoMessage(for: .seconds(60))
            precondition(simulation.system.restarts == 1, "\(simulation)")
        }
        traces.insert(trace)
    }
    precondition(Seeds.fromEnvironment != nil || traces.count > 1, "ten seeds gave one run")
}

try check()
print("ok TestKitConsumer")
