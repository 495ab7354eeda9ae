// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import ArgumentParser
import ServerFrontEnd

/// The example server as one writes it without Bastion: the first trap ends it, with every request in progress.
@main
struct StockServer: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "StockServer",
        abstract: "The same server as UndyingServer, written without Bastion: one trap kills it."
    )

    @OptionGroup var options: ServerOptions

    func run() async throws {
        do {
            let server = try await HTTPServer.start(host: options.host, port: options.port, service: TaskService())
            ConsoleLine.announce(server)
            await TerminationSignal.received()
            await server.shutDown()
        } catch {
            error.exitProcess(program: "StockServer")
        }
    }
}
