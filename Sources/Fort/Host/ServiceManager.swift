// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import Glibc

/// The service manager that has started the process, if one has: systemd's `sd_notify` protocol.
///
/// Nothing here waits, allocates more than a line of status, or fails: without a manager it does nothing. In a guarded program the guard is
/// whom the manager has started, and its child has no `NOTIFY_SOCKET`. Any thread.
enum ServiceManager {
    /// Where the manager listens; read when first used, and once.
    static let socket = text(of: "NOTIFY_SOCKET").flatMap(NotifySocket.init)

    /// So long the manager waits for a sign of life; nil: it does not look.
    static let watchdogTime = WatchdogTime.read(
        microseconds: text(of: "WATCHDOG_USEC"),
        pid: text(of: "WATCHDOG_PID"),
        own: getpid()
    )

    /// The program has come so far. Who listens to the program's events is told too, where there is no manager as well.
    static func tell(_ stage: ProgramState.Stage, _ options: FortOptions) {
        defer { FortEventHub.shared.entered(stage) }
        guard let socket else { return }
        switch stage {
        case .starting: socket.send(ServiceNotice(status: "Starting"))
        case .ready: socket.send(ServiceNotice(stage: .ready, status: "Ready"))
        case .reloading:
            let now = UInt64(max(MonotonicClock.now.inWholeMicroseconds, 0))
            socket.send(ServiceNotice(stage: .reloading(since: now), status: "Reloading"))
        case .stopping: socket.send(ServiceNotice(stage: .stopping, patience: Self.patience, status: "Stopping"))
        }
    }

    /// Says in a line how things are, for `systemctl status`.
    static func tell(status: String) { socket?.send(ServiceNotice(status: status)) }

    /// Another process is the service from now on, as after a replacement.
    static func tell(mainPID: Int32) { socket?.send(ServiceNotice(mainPID: mainPID)) }

    /// A sign of life.
    static func tellAlive() { socket?.send(ServiceNotice(isAlive: true)) }

    /// The stop goes on: the manager waits for another ``patience`` microseconds from now, whatever its own limit is.
    static func extendStop() { socket?.send(ServiceNotice(patience: patience)) }

    /// How long the manager is asked to wait for the next message of a stop, in microseconds: five times ``stopRhythm``.
    static let patience: UInt64 = 5_000_000
    /// How often a stop that lasts asks for more time.
    static let stopRhythm = Duration.seconds(1)

    /// A variable of the environment; nil also if it is empty.
    static func text(of variable: String) -> String? {
        guard let value = getenv(variable) else { return nil }
        let text = String(cString: value)
        return text.isEmpty ? nil : text
    }
}

/// How long a service manager waits for a sign of life. Pure.
enum WatchdogTime {
    /// - Parameters:
    ///   - microseconds: `WATCHDOG_USEC`.
    ///   - pid: `WATCHDOG_PID`: whose signs of life are meant; nil: anybody's.
    ///   - own: The process that asks.
    /// - Returns: Nil where nobody waits for this process's, or what stands there is no time.
    static func read(microseconds: String?, pid: String?, own: Int32) -> Duration? {
        if let pid, Int32(pid) != own { return nil }
        guard let microseconds, let count = Int64(microseconds), count > 0 else { return nil }
        return .microseconds(count)
    }
}

extension Duration {
    fileprivate var inWholeMicroseconds: Int64 {
        let (seconds, attoseconds) = components
        return seconds * 1_000_000 + attoseconds / 1_000_000_000_000
    }
}
