// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc

/// What a service manager is told, in systemd's notify protocol. Pure.
///
/// One message says everything that is set, in a fixed order, a line each.
struct ServiceNotice: Equatable, Sendable {
    enum Stage: Equatable, Sendable {
        case ready
        /// Since when, in microseconds of the monotonic clock.
        case reloading(since: UInt64)
        case stopping
    }

    var stage: Stage?
    /// A sign of life, for `WatchdogSec=`.
    var isAlive = false
    /// Who is to be looked at from now on.
    var mainPID: Int32?
    /// So many microseconds from now on the manager is to wait for another message, even if its own limit is over.
    var patience: UInt64?
    /// For people: `systemctl status` shows it.
    var status: String?

    /// More than any message has.
    static let sizeLimit = 512

    /// Writes the message; a status that has no room is cut between two characters. Allocates nothing.
    ///
    /// - Returns: How many bytes it has; none if there is nothing to say.
    func write(into buffer: UnsafeMutableRawBufferPointer) -> Int {
        var writer = Writer(buffer: buffer)
        switch stage {
        case .ready: writer.line("READY=1")
        case .reloading(let since):
            writer.line("RELOADING=1")
            writer.line("MONOTONIC_USEC=", since)
        case .stopping: writer.line("STOPPING=1")
        case nil: break
        }
        if isAlive { writer.line("WATCHDOG=1") }
        if let mainPID { writer.line("MAINPID=", UInt64(max(mainPID, 0))) }
        if let patience { writer.line("EXTEND_TIMEOUT_USEC=", patience) }
        if let status { writer.lastLine("STATUS=", status) }
        return writer.count
    }

    private struct Writer {
        let buffer: UnsafeMutableRawBufferPointer
        var count = 0

        private mutating func put(_ byte: UInt8) {
            guard count < buffer.count else { return }
            buffer[count] = byte
            count += 1
        }

        private mutating func put(_ name: StaticString) {
            // safety: a static string of more than one scalar has its bytes in the executable.
            for index in 0..<name.utf8CodeUnitCount { put(name.utf8Start[index]) }
        }

        mutating func line(_ text: StaticString) {
            if count > 0 { put(UInt8(ascii: "\n")) }
            put(text)
        }

        mutating func line(_ name: StaticString, _ number: UInt64) {
            line(name)
            var place: UInt64 = 1
            // Ends: a place that is not too high for the number is at most its 19th after the first.
            while number / place >= 10 { place *= 10 }
            while place > 0 {
                put(UInt8(ascii: "0") + UInt8(number / place % 10))
                place /= 10
            }
        }

        /// A text of the user's: in one line, whatever it has.
        mutating func lastLine(_ name: StaticString, _ text: String) {
            line(name)
            for scalar in text.unicodeScalars {
                let units = UTF8.encode(scalar.value < 32 || scalar.value == 127 ? " " : scalar) ?? .init()
                if count + units.count > buffer.count { return }
                for unit in units { put(unit) }
            }
        }
    }
}
