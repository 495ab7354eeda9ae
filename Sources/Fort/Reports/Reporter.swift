// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CFort
import Glibc

/// What the executable does when the guard has started it to write the report of a death: no code of the user's runs in it.
enum Reporter {
    /// What to add to the environment of an executable that is to write a report and end. The descriptor of the order must be open
    /// there.
    static func environment(for order: ReportOrder) -> [String: String] { [ReportOrder.variable: order.encoded] }

    /// Writes the report and ends the process, if that is what it was started for: with status 0, or 73 where no report could be
    /// written. Says in one line what happened in any case.
    static func runIfAsked() {
        guard let text = getenv(ReportOrder.variable).map({ String(cString: $0) }) else { return }
        guard let order = ReportOrder(text) else {
            Fort.fail("\(ReportOrder.variable) is for the guard's use only, got \(text)", .usage)
        }
        guard fort_dieWithParent(order.parent) else { _exit(ExitCode.forced(by: SIGKILL).rawValue) }
        guard let record = ProcessRecord.map(order.record), record.isValid || record.isUnbegun else {
            Fort.fail("descriptor \(order.record) is no record of a program", .software)
        }
        let death = DeathOfProgram(LifeRecord(record), order.cause, status: order.status, found: .now)
        let line = "\(death.life.program) (\(death.life.pid)) \(death.summary)"
        guard !order.directory.isEmpty else {
            Fort.tell(line)
            exit(0)
        }
        do {
            let directory = ReportDirectory(path: order.directory, limits: order.limits)
            let path = try directory.write(CrashReport(death, restarts: order.restarts))
            Fort.tell("\(line); report: \(path)")
            exit(0)
        } catch {
            Fort.tell("\(line); no report: \(error)")
            exit(73)
        }
    }

    /// One line about a death, for a guard that has no directory to write to. Reads no files; allocates some strings.
    static func summary(_ record: ProcessRecord, status: Int32, cause: DeathCause) -> String {
        let death = DeathOfProgram(LifeRecord(record), cause, status: status, found: .now)
        return "\(death.life.program) (\(death.life.pid)) \(death.summary)"
    }
}
