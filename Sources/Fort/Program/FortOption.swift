// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Logging
import Supervision

/// An option of the boundary: what it is called, what it means, how it is read and shown.
struct FortOption: Sendable {
    /// What a program declares, as in `redundancy`.
    let property: String
    /// What it is called in the environment.
    let variable: String
    let meaning: String
    /// What may be written.
    let text: String
    /// Reads a value into options; nil, or what is wrong: a reason to go on with after its name, or empty if it is not of the format at
    /// all.
    let read: @Sendable (String, inout FortOptions) -> String?
    /// What options say, as it is written.
    let print: @Sendable (FortOptions) -> String
    /// Why what options say makes no sense; nil if it does.
    let flaw: @Sendable (FortOptions) -> String?

    init<Value>(
        _ property: String,
        _ variable: String,
        _ path: any WritableKeyPath<FortOptions, Value> & Sendable,
        _ format: OptionFormat<Value>,
        _ meaning: String
    ) {
        self.property = property
        self.variable = "BASTION_" + variable
        self.meaning = meaning
        text = format.text
        read = { text, options in
            guard let value = format.parse(text) else { return "" }
            options[keyPath: path] = value
            return format.flaw(value)
        }
        print = { format.print($0[keyPath: path]) }
        flaw = { format.flaw($0[keyPath: path]) }
    }

    /// All that there are, in the order in which people are told of them.
    static let all: [FortOption] = [
        FortOption(
            "boundary",
            "BOUNDARY",
            \.boundary,
            .boundary,
            "What stands around the program: its supervisor only, or also a guard process that starts it again whatever it died of."
        ),
        FortOption("redundancy", "REDUNDANCY", \.redundancy, .count, "Bodies that run side by side."),
        FortOption(
            "intensity",
            "RESTARTS",
            \.intensity,
            .intensity,
            "Restarts that are tolerated within a time; with one more the program ends with status 70."
        ),
        FortOption("backoff", "BACKOFF", \.backoff, .backoff, "How long to wait before a body is started again."),
        FortOption(
            "shutdownTime",
            "SHUTDOWN_TIME",
            \.shutdownTime,
            .shutdownTime,
            "How long a body may take to return after it was asked to stop, before it is killed."
        ),
        FortOption(
            "startDeadline",
            "START_DEADLINE",
            \.startDeadline,
            .timeOrNever,
            "How long the guard lets the program take until it is ready; in a handover a minute, if that is never."
        ),
        FortOption(
            "stopDeadline",
            "STOP_DEADLINE",
            \.stopDeadline,
            .time,
            "How long the whole stop may take; then the program ends with status 75, whatever still runs."
        ),
        FortOption(
            "hangTime",
            "HANG_TIME",
            \.hangTime,
            .timeOrNever,
            "How long the guard lets the program live without a sign of life from its executor."
        ),
        FortOption(
            "leakBudget",
            "LEAK_BUDGET",
            \.leakBudget,
            .bytes,
            "What contained traps may leak, by estimate, before the program is replaced, or stopped where nobody replaces it."
        ),
        FortOption(
            "executable",
            "EXECUTABLE",
            \.executable,
            .pathOrNone,
            "What the guard starts as the program; none: this executable, as it was called."
        ),
        FortOption(
            "reportDirectory",
            "REPORT_DIRECTORY",
            \.reportDirectory,
            .pathOrNone,
            "The directory that crash reports are written to."
        ),
        FortOption(
            "reportLimits.count",
            "REPORT_COUNT",
            \.reportLimits.count,
            .count,
            "Crash reports that are kept; the oldest go first."
        ),
        FortOption(
            "reportLimits.bytes",
            "REPORT_BYTES",
            \.reportLimits.bytes,
            .bytes,
            "Bytes of all crash reports together; the oldest go first."
        ),
        FortOption(
            "workers",
            "WORKERS",
            \.workers,
            .countOrAll,
            "Worker threads of the shared pool; all: as many as the program may use."
        ),
        FortOption(
            "adoptsGlobalExecutor",
            "ADOPTS_GLOBAL_EXECUTOR",
            \.adoptsGlobalExecutor,
            .yesOrNo,
            "Whether all Swift concurrency of the program runs on the workers."
        ),
        FortOption(
            "logLevel",
            "LOG_LEVEL",
            \.logLevel,
            .logLevel,
            "The least level that the log of the shared system tells."
        ),
    ]

    /// Variables with our prefix that are no options: of the test kit.
    private static let others: Set<String> = ["BASTION_SEED"]

    /// Whether a variable looks like an option and is none. The guard has some of its own.
    static func isUnknown(_ variable: String) -> Bool {
        variable.hasPrefix("BASTION_") && !variable.hasPrefix("BASTION_INTERNAL_") && !others.contains(variable)
            && !all.contains { $0.variable == variable }
    }

    /// The option whose name is most like another: one of which the one begins with the other, or else by what must be changed.
    static func nearest(to variable: String) -> FortOption? {
        let related = all.filter { $0.variable.hasPrefix(variable) || variable.hasPrefix($0.variable) }
        return (related.isEmpty ? all : related)
            .min { editDistance($0.variable, variable) < editDistance($1.variable, variable) }
    }
}

/// How many characters must be changed, added or removed to come from one text to another. O(n * m).
func editDistance(_ first: String, _ second: String) -> Int {
    let second = Array(second.utf8.prefix(256))
    var row = Array(0...second.count)
    for (line, character) in first.utf8.enumerated() {
        var diagonal = row[0]
        row[0] = line + 1
        for index in second.indices {
            let replaced = diagonal + (second[index] == character ? 0 : 1)
            diagonal = row[index + 1]
            row[index + 1] = min(replaced, row[index] + 1, diagonal + 1)
        }
    }
    return row[second.count]
}

/// Options that cannot be used: all that are wrong.
struct FortOptionsError: Error, Equatable, CustomStringConvertible {
    /// One of them, and how to mend it.
    enum Flaw: Equatable, CustomStringConvertible {
        /// A variable has a value that is not allowed. `reason` is empty where it is none of the format.
        case value(variable: String, value: String, property: String, reason: String, allowed: String)
        /// The program itself declares what makes no sense.
        case declaration(program: String, property: String, reason: String, variable: String)
        /// A variable looks like an option and is none.
        case unknown(variable: String, nearest: String)

        static func value(_ option: FortOption, _ value: String, _ reason: String) -> Flaw {
            .value(
                variable: option.variable,
                value: value,
                property: option.property,
                reason: reason,
                allowed: option.text
            )
        }

        static func declaration(_ option: FortOption, of program: String, _ reason: String) -> Flaw {
            .declaration(program: program, property: option.property, reason: reason, variable: option.variable)
        }

        static func unknown(_ variable: String) -> Flaw {
            .unknown(variable: variable, nearest: FortOption.nearest(to: variable)?.variable ?? "")
        }

        /// One line.
        var description: String {
            switch self {
            case .value(let variable, let value, _, "", let allowed):
                "\(variable)=\(value) cannot be used; allowed is \(allowed)"
            case .value(let variable, let value, let property, let reason, let allowed):
                "\(variable)=\(value) cannot be used: \(property) \(reason); allowed is \(allowed)"
            case .declaration(let program, let property, let reason, let variable):
                "\(program).\(property) \(reason); change it, or set \(variable)"
            case .unknown(let variable, let nearest):
                "\(variable) is no option; did you mean \(nearest)? --bastion-help lists them all"
            }
        }
    }

    let flaws: [Flaw]

    /// A line each.
    var description: String { flaws.map(\.description).joined(separator: "\n") }
}
