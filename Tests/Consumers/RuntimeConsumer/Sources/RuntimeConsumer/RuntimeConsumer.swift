// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Runtime

/// All modules through the umbrella: a program that traps twice, and then watches a child of its own do so.
@main
struct RuntimeConsumer: FortProgram {
    static let backoff = Backoff.constant(.milliseconds(2))

    func run(in context: Context) async throws {
        let words = ["zero"]
        if context.restarts < 2 { context.log.info("never said: \(words[context.restarts + 1])") }
        precondition(Containment.contained == 2, "\(Containment.contained) traps were contained")

        let digits = try context.children("digit", of: Question.self) { context in
            for await question in context.messages(of: Question.self) {
                question.reply(Int(String(question.text.first!))!)
            }
        }
        let seven = try await digits.ask { Question(text: "7 of 9", reply: $0) }
        precondition(seven == 7)
        do {
            let answer = try await digits.ask { Question(text: "", reply: $0) }
            fatalError("the first character of nothing is \(answer)")
        } catch {
            guard error.reason?.trapReport?.kind == .nilUnwrapped else { fatalError("\(error)") }
        }
        let eight = try await digits.ask { Question(text: "8", reply: $0) }
        precondition(eight == 8)
        print("ok RuntimeConsumer")
    }
}

struct Question: Sendable {
    let text: String
    let reply: Reply<Int>
}
