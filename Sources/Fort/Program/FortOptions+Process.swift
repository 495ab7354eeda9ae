// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CFort
import Glibc

extension FortOptions {
    /// What the program declares and the environment says. Answers `--bastion-help`, and ends the program with a line for each thing that is
    /// wrong.
    static func readOrExit<Program: FortProgram>(
        of program: Program.Type,
        arguments: [String] = CommandLine.arguments
    ) -> FortOptions {
        let declared = FortOptions(of: program)
        let environment = processEnvironment()
        // What comes after `--` is no option.
        if arguments.dropFirst().prefix(while: { $0 != "--" }).contains("--bastion-help") {
            StandardStream.output.write(declared.help(environment: environment) + "\n")
            exit(ExitCode.success.rawValue)
        }
        do throws(FortOptionsError) {
            return try declared.reading(environment: environment)
        } catch {
            for flaw in error.flaws { Fort.tell("\(Fort.programName): \(flaw)") }
            exit(ExitCode.usage.rawValue)
        }
    }

    /// The environment of this OS process. Before there are other threads.
    private static func processEnvironment() -> [String: String] {
        var result: [String: String] = [:]
        guard var entry = fort_environment() else { return result }
        // Ends: the list ends with NULL.
        while let text = entry.pointee {
            let line = String(cString: text)
            // The first of several counts, as for `getenv`.
            if let equals = line.firstIndex(of: "="), result[String(line[..<equals])] == nil {
                result[String(line[..<equals])] = String(line[line.index(after: equals)...])
            }
            entry += 1
        }
        return result
    }
}
