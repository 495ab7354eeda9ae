// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc

/// Where people read what the program says, without a lock or buffer of the C library in between.
enum StandardStream: CInt {
    case output = 1
    case error = 2

    /// Writes all, in pieces. Gives up when nobody takes any of it for a second, so that a reader that is stuck does not hold
    /// up who writes.
    func write(_ text: String) {
        var text = text
        text.withUTF8 { bytes in
            var rest = bytes[...]
            while !rest.isEmpty {
                // A pipe that is ready takes a page without blocking.
                let piece = UnsafeRawBufferPointer(UnsafeBufferPointer(rebasing: rest.prefix(4096)))
                var wanted = pollfd(fd: rawValue, events: Int16(POLLOUT), revents: 0)
                let ready = poll(&wanted, 1, 1000)
                if ready < 0, errno == EINTR { continue }
                guard ready > 0 else { return }
                let count = Glibc.write(rawValue, piece.baseAddress, piece.count)
                if count < 0, errno == EINTR || errno == EAGAIN { continue }
                guard count > 0 else { return }
                rest = rest.dropFirst(count)
            }
        }
    }
}
