// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc

/// The whole standard input.
func readAll() -> String {
    var all: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 1 << 16)
    while true {
        let count = read(STDIN_FILENO, &chunk, chunk.count)
        if count > 0 {
            all += chunk[..<count]
        } else if count == 0 {
            return String(decoding: all, as: UTF8.self)
        } else if errno != EINTR {
            fail("cannot read the standard input: \(String(cString: strerror(errno)))", EX_IOERR)
        }
    }
}

func write(_ text: String, to descriptor: Int32) {
    var left = Array(text.utf8)[...]
    while !left.isEmpty {
        let count = left.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
        if count >= 0 {
            left = left.dropFirst(count)
        } else if errno != EINTR {
            // Who should read is gone, or the disk is full; there is nobody left to tell.
            exit(EX_IOERR)
        }
    }
}

/// Ends the program.
func fail(_ what: String, _ status: Int32) -> Never {
    write("otp-conformance: \(what)\n", to: STDERR_FILENO)
    exit(status)
}
