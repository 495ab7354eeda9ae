// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

package import Supervision

/// Knows what is in stock; asked by the order workers.
package struct Stock: Reactive {
    package enum Message: Sendable {
        case take(String, Reply<Bool>)
        case put(String, Int)
    }
    private var pieces: [String: Int]

    package init(_ pieces: [String: Int]) { self.pieces = pieces }

    package mutating func receive(_ message: consuming Message, in context: borrowing ReactiveContext<Self>) {
        switch message {
        case .take(let item, let reply):
            let isThere = pieces[item, default: 0] > 0
            if isThere { pieces[item, default: 0] -= 1 }
            reply(isThere)
        case .put(let item, let count): pieces[item, default: 0] += count
        }
    }
}

package struct Order: Sendable {
    package let item: String
    package let customer: ProcRef<Answer>
    package init(item: String, customer: ProcRef<Answer>) {
        self.item = item
        self.customer = customer
    }
}

package enum Answer: Sendable, Equatable {
    case sent(String)
    case soldOut(String)
}

/// What the program supervises.
package func shop(stock: ProcRef<Stock.Message>, workers: Int = 2) -> Children {
    Children("order", redundancy: workers, backoff: .exponential(.seconds(1), cap: .seconds(60))) { context in
        for await order in context.messages(of: Order.self) {
            let isThere = try await stock.ask(within: .seconds(1)) { .take(order.item, $0) }
            order.customer.tell(isThere ? .sent(order.item) : .soldOut(order.item))
        }
    }
}

/// Counts visits, wrongly: what it read may be out of date when it writes.
package actor Visits {
    package private(set) var count = 0
    package init() {}
    package func set(_ count: Int) { self.count = count }
}

@Sendable package func visit(_ visits: Visits) async {
    let before = await visits.count
    await visits.set(before + 1)
}
