// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import ArgumentParser
import ServerFrontEnd

/// The command line of UndyingServer: `UndyingServerOptions.parseOrExit()` prints help or the mistake and exits (64).
struct UndyingServerOptions: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "UndyingServer",
        abstract: "An HTTP server in which a trap ends one request and nothing else."
    )

    @OptionGroup var server: ServerOptions

    @Flag(help: "Run behind a guard process, which starts the program again whatever it dies of.")
    var guarded = false
}
