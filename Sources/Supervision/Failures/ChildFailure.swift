// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

public import LightProc

/// How a child failed: what its next incarnation, callbacks and a ``FailurePolicy`` are told.
public struct ChildFailure: Sendable, CustomStringConvertible {
    /// How the incarnation ended: an error, a trap with its report, a kill, ...
    public let reason: ExitReason
    /// Of the message in hand, where no report says it.
    private let type: Any.Type?
    private let reportedType: String?
    /// Where its supervisor stands.
    private let supervisorPath: String
    /// How many incarnations in a row have failed on a message of this type, this one included; 1 if there was no message. An end without a
    /// failure, a failure on another type, and a start by hand begin anew.
    public let timesInARow: Int
    /// How many times it had been restarted before.
    public let restarts: Int
    /// The child.
    public let process: ProcID
    /// What it is called, as in `orders-3`.
    public let name: String

    fileprivate init(_ reason: ExitReason, of child: ChildRecord, _ note: FailureNote) {
        self.reason = reason
        type = note.type
        reportedType = note.reportedType
        timesInARow = note.timesInARow
        restarts = note.restarts
        supervisorPath = child.supervisor.path
        process = child.proc.id
        name = child.name
    }

    /// The type of the message that was being handled, as in `Order.Place`; nil if there was none.
    public var messageType: String? { reportedType ?? type.map { "\($0)" } }

    /// Where it stands, as in `/shop/orders-3`.
    public var path: String { "\(supervisorPath)/\(name)" }

    /// The error that it threw, if it did.
    public var error: (any Error)? {
        if case .error(let error) = reason { return error }
        return nil
    }

    /// The report, if it trapped.
    public var trap: TrapReport? { reason.trapReport }

    /// One line, as in `/shop/orders-3 failed handling Order.Place for the third time: error: outOfStock`.
    public var description: String {
        guard let messageType else { return "\(path) failed: \(reason)" }
        let times =
            switch timesInARow {
            case 1: ""
            case 2: " for the second time"
            case 3: " for the third time"
            default: " for the \(timesInARow)th time"
            }
        return "\(path) failed handling \(messageType)\(times): \(reason)"
    }
}

extension Context {
    /// How the incarnation before this one failed; nil if it did not, or this is the first.
    public var lastFailure: ChildFailure? { proc.record?.lastFailure }
}

extension ReactiveContext {
    /// How the incarnation before this one failed; nil if it did not, or this is the first.
    public var lastFailure: ChildFailure? { proc.record?.lastFailure }
}

/// What is kept of a child's last failure besides its reason, which the process itself keeps: nothing of the user's.
struct FailureNote: Sendable {
    fileprivate let type: Any.Type?
    /// Of a trap: names are made for those only, which cost far more.
    fileprivate let reportedType: String?
    fileprivate let timesInARow: Int
    fileprivate let restarts: Int

    fileprivate init(_ reason: ExitReason, of proc: LightProc, after before: FailureNote?) {
        let report = reason.trapReport
        type = report == nil ? proc.messageType : nil
        reportedType = report?.messageType
        restarts = proc.restarts
        let isSame: Bool
        switch (before?.reportedType, reportedType) {
        case (nil, nil): isSame = type != nil && before?.type == type
        case (let old?, let new?): isSame = old == new
        case (nil, let new?): isSame = before?.type.map { "\($0)" } == new
        case (let old?, nil): isSame = type.map { "\($0)" } == old
        }
        timesInARow = isSame ? (before?.timesInARow ?? 0) + 1 : 1
    }
}

extension ChildRecord {
    /// How its last incarnation failed; nil if it did not.
    var lastFailure: ChildFailure? {
        guard let reason = proc.lastExit, reason.isFailure else { return nil }
        return failure(reason)
    }

    /// A failure that was noted.
    func failure(_ reason: ExitReason) -> ChildFailure? {
        supervisor.failures.withLock { $0[id] }.map { ChildFailure(reason, of: self, $0) }
    }

    /// A failure that has not ended the incarnation yet, and may not.
    func failureInHand(_ reason: ExitReason) -> ChildFailure {
        let before = supervisor.failures.withLock { $0[id] }
        return ChildFailure(reason, of: self, FailureNote(reason, of: proc, after: before))
    }

    /// An incarnation has ended.
    func noteEnd(_ reason: ExitReason) {
        guard reason.isFailure else {
            supervisor.failures.withLock { if !$0.isEmpty { $0[id] = nil } }
            return
        }
        supervisor.failures.withLock { $0[id] = FailureNote(reason, of: proc, after: $0[id]) }
    }
}
