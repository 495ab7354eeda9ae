// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import Loopback
import NIOCore
import NIOPosix
import Runtime
import RuntimeServices
import ServiceLifecycle

/// A server on swift-nio as a supervised child, which is started again under load; its listening socket survives.
///
/// It answers a number with a thousandth part of it of a million. The event loops move bytes: they are threads of swift-nio's, a trap
/// on which ends the program, so the answers are made in child tasks of the process, where a trap (the number is 0) is contained.
@main
struct NIOServer: FortProgram {
    static let intensity = RestartIntensity(0, within: .seconds(1))
    private static let clients = 4
    private static let questions = 500

    func run(in context: Context) async throws {
        let (listener, port) = try Loopback.listen()
        // The program's: who connects while the server is down waits here until it is up.
        context.own(fileDescriptor: listener)
        let server = try context.supervise(intensity: .unlimited) {
            Children(service: "server", shutdownTime: .milliseconds(200)) { context in
                DivisionService(listener: listener, context: context)
            }
        }
        let lost = try await withThrowingTaskGroup(of: Int.self) { group in
            for client in 0..<Self.clients {
                group.addTask { try await context.blocking { try Self.talk(client, to: port) } }
            }
            return try await group.reduce(0, +)
        }
        await server.stop()
        let restarts = context.system.restarts
        print("\(Self.clients * Self.questions) right answers over \(restarts) restarts; \(lost) questions asked again")
        guard restarts > 0 else { throw WrongResult() }
    }

    /// Asks until all is answered; the first client asks what traps now and then. Returns how many got lost.
    static func talk(_ client: Int, to port: Int) throws -> Int {
        var lost = 0
        var connection: Connection?
        var number: UInt32 = 1
        while number <= questions {
            do {
                let open = try connection ?? Connection(to: port)
                connection = open
                if client == 0, number.isMultiple(of: 100), lost < number / 100 { try open.send([0, 0, 0, 0]) }
                try open.send((0..<4).map { UInt8(truncatingIfNeeded: number >> (24 - 8 * $0)) })
                let answer = try open.receive(4).reduce(0 as UInt32) { $0 << 8 | UInt32($1) }
                guard answer == 1_000_000 / number else { throw WrongResult() }
                number += 1
            } catch is Connection.Lost {
                connection = nil
                lost += 1
            }
        }
        return lost
    }
}

/// One incarnation of the server.
struct DivisionService: Service {
    let listener: Int32
    let context: Context

    func run() async throws {
        // Of this incarnation alone: whatever ends it, they close its connections.
        let loops = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        context.onExit { _ in try? loops.syncShutdownGracefully() }
        let server = try await ServerBootstrap(group: loops)
            .childChannelOption(.autoRead, value: false)
            .bind(dup(listener)) { $0.eventLoop.makeSucceededFuture($0) }
        try await withGracefulShutdownHandler {
            try await withThrowingDiscardingTaskGroup { group in
                try await server.executeThenClose { connections in
                    for try await connection in connections {
                        // Of a connection that is cut the others are not to know.
                        group.addTask { try? await Self.serve(connection) }
                    }
                }
            }
        } onGracefulShutdown: {
            server.channel.close(promise: nil)
        }
    }

    /// Wrapped by who uses it: a `NIOAsyncChannel` that comes when nobody takes it any more, as it can at an end, is a trap on the event loop.
    private static func serve(_ channel: any Channel) async throws {
        let connection = try await channel.eventLoop.submit {
            // Of one that is closed already it would be a trap, too.
            guard channel.isActive else { throw ChannelError.ioOnClosedChannel }
            return try NIOAsyncChannel<ByteBuffer, ByteBuffer>(wrappingChannelSynchronously: channel)
        }.get()
        try await connection.executeThenClose { inbound, outbound in
            try await channel.setOption(.autoRead, value: true).get()
            var buffer = ByteBuffer()
            for try await var bytes in inbound {
                buffer.writeBuffer(&bytes)
                while let number = buffer.readInteger(as: UInt32.self) {
                    try await outbound.write(ByteBuffer(integer: 1_000_000 / number))
                }
            }
        }
    }
}

struct WrongResult: Error {}
