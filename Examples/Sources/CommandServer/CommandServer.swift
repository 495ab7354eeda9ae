// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import ArgumentParser
import Glibc
import Loopback
import Runtime

/// A server that is a command of swift-argument-parser: `--help` and wrong arguments are answered before anything starts,
/// `--bastion-help` lists the options of the program boundary.
@main
struct CommandServer: AsyncParsableCommand, FortProgram {
    static let configuration = CommandConfiguration(abstract: "Greets who connects, so many times.")
    static let intensity = RestartIntensity(0, within: .seconds(1))

    @Option(help: "What it says.")
    var greeting = "hello"

    @Option(help: "How many connections it takes before it ends.")
    var connections = 3

    func validate() throws {
        guard connections > 0 else { throw ValidationError("connections must be at least 1, got \(connections)") }
    }

    /// Both protocols have one: this is the line that decides.
    static func main() { Fort.run { parseOrExit() } }

    func run(in context: Context) async throws {
        let (listener, port) = try Loopback.listen()
        context.own(fileDescriptor: listener)
        let answer = Array(greeting.utf8)
        for _ in 0..<connections {
            let heard = try await context.blocking {
                let client = try Connection(to: port)
                let socket = accept(listener, nil, nil)
                _ = send(socket, answer, answer.count, Int32(MSG_NOSIGNAL))
                close(socket)
                return try client.receiveAll()
            }
            guard heard == answer else { throw WrongResult() }
        }
        print("said \(greeting) \(connections) times")
    }
}

private struct WrongResult: Error {}
