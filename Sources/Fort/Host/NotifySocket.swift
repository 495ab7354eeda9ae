// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc

/// A datagram socket that a service manager listens at: `NOTIFY_SOCKET`.
struct NotifySocket: Sendable {
    private let address: sockaddr_un
    private let length: socklen_t

    /// - Parameter name: An absolute path, or `@` and a name in the abstract name space. Nil for anything else, and what is too long.
    init?(_ name: String) {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        guard let first = name.utf8.first, name.utf8.count > 1,
            first == UInt8(ascii: "/") || first == UInt8(ascii: "@"),
            // A path has a zero at its end.
            name.utf8.count < MemoryLayout.size(ofValue: address.sun_path)
        else { return nil }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: name.utf8) }
        let isAbstract = first == UInt8(ascii: "@")
        if isAbstract { address.sun_path.0 = 0 }
        let start = MemoryLayout<sockaddr_un>.offset(of: \.sun_path) ?? 0
        length = socklen_t(start + name.utf8.count + (isAbstract ? 0 : 1))
        self.address = address
    }

    /// Sends a message; one that cannot be taken at once is lost. Never waits, allocates nothing; three system calls. Any thread.
    ///
    /// - Returns: Whether it was sent.
    @discardableResult
    func send(_ notice: ServiceNotice) -> Bool {
        withUnsafeTemporaryAllocation(byteCount: ServiceNotice.sizeLimit, alignment: 1) { buffer in
            let count = notice.write(into: buffer)
            if count == 0 { return false }
            // A socket for each message: none is open in between, for a child to get or a test to count.
            let socket = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
            guard socket >= 0 else { return false }
            defer { close(socket) }
            let flags = Int32(MSG_DONTWAIT) | Int32(MSG_NOSIGNAL)
            return withUnsafePointer(to: address) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                    // Ends: each retry needs another signal.
                    while true {
                        if sendto(socket, buffer.baseAddress, count, flags, address, length) == count { return true }
                        if errno != EINTR { return false }
                    }
                }
            }
        }
    }
}
