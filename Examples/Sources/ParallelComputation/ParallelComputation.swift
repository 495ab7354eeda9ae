// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Runtime

/// Map and reduce: ten workers each take a part, and one who collects puts the parts together as they come.
@main
struct ParallelComputation: FortProgram {
    /// The first failure ends the program, with status 70.
    static let intensity = RestartIntensity(0, within: .seconds(1))

    func run(in context: Context) async throws {
        let tree = try context.supervise {
            Children("mapper", Mapper(), redundancy: 10)
            Children("reducer", Reducer())
        }
        let mappers = try tree.group("mapper", of: Mapper.Message.self)
        let reducer = try tree.group("reducer", of: Reducer.Message.self).members[0]

        let sum = try await reducer.ask { .sumOfSquares(1_000_000, of: mappers, $0) }
        print("the sum of the squares up to 1,000,000 is \(sum)")
        guard sum == 333_333_833_333_500_000 else { throw WrongResult() }
    }
}

/// Takes a range, and answers with its part of the sum.
private struct Mapper: Reactive {
    struct Message: Sendable {
        let range: ClosedRange<Int>
        let reply: Reply<Int>
    }

    mutating func receive(_ message: consuming Message, in context: borrowing ReactiveContext<Self>) {
        message.reply(message.range.reduce(0) { $0 + $1 * $1 })
    }
}

/// Hands out ranges, without waiting: the answers are piped to it, and when all are there it answers itself.
private struct Reducer: Reactive {
    enum Message: Sendable {
        case sumOfSquares(Int, of: Group<Mapper.Message>, Reply<Int>)
        case part(Result<Int, AskError>)
    }
    private var sum = 0
    private var open = 0
    private var reply: Reply<Int>?

    mutating func receive(_ message: consuming Message, in context: borrowing ReactiveContext<Self>) throws {
        switch message {
        case .sumOfSquares(let count, let mappers, let reply):
            let size = count / mappers.members.count
            for (number, mapper) in mappers.members.enumerated() {
                let range = number * size + 1...(number + 1) * size
                context.pipeToSelf(mapper.request { Mapper.Message(range: range, reply: $0) }) { .part($0) }
            }
            open = mappers.members.count
            self.reply = reply
        case .part(let part):
            sum += try part.get()
            open -= 1
            if open == 0 { reply?(sum) }
        }
    }
}

private struct WrongResult: Error {}
