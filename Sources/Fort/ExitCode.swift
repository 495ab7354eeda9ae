// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// With what status a program behind the boundary ends; numbers of `sysexits.h` where there is one.
public struct ExitCode: RawRepresentable, Hashable, Sendable {
    /// What the program passes to `exit`: 0 to 255.
    public let rawValue: Int32
    /// Creates a status; the system keeps its lowest 8 bits only.
    public init(rawValue: Int32) { self.rawValue = rawValue }

    /// Every body returned, or the program was told to stop and did.
    public static let success = ExitCode(rawValue: 0)
    /// A specification is wrong (`EX_USAGE`).
    public static let usage = ExitCode(rawValue: 64)
    /// More restarts than the intensity allows (`EX_SOFTWARE`).
    public static let software = ExitCode(rawValue: 70)
    /// The executor could not be started (`EX_OSERR`).
    public static let operatingSystem = ExitCode(rawValue: 71)
    /// A second signal forced the end: 128 and the signal's number, as a shell reports it.
    public static func forced(by signal: Int32) -> ExitCode { ExitCode(rawValue: 128 + signal) }
}
