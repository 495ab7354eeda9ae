// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// How a process ended.
///
/// A value that is handed to supervisors, monitors, handles and askers; it is never thrown by the runtime itself.
public enum ExitReason: Sendable {
    /// The body returned, or a reactive process stopped itself.
    case normal
    /// It was asked to stop and did.
    case shutdown
    /// The body or handler threw this error.
    case error(any Error)
    /// Its code trapped; the trap was contained.
    case trap(TrapReport)
    /// It was ended without being asked.
    case killed
    /// An incarnation lived longer than it may, which is so long; it was ended as by a kill.
    case deadlineExceeded(Duration)
    /// It gave no sign of life for so long, and was ended as by a kill.
    case unresponsive(Duration)
    /// A process it was linked to ended for this reason; of a chain of links, the process with which it began.
    indirect case linked(ProcID, ExitReason)
    /// There was none: what monitors and links of a process that is over are told, never how one ended.
    case noProcess

    /// Whether a transient child is restarted after it: everything but `normal` and `shutdown`.
    public var isFailure: Bool {
        switch self {
        case .normal, .shutdown: false
        case .error, .trap, .killed, .deadlineExceeded, .unresponsive, .linked, .noProcess: true
        }
    }

    /// The report, when the process (or the one it was linked to) trapped.
    public var trapReport: TrapReport? {
        switch self {
        case .trap(let report): report
        case .linked(_, let reason): reason.trapReport
        case .normal, .shutdown, .error, .killed, .deadlineExceeded, .unresponsive, .noProcess: nil
        }
    }
}

extension ExitReason: CustomStringConvertible {
    /// One line for logs: the kind of end, and the error, the trap or the linked process if there is one.
    public var description: String {
        switch self {
        case .normal: "normal"
        case .shutdown: "shutdown"
        case .error(let error): "error: \(error)"
        case .trap(let report): "trap: \(report.summary)"
        case .killed: "killed"
        case .deadlineExceeded(let time): "not over after its deadline of \(time)"
        case .unresponsive(let time): "no sign of life for \(time)"
        case .linked(let id, let reason): "linked process \(id) ended: \(reason)"
        case .noProcess: "there was no such process"
        }
    }
}
