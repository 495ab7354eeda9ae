// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc

/// What a program died of, as far as whoever looked after it knows; the numbers are in its wait status.
enum DeathCause: String, Sendable, CaseIterable {
    /// A signal that nobody meant: a crash, or somebody's `kill`.
    case signal
    /// It ended by itself.
    case exit
    /// It gave no sign of life for too long, and was killed.
    case hang
    /// The system killed it, for want of memory.
    case outOfMemory
    /// What contained traps have leaked was too much; it was replaced.
    case leakBudget
    /// It did not stop when it was told to, and was killed; or was told twice.
    case forced
    /// It was not ready in the time that it had, and was killed.
    case notReady
    case unknown
}

/// Names of signals; `strsignal` and the like are not the same everywhere.
enum SignalName {
    /// As in `SIGSEGV`.
    static func name(_ number: Int32) -> String { table[number]?.0 ?? "signal \(number)" }
    /// In words.
    static func meaning(_ number: Int32) -> String? { table[number]?.1 }

    private static let table: [Int32: (String, String)] = [
        SIGHUP: ("SIGHUP", "hangup"),
        SIGINT: ("SIGINT", "interrupt"),
        SIGQUIT: ("SIGQUIT", "quit"),
        SIGILL: ("SIGILL", "illegal instruction"),
        SIGTRAP: ("SIGTRAP", "trap or breakpoint"),
        SIGABRT: ("SIGABRT", "the program aborted itself"),
        SIGBUS: ("SIGBUS", "access to memory that has nothing behind it"),
        SIGFPE: ("SIGFPE", "impossible arithmetic"),
        SIGKILL: ("SIGKILL", "killed"),
        SIGSEGV: ("SIGSEGV", "access to memory that it has not"),
        SIGPIPE: ("SIGPIPE", "wrote to what nobody reads"),
        SIGALRM: ("SIGALRM", "alarm"),
        SIGTERM: ("SIGTERM", "told to end"),
        SIGUSR1: ("SIGUSR1", "user's signal 1"),
        SIGUSR2: ("SIGUSR2", "user's signal 2"),
        SIGXCPU: ("SIGXCPU", "limit of processor time"),
        SIGXFSZ: ("SIGXFSZ", "limit of the size of files"),
        SIGSYS: ("SIGSYS", "forbidden system call"),
    ]
}

/// What `waitpid` says, taken apart.
enum WaitStatus {
    /// Nil if it ended by a signal.
    static func exitCode(_ status: Int32) -> Int32? { status & 0x7f == 0 ? status >> 8 & 0xff : nil }
    /// Nil if it ended by itself.
    static func signal(_ status: Int32) -> Int32? { status & 0x7f == 0 ? nil : status & 0x7f }
}
