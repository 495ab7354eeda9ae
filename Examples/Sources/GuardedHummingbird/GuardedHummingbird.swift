// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import Hummingbird
import Logging
import Loopback
import Runtime
import RuntimeServices

/// A Hummingbird application behind the boundary: `context.run(application.listening(on: socket, in: context))` is all there is to it.
///
/// A route that traps ends its connection, which is a process of its own, and no other. An error of the application ends the body, which is started again; what cannot be
/// contained (a trap on an event loop of swift-nio, a wild pointer, the end of memory) ends the process, which the guard starts again. SIGTERM shuts the
/// application down gracefully, SIGUSR2 has a new program take over.
///
/// The guard keeps the socket, so that connections wait meanwhile instead of being refused: `ListeningApplication` serves the application there, as Hummingbird's own
/// server opens a socket itself and cannot be given one. Where that does not matter `context.run(application)` runs it as it is; a route that traps
/// ends all of it then.
///
///     GuardedHummingbird 8080     serves until it is told to stop
///     GuardedHummingbird          has one request trap, sees that the next is answered, and ends
@main
struct GuardedHummingbird: FortProgram {
    static let boundary = Boundary.guarded
    static let signalsReady = true

    func run(in context: Context) async throws {
        let port = CommandLine.arguments.dropFirst().first.flatMap { Int($0) }
        let socket = try Fort.listener(host: "127.0.0.1", port: port ?? 0)
        try await context.run(application(in: context, checksItself: port == nil).listening(on: socket, in: context))
    }

    func application(in context: Context, checksItself: Bool) -> some ApplicationProtocol {
        let router = Router()
        router.get("hello") { _, _ in "hello" }
        router.get("square/:number") { _, request in
            let number = try request.parameters.require("number", as: Int.self)
            // Traps when it is too large.
            return "\(number * number)"
        }
        return Application(
            router: router,
            onServerRunning: { channel in
                context.ready()
                if checksItself, let port = channel.localAddress?.port { SelfCheck.start(at: port, context) }
            },
            logger: Logger(label: "http") { _ in SwiftLogNoOpLogHandler() }
        )
    }
}

/// Asks the application from outside, and sees that it goes on.
enum SelfCheck {
    static func start(at port: Int, _ context: Context) {
        context.system.executor.spawnBlocking { check(port, context) }
    }

    private static func check(_ port: Int, _ context: Context) {
        do {
            // In the middle of its request while another one traps.
            let other = try Connection(to: port)
            try other.send("GET /hello HTTP/1.1\r\nhost: x\r\n".utf8)
            // No answer: the connection has ended.
            let trapping = try Connection(to: port)
            try trapping.send("GET /square/\(Int.max) HTTP/1.1\r\nhost: x\r\n\r\n".utf8)
            try expect(nil, from: trapping)
            try other.send("connection: close\r\n\r\n".utf8)
            try expect("hello", from: other)
            let next = try Connection(to: port)
            try next.send("GET /square/7 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".utf8)
            try expect("49", from: next)
        } catch {
            print("a connection was cut, or refused: \(error)")
            exit(1)
        }
        print("one connection ended with a trap; who was connected meanwhile got an answer, and so did the next")
        context.stop()
    }

    private static func expect(_ answer: String?, from connection: Connection) throws {
        let body = try connection.receiveAnswer()?.body
        if body == answer { return }
        print("expected \(answer ?? "no answer"), got \(body ?? "none")")
        exit(1)
    }
}
