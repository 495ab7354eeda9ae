// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// How much a process has to do, as far as its mailbox shows it: nobody counts messages.
public enum ProcLoad: UInt8, Sendable, Hashable, Comparable, CaseIterable {
    /// It waits for a message.
    case idle
    /// It is at work, or about to be, and nothing else waits.
    case busy
    /// Messages wait.
    case waiting
    /// More messages wait than one turn takes.
    case behind
    /// No incarnation lives: what is sent waits for the next one, if there will be one.
    case down

    /// By how much there is to do.
    public static func < (lhs: ProcLoad, rhs: ProcLoad) -> Bool { lhs.rawValue < rhs.rawValue }
}

extension LightProc {
    /// How much it has to do; may be out of date when it returns. Any thread; costs some loads and nothing for others.
    public final var load: ProcLoad {
        switch state.phase {
        case .ending, .ended, .closed: return .down
        case .created, .active: break
        }
        if mailbox.isIdle { return .idle }
        if mailbox.isBehind { return .behind }
        return mailbox.isEmpty ? .busy : .waiting
    }

    /// Whether it has ended for good: it is closed, or nobody supervises it and its end is decided. Any thread.
    package final var hasEnded: Bool {
        switch state.phase {
        case .created, .active: false
        case .closed: true
        case .ending, .ended:
            existingSide?.content.withLock { $0.observer == nil && $0.lastExit != nil } ?? false
        }
    }
}
