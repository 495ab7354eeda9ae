// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CLightProc
import Glibc

/// What a handler throws that is to end as if it had trapped: with a report as the reason, and nothing destroyed.
package struct SimulatedTrap: Error {
    package let report: TrapReport

    package init(of proc: LightProc) {
        report = TrapReport(
            kind: .trap,
            message: "simulated by a fault plan",
            signal: SIGILL,
            process: proc.id,
            name: proc.name,
            path: proc.path,
            messageType: proc.actualMessageType(on: crt_self()) ?? proc.messageType,
            backtrace: []
        )
    }

    private static let lost = Locked<[any Sendable]>([])

    /// Never destroys a value: what a trapped process held leaks.
    package static func lose(_ value: any Sendable) { lost.withLock { $0.append(value) } }
}

extension LightProc {
    /// Ends the async process whose job the calling thread runs as if its code had trapped at this place: the calling task never
    /// goes on, and what it holds leaks.
    package func trapHere() async -> Never {
        let report = SimulatedTrap(of: self).report
        let executor = withSide { $0.executor }
        while true {
            await suspended { (continuation: UnsafeContinuation<Void, Never>) in
                SimulatedTrap.lose(continuation)
                trapped(report, in: executor, isOwnJob: false, task: crt_currentTask())
            }
        }
    }
}

/// What can be seen of a process from outside; may be out of date when it is read.
package struct ProcLook: Sendable {
    package let phase: ProcState.Phase
    /// Whether a task of an async process waits for a message.
    package let isReceiving: Bool
    package let hasMessages: Bool
    /// Of the asks that it has in hand.
    package let receipts: [MessageReceipt]
}

extension LightProc {
    /// What can be seen of it from outside. Costs a lock. Any thread.
    package var look: ProcLook {
        let (isReceiving, receipts, hasControl) =
            existingSide?.content.withLock { content in
                (
                    !content.waiters.isEmpty,
                    content.receipts.values.sorted { $0.number < $1.number }.map(\.receipt), !content.control.isEmpty
                )
            } ?? (false, [], false)
        return ProcLook(
            phase: state.phase,
            isReceiving: isReceiving,
            hasMessages: hasControl || !mailbox.isEmpty,
            receipts: receipts
        )
    }
}
