// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

public import LightProc

/// What is known about a worker that is stuck in one turn: a handler, or a job between two suspensions.
public struct StallReport: Sendable {
    /// Whether the turn goes on, or has ended meanwhile.
    public enum Stage: Sendable, Hashable {
        /// It was found: its worker runs nothing else. Another one stands in for it, unless as many do as may.
        case stuck
        /// It is over; the worker that stood in for it goes.
        case recovered
    }

    /// Whether it was found, or is over.
    public let stage: Stage
    /// The worker's index; see ``WorkerCounters/worker``.
    public let worker: Int
    /// The process that it runs; nil for a job that belongs to none, or if the thread did not tell.
    public let process: ProcID?
    /// The name of the process, if it has one.
    public let name: String?
    /// Where the process stands in the tree of supervisors; nil if nobody supervises it.
    public let path: String?
    /// The type of the messages that the process handles; for an async one, which may take several, that of the message that it
    /// received last, nil if none.
    public let messageType: String?
    /// How long the turn has taken so far; at the end, how long it took. As exact as the watch looks: half its threshold.
    public let duration: Duration
    /// Addresses within the instructions of the thread's stack, innermost first; at most 64. Empty if it did not tell.
    public let backtrace: [UInt]

    /// Names the addresses of the backtrace; costs as ``TrapReport/frames()``.
    public func frames() -> [TrapReport.Frame] { TrapReport.frames(of: backtrace) }

    /// One line for logs.
    public var summary: String {
        let who = process.map { id in (path ?? name).map { "\($0)\(id)" } ?? "\(id)" } ?? "a task"
        let what = messageType.map { ", handling \($0)" } ?? ""
        switch stage {
        case .stuck: return "worker \(worker) is stuck in \(who)\(what) since \(duration)"
        case .recovered: return "worker \(worker) got on after \(duration) in \(who)\(what)"
        }
    }

    /// The summary, then the backtrace, a line for each frame. Costs as ``TrapReport/frames()``.
    public func text() -> String {
        frames().enumerated().reduce(summary) { "\($0)\n  \($1.offset) \($1.element)" }
    }
}
