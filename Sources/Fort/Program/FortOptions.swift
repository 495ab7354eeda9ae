// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Logging
import Supervision

/// What a program's boundary goes by: what the program declares, and what the environment says otherwise. Pure.
struct FortOptions: Sendable {
    var boundary: Boundary
    /// What the guard starts; nil: this executable, as it was called.
    var executable: String?
    var redundancy: Int
    var intensity: RestartIntensity
    var backoff: Backoff
    var shutdownTime: ShutdownTime
    /// So long a guarded program may take until it is ready; nil: for ever.
    var startDeadline: Duration?
    /// How long the whole stop may take.
    var stopDeadline: Duration
    /// So long without a sign of life from its executor the guard lets a program live; nil: for ever.
    var hangTime: Duration?
    /// Bytes that contained traps may leak before the program is replaced, or stopped where nobody replaces it.
    var leakBudget: Int
    /// Where crash reports are written; nil: nowhere.
    var reportDirectory: String?
    var reportLimits: ReportLimits
    /// Workers of the shared pool; nil: as many as the program may use.
    var workers: Int?
    var adoptsGlobalExecutor: Bool
    /// The least level that the shared system's log tells; nil: what the log says.
    var logLevel: Logger.Level?
    /// The program's type, for messages.
    let programType: String

    init<Program: FortProgram>(of program: Program.Type) {
        boundary = program.boundary
        executable = program.executable
        redundancy = program.redundancy
        intensity = program.intensity
        backoff = program.backoff
        shutdownTime = program.shutdownTime
        startDeadline = program.startDeadline
        stopDeadline = program.stopDeadline
        hangTime = program.hangTime
        leakBudget = program.leakBudget
        reportDirectory = program.reportDirectory
        reportLimits = program.reportLimits
        workers = program.workers
        adoptsGlobalExecutor = program.adoptsGlobalExecutor
        programType = "\(program)"
    }
}

extension FortOptions {
    /// The same, with what the environment says otherwise.
    ///
    /// - Throws: All that is wrong, of the environment and of what the program declares: what is not overridden must make sense, too.
    func reading(environment: [String: String]) throws(FortOptionsError) -> FortOptions {
        var options = self
        var flaws: [FortOptionsError.Flaw] = []
        for option in FortOption.all {
            if let value = environment[option.variable] {
                if let flaw = option.read(value, &options) {
                    flaws.append(.value(option, value, flaw))
                }
            } else if let flaw = option.flaw(self) {
                flaws.append(.declaration(option, of: programType, flaw))
            }
        }
        for variable in environment.keys.sorted() where FortOption.isUnknown(variable) {
            flaws.append(.unknown(variable))
        }
        if !flaws.isEmpty { throw FortOptionsError(flaws: flaws) }
        return options
    }

    /// What `--bastion-help` prints: each option with its meaning, its format, the program's default and the value in force.
    func help(environment: [String: String]) -> String {
        var lines = [
            "Options of the program boundary. Each is a variable of the environment; without it the program's default counts.",
            "",
        ]
        for option in FortOption.all {
            lines.append("\(option.variable)=\(option.print(self))")
            lines.append("    \(option.meaning)")
            lines.append("    format:   \(option.text)")
            lines.append(
                "    default:  \(option.print(self))\(option.flaw(self).map { " (wrong: \(option.property) \($0))" } ?? "")"
            )
            var inForce = self
            guard let value = environment[option.variable] else {
                lines.append("    in force: the default")
                continue
            }
            let flaw = option.read(value, &inForce)
            lines.append("    in force: \(flaw == nil ? option.print(inForce) : "none: \(value) cannot be used")")
        }
        return (lines + environment.keys.sorted().filter(FortOption.isUnknown).map { "\n\($0) is unknown" })
            .joined(separator: "\n")
    }
}

/// How many crash reports are kept.
public struct ReportLimits: Sendable, Hashable {
    /// Reports; the oldest are removed when there are more.
    public var count: Int
    /// Bytes of all reports together; the oldest are removed when there are more.
    public var bytes: Int

    /// Creates limits.
    public init(count: Int = 100, bytes: Int = 16 << 20) {
        self.count = count
        self.bytes = bytes
    }
}
