// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import Hummingbird
import Logging
import Loopback
import NIOPosix
import Runtime
import RuntimeServices
import Synchronization

/// A Hummingbird application behind the boundary: `context.run(application.listening(on: socket))` is all there is to it.
///
/// A route that traps, or an error of the application, ends the body with its connections, and it is started again; what cannot be contained (a trap on an event loop of
/// swift-nio, a wild pointer, the end of memory) ends the process, which the guard starts again. SIGTERM shuts the application down gracefully, SIGUSR2 has a
/// new program take over.
///
/// The guard keeps the socket, so that connections wait meanwhile instead of being refused: `ListeningApplication` serves the application there, as Hummingbird's own
/// server opens a socket itself and cannot be given one. Where that does not matter `context.run(application)` does the same.
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
        try await context.run(application(in: context, checksItself: port == nil).listening(on: socket))
    }

    func application(in context: Context, checksItself: Bool) -> some ApplicationProtocol {
        let router = Router()
        router.get("hello") { _, _ in "hello" }
        router.get("square/:number") { _, request in
            let number = try request.parameters.require("number", as: Int.self)
            // Traps when it is too large.
            return "\(number * number)"
        }
        // Of this incarnation: with them, whatever ends it, its connections are closed, also that of a request that trapped.
        let loops = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        context.onExit { _ in loops.shutdownGracefully { _ in } }
        return Application(
            router: router,
            onServerRunning: { channel in
                context.ready()
                if checksItself, let port = channel.localAddress?.port { SelfCheck.start(at: port, context) }
            },
            eventLoopGroupProvider: .shared(loops),
            logger: Logger(label: "http") { _ in SwiftLogNoOpLogHandler() }
        )
    }
}

/// Asks the application from outside, and sees that it comes back.
enum SelfCheck {
    private static let latest = Mutex<Context?>(nil)

    /// An incarnation serves.
    static func start(at port: Int, _ context: Context) {
        let isFirst = latest.withLock { latest in
            defer { latest = context }
            return latest == nil
        }
        // Outside the body, whose end it survives.
        if isFirst { context.system.executor.spawnBlocking { check(port) } }
    }

    private static func check(_ port: Int) {
        // No answer, and nobody who waits for one: the body has ended.
        expect(nil, from: "/square/\(Int.max)", at: port)
        // Not refused, and answered by the next incarnation.
        expect("hello", from: "/hello", at: port)
        expect("49", from: "/square/7", at: port)
        print("the application came back after a trap, and answers")
        latest.withLock { $0 }?.stop()
    }

    private static func expect(_ answer: String?, from path: String, at port: Int) {
        let body = try? get(path, at: port)
        if body == answer { return }
        print("\(path): expected \(answer ?? "no answer"), got \(body ?? "none")")
        exit(1)
    }

    private static func get(_ path: String, at port: Int) throws -> String? {
        let connection = try Connection(to: port)
        try connection.send("GET \(path) HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".utf8)
        let answer = String(decoding: try connection.receiveAll(), as: UTF8.self)
        let lines = answer.split(separator: "\r\n", omittingEmptySubsequences: false)
        return lines.count > 2 ? lines.last.map(String.init) : nil
    }
}
