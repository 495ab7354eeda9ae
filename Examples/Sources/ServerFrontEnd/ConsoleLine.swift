// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc

/// Lines on stdout and stderr, written through at once: whoever waits for one on a pipe gets it.
package enum ConsoleLine {
    /// Says where the server listens, in the form that `scripts/demo.sh` reads.
    package static func announce(_ server: HTTPServer) {
        write("listening on \(server.url)", to: STDOUT_FILENO)
    }

    package static func write(_ line: String, to descriptor: Int32 = STDERR_FILENO) {
        var bytes = Array((line + "\n").utf8)[...]
        while !bytes.isEmpty {
            // safety: the closure's buffer is valid during the call and not kept.
            let count = unsafe bytes.withUnsafeBytes { unsafe Glibc.write(descriptor, $0.baseAddress, $0.count) }
            // A closed or full console is no reason to fail; an interrupted write is tried again.
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else { return }
            bytes = bytes.dropFirst(count)
        }
    }
}
