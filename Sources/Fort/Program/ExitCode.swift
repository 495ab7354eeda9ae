// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// With what status a program behind the boundary ends; numbers of `sysexits.h` where there is one.
///
/// | status | | when |
/// |---|---|---|
/// | 0 | ``success`` | every body returned, or the program was told to stop and did |
/// | 64 | ``usage`` | an option is wrong, of the program or in the environment, or an argument |
/// | 69 | ``unavailable`` | what the program needs is taken, a port most of all |
/// | 70 | ``software`` | more restarts than the intensity allows |
/// | 71 | ``operatingSystem`` | the executor could not be started |
/// | 72 | ``missingExecutable`` | the executable that the guard is to start is not there |
/// | 73 | ``cannotCreate`` | crash reports cannot be written where they should |
/// | 75 | ``temporary`` | the stop took longer than ``FortProgram/stopDeadline``, or the leak budget is exhausted and there is no guard |
/// | 77 | ``notPermitted`` | the system does not permit what the program needs |
/// | 78 | ``configuration`` | the configuration lacks something, as a socket that the service manager should pass |
/// | 128 + n | ``forced(by:)`` | a second signal forced the end |
public struct ExitCode: RawRepresentable, Hashable, Sendable {
    /// What the program passes to `exit`: 0 to 255.
    public let rawValue: Int32
    /// Creates a status; the system keeps its lowest 8 bits only.
    public init(rawValue: Int32) { self.rawValue = rawValue }

    /// Every body returned, or the program was told to stop and did.
    public static let success = ExitCode(rawValue: 0)
    /// An option is wrong, of the program or in the environment, or an argument (`EX_USAGE`).
    public static let usage = ExitCode(rawValue: 64)
    /// More restarts than the intensity allows (`EX_SOFTWARE`).
    public static let software = ExitCode(rawValue: 70)
    /// The executor could not be started (`EX_OSERR`).
    public static let operatingSystem = ExitCode(rawValue: 71)
    /// Crash reports cannot be written where they should (`EX_CANTCREAT`).
    public static let cannotCreate = ExitCode(rawValue: 73)
    /// The program has ended before its time, and may be started again: its stop took longer than it may, or traps have leaked what they may
    /// and no guard has replaced it (`EX_TEMPFAIL`).
    public static let temporary = ExitCode(rawValue: 75)
    /// A second signal forced the end: 128 and the signal's number, as a shell reports it.
    public static func forced(by signal: Int32) -> ExitCode { ExitCode(rawValue: 128 + signal) }
    /// The executable that the guard is to start is not there (`EX_OSFILE`).
    public static let missingExecutable = ExitCode(rawValue: 72)
    /// What the program needs is taken: a port, most of all (`EX_UNAVAILABLE`).
    public static let unavailable = ExitCode(rawValue: 69)
    /// The system does not permit what the program needs (`EX_NOPERM`).
    public static let notPermitted = ExitCode(rawValue: 77)
    /// The configuration lacks something (`EX_CONFIG`).
    public static let configuration = ExitCode(rawValue: 78)
}

extension ExitCode {
    /// Whether a program that ends so before it ever was ready would end so again: it was called in a wrong way, or lacks something.
    var saysThatStartingAgainIsUseless: Bool { [64, 66, 69, 72, 73, 77, 78].contains(rawValue) }
}
