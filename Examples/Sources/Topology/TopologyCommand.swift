// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import Glibc

/// Prints a machine and the plan of workers on it: as a picture, or with `--json` for programs.
///
/// Exit status: 0, or as in `<sysexits.h>` 64 for a wrong option or synthetic description, 66 for a file that cannot be
/// read or is no topology, 71 if this machine does not tell its processors. Failures are one line on standard error; in
/// the last case libnuma may have warned there before.
@main
struct TopologyCommand {
    static func main() {
        // hwloc explains itself at length on standard error; our one line says what to do.
        setenv("HWLOC_HIDE_ERRORS", "2", 0)
        do throws(Failure) {
            let options = try CommandOptions(CommandLine.arguments.dropFirst())
            if options.showsHelp { return print(CommandOptions.usage) }
            try print(output(options))
        } catch {
            let line = "topology: \(error.message)\n"
            // A failed write leaves nothing to be done but the exit status.
            _ = write(STDERR_FILENO, line, line.utf8.count)
            exit(error.status)
        }
    }

    private static func output(_ options: CommandOptions) throws(Failure) -> String {
        do throws(TopologyError) {
            let topology =
                switch options.source {
                case .thisMachine: try Topology.current()
                case .xml(let path): try Topology(xmlFile: path)
                case .synthetic(let text): try Topology(synthetic: text)
                }
            let plan = try Placement(topology, options: Placement.Options(workerCount: options.workerCount))
            return options.printsJSON ? PlanJSON(plan).text : MachinePicture(topology, plan).text
        } catch {
            throw Failure(error)
        }
    }
}

/// Why the command ends: one line for people, one number for scripts.
struct Failure: Error {
    let status: Int32
    let message: String

    /// A wrong option: EX_USAGE.
    init(usage message: String) {
        status = 64
        self.message = message
    }

    init(_ error: TopologyError) {
        // A path in the message may hold a newline.
        message = String(error.description.map { $0.isNewline ? " " : $0 })
        status =
            switch error.code {
            case .unreadableFile, .invalidXML, .noUsableProcessor: 66  // EX_NOINPUT
            case .invalidSynthetic, .invalidWorkerCount: 64  // EX_USAGE
            default: 71  // EX_OSERR
            }
    }
}
