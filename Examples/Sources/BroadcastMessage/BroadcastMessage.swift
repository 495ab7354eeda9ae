// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Runtime

/// A pipeline of three groups that know each other by the names of their dispatchers: Input, Process, Response.
///
/// Input splits texts into words, Process counts letters, Response adds up. Input and Process take turns; every member of
/// Response gets everything, as their dispatcher has a handler that delivers to all.
@main
struct BroadcastMessage: FortProgram {
    /// The first failure ends the program, with status 70.
    static let intensity = RestartIntensity(0, within: .seconds(1))

    static let texts = [
        "a trap ends one process", "its supervisor starts it again", "and every other request goes on",
    ]

    func run(in context: Context) async throws {
        let tree = try context.supervise {
            Children("response", Response(), redundancy: 2)
                .dispatcher(.named("Response", handler: BroadcastHandler()))
            Children("process", redundancy: 3) { context in
                for await word in context.messages(of: Word.self) {
                    try context.system.broadcast(
                        Response.Message.counted(word.text, letters: word.text.count),
                        to: .group("Response")
                    )
                }
            }
            .dispatcher("Process")
            Children("input", redundancy: 2) { context in
                for await text in context.messages(of: Text.self) {
                    for word in text.text.split(separator: " ") {
                        try context.system.broadcast(Word(text: String(word)), to: .group("Process"))
                    }
                }
            }
            .dispatcher("Input")
        }
        // The groups have their dispatchers already, whether they run by now or not.
        for text in Self.texts { try context.system.broadcast(Text(text: text), to: .group("Input")) }

        let words = Self.texts.flatMap { $0.split(separator: " ") }
        let expected = words.reduce(0) { $0 + $1.count }
        for response in try tree.group("response", of: Response.Message.self).members {
            let letters = try await response.ask { .whenComplete(words: words.count, $0) }
            print("\(response): \(words.count) words, \(letters) letters")
            guard letters == expected else { throw WrongResult(letters: letters, expected: expected) }
        }
    }
}

struct Text: Sendable {
    let text: String
}

struct Word: Sendable {
    let text: String
}

/// Adds up the letters of the words that it is told of.
struct Response: Reactive {
    enum Message: Sendable {
        case counted(String, letters: Int)
        /// Answered when so many words have come.
        case whenComplete(words: Int, Reply<Int>)
    }
    var words = 0
    var letters = 0
    var waiting: (words: Int, reply: Reply<Int>)?

    mutating func receive(_ message: consuming Message, in context: borrowing ReactiveContext<Self>) {
        switch message {
        case .counted(_, let count):
            words += 1
            letters += count
        case .whenComplete(let count, let reply): waiting = (count, reply)
        }
        if let waiting, waiting.words <= words { waiting.reply(letters) }
    }
}

struct WrongResult: Error {
    let letters: Int
    let expected: Int
}
