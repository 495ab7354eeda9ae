// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc

/// Blocking TCP on the loopback: blocks of up to 255 bytes, each behind its length.
enum Socket {
    struct Failure: Error, CustomStringConvertible {
        let description: String
        init(_ call: String) { description = "\(call): \(String(cString: strerror(errno)))" }
    }

    /// A listening socket, on a port that the kernel chose.
    static func listen() throws -> (socket: Int32, port: UInt16) {
        let socket = try open()
        var address = Self.address(port: 0)
        try with(&address) { pointer, size in
            guard bind(socket, pointer, size) == 0, Glibc.listen(socket, 64) == 0 else { throw Failure("listen") }
            var size = size
            guard getsockname(socket, pointer, &size) == 0 else { throw Failure("getsockname") }
        }
        return (socket, UInt16(bigEndian: address.sin_port))
    }

    static func accept(_ listener: Int32) throws -> Int32 {
        let socket = Glibc.accept(listener, nil, nil)
        guard socket >= 0 else { throw Failure("accept") }
        return socket
    }

    static func connect(_ port: UInt16) throws -> Int32 {
        let socket = try open()
        var address = Self.address(port: port)
        try with(&address) { pointer, size in
            guard Glibc.connect(socket, pointer, size) == 0 else { throw Failure("connect") }
        }
        return socket
    }

    static func send(_ block: [UInt8], to socket: Int32) throws {
        let bytes = [UInt8(block.count)] + block
        var sent = 0
        // Ends: each round sends a byte at least.
        while sent < bytes.count {
            let count = bytes[sent...].withUnsafeBytes {
                Glibc.send(socket, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
            }
            guard count > 0 else { throw Failure("send") }
            sent += count
        }
    }

    /// The next block; nil when the other side has closed.
    static func receive(_ socket: Int32) throws -> [UInt8]? {
        guard let length = try read(1, from: socket) else { return nil }
        return try read(Int(length[0]), from: socket)
    }

    private static func read(_ count: Int, from socket: Int32) throws -> [UInt8]? {
        var bytes = [UInt8](repeating: 0, count: count)
        var done = 0
        // Ends: each round reads a byte at least.
        while done < count {
            let more = bytes[done...].withUnsafeMutableBytes { recv(socket, $0.baseAddress, $0.count, 0) }
            if more == 0, done == 0 { return nil }
            guard more > 0 else { throw Failure("recv") }
            done += more
        }
        return bytes
    }

    private static func open() throws -> Int32 {
        let socket = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        guard socket >= 0 else { throw Failure("socket") }
        return socket
    }

    private static func address(port: UInt16) -> sockaddr_in {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(INADDR_LOOPBACK).bigEndian
        return address
    }

    private static func with(
        _ address: inout sockaddr_in,
        _ body: (UnsafeMutablePointer<sockaddr>, socklen_t) throws -> Void
    ) throws {
        try withUnsafeMutablePointer(to: &address) { pointer in
            try pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                try body($0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
    }
}
