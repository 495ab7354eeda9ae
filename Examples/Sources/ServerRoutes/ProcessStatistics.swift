// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc

/// What the operating system says about this process.
package struct ProcessStatistics: Sendable, Equatable {
    package var processID: Int
    package var uptimeSeconds: Double
    package var threads: Int
    package var residentBytes: Int
    package var peakResidentBytes: Int

    /// Reads `/proc/self`; a figure that cannot be read is 0.
    package static func current() -> ProcessStatistics {
        let fields = StatusFields(text: contents(ofFile: "/proc/self/status"))
        return ProcessStatistics(
            processID: Int(getpid()),
            uptimeSeconds: uptimeSeconds(stat: contents(ofFile: "/proc/self/stat")),
            threads: fields.number("Threads") ?? 0,
            residentBytes: (fields.number("VmRSS") ?? 0) &* 1024,
            peakResidentBytes: (fields.number("VmHWM") ?? 0) &* 1024
        )
    }

    /// Not from a clock read at start: a program that is restarted inside its process would lose it.
    private static func uptimeSeconds(stat: String) -> Double {
        // The second field, the name in parentheses, may itself contain blanks and parentheses.
        guard let nameEnd = stat.lastIndex(of: ")") else { return 0 }
        let fields = stat[nameEnd...].split(separator: " ")
        // `)` stands for the second field here, and starttime is the 22nd (proc_pid_stat(5)).
        guard fields.count > 20, let startTicks = Double(fields[20]) else { return 0 }
        var now = timespec()
        let ticksPerSecond = Double(sysconf(Int32(_SC_CLK_TCK)))
        // CLOCK_BOOTTIME is the clock of starttime. It cannot fail for a valid clock and a valid address.
        guard clock_gettime(CLOCK_BOOTTIME, &now) == 0, ticksPerSecond > 0 else { return 0 }
        let uptime = Double(now.tv_sec) + Double(now.tv_nsec) / 1e9 - startTicks / ticksPerSecond
        return max(0, (uptime * 100).rounded() / 100)
    }

    private static func contents(ofFile path: String) -> String {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return "" }
        defer { close(descriptor) }
        // Both files are shorter; procfs hands out a file of this size in one read.
        return withUnsafeTemporaryAllocation(byteCount: 8192, alignment: 1) { buffer in
            let count = read(descriptor, buffer.baseAddress, buffer.count)
            return String(decoding: buffer.prefix(max(0, count)), as: UTF8.self)
        }
    }
}

/// The `Name:  number unit` lines of `/proc/PID/status`.
struct StatusFields {
    let text: String

    func number(_ name: String) -> Int? {
        for line in text.split(separator: "\n") where line.hasPrefix(name) {
            let rest = line.dropFirst(name.count)
            guard rest.hasPrefix(":") else { continue }
            return rest.dropFirst().split { $0 == " " || $0 == "\t" }.first.flatMap { Int($0) }
        }
        return nil
    }
}
