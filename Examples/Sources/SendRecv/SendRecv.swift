// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Runtime

/// A child that asks itself, fails, and does it again in its next life, with what waited for it.
@main
struct SendRecv: FortProgram {
    /// The first failure of this program's own ends it, with status 70.
    static let intensity = RestartIntensity(0, within: .seconds(1))

    func run(in context: Context) async throws {
        let tree = try context.supervise(intensity: RestartIntensity(1, within: .seconds(5))) {
            Children("talker", body: talk)
        }
        guard let talker = try tree.group("talker", of: String.self).dynamic.first else { throw WrongResult() }
        // It comes while the child talks to itself: the second life answers.
        let lives = try await talker.ask(HowManyLives(), as: Int.self, within: .seconds(10))
        print("it has had \(lives) lives")
        guard lives == 2, context.system.restarts == 1 else { throw WrongResult() }
    }
}

@Sendable
private func talk(in context: Context) async throws {
    // Not awaited at once: nobody but this child answers.
    let pending = context.ref.request("how are you, \(context.name)?", as: String.self)
    let question = try await context.receive(matching: { (message: AnyMessage) in message.payload is String })
    question.onQuestion(String.self) { text, reply in
        print("asked by \(question.sender): \(text)")
        reply("well, in life \(context.restarts + 1)")
    }
    print("answered: \(try await pending.value())")
    if context.restarts == 0 { throw Tired() }

    for await message in context {
        message.onQuestion(HowManyLives.self) { _, reply in reply(context.restarts + 1) }
    }
}

private struct HowManyLives: Sendable {}
private struct Tired: Error {}
private struct WrongResult: Error {}
