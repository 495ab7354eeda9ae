// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

public import Supervision

/// A program that does not die: its body is a supervised process, started again whenever it fails.
///
/// ```swift
/// @main
/// struct Server: FortProgram {
///     func run(in context: Context) async throws {
///         // throws or traps: started again
///     }
/// }
/// ```
/// The program ends when every body has returned (status 0), when it is told to by SIGTERM or SIGINT (status 0 after an
/// orderly stop; a second signal forces the end), or when there were more restarts than ``intensity`` allows
/// (``ExitCode/software``).
public protocol FortProgram: Sendable {
    /// Called once, on the main thread, before anything is started: the place to read arguments and end with a
    /// message if they are wrong.
    init()

    /// How many bodies run side by side. 1 by default.
    static var redundancy: Int { get }

    /// How many restarts of the bodies are tolerated. Unlimited by default: a body that fails for ever is started again
    /// for ever.
    static var intensity: RestartIntensity { get }

    /// How long to wait before a body is started again. By default 1 ms at first, doubling up to 1 s.
    static var backoff: Backoff { get }

    /// How long a body may take to return after it was asked to stop. 10 s by default.
    static var shutdownTime: Duration { get }

    /// The program. Runs on workers; returning ends this body for good, throwing or trapping starts it again.
    func run(in context: Context) async throws
}

extension FortProgram {
    /// One body.
    public static var redundancy: Int { 1 }
    /// No limit: a body that fails is started again for ever.
    public static var intensity: RestartIntensity { .unlimited }
    /// 1 ms at first, doubling with every failure in a row, up to 1 s.
    public static var backoff: Backoff { .exponential(.milliseconds(1), cap: .seconds(1)) }
    /// 10 seconds.
    public static var shutdownTime: Duration { .seconds(10) }

    /// Runs the program on the calling thread's behalf and ends the OS process. What `@main` calls.
    public static func main() {
        Fort.run(Self.self)
    }
}
