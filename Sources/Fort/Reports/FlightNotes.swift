// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import LightProc
import Supervision

/// What the flight recorder says of events. Pure; asks no error for its description, which is code of the user's.
enum FlightNotes {
    /// Nil for what is not worth a place: the mere starts of children of groups that have many.
    static func text(of event: SupervisionEvent) -> String? {
        switch event.kind {
        case .started, .ready:
            return isOneOfMany(event.path) ? nil : event.description
        case .failed(let failure):
            return "\(event.path) failed: \(text(of: failure.reason)) (restarts: \(event.restarts))"
        case .resumed(let failure): return "\(event.path) failed and goes on: \(text(of: failure.reason))"
        case .ended(let reason): return "\(event.path) ended: \(text(of: reason))"
        case .stopped(let reason): return "\(event.path) stopped\(reason.map { ": \(text(of: $0))" } ?? "")"
        case .escalated(let reason): return "\(event.path) escalates: \(text(of: reason))"
        case .restarting, .supervisorStopped: return event.description
        }
    }

    static func text(of reason: ExitReason) -> String {
        switch reason {
        case .error(let error): "error: \(type(of: error))"
        case .trap: "trap"
        case .linked(let id, let reason): "linked process \(id) ended: \(text(of: reason))"
        case .normal, .shutdown, .killed, .deadlineExceeded, .unresponsive, .noProcess: reason.description
        }
    }

    /// Whether a child is the 65th of its group, or a later one.
    static func isOneOfMany(_ path: String) -> Bool {
        guard let dash = path.utf8.lastIndex(of: UInt8(ascii: "-")) else { return false }
        return Int(path[path.utf8.index(after: dash)...]).map { $0 >= 64 } ?? false
    }

    /// Of a trap that has just been contained: what has to be looked up is not known yet.
    static func text(of trap: TrapReport, restarts: Int) -> String {
        let what = trap.messageType.map { ", handling \($0)" } ?? ""
        return "trap (\(SignalName.name(trap.signal))) in \(trap.path ?? trap.name ?? "")\(trap.process)\(what)"
    }

    static func text(of event: ContainmentEvent) -> String? {
        switch event {
        case .trapped: nil
        case .leakBudgetNear(let leaked): "leak budget near: \(leaked.bytes) of \(leaked.budget) bytes"
        case .leakBudgetReached(let leaked): "leak budget reached: \(leaked.bytes) of \(leaked.budget) bytes"
        }
    }
}
