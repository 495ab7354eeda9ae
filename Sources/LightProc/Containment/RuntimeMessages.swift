// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc

/// What the Swift runtime says before it traps, sorted out by trap.
///
/// The runtime appends to one buffer for the whole program, and the signal handler takes the buffer. A buffer with one
/// report in it belongs to the trap whose handler took it. Two threads that fail at the same instant may find their
/// reports in one handler's hands: then the first is taken for its own, and the others wait for the trap that came away
/// with nothing. They do not wait long: one that nobody claims was not the last word of a thread that trapped.
struct RuntimeMessages {
    private var waiting: [(report: String, age: Int)] = []
    private var age = 0
    /// Buffers that were read. Another thread that was reporting at the same instant may still be copying from one, so
    /// each rests while 64 others come and go before it is freed.
    private var resting: [UnsafeMutablePointer<CChar>] = []

    /// So many traps later an unclaimed report is forgotten.
    private static let patience = 4

    init() {}

    /// Whether words wait for the trap that they belong to.
    var hasSome: Bool { !waiting.isEmpty }

    /// Reads a buffer that a handler took, and sees to it that it is freed.
    mutating func read(_ buffer: UnsafeMutablePointer<CChar>) -> [String] {
        let reports = Self.reports(in: String(cString: buffer))
        resting.append(buffer)
        if resting.count > 64 { free(resting.removeFirst()) }
        return reports
    }

    /// Lets reports wait for whom they belong to.
    mutating func leave(_ reports: some Sequence<String>) {
        waiting += reports.map { ($0, age) }
    }

    /// Finds the report of a trap.
    ///
    /// - Parameters:
    ///   - own: What its handler took.
    ///   - speaks: Whether it is a trap before which the runtime says something. One that says nothing (most of those in
    ///     optimised code) leaves what it took to others.
    mutating func claim(own: [String], speaks: Bool) -> String? {
        age += 1
        waiting.removeAll { age - $0.age > Self.patience }
        guard speaks else {
            leave(own)
            return nil
        }
        if let first = own.first {
            leave(own.dropFirst())
            return first
        }
        return waiting.isEmpty ? nil : waiting.removeFirst().report
    }

    private static let beginnings: [StaticString] = [
        "Fatal error", "recondition failed", "ssertion failed", "Could not cast", "Simultaneous accesses",
        "Fatal access conflict", "deallocated with non-zero retain count",
    ]

    private static func isBeginning(_ line: Substring) -> Bool {
        String(line).withCString { text in
            // safety: both end in a zero. As in `TrapKind.init(words:)`.
            beginnings.contains {
                strstr(text, UnsafeRawPointer($0.utf8Start).assumingMemoryBound(to: CChar.self)) != nil
            }
        }
    }

    /// Divides a text into reports. Lines that begin none belong to the one before.
    static func reports(in text: String) -> [String] {
        var reports: [String] = []
        for line in text.split(separator: "\n", omittingEmptySubsequences: true) {
            if reports.isEmpty || isBeginning(line) {
                reports.append(String(line))
            } else {
                reports[reports.count - 1] += "\n" + line
            }
        }
        return reports
    }
}

extension StringProtocol {
    /// Whether the text contains another; no Foundation in the core.
    fileprivate func contains(_ other: String) -> Bool {
        var rest = self[...]
        while !rest.isEmpty {
            if rest.hasPrefix(other) { return true }
            rest = rest.dropFirst()
        }
        return other.isEmpty
    }
}
