// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

/// A feature's part of a ``Companion``: hears of the process's ends. See ``ProcCompanion`` for what it may do then.
protocol CompanionPart: AnyObject, Sendable {
    /// An incarnation begins; nothing of it has run. By the consumer; of one whose start traps perhaps twice.
    func starting(_ proc: LightProc, incarnation: UInt32)
    /// How an incarnation ends was decided. On whichever thread decided.
    func endDecided(of proc: LightProc, incarnation: UInt32, reason: ExitReason)
    /// An incarnation is over and its hooks have run. On a worker.
    func incarnationEnded(of proc: LightProc, incarnation: UInt32, reason: ExitReason)
    /// The process takes no message any more, for ever. Once, on any thread; nil when its last reference is gone.
    func closed(_ proc: LightProc?, _ id: ProcID, reason: ExitReason)
}

extension CompanionPart {
    func starting(_ proc: LightProc, incarnation: UInt32) {}
    func endDecided(of proc: LightProc, incarnation: UInt32, reason: ExitReason) {}
    func incarnationEnded(of proc: LightProc, incarnation: UInt32, reason: ExitReason) {}
    func closed(_ proc: LightProc?, _ id: ProcID, reason: ExitReason) {}
}

/// What this layer keeps with a process, over restarts: its queue if it is managed, and the parts of features that it uses.
///
/// Made when first needed. A part that comes after the process has closed is told at once.
final class Companion: ProcCompanion {
    /// The queue that messages go through; nil for a process whose mailbox takes them as they are.
    let queue: MessageQueue?
    private let content = Locked(Content())

    private struct Content {
        var parts: [(kind: ObjectIdentifier, part: any CompanionPart)] = []
        var closing: ExitReason?
        var list: [any CompanionPart] { parts.map(\.part) }
    }

    init(queue: MessageQueue? = nil) { self.queue = queue }

    /// The companion of a process, made if there is none. Any thread.
    static func of(_ proc: LightProc) -> Companion {
        guard let companion = proc.companion(orMake: { Companion() }) as? Companion else {
            preconditionFailure("impossible: no other kind is made")
        }
        return companion
    }

    /// The companion of a process, if it has one.
    static func existing(of proc: LightProc) -> Companion? { proc.companion as? Companion }

    /// The part of a kind, if there is one.
    func part<Part: CompanionPart>(_ kind: Part.Type) -> Part? {
        content.withLock { $0.parts.first { $0.kind == ObjectIdentifier(kind) }?.part as? Part }
    }

    /// The part of a kind, made if there is none; `make` may be called in vain when two come at once. Any thread.
    func part<Part: CompanionPart>(_ kind: Part.Type, of proc: LightProc, orMake make: () -> Part) -> Part {
        if let part = part(kind) { return part }
        let fresh = make()
        let (part, closing) = content.withLock { content -> (Part, ExitReason?) in
            if let part = content.parts.first(where: { $0.kind == ObjectIdentifier(kind) })?.part as? Part {
                return (part, nil)
            }
            content.parts.append((ObjectIdentifier(kind), fresh))
            return (fresh, content.closing)
        }
        if let closing { fresh.closed(proc, proc.id, reason: closing) }
        return part
    }

    func starting(_ proc: LightProc, incarnation: UInt32) {
        queue?.starting(proc, incarnation: incarnation)
        for part in content.withLock(\.list) { part.starting(proc, incarnation: incarnation) }
    }

    func endDecided(of proc: LightProc, incarnation: UInt32, reason: ExitReason) {
        queue?.endDecided(of: proc, incarnation: incarnation, reason: reason)
        for part in content.withLock(\.list) { part.endDecided(of: proc, incarnation: incarnation, reason: reason) }
    }

    func incarnationEnded(of proc: LightProc, incarnation: UInt32, reason: ExitReason) {
        for part in content.withLock(\.list) {
            part.incarnationEnded(of: proc, incarnation: incarnation, reason: reason)
        }
    }

    func closed(_ proc: LightProc?, _ id: ProcID, reason: ExitReason) {
        queue?.closed(proc, id, reason: reason)
        let parts = content.withLock { content in
            content.closing = reason
            return content.list
        }
        for part in parts { part.closed(proc, id, reason: reason) }
    }
}

extension LightProc {
    /// The system that it lives in, as far as that is known: that of its supervisor.
    var system: BastionSystem? { record?.supervisor.system }

    /// What its supervisor knows of it; nil if nobody supervises it.
    var record: ChildRecord? { observer as? ChildRecord }

    /// The ask in hand; nil if the message in hand is none, or it was answered. By the process.
    var askInHand: Ask? { receiptInHand as? Ask }
}
