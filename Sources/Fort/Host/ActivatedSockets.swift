// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc

/// Why sockets that a service manager has passed cannot be used.
struct ActivationError: Error, Equatable, CustomStringConvertible {
    /// What is wrong, and what to do.
    let description: String
}

/// A socket that a service manager has opened for the program.
struct ActivatedSocket: Equatable, Sendable {
    /// Programs that are started later do not get it.
    let descriptor: CInt
    /// `FileDescriptorName=` of the socket unit; by default the unit's name.
    let name: String
}

/// The sockets that a service manager has opened for the program: systemd's socket activation.
///
/// They are meant for the process that the manager has started; in a guarded program that is the guard.
struct ActivatedSockets: Equatable, Sendable {
    let sockets: [ActivatedSocket]

    /// The first descriptor that is passed.
    static let first: CInt = 3
    /// More than any service has.
    static let limit: CInt = 4096

    private init(_ sockets: [ActivatedSocket]) { self.sockets = sockets }

    /// Understands the variables. Pure.
    ///
    /// - Parameters:
    ///   - pid: `LISTEN_PID`: whom they are meant for.
    ///   - count: `LISTEN_FDS`.
    ///   - names: `LISTEN_FDNAMES`, separated by colons; nil: all are called `unknown`.
    ///   - own: The process that asks.
    /// - Returns: None if there are none, or they are meant for another process, as after a `fork`.
    static func read(
        pid: String?,
        count: String?,
        names: String?,
        own: pid_t,
        from first: CInt = first
    ) throws(ActivationError) -> Self {
        guard let pid, let count else { return Self([]) }
        guard let whose = pid_t(pid), whose > 0 else {
            throw ActivationError(description: "LISTEN_PID must be the number of a process, got '\(pid)'")
        }
        if whose != own { return Self([]) }
        guard let number = CInt(count), (0...limit).contains(number) else {
            throw ActivationError(description: "LISTEN_FDS must be a number from 0 to \(limit), got '\(count)'")
        }
        if number == 0 { return Self([]) }
        var called = Array(repeating: "unknown", count: Int(number))
        if let names {
            called = names.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
            guard called.count == number else {
                throw ActivationError(
                    description:
                        "LISTEN_FDNAMES must have as many names as LISTEN_FDS says, \(number), got \(called.count): '\(names)'"
                )
            }
        }
        return Self(called.enumerated().map { ActivatedSocket(descriptor: first + CInt($0.offset), name: $0.element) })
    }

    /// Takes what was passed to this process: it is nobody else's from now on. Call it once, before other threads are there, as it changes the
    /// environment.
    ///
    /// - Parameter first: The first descriptor; another one for tests.
    static func take(from first: CInt = first) throws(ActivationError) -> Self {
        let variables = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID"]
        let found = try read(
            pid: ServiceManager.text(of: variables[0]),
            count: ServiceManager.text(of: variables[1]),
            names: ServiceManager.text(of: variables[2]),
            own: getpid(),
            from: first
        )
        for variable in variables { unsetenv(variable) }
        for socket in found.sockets {
            let flags = fcntl(socket.descriptor, F_GETFD)
            guard flags >= 0, fcntl(socket.descriptor, F_SETFD, flags | FD_CLOEXEC) == 0 else {
                throw ActivationError(
                    description:
                        "LISTEN_FDS says that there are \(found.sockets.count) sockets, but descriptor \(socket.descriptor) "
                        + "('\(socket.name)') is not open"
                )
            }
        }
        return found
    }

    /// The first of a name.
    func named(_ name: String) -> ActivatedSocket? { sockets.first { $0.name == name } }

    /// The first that is bound to an address, and takes connections. All addresses of the machine are the same, whether written `0.0.0.0` or `::`.
    func bound(to address: BoundAddress) -> ActivatedSocket? {
        sockets.first { socket in
            BoundAddress.isListening(socket.descriptor)
                && BoundAddress(of: socket.descriptor).map { $0.serves(address) } ?? false
        }
    }
}
