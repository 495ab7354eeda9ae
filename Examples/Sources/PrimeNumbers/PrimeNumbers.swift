// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Runtime

/// Clients that keep ten workers busy, each with one number after the other.
@main
struct PrimeNumbers: FortProgram {
    /// The first failure ends the program, with status 70.
    static let intensity = RestartIntensity(0, within: .seconds(1))

    func run(in context: Context) async throws {
        let tree = try context.supervise {
            Children("prover", redundancy: 10) { context in
                for await message in context {
                    message.onQuestion(Int.self) { number, reply in
                        reply(Verdict(number: number, isPrime: isPrime(number), by: context.name))
                    }
                }
            }
        }
        let provers = try tree.group("prover", of: Int.self).dynamic

        // Four clients, each with its share of the numbers and one question at a time.
        let verdicts = try await withThrowingTaskGroup(of: [Verdict].self) { group in
            for client in 0..<4 {
                group.addTask {
                    var verdicts: [Verdict] = []
                    for number in stride(from: client, to: 2_000, by: 4) {
                        verdicts.append(try await provers[number % provers.count].ask(number))
                    }
                    return verdicts
                }
            }
            return try await group.reduce(into: []) { $0 += $1 }
        }

        let primes = verdicts.filter(\.isPrime).map(\.number).sorted()
        print("\(primes.count) primes, the largest \(primes.last ?? 0), by \(Set(verdicts.map(\.by)).count) provers")
        guard verdicts.count == 2_000, primes.count == 303, primes.last == 1_999,
            Set(verdicts.map(\.by)).count == 10
        else { throw WrongResult() }
    }
}

private struct Verdict: Sendable {
    let number: Int
    let isPrime: Bool
    let by: String
}

private func isPrime(_ number: Int) -> Bool {
    if number < 2 { return false }
    var divisor = 2
    while divisor * divisor <= number {
        if number % divisor == 0 { return false }
        divisor += 1
    }
    return true
}

private struct WrongResult: Error {}
