// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Runtime

/// Workers that take questions of any type: those they know they answer, the others are dead letters.
@main
struct Fibonacci: FortProgram {
    /// The first failure ends the program, with status 70.
    static let intensity = RestartIntensity(0, within: .seconds(1))

    func run(in context: Context) async throws {
        let tree = try context.supervise {
            Children("worker", redundancy: 4) { context in
                for await message in context {
                    message.onQuestion(UInt.self) { n, reply in reply(fibonacci(n)) }
                        .onTell(String.self) { text, sender in print("\(sender) says: \(text)") }
                        .onFallback { unknown in
                            print("\(context.name) does not understand: \(unknown)")
                            context.deadLetter(unknown)
                        }
                }
            }
        }
        let workers = try tree.group("worker", of: UInt.self).dynamic

        workers[0].tell("hello")
        // Each computes a part, all at once.
        let pending = (0...30).map { n in workers[n % workers.count].request(UInt(n), as: UInt.self) }
        var numbers: [UInt] = []
        for each in pending { numbers.append(try await each.value()) }
        print(numbers.map(String.init).joined(separator: " "))
        guard numbers[10] == 55, numbers[20] == 6_765, numbers[30] == 832_040 else { throw WrongResult() }
        for n in 2...30 { guard numbers[n] == numbers[n - 1] + numbers[n - 2] else { throw WrongResult() } }

        // A question that nobody knows, and an answer of another type than was asked for.
        do throws(AskError) {
            _ = try await workers[1].ask(1.5, as: UInt.self)
        } catch {
            guard error.code == .unanswered else { throw error }
        }
        do throws(AskError) {
            _ = try await workers[2].ask(UInt(1), as: String.self)
        } catch {
            print(error)
            guard error.code == .wrongAnswer, context.system.deadLetters == 1 else { throw error }
            return
        }
        throw WrongResult()
    }
}

private func fibonacci(_ n: UInt) -> UInt { n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2) }

private struct WrongResult: Error {}
