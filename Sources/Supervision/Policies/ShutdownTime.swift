// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// How long a child may take to end after it was asked to, before it is killed.
///
/// OTP's `shutdown` of a child specification. A reactive child handles the message in hand to its end first, whatever this says.
public struct ShutdownTime: Sendable, Hashable, CustomStringConvertible {
    /// The time; nil for ever.
    public let time: Duration?
    /// Whether it is not asked, but killed at once.
    public let isBrutal: Bool

    private init(time: Duration?, isBrutal: Bool = false) {
        self.time = time
        self.isBrutal = isBrutal
    }

    /// It is killed at once, without being asked.
    public static let brutalKill = ShutdownTime(time: .zero, isBrutal: true)
    /// It is never killed. For those that have children of their own, or must not be interrupted.
    public static let infinity = ShutdownTime(time: nil)
    /// It is asked, and killed in the same moment.
    public static let zero = ShutdownTime(time: .zero)

    /// It is asked, and killed after a time.
    public static func within(_ time: Duration) -> ShutdownTime { ShutdownTime(time: time) }
    /// As ``within(_:)``.
    public static func seconds(_ seconds: some BinaryInteger) -> ShutdownTime { within(.seconds(seconds)) }
    /// As ``within(_:)``.
    public static func seconds(_ seconds: Double) -> ShutdownTime { within(.seconds(seconds)) }
    /// As ``within(_:)``.
    public static func milliseconds(_ milliseconds: some BinaryInteger) -> ShutdownTime {
        within(.milliseconds(milliseconds))
    }

    /// As in `5.0 seconds`, `infinity` or `brutal kill`.
    public var description: String { isBrutal ? "brutal kill" : time.map { "\($0)" } ?? "infinity" }

    /// For a timer: longer than any run.
    var limit: Duration { time ?? .seconds(Int64.max / 4_000_000_000) }
}
