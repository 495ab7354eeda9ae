// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

package import ArgumentParser

/// The command-line options that both servers have.
package struct ServerOptions: ParsableArguments, Sendable {
    @Option(help: "The address to listen on.")
    package var host = "127.0.0.1"

    @Option(help: "The port to listen on; 0 picks a free one.")
    package var port: UInt16 = 8080

    package init() {}
}
