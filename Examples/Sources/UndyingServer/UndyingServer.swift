// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import Runtime
import ServerFrontEnd

/// An HTTP server in which a trap ends one request's process and nothing else.
///
/// The sockets belong to swift-nio's event loops; every request is handled by one of a group of supervised processes.
/// What a handler does to its process (throw, trap, overflow its stack) is answered with a 500 that says so; the
/// supervisor starts the process again, and requests that waited in its mailbox are handled by the next incarnation.
///
/// With `--guarded` a guard process keeps the listening socket and starts the program again whatever it dies of; SIGUSR2 has it
/// hand over to a new one.
@main
struct UndyingServer: FortProgram {
    static var boundary: Boundary { CommandLine.arguments.contains("--guarded") ? .guarded : .inProcess }
    static var signalsReady: Bool { true }

    let options: ServerOptions

    init() {
        options = UndyingServerOptions.parseOrExit().server
    }

    func run(in context: Context) async throws {
        let workers = try context.children(
            "request",
            of: Work.self,
            redundancy: 64,
            intensity: .unlimited
        ) { context in
            for await work in context.messages(of: Work.self) { await work.perform() }
        }
        let service = SupervisedService(workers: workers, system: context.system)
        do {
            let socket = try Fort.listener(host: options.host, port: Int(options.port))
            let server = try await HTTPServer.start(
                host: options.host,
                port: options.port,
                socket: socket,
                service: service
            )
            // Whatever ends this body: its successor needs the port.
            context.onExit { _ in server.abandon() }
            ConsoleLine.announce(server)
            context.ready()
            await context.untilStopped()
            await server.shutDown()
        } catch let error as ServerFailure {
            error.exitProcess(program: "UndyingServer")
        }
    }
}
