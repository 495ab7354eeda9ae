// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc

/// Where a socket listens.
enum BoundAddress: Hashable, Sendable {
    /// Four bytes or sixteen, in the network's order.
    case ip([UInt8], port: UInt16)
    /// A path, or a zero and a name.
    case unix([UInt8])

    /// - Parameter host: As numbers: `127.0.0.1`, `0.0.0.0`, `::1`. Nil if it is none.
    init?(host: String, port: UInt16) {
        var (four, six) = (in_addr(), in6_addr())
        if inet_pton(AF_INET, host, &four) == 1 {
            self = .ip(withUnsafeBytes(of: &four) { Array($0) }, port: port)
        } else if inet_pton(AF_INET6, host, &six) == 1 {
            self = .ip(withUnsafeBytes(of: &six) { Array($0) }, port: port)
        } else {
            return nil
        }
    }

    /// - Parameter path: Of a socket in the file system, or `@` and a name in the abstract name space.
    init(path: String) {
        var bytes = Array(path.utf8)
        if bytes.first == UInt8(ascii: "@") { bytes[0] = 0 }
        self = .unix(bytes)
    }

    /// What a descriptor is bound to; nil if it is no socket, or one of another kind.
    init?(of descriptor: CInt) {
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let status = withUnsafeMutablePointer(to: &storage) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &length) }
        }
        guard status == 0 else { return nil }
        self.init(bytes: withUnsafeBytes(of: &storage) { Array($0.prefix(Int(length))) })
    }

    /// - Parameter bytes: A `sockaddr` of its family. Nil if it is of another kind.
    init?(bytes: [UInt8]) {
        guard bytes.count >= MemoryLayout<sa_family_t>.size else { return nil }
        let family = bytes.withUnsafeBytes { $0.loadUnaligned(as: sa_family_t.self) }
        /// Bytes of a part of an address.
        func part(_ start: Int?, _ count: Int) -> [UInt8] {
            guard let start, start + count <= bytes.count else { return Array(repeating: 0, count: count) }
            return Array(bytes[start..<start + count])
        }
        switch Int32(family) {
        case AF_INET:
            let port = part(MemoryLayout<sockaddr_in>.offset(of: \.sin_port), 2)
            self = .ip(
                part(MemoryLayout<sockaddr_in>.offset(of: \.sin_addr), 4),
                port: UInt16(port[0]) << 8 | UInt16(port[1])
            )
        case AF_INET6:
            let port = part(MemoryLayout<sockaddr_in6>.offset(of: \.sin6_port), 2)
            self = .ip(
                part(MemoryLayout<sockaddr_in6>.offset(of: \.sin6_addr), 16),
                port: UInt16(port[0]) << 8 | UInt16(port[1])
            )
        case AF_UNIX:
            var name = Array(bytes.dropFirst(MemoryLayout<sockaddr_un>.offset(of: \.sun_path) ?? 2))
            // A path ends with a zero, a name in the abstract name space begins with one.
            if name.first != 0 { name = Array(name.prefix { $0 != 0 }) }
            self = .unix(name)
        default: return nil
        }
    }

    /// Whether who listens here is whom somebody means that asks for an address.
    func serves(_ wanted: BoundAddress) -> Bool {
        switch (self, wanted) {
        case (.ip(let mine, let port), .ip(let others, let otherPort)):
            port == otherPort
                && (Self.plain(mine) == Self.plain(others)
                    || (mine.allSatisfy { $0 == 0 } && others.allSatisfy { $0 == 0 }))
        case (.unix, .unix): self == wanted
        case (.ip, .unix), (.unix, .ip): false
        }
    }

    /// An address of version 4 that is written as one of version 6 is that of version 4.
    private static func plain(_ bytes: [UInt8]) -> [UInt8] {
        let prefix: [UInt8] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]
        return bytes.count == 16 && bytes.starts(with: prefix) ? Array(bytes.dropFirst(12)) : bytes
    }

    /// Whether a descriptor is a socket that takes connections.
    static func isListening(_ descriptor: CInt) -> Bool {
        var value: CInt = 0
        var length = socklen_t(MemoryLayout<CInt>.size)
        return getsockopt(descriptor, SOL_SOCKET, SO_ACCEPTCONN, &value, &length) == 0 && value != 0
    }
}
