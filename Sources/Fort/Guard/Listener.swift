// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import LightProc

/// Why a program cannot have a socket that listens.
public struct ListenerError: Error, Sendable, CustomStringConvertible {
    /// Where it was to listen, as in `127.0.0.1:80`.
    public let address: String
    /// The system's `errno`; 0 if the address is none.
    public let errorNumber: Int32
    /// What is wrong, and what to do.
    public let description: String
    /// What a program ends with that cannot do without.
    public let exitCode: ExitCode

    init(_ address: String, _ error: ErrorNumber) {
        self.address = address
        errorNumber = error.rawValue
        switch error.rawValue {
        case EADDRINUSE:
            description =
                "cannot listen on \(address): somebody else does already; stop that one, or choose another port"
            exitCode = .unavailable
        case EACCES, EPERM:
            description = "cannot listen on \(address): not permitted; ports below 1024 need CAP_NET_BIND_SERVICE"
            exitCode = .notPermitted
        case EADDRNOTAVAIL:
            description = "cannot listen on \(address): this machine has no such address"
            exitCode = .unavailable
        case ENOENT:
            description = "no socket is called \(address): the service manager has passed none of that name"
            exitCode = .configuration
        default:
            description = "cannot listen on \(address): \(error)"
            exitCode = .unavailable
        }
    }

    init(_ address: String, invalid reason: String) {
        self.address = address
        errorNumber = 0
        description = "cannot listen on \(address): \(reason)"
        exitCode = .usage
    }
}

extension Fort {
    /// A descriptor of a socket that listens for TCP connections, bound before, or now.
    ///
    /// The socket is not the program's: the guard keeps it, or without one the boundary does, and whoever asks for the same host and port
    /// again gets it again. So connections that come while a body, or the whole program, is started anew wait to be accepted,
    /// and during a handover the old program and the new one share it. It is kept until it is given back
    /// (``giveBackListener(host:port:)``), or a program with ``FortProgram/signalsReady`` has taken over that has not asked for it.
    ///
    /// Any thread; the call waits for the guard, some microseconds, and for the name of a host to be looked up.
    /// - Parameters:
    ///   - host: An address, or a name, of which the first address is taken.
    ///   - port: 0: one that is free, the same one each time.
    ///   - backlog: How many connections may wait to be accepted.
    /// - Returns: A descriptor of the caller's own, to be closed by it.
    /// - Throws: ``ListenerError``.
    public static func listener(host: String, port: Int, backlog: Int = 4096) throws(ListenerError) -> CInt {
        let name = name(host, port)
        guard (0...65_535).contains(port) else { throw ListenerError(name, invalid: "a port lies between 0 and 65535") }
        guard let address = lookUp(host, port) else { throw ListenerError(name, invalid: "no such host: \(host)") }
        return try Listeners.shared.descriptor(name, address, backlog)
    }

    /// As ``listener(host:port:backlog:)``, of a Unix socket. A file that nobody listens at is replaced.
    public static func listener(unixPath path: String, backlog: Int = 4096) throws(ListenerError) -> CInt {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let room = MemoryLayout.size(ofValue: address.sun_path) - 1
        guard !path.isEmpty, path.utf8.count <= room, !path.utf8.contains(0) else {
            throw ListenerError(path, invalid: "the path of a Unix socket has 1 to \(room) bytes")
        }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let bytes = withUnsafeBytes(of: address) { Array($0) }
        return try Listeners.shared.descriptor(path, bytes, backlog)
    }

    /// A socket that the service manager has passed, by the name that it has there (`FileDescriptorName=`).
    public static func listener(named name: String) throws(ListenerError) -> CInt {
        try Listeners.shared.descriptor(name, [], 0)
    }

    /// The program does not want the socket any more that ``listener(host:port:backlog:)`` has given for the same host and port.
    ///
    /// It is kept no longer: when the descriptors that the program has of it are closed, which is the program's to do, connections are refused,
    /// those that wait included, instead of waiting for somebody who never comes. Who asks for it again gets a new one. During a handover it is kept
    /// for the other program if that has asked for it. Nothing happens if there is none, and one that the service manager has opened stays its own.
    ///
    /// Any thread; returns at once, the guard closes it when it comes to that.
    public static func giveBackListener(host: String, port: Int) { Listeners.shared.giveBack(name(host, port)) }

    /// As ``giveBackListener(host:port:)``, of a Unix socket. The file stays.
    public static func giveBackListener(unixPath path: String) { Listeners.shared.giveBack(path) }

    /// As ``giveBackListener(host:port:)``, of one that the service manager has passed, which keeps it.
    public static func giveBackListener(named name: String) { Listeners.shared.giveBack(name) }

    private static func name(_ host: String, _ port: Int) -> String {
        host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
    }

    private static func lookUp(_ host: String, _ port: Int) -> [UInt8]? {
        var hints = addrinfo()
        hints.ai_socktype = CInt(SOCK_STREAM.rawValue)
        hints.ai_flags = AI_PASSIVE
        var first: UnsafeMutablePointer<addrinfo>?
        guard getaddrinfo(host, String(port), &hints, &first) == 0, let first else { return nil }
        defer { freeaddrinfo(first) }
        guard let address = first.pointee.ai_addr else { return nil }
        return Array(UnsafeRawBufferPointer(start: address, count: Int(first.pointee.ai_addrlen)))
    }
}

/// Where the program gets its sockets from.
final class Listeners: Sendable {
    static let shared = Listeners()

    private struct State {
        var link: GuardLink?
        var table = ListenerTable()
    }
    private let state = Locked(State())
    private static let nameLimit = 200

    /// From now on they come from the guard.
    func use(_ link: GuardLink) { state.withLock { $0.link = link } }

    /// The table of a program without a guard.
    func withTable(_ body: (inout ListenerTable) -> Void) { state.withLock { body(&$0.table) } }

    func descriptor(_ name: String, _ address: [UInt8], _ backlog: Int) throws(ListenerError) -> CInt {
        guard name.utf8.count <= Self.nameLimit else {
            throw ListenerError(name, invalid: "the name has more than \(Self.nameLimit) bytes")
        }
        let request = ListenRequest(name: name, address: address, backlog: min(max(backlog, 1), 65_535))
        let result = state.withLock { state -> Result<CInt, ErrorNumber> in
            if let link = state.link { return link.descriptor(for: request) }
            return state.table.descriptor(for: request, by: getpid()).flatMap { kept in
                let own = fcntl(kept, F_DUPFD_CLOEXEC, 0)
                return own >= 0 ? .success(own) : .failure(ErrorNumber(errno))
            }
        }
        switch result {
        case .success(let descriptor): return descriptor
        case .failure(let error): throw ListenerError(name, error)
        }
    }

    func giveBack(_ name: String) {
        // Nobody has got one of a longer name.
        guard name.utf8.count <= Self.nameLimit else { return }
        state.withLock { state in
            if let link = state.link { link.giveBack(name) } else { state.table.giveBack(name, by: getpid()) }
        }
    }
}
