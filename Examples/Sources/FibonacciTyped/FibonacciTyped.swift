// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Runtime

/// The same with messages of one type: what a worker does not understand does not compile.
@main
struct FibonacciTyped: FortProgram {
    /// The first failure ends the program, with status 70.
    static let intensity = RestartIntensity(0, within: .seconds(1))

    func run(in context: Context) async throws {
        let tree = try context.supervise {
            Children("worker", Worker(), redundancy: 4)
        }
        let workers = try tree.group("worker", of: Worker.Message.self)
        workers.members[0].tell(.say("hello"))

        let pending = (0...30).map { n in workers.request { .fibonacci(UInt(n), $0) } }
        var numbers: [UInt] = []
        for each in pending { numbers.append(try await each.value()) }
        print(numbers.map(String.init).joined(separator: " "))
        guard numbers[10] == 55, numbers[20] == 6_765, numbers[30] == 832_040 else { throw WrongResult() }
        for n in 2...30 { guard numbers[n] == numbers[n - 1] + numbers[n - 2] else { throw WrongResult() } }

        // Round robin: each has had its share.
        let shares = try await workers.askAll { .answered($0) }.map { try $0.get() }
        print("answered by each: \(shares)")
        guard shares.reduce(0, +) == 31, shares.allSatisfy({ $0 >= 7 }) else { throw WrongResult() }
    }
}

private struct Worker: Reactive {
    enum Message: Sendable {
        case fibonacci(UInt, Reply<UInt>)
        case answered(Reply<Int>)
        case say(String)
    }
    private var answered = 0

    mutating func receive(_ message: consuming Message, in context: borrowing ReactiveContext<Self>) {
        switch message {
        case .fibonacci(let n, let reply):
            reply(fibonacci(n))
            answered += 1
        case .answered(let reply): reply(answered)
        case .say(let text): print("somebody says: \(text)")
        }
    }

    private func fibonacci(_ n: UInt) -> UInt { n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2) }
}

private struct WrongResult: Error {}
