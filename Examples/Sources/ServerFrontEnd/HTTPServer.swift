// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

package import NIOCore
import NIOHTTP1
import NIOPosix
import Synchronization

/// An HTTP/1.1 server on swift-nio that hands every request to a ``RequestService``.
///
/// It owns the listening socket, its connections and their event loops, which are threads of its own: what happens on the
/// service's threads, a trap included, does not reach them.
package struct HTTPServer: Sendable {
    package struct Configuration: Sendable {
        /// Larger request bodies are refused with 413. No route reads a body, they are only drained.
        package var bodyLimit = 1 << 20
        /// A connection on which nothing moved for that long is closed; one that waits for the service gets a 503 first.
        package var idleTimeout: TimeAmount = .seconds(30)
        /// How many event loops (threads) serve the connections.
        package var eventLoops = System.coreCount

        package init() {}
    }

    private let group: MultiThreadedEventLoopGroup
    private let listener: any Channel
    private let connections: NIOLoopBound<OpenConnections>
    private let ending = Ending()
    /// Where it listens, with the port that was picked if 0 was asked for.
    package let url: String

    /// Starts to listen; connections are accepted when it returns.
    ///
    /// - Parameter socket: A descriptor of a socket that listens already, which the server owns from now on; nil: it makes one.
    package static func start(
        host: String,
        port: UInt16,
        socket: CInt? = nil,
        service: some RequestService,
        configuration: Configuration = Configuration()
    ) async throws(ServerFailure) -> HTTPServer {
        precondition(configuration.eventLoops > 0, "eventLoops must be positive, got \(configuration.eventLoops)")
        let group = MultiThreadedEventLoopGroup(numberOfThreads: configuration.eventLoops)
        let bootstrap = ServerBootstrap(group: group)
            .serverChannelOption(.backlog, value: 1024)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .serverChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(OpenConnections(eventLoop: channel.eventLoop))
                }
            }
            .childChannelOption(.socketOption(.tcp_nodelay), value: 1)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try ConnectionHandler.configure(channel, service: service, configuration: configuration)
                }
            }
        do {
            let listener =
                if let socket {
                    try await bootstrap.withBoundSocket(socket).get()
                } else {
                    try await bootstrap.bind(host: host, port: Int(port)).get()
                }
            let connections = try await listener.eventLoop.submit {
                NIOLoopBound(
                    try listener.pipeline.syncOperations.handler(type: OpenConnections.self),
                    eventLoop: listener.eventLoop
                )
            }.get()
            let boundPort = listener.localAddress?.port ?? Int(port)
            return HTTPServer(
                group: group,
                listener: listener,
                connections: connections,
                url: "http://\(authority(host: host, port: boundPort))"
            )
        } catch {
            try? await group.shutdownGracefully()
            throw ServerFailure(listeningOn: host, port: port, error)
        }
    }

    /// Stops accepting, ends each connection after its next answer, lets requests in progress finish for at most `grace`, and ends the
    /// threads.
    ///
    /// A client whose connection is kept alive has `lingering` to ask once more, and is told in the answer that the connection is
    /// closed: whoever asks more often than that loses nothing. Does nothing when it was called before.
    package func shutDown(lingering: TimeAmount = .seconds(1), grace: TimeAmount = .seconds(5)) async {
        guard ending.begin() else { return }
        try? await listener.close().get()
        let connections = connections
        // The pipeline of a closed listener is torn down, but its handler still knows the connections.
        try? await listener.eventLoop.flatSubmit {
            connections.value.drain(lingering: lingering, within: grace)
        }.get()
        // Fails only where a loop is shut down already.
        try? await group.shutdownGracefully()
    }

    /// Gives up the listening socket, so that a successor can take the port; connections end with the event loops.
    ///
    /// For an owner that ends without ``shutDown(grace:)``. Blocks the calling thread for a moment; harmless after a shut-down.
    package func abandon() {
        guard ending.begin() else { return }
        try? listener.close().wait()
        group.shutdownGracefully { _ in }
    }

    /// The server is ended once, by whoever comes first.
    private final class Ending: Sendable {
        private let hasBegun = Atomic(false)
        // ordering: relaxed: only one may win; nothing is published.
        func begin() -> Bool { !hasBegun.exchange(true, ordering: .relaxed) }
    }

    static func authority(host: String, port: Int) -> String {
        host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
    }
}
