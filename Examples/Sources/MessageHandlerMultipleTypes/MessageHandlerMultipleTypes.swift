// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Runtime

/// One child, messages of several types and kinds: told, asked, broadcast; each with the arm that takes it.
@main
struct MessageHandlerMultipleTypes: FortProgram {
    /// The first failure ends the program, with status 70.
    static let intensity = RestartIntensity(0, within: .seconds(1))

    func run(in context: Context) async throws {
        let tree = try context.supervise {
            // Reactive, so without a task; the other takes the same messages with `for await`.
            Children("reactive", Ledger())
            Children("async") { context in
                var ledger = Ledger()
                for await message in context { ledger.note(message) }
            }
        }
        let reactive = try tree.group("reactive", of: AnyMessage.self).dynamic[0]
        let async = try tree.group("async", of: AnyMessage.self).dynamic[0]

        for ledger in [reactive, async] {
            ledger.tell("a text")
            ledger.tell(7)
            ledger.tell(Order(number: 12, items: ["nails", "screws"]))
            ledger.tellAnonymously("a secret")
            ledger.tell(1.5)
        }
        // One value for both of them.
        guard tree.broadcast(Closing(reason: "lunch")) == 2 else { throw WrongResult() }

        let results = await [reactive, async].askAll(Summary(), as: [String].self)
        for result in results {
            let lines = try result.get()
            print(lines.joined(separator: "\n"), terminator: "\n\n")
            guard
                lines == [
                    "text from \(context.name): a text", "number 7", "order 12 of 2 items",
                    "text from nobody: a secret", "not understood: Double", "closing for lunch",
                ]
            else { throw WrongResult() }
        }
    }
}

private struct Ledger: Reactive {
    typealias Message = AnyMessage
    private var lines: [String] = []

    mutating func receive(_ message: consuming AnyMessage, in context: borrowing ReactiveContext<Self>) {
        note(message)
    }

    /// All arms return a line, or nil for none.
    mutating func note(_ message: AnyMessage) {
        let lines = self.lines
        let line = message.onTell(String.self) { text, sender -> String? in
            "text from \(sender.ref?.proc.name ?? "nobody"): \(text)"
        }
        .onTell(Int.self) { number, _ in "number \(number)" }
        .onTell(Order.self) { order, _ in "order \(order.number) of \(order.items.count) items" }
        .onBroadcast(Closing.self) { closing in "closing for \(closing.reason)" }
        .onQuestion(Summary.self) { _, reply in
            reply(lines)
            return nil
        }
        .onFallback { unknown in "not understood: \(type(of: unknown.payload))" }
        if let line { self.lines.append(line) }
    }
}

private struct Order: Sendable {
    let number: Int
    let items: [String]
}
private struct Closing: Sendable { let reason: String }
private struct Summary: Sendable {}
private struct WrongResult: Error {}
