// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import Loopback
import Runtime

/// A TCP server that traps after each connection: its next life takes the next one, and no client notices.
@main
struct TCPServer: FortProgram {
    static let backoff = Backoff.none
    private static let connections = 20

    /// Of the program, not of a life: who connects while there is none waits here.
    private let listener: Int32
    private let port: Int

    init() {
        guard let (socket, port) = try? Loopback.listen() else { fatalError("cannot listen on the loopback") }
        listener = socket
        self.port = port
    }

    func run(in context: Context) async throws {
        if context.restarts == 0 { startClient(context) }
        if context.restarts == Self.connections { return try await judge(context) }

        let listener = listener
        let socket = try await context.blocking { accept(listener, nil, nil) }
        // Closed when this life ends, however it does.
        context.own(fileDescriptor: socket)
        let answer = Array("life \(context.restarts)".utf8)
        _ = send(socket, answer, answer.count, Int32(MSG_NOSIGNAL))
        preconditionFailure("the end of life \(context.restarts)")
    }

    /// Connects so many times, one after the other, and tells the server how many answers were right. The server's mailbox outlives its lives.
    private func startClient(_ context: Context) {
        let (server, port) = (context.me(as: Int.self), port)
        context.system.spawn("client") { context in
            let right = try await context.blocking {
                try (0..<Self.connections).count { number in
                    let answer = try Connection(to: port).receiveAll()
                    return String(decoding: answer, as: UTF8.self) == "life \(number)"
                }
            }
            server.tell(right)
        }
    }

    private func judge(_ context: Context) async throws {
        let right = try await context.receive(Int.self)
        print("\(right) of \(Self.connections) connections were answered, over \(context.restarts) traps")
        if right != Self.connections { exit(1) }
    }
}
