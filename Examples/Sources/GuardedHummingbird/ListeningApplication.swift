// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import Hummingbird
import HummingbirdCore
import Logging
import NIOCore
import NIOPosix
import ServiceLifecycle
import Synchronization

extension ApplicationProtocol {
    /// This application, serving HTTP/1.1 at a socket that listens already: the guard's, see `Fort.listener`, so that no connection is refused while the
    /// program is started again or replaced. `run()` of the application itself opens a socket of its own at the address of its configuration.
    ///
    /// All else is the application's: its routes, its services, its event loops, what runs before it serves and when it does. Its configuration of the
    /// server, as the address and the backlog, and its `server` builder are not asked.
    ///
    /// While a new program takes over both accept for a moment: in debug swift-nio takes it for a mistake of its own when the other one was faster (an assertion of
    /// `BaseSocketChannel`), and the slower one dies of it. Hand over in release builds.
    ///
    /// - Parameter socket: Belongs to what serves it from now on.
    func listening(on socket: CInt, http: HTTP1Channel.Configuration = .init()) -> ListeningApplication<Self> {
        ListeningApplication(application: self, socket: socket, http: http)
    }
}

/// See ``ApplicationProtocol/listening(on:http:)``.
struct ListeningApplication<Application: ApplicationProtocol>: Service {
    let application: Application
    let socket: CInt
    let http: HTTP1Channel.Configuration

    /// Until the graceful shutdown: then nothing more is accepted, and every request that comes within a second, or came before, is answered.
    func run() async throws {
        let connections = OpenConnections()
        let http = HTTP1Channel(responder: try await responder(telling: connections), configuration: http)
        let server = ListeningServer(application: application, socket: socket, http: http, connections: connections)
        let services = application.services + [server]
        try await ServiceGroup(configuration: .init(services: services, logger: application.logger)).run()
    }

    /// As the application does it: an answer to every request, whatever its route throws.
    private func responder(telling connections: OpenConnections) async throws -> HTTPChannelHandler.Responder {
        let responder = try await application.responder
        let (applicationLogger, name) = (application.logger, application.configuration.serverName)
        return { request, writer, channel in
            var logger = applicationLogger
            logger[metadataKey: "hb.request.id"] = .stringConvertible(RequestID())
            let context = Application.Context(source: .init(channel: channel, logger: logger))
            var response: Response
            do {
                response = try await responder.respond(to: request, context: context)
            } catch {
                logger.debug("unrecognised error", metadata: ["error": "\(error)"])
                response = Response(status: .internalServerError)
            }
            response.headers[.date] = HTTPDate.now()
            if let name { response.headers[.server] = name }
            // Whoever reads that asks no more here.
            if connections.areClosing { response.headers[.connection] = "close" }
            try await writer.write(response: response.head, body: response.body)
        }
    }
}

/// Accepts at the socket, each connection a task of its own.
private struct ListeningServer<Application: ApplicationProtocol>: Service {
    let application: Application
    let socket: CInt
    let http: HTTP1Channel
    let connections: OpenConnections

    func run() async throws {
        for prepare in application.processesRunBeforeServerStart { try await prepare() }
        let logger = application.logger
        // Not the bootstrap's own stream, which loses what was accepted just before the end.
        let (accepted, acceptor) = AsyncStream.makeStream(of: HTTP1Channel.Value.self)
        let listener = try await ServerBootstrap(group: application.eventLoopGroup)
            .childChannelOption(.allowRemoteHalfClosure, value: true)
            .childChannelInitializer { channel in
                connections.add(channel)
                return http.setup(channel: channel, logger: logger).map { _ = acceptor.yield($0) }
            }
            .withBoundSocket(socket).get()
        await withGracefulShutdownHandler {
            await application.onServerRunning(listener)
            await withDiscardingTaskGroup { group in
                for await connection in accepted {
                    group.addTask { await http.handle(value: connection, logger: logger) }
                }
            }
        } onGracefulShutdown: {
            listener.close(promise: nil)
            listener.closeFuture.whenComplete { _ in
                connections.close(in: .seconds(1), of: application.eventLoopGroup) { acceptor.finish() }
            }
        }
        // Cancelled, or the loops have ended.
        try? await listener.close()
    }
}

/// The connections of a server.
private final class OpenConnections: Sendable {
    private let state = Mutex((channels: [ObjectIdentifier: any Channel](), areClosing: false))

    /// The next answer of each is its last.
    var areClosing: Bool { state.withLock { $0.areClosing } }

    func add(_ channel: any Channel) {
        let id = ObjectIdentifier(channel)
        state.withLock { $0.channels[id] = channel }
        channel.closeFuture.whenComplete { [self] _ in state.withLock { _ = $0.channels.removeValue(forKey: id) } }
    }

    /// No more come, but those on their way through their loops: has those that do nothing closed after the time, and the others when they have answered.
    func close(in time: TimeAmount, of loops: any EventLoopGroup, then finish: @escaping @Sendable () -> Void) {
        state.withLock { $0.areClosing = true }
        let loop = loops.any()
        let passed = loops.makeIterator().map { $0.submit {} }
        EventLoopFuture.andAllComplete(passed, on: loop).whenComplete { [self] _ in
            finish()
            loop.scheduleTask(in: time) { [self] in
                for channel in state.withLock({ Array($0.channels.values) }) {
                    channel.pipeline.fireUserInboundEventTriggered(ChannelShouldQuiesceEvent())
                }
            }
        }
    }
}

private enum HTTPDate {
    /// As the `Date` field wants it (RFC 9110, 5.6.7).
    static func now() -> String {
        var (seconds, parts) = (time(nil), tm())
        gmtime_r(&seconds, &parts)
        return withUnsafeTemporaryAllocation(of: CChar.self, capacity: 40) { text in
            // The program has the locale "C", unless it sets another one.
            let count = strftime(text.baseAddress!, text.count, "%a, %d %b %Y %H:%M:%S GMT", &parts)
            return String(
                decoding: UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(text)[..<count]),
                as: UTF8.self
            )
        }
    }
}
