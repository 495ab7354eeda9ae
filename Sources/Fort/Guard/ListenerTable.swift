// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc

/// Sockets that listen, by name: kept by the guard over deaths of the program, else by the program over restarts of its body.
struct ListenerTable {
    private var sockets: [(name: String, descriptor: CInt)] = []
    private var activated: ActivatedSockets?

    /// The socket of that name; made, bound and listening if there was none. Owned by the table.
    ///
    /// - Returns: An `errno` if it cannot be had.
    mutating func descriptor(for request: ListenRequest) -> Result<CInt, ErrorNumber> {
        if let socket = sockets.first(where: { $0.name == request.name }) { return .success(socket.descriptor) }
        if let socket = activated(for: request) {
            sockets.append((request.name, socket))
            return .success(socket)
        }
        guard !request.address.isEmpty else { return .failure(ErrorNumber(ENOENT)) }
        let result = Self.listen(request)
        if case .success(let descriptor) = result { sockets.append((request.name, descriptor)) }
        return result
    }

    /// Those that the service manager has passed to this process; ends it with a line if what it says of them is wrong.
    mutating func takeActivated() {
        do { activated = try ActivatedSockets.take() } catch { Fort.fail("\(error)", .configuration) }
    }

    /// By its name, or by its address where that is what was asked for.
    private func activated(for request: ListenRequest) -> CInt? {
        guard let activated, !activated.sockets.isEmpty else { return nil }
        if request.address.isEmpty { return activated.named(request.name)?.descriptor }
        return BoundAddress(bytes: request.address).flatMap { activated.bound(to: $0) }?.descriptor
    }

    private static func listen(_ request: ListenRequest) -> Result<CInt, ErrorNumber> {
        request.address.withUnsafeBytes { bytes in
            guard let base = bytes.baseAddress else { return .failure(ErrorNumber(EINVAL)) }
            let address = base.assumingMemoryBound(to: sockaddr.self)
            let family = CInt(address.pointee.sa_family)
            let descriptor = socket(family, CInt(SOCK_STREAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue), 0)
            if descriptor < 0 { return .failure(ErrorNumber(errno)) }
            var on: CInt = 1
            setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, socklen_t(MemoryLayout<CInt>.size))
            let length = socklen_t(bytes.count)
            var status = bind(descriptor, address, length)
            if status != 0, errno == EADDRINUSE, family == AF_UNIX, removeStale(address, length) {
                status = bind(descriptor, address, length)
            }
            if status == 0 { status = Glibc.listen(descriptor, CInt(request.backlog)) }
            if status != 0 {
                let error = ErrorNumber(errno)
                close(descriptor)
                return .failure(error)
            }
            return .success(descriptor)
        }
    }

    /// Removes the file of a Unix socket that nobody listens at any more.
    private static func removeStale(_ address: UnsafePointer<sockaddr>, _ length: socklen_t) -> Bool {
        // Does not wait for somebody whose backlog is full: that is somebody.
        let flags = CInt(SOCK_STREAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue) | CInt(SOCK_NONBLOCK.rawValue)
        let probe = socket(AF_UNIX, flags, 0)
        guard probe >= 0 else { return false }
        defer { close(probe) }
        guard connect(probe, address, length) != 0, errno == ECONNREFUSED else {
            errno = EADDRINUSE
            return false
        }
        return UnsafeRawPointer(address).withMemoryRebound(to: sockaddr_un.self, capacity: 1) { address in
            withUnsafePointer(to: address.pointee.sun_path) { path in
                path.withMemoryRebound(to: CChar.self, capacity: MemoryLayout.size(ofValue: path.pointee)) {
                    unlink($0) == 0
                }
            }
        }
    }
}

/// An `errno`.
struct ErrorNumber: Error, Equatable, CustomStringConvertible {
    let rawValue: Int32
    init(_ rawValue: Int32) { self.rawValue = rawValue }
    var description: String { String(cString: strerror(rawValue)) }
}
