// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Supervision

/// Divides; a divisor of zero traps.
struct Divider: Reactive {
    enum Message: Sendable { case divide(Int, by: Int, Reply<Int>) }
    var answers = 0

    mutating func receive(_ message: consuming Message, in context: borrowing ReactiveContext<Self>) {
        switch message {
        case .divide(let number, let divisor, let reply):
            reply(number / divisor)
            answers += 1
        }
    }
}

func check() async throws {
    let tree = try bastion.supervise { Children("divider", Divider()) }
    let divider = try tree.group("divider", of: Divider.Message.self).members[0]

    let three = try await divider.ask { .divide(7, by: 2, $0) }
    precondition(three == 3)
    do {
        let answer = try await divider.ask { .divide(7, by: 0, $0) }
        fatalError("7 / 0 is \(answer)")
    } catch {
        guard error.code == .processEnded, case .trap(let report)? = error.reason else { fatalError("\(error)") }
        precondition(report.kind == .divisionByZero, report.summary)
    }
    // The reference is the same; what is behind it was started again.
    let four = try await divider.ask { .divide(8, by: 2, $0) }
    precondition(four == 4)
    precondition(bastion.restarts == 1, "restarted \(bastion.restarts) times")

    await tree.stop()
    do {
        _ = try await divider.ask { .divide(1, by: 1, $0) }
        fatalError("a stopped child answered")
    } catch {
        precondition(error.code == .refused, "\(error)")
    }
}

try await check()
print("ok SupervisionConsumer")
