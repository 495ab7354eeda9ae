// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc

/// Sockets that listen, by name: kept by the guard over deaths of the program, else by the program over restarts of its body.
struct ListenerTable {
    private struct Socket {
        let name: String
        let descriptor: CInt
        /// Whether the service manager has opened it, which keeps it, whatever becomes of the program.
        let isActivated: Bool
        /// Which of those that live have asked for it. A socket that none has asked for waits for the next one.
        var askers: [Int32]
    }
    private var sockets: [Socket] = []
    private var activated: ActivatedSockets?

    /// The socket of that name; made, bound and listening if there was none. Owned by the table.
    ///
    /// - Parameter asker: The process that wants it.
    /// - Returns: An `errno` if it cannot be had.
    mutating func descriptor(for request: ListenRequest, by asker: Int32) -> Result<CInt, ErrorNumber> {
        if let index = sockets.firstIndex(where: { $0.name == request.name }) {
            if !sockets[index].askers.contains(asker) { sockets[index].askers.append(asker) }
            return .success(sockets[index].descriptor)
        }
        if let socket = activated(for: request) {
            sockets.append(Socket(name: request.name, descriptor: socket, isActivated: true, askers: [asker]))
            return .success(socket)
        }
        guard !request.address.isEmpty else { return .failure(ErrorNumber(ENOENT)) }
        let result = Self.listen(request)
        if case .success(let descriptor) = result {
            sockets.append(Socket(name: request.name, descriptor: descriptor, isActivated: false, askers: [asker]))
        }
        return result
    }

    /// Who has asked for a socket wants it no more: it is closed, unless another one has asked for it.
    mutating func giveBack(_ name: String, by asker: Int32) {
        guard let index = sockets.firstIndex(where: { $0.name == name }) else { return }
        sockets[index].askers.removeAll { $0 == asker }
        if sockets[index].askers.isEmpty { forget { $0.name == name } }
    }

    /// A process has ended. Its sockets are kept.
    mutating func ended(_ asker: Int32) {
        for index in sockets.indices { sockets[index].askers.removeAll { $0 == asker } }
    }

    /// What this one has not asked for is closed.
    mutating func closeAll(notOf asker: Int32) { forget { !$0.askers.contains(asker) } }

    private mutating func forget(_ isMeant: (Socket) -> Bool) {
        for socket in sockets where isMeant(socket) && !socket.isActivated { close(socket.descriptor) }
        sockets.removeAll(where: isMeant)
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
