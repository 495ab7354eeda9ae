// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import Hummingbird
import HummingbirdCore
import Logging
import NIOCore
import NIOPosix
import Runtime
import ServiceLifecycle
import Synchronization

extension ApplicationProtocol {
    /// This application, serving HTTP/1.1 at a socket that listens already: the guard's, see `Fort.listener`, so that no connection is refused while the
    /// program is started again or replaced. `run()` of the application itself opens a socket of its own at the address of its configuration.
    ///
    /// Each connection is a process of its own, a temporary child of one that belongs to `context`: a route that traps ends its connection, without an answer, and nothing
    /// else. What connections of HTTP clients cost beside what Hummingbird has for them is that process and its start.
    ///
    /// All else is the application's: its routes, its services, its event loops, what runs before it serves and when it does. Its configuration of the
    /// server, as the address and the backlog, and its `server` builder are not asked. A route does not see the graceful shutdown of the package
    /// swift-service-lifecycle, as it is no task of the service's.
    ///
    /// While a new program takes over both accept for a moment: in debug swift-nio takes it for a mistake of its own when the other one was faster (an assertion of
    /// `BaseSocketChannel`), and the slower one dies of it. Hand over in release builds.
    ///
    /// - Parameters:
    ///   - socket: Belongs to what serves it from now on.
    ///   - context: Of the process that runs the application: whatever ends it, the connections are closed.
    func listening(
        on socket: CInt,
        in context: Runtime.Context,
        http: HTTP1Channel.Configuration = .init()
    ) -> ListeningApplication<Self> {
        ListeningApplication(application: self, socket: socket, context: context, http: http)
    }
}

/// See ``ApplicationProtocol/listening(on:in:http:)``.
struct ListeningApplication<Application: ApplicationProtocol>: Service {
    let application: Application
    let socket: CInt
    let context: Runtime.Context
    let http: HTTP1Channel.Configuration

    /// Until the graceful shutdown: then nothing more is accepted, and every request that comes within a second, or came before, is answered.
    func run() async throws {
        let connections = OpenConnections()
        let http = HTTP1Channel(responder: try await responder(telling: connections), configuration: http)
        let server = ListeningServer(
            application: application,
            socket: socket,
            http: http,
            connections: connections,
            context: context
        )
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

/// Accepts at the socket, each connection a process of its own.
private struct ListeningServer<Application: ApplicationProtocol>: Service {
    let application: Application
    let socket: CInt
    let http: HTTP1Channel
    let connections: OpenConnections
    let context: Runtime.Context

    func run() async throws {
        for prepare in application.processesRunBeforeServerStart { try await prepare() }
        let processes = try context.supervise("connections", strategy: .dynamic, intensity: .unlimited) {}
        // Whatever ends this process, as a trap of another service of the application's.
        context.onExit { _ in connections.end() }
        // Not the bootstrap's own stream, which loses what was accepted just before the end.
        let (accepted, acceptor) = AsyncStream.makeStream(of: (any Channel).self)
        let listener = try await ServerBootstrap(group: application.eventLoopGroup)
            .serverChannelInitializer { connections.add($0) }
            .childChannelOption(.allowRemoteHalfClosure, value: true)
            .childChannelOption(.autoRead, value: false)
            .childChannelInitializer { channel in
                acceptor.yield(channel)
                return connections.add(channel)
            }
            .withBoundSocket(socket).get()
        await withTaskCancellationHandler {
            await withGracefulShutdownHandler {
                await application.onServerRunning(listener)
                await serve(accepted, under: processes)
            } onGracefulShutdown: {
                connections.close(listener, on: application.eventLoopGroup, in: .seconds(1)) { acceptor.finish() }
            }
        } onCancel: {
            connections.end()
        }
        // What their processes still do when they are closed needs the loops.
        await processes.stop()
    }

    /// Until all of them are closed.
    private func serve(_ accepted: AsyncStream<any Channel>, under processes: SupervisorRef) async {
        await withDiscardingTaskGroup { group in
            for await channel in accepted {
                await start(channel, under: processes)
                group.addTask { try? await channel.closeFuture.get() }
            }
        }
    }

    private func start(_ channel: any Channel, under processes: SupervisorRef) async {
        let connection = Children("connection", restart: .temporary) { context in
            // However it ends, as by a trap.
            context.onExit { _ in channel.close(promise: nil) }
            await serve(channel)
        }
        do {
            try await processes.start(child: connection)
        } catch {
            channel.close(promise: nil)
        }
    }

    /// Set up by who uses it: a `NIOAsyncChannel` that nobody takes, as where a server is cancelled, is a trap on the event loop.
    private func serve(_ channel: any Channel) async {
        let setUp = channel.eventLoop.flatSubmit { http.setup(channel: channel, logger: application.logger) }
        // Else it is closed already.
        guard let connection = try? await setUp.get() else { return }
        connections.isSetUp(channel)
        // Where it fails the connection is closed, which who reads from it sees.
        try? await channel.setOption(.autoRead, value: true).get()
        await http.handle(value: connection, logger: application.logger)
    }
}

/// The channels of a server: the one that listens, and its connections.
private final class OpenConnections: Sendable {
    private struct Content {
        var channels: [ObjectIdentifier: any Channel] = [:]
        var closingIn: TimeAmount?
        var haveEnded = false
    }

    private let content = Mutex(Content())

    /// The next answer of each is its last.
    var areClosing: Bool { content.withLock { $0.closingIn != nil } }

    func add(_ channel: any Channel) -> EventLoopFuture<Void> {
        let id = ObjectIdentifier(channel)
        let isLate = content.withLock { content in
            content.channels[id] = channel
            return content.haveEnded
        }
        channel.closeFuture.whenComplete { [self] _ in
            content.withLock { _ = $0.channels.removeValue(forKey: id) }
        }
        if isLate { return channel.eventLoop.makeFailedFuture(ChannelError.ioOnClosedChannel) }
        return channel.eventLoop.makeSucceededVoidFuture()
    }

    /// Requests can be read from now on.
    func isSetUp(_ channel: any Channel) {
        if let time = content.withLock({ $0.closingIn }) { Self.quiesce(channel, in: time) }
    }

    /// Closes them, and those that still come.
    func end() {
        let channels = content.withLock { content in
            content.haveEnded = true
            return Array(content.channels.values)
        }
        for channel in channels { channel.close(promise: nil) }
    }

    /// Accepts no more, calls `finish` when those that were accepted have been added, and then has those that do nothing closed after the time, and the others when they
    /// have answered.
    func close(
        _ listener: any Channel,
        on loops: any EventLoopGroup,
        in time: TimeAmount,
        then finish: @escaping @Sendable () -> Void
    ) {
        content.withLock { $0.closingIn = time }
        let loop = listener.eventLoop
        // Not closed at once: what was accepted is set up on its own loop, and dropped if it finds the listener closed when it comes back.
        listener.setOption(.autoRead, value: false)
            .recover { _ in }
            .flatMap { Self.untilPassed(loops, on: loop) }
            .flatMap { listener.close().recover { _ in } }
            .flatMap { Self.untilPassed(loops, on: loop) }
            .whenComplete { [self] _ in
                finish()
                for channel in content.withLock({ Array($0.channels.values) }) { Self.quiesce(channel, in: time) }
            }
    }

    /// Until the loops have done what they had to do.
    private static func untilPassed(_ loops: any EventLoopGroup, on loop: any EventLoop) -> EventLoopFuture<Void> {
        EventLoopFuture.andAllComplete(loops.makeIterator().map { $0.submit {} }, on: loop)
    }

    private static func quiesce(_ channel: any Channel, in time: TimeAmount) {
        channel.eventLoop.scheduleTask(in: time) {
            channel.pipeline.fireUserInboundEventTriggered(ChannelShouldQuiesceEvent())
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
