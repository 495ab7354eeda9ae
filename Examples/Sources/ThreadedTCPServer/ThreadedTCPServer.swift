// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import Loopback
import Runtime
import Synchronization

/// A TCP server with a process and a thread for each connection, half of which trap: the others, and the main program, go on.
@main
struct ThreadedTCPServer: FortProgram {
    static let intensity = RestartIntensity(0, within: .seconds(1))
    private static let connections = 16

    func run(in context: Context) async throws {
        let (listener, port) = try Loopback.listen()
        context.own(fileDescriptor: listener)
        let clients = Clients(port)
        for number in 0..<Self.connections {
            clients.connect()
            let socket = try await context.blocking { accept(listener, nil, nil) }
            context.system.spawn("connection-\(number)") { context in
                context.own(fileDescriptor: socket)
                // On a thread of its own as long as it takes: this code may block.
                try await context.blocking { try serve(socket, number) }
            }
        }
        let lengths = try await context.blocking { try clients.receiveAll() }
        let (answered, cut) = (lengths.count { $0 > 0 }, lengths.count { $0 == 0 })
        print(
            "\(answered) connections answered, \(cut) cut by a trap; the main program was restarted \(context.restarts) times"
        )
        guard answered == Self.connections / 2, cut == answered else { throw WrongResult() }
    }
}

private func serve(_ socket: Int32, _ number: Int) throws {
    precondition(number.isMultiple(of: 2), "connection \(number) is an odd one")
    let answer = Array("hello, \(number)".utf8)
    _ = send(socket, answer, answer.count, Int32(MSG_NOSIGNAL))
}

/// The other side.
private final class Clients: Sendable {
    private let port: Int
    private let open = Mutex<[Connection]>([])

    init(_ port: Int) { self.port = port }

    /// The kernel takes the connection before the server does.
    func connect() {
        guard let connection = try? Connection(to: port) else { return }
        open.withLock { $0.append(connection) }
    }

    /// How much each was sent, until it was closed.
    func receiveAll() throws -> [Int] { try open.withLock { $0 }.map { try $0.receiveAll().count } }
}

private struct WrongResult: Error {}
