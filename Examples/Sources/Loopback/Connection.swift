// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc

/// A blocking TCP connection to a server of this program, on the loopback. For one thread at a time.
package final class Connection: Sendable {
    private let socket: Int32

    /// The connection could not be made, or was cut.
    package struct Lost: Error { package init() {} }

    /// Connects; throws when nobody listens.
    package init(to port: Int) throws(Lost) {
        socket = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        guard socket >= 0 else { throw Lost() }
        let status = Loopback.with(port) { connect(socket, $0, $1) }
        guard status == 0 else { throw Lost() }
    }

    deinit { close(socket) }

    /// Sends all of it.
    package func send(_ bytes: some Collection<UInt8>) throws(Lost) {
        var left = Array(bytes)[...]
        // Ends: each round sends a byte at least.
        while !left.isEmpty {
            let count = left.withUnsafeBytes { Glibc.send(socket, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
            guard count > 0 else { throw Lost() }
            left = left.dropFirst(count)
        }
    }

    /// Waits until the other side has closed, and returns what it sent.
    package func receiveAll() throws(Lost) -> [UInt8] {
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 4096)
        while true {
            let more = buffer.withUnsafeMutableBytes { recv(socket, $0.baseAddress, $0.count, 0) }
            guard more >= 0 else { throw Lost() }
            if more == 0 { return bytes }
            bytes += buffer[..<more]
        }
    }

    /// Waits until the other side has closed: the first line and the body of its HTTP answer; nil: there is none.
    package func receiveAnswer() throws(Lost) -> (status: String, body: String)? {
        let answer = String(decoding: try receiveAll(), as: UTF8.self)
        let lines = answer.split(separator: "\r\n", omittingEmptySubsequences: false)
        guard let status = lines.first, lines.count > 2, let body = lines.last else { return nil }
        return (String(status), String(body))
    }

    /// Waits for so many bytes.
    package func receive(_ count: Int) throws(Lost) -> [UInt8] {
        var bytes: [UInt8] = []
        // Ends: each round receives a byte at least.
        while bytes.count < count {
            var buffer = [UInt8](repeating: 0, count: count - bytes.count)
            let more = buffer.withUnsafeMutableBytes { recv(socket, $0.baseAddress, $0.count, 0) }
            guard more > 0 else { throw Lost() }
            bytes += buffer[..<more]
        }
        return bytes
    }
}

/// Addresses of this machine.
package enum Loopback {
    /// Makes a socket that listens on a port of the kernel's choice.
    package static func listen() throws(Connection.Lost) -> (socket: Int32, port: Int) {
        let socket = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        guard socket >= 0, with(0, { bind(socket, $0, $1) }) == 0, Glibc.listen(socket, 128) == 0 else {
            throw Connection.Lost()
        }
        var address = sockaddr_in()
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        let status = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(socket, $0, &size) }
        }
        guard status == 0 else { throw Connection.Lost() }
        return (socket, Int(UInt16(bigEndian: address.sin_port)))
    }

    static func with(_ port: Int, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32) -> Int32 {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = UInt16(port).bigEndian
        address.sin_addr.s_addr = UInt32(INADDR_LOOPBACK).bigEndian
        return withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                body($0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
    }
}
