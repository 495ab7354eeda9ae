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
/// Every static option but ``signalsReady`` can be set otherwise by the environment: `--bastion-help` lists the variables. What is wrong of either ends the
/// program with a line each and ``ExitCode/usage`` before anything starts.
///
/// A command of swift-argument-parser needs one line more, as both protocols have a `main`:
///
/// ```swift
/// @main
/// struct Server: AsyncParsableCommand, FortProgram {
///     @Option var port = 8080
///     static func main() { Fort.run { parseOrExit() } }
///     func run(in context: Context) async throws { ... }
/// }
/// ```
/// `--help` and wrong arguments are answered before anything starts; see ``Fort/run(_:)``.
///
/// The program ends when every body has returned (status 0), when it is told to by SIGTERM or SIGINT (status 0 after an
/// orderly stop; a second signal forces the end; ``ExitCode/temporary`` when it took longer than ``stopDeadline``), or when there were more restarts than ``intensity`` allows
/// (``ExitCode/software``).
public protocol FortProgram: Sendable {
    /// Called once, on the main thread, before anything is started: the place to read arguments and end with a
    /// message if they are wrong. With a guard, in its child.
    init()

    /// How many bodies run side by side. 1 by default.
    static var redundancy: Int { get }

    /// How many restarts of the bodies are tolerated. Unlimited by default: a body that fails for ever is started again
    /// for ever.
    static var intensity: RestartIntensity { get }

    /// How long to wait before a body is started again. By default 1 ms at first, doubling up to 1 s.
    static var backoff: Backoff { get }

    /// How long a body may take to return after it was asked to stop. 10 s by default.
    static var shutdownTime: ShutdownTime { get }

    /// What stands around the program. ``Boundary/inProcess`` by default.
    static var boundary: Boundary { get }

    /// What the guard starts as the program; nil, the default: this executable, from the path that it was called by. What is there when the
    /// program is started again, or on SIGUSR2, is what runs then: name a symbolic link here to switch between releases.
    static var executable: String? { get }

    /// How long the guard lets the program take from its start until it is ready (``signalsReady``), before it kills it and starts it again; nil, the
    /// default: for ever. In a handover a minute is given where this is nil; then the old program goes on.
    static var startDeadline: Duration? { get }

    /// How long the whole stop may take, of the bodies and of all else on the shared system, from whatever began it. Then the log and standard
    /// error name what still runs, and the program ends with ``ExitCode/temporary``, without `exit` handlers. 30 s by default.
    ///
    /// A guarded program has less where its executor gives no sign of life: then it ends at ``hangTime``, also during its stop, killed by the guard.
    static var stopDeadline: Duration { get }

    /// So long the guard lets the program live without a sign of life from its executor, also during its stop; nil: for ever. 10 s by default.
    static var hangTime: Duration? { get }

    /// Bytes that contained traps may leak, by estimate, before the program is replaced by a new one, or stopped where no guard
    /// replaces it. 256 MiB by default.
    static var leakBudget: Int { get }

    /// The directory that crash reports are written to; nil, the default: none are.
    static var reportDirectory: String? { get }

    /// How many crash reports are kept.
    static var reportLimits: ReportLimits { get }

    /// Workers of the shared pool; nil, the default: as many as the program may use.
    static var workers: Int? { get }

    /// Whether all Swift concurrency of the program runs on our executor. False by default.
    static var adoptsGlobalExecutor: Bool { get }

    /// Whether a body says when it serves, by ``Context/ready()``; else it does as soon as it begins. False by default. Who looks after the
    /// program (the guard, which hands over to it; systemd) waits for that.
    static var signalsReady: Bool { get }

    /// The program was told to read its configuration anew (SIGHUP). Runs on a worker, beside the bodies; what it throws is logged, and
    /// a trap in it ends nothing else. One call at a time, and one more for all signals that came meanwhile. When the program stops it is
    /// cancelled, and killed after ``shutdownTime``. Does nothing by default.
    func reload() async throws

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
    public static var shutdownTime: ShutdownTime { .seconds(10) }

    /// No guard.
    public static var boundary: Boundary { .inProcess }
    /// This executable.
    public static var executable: String? { nil }
    /// No limit.
    public static var startDeadline: Duration? { nil }
    /// 30 seconds.
    public static var stopDeadline: Duration { .seconds(30) }
    /// 10 seconds.
    public static var hangTime: Duration? { .seconds(10) }
    /// 256 MiB.
    public static var leakBudget: Int { 256 << 20 }
    /// None.
    public static var reportDirectory: String? { nil }
    /// 100 reports, 16 MiB.
    public static var reportLimits: ReportLimits { ReportLimits() }
    /// As many as the program may use.
    public static var workers: Int? { nil }
    /// No.
    public static var adoptsGlobalExecutor: Bool { false }
    /// No.
    public static var signalsReady: Bool { false }
    /// Nothing.
    public func reload() async throws {}

    /// Runs the program on the calling thread's behalf and ends the OS process. What `@main` calls.
    public static func main() {
        Fort.run(Self.self) { Self() }
    }
}
