// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import NIOCore

/// Why a server could not start, in one line for its user.
package struct ServerFailure: Error, Sendable, CustomStringConvertible {
    package var message: String

    /// EX_UNAVAILABLE of sysexits.h.
    package static let exitStatus: Int32 = 69

    package var description: String { message }

    init(listeningOn host: String, port: UInt16, _ error: any Error) {
        let reason =
            switch (error as? IOError)?.errnoCode {
            case EADDRINUSE: "the port is already in use"
            case EADDRNOTAVAIL: "this machine has no such address"
            case EACCES: "permission denied"
            case .some(let code): String(cString: strerror(code))
            case nil: String(describing: error)
            }
        message = "cannot listen on \(HTTPServer.authority(host: host, port: Int(port))): \(reason)"
    }

    /// Writes the one line to stderr and ends the program.
    package func exitProcess(program: String) -> Never {
        ConsoleLine.write("\(program): \(message)", to: STDERR_FILENO)
        exit(Self.exitStatus)
    }
}
