// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Hummingbird
import Logging
import Loopback
import NIOPosix
import Runtime
import RuntimeServices
import Synchronization

/// A Hummingbird application as a supervised child. A request that traps costs one answer, and the application is shut down
/// gracefully and started again, both while requests go on.
///
/// The route asks supervised processes: a trap in its own code would end the application with all its connections, and one on the event
/// loops of swift-nio, which are threads of its own, the program.
///
/// `/healthz` says how all that is supervised is, for whoever sends requests here or restarts the container.
@main
struct HummingbirdServer: FortProgram {
    static let intensity = RestartIntensity(0, within: .seconds(1))
    private static let clients = 4
    private static let requests = 200

    func run(in context: Context) async throws {
        let squarers = try context.supervise("squarers", intensity: .unlimited) {
            Children("squarer", Squarer(), redundancy: 4)
        }
        let site = Site(squarers: try squarers.group("squarer"))
        let tree = try await context.supervise(startingWithin: .seconds(20), intensity: .unlimited) {
            Children(service: "http") { site.application(in: $0) }.signalsReady()
        }
        let lost = try await withThrowingTaskGroup(of: Int.self) { group in
            for client in 0..<Self.clients {
                group.addTask { try await Self.ask(site, from: client, in: context) }
            }
            return try await group.reduce(0, +)
        }
        try await Self.checkHealth(of: site, in: context)
        await tree.stop()
        let all = Self.clients * Self.requests
        print(
            "\(all) right answers, \(all / 20) of them that it trapped; \(site.starts) starts, \(lost) tries between them"
        )
        guard site.starts == 5, context.system.restarts >= 4 + all / 20 else { throw WrongResult() }
    }

    /// What starts is not healthy yet; what has started is.
    static func checkHealth(of site: Site, in context: Context) async throws {
        // Squarers that trapped last may be on their way back.
        try await untilHealthy(site, in: context)
        let store = try context.supervise("store") {
            Children("cache") { context in
                // Warm, as soon as somebody says so.
                for await _ in context.messages(of: Warm.self) { context.ready() }
            }
            .signalsReady()
        }
        let cold = try await get("healthz", at: site.port, in: context)
        guard cold.hasPrefix("HTTP/1.1 503 Service Unavailable ["), cold.contains(#"store","status":"starting""#) else {
            throw WrongResult(answer: cold)
        }
        let cache: Group<Warm> = try store.group("cache")
        cache.broadcast(Warm())
        try await untilHealthy(site, in: context)
    }

    struct Warm: Sendable {}

    /// Ends: everything that is restarted, or starts, has done so soon.
    static func untilHealthy(_ site: Site, in context: Context) async throws {
        while true {
            let answer = try await get("healthz", at: site.port, in: context)
            if answer.hasPrefix("HTTP/1.1 200 OK ["), answer.contains(#""status":"healthy""#) { return }
            guard answer.hasPrefix("HTTP/1.1 503 ") else { throw WrongResult(answer: answer) }
            try await context.sleep(for: .milliseconds(2))
        }
    }

    /// Asks one question after the other, every 20th one that traps; who gets no answer asks again.
    static func ask(_ site: Site, from client: Int, in context: Context) async throws -> Int {
        var (number, lost) = (1, 0)
        while number <= requests {
            let isTooLarge = number % 20 == 0
            switch try? await get("square/\(isTooLarge ? .max : number)", at: site.port, in: context) {
            case "HTTP/1.1 200 OK \(number * number)" where !isTooLarge:
                if client == 0, number % 50 == 25 { site.restart() }
                number += 1
            case "HTTP/1.1 500 Internal Server Error " where isTooLarge: number += 1
            case nil:
                lost += 1
                // Nobody listens for the moment.
                try await context.sleep(for: .milliseconds(2))
            case let answer?: throw WrongResult(answer: answer)
            }
        }
        return lost
    }

    /// The first line of the answer, and the body.
    static func get(_ path: String, at port: Int, in context: Context) async throws -> String {
        try await context.blocking {
            let connection = try Connection(to: port)
            try connection.send("GET /\(path) HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".utf8)
            guard let answer = try connection.receiveAnswer() else { throw Connection.Lost() }
            return "\(answer.status) \(answer.body)"
        }
    }
}

/// The application, and what is known of it from outside.
final class Site: Sendable {
    private let squarers: Group<Squarer.Message>
    private let present = Mutex<(context: Context?, port: Int, starts: Int)>((nil, 0, 0))
    private let loops = MultiThreadedEventLoopGroup(numberOfThreads: 1)

    init(squarers: Group<Squarer.Message>) { self.squarers = squarers }
    /// Where it listens: on a port of the kernel's choice, and on the same one ever after.
    var port: Int { present.withLock { $0.port } }
    var starts: Int { present.withLock { $0.starts } }
    /// Asks the application to stop, as its supervisor would: it finishes what it has begun, and is started again.
    func restart() { present.withLock { $0.context }?.stop() }

    func application(in context: Context) -> any ApplicationProtocol {
        let router = Router()
        router.get("square/:number") { [squarers] _, request in
            let number = try request.parameters.require("number", as: Int.self)
            return "\(try await squarers.ask { .square(number, $0) })"
        }
        let system = context.system
        router.get("healthz") { _, _ in await Self.health(of: system) }
        return Application(
            router: router,
            configuration: .init(address: .hostname("127.0.0.1", port: port)),
            onServerRunning: { [self] channel in
                present.withLock { $0 = (context, channel.localAddress?.port ?? 0, $0.starts + 1) }
                context.ready()
            },
            eventLoopGroupProvider: .shared(loops),
            logger: Logger(label: "http") { _ in SwiftLogNoOpLogHandler() }
        )
    }
}

extension Site {
    /// 200 when all that is to run does, else 503; in either case the trees as JSON.
    static func health(of system: BastionSystem) async -> Hummingbird.Response {
        let trees = await system.health()
        return Hummingbird.Response(
            status: trees.allSatisfy(\.isHealthy) ? .ok : .serviceUnavailable,
            headers: [.contentType: "application/json"],
            body: .init(byteBuffer: ByteBuffer(string: "[\(trees.map(\.json).joined(separator: ","))]"))
        )
    }
}

/// Traps when the square is too large.
struct Squarer: Reactive {
    enum Message: Sendable { case square(Int, Reply<Int>) }
    mutating func receive(_ message: consuming Message, in context: borrowing ReactiveContext<Self>) {
        if case .square(let number, let reply) = message { reply(number * number) }
    }
}

struct WrongResult: Error { var answer = "" }
