// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

public import LightProc

/// The stash of a process is full. The message comes back with the error; it is still in hand.
public struct StashFull<Message: Sendable>: Error, CustomStringConvertible {
    /// The message that was not stashed.
    public let message: Message
    /// How many are in the stash.
    public let capacity: Int
    /// Whose stash it is.
    public let process: ProcID

    /// One line: whose stash, and how large it is; never the message.
    public var description: String {
        "the stash of \(process) is full: it holds \(capacity) messages; unstash some, or give `stash` a larger capacity"
    }
}

/// Messages that a process has set aside.
final class StashPart: CompanionPart {
    private struct Item: Sendable {
        let type: Any.Type
        let receipt: Ask?
        /// False when the process has ended for good.
        let putBack: @Sendable (LightProc) -> Bool
    }
    private let items = Locked(Ring<Item>())
    /// Not retained: it outlives the process, and must not go with the last of these.
    private unowned let scheduler: any ProcScheduler

    init(_ scheduler: any ProcScheduler) { self.scheduler = scheduler }

    static func of(_ proc: LightProc) -> StashPart {
        Companion.of(proc).part(StashPart.self, of: proc) { StashPart(proc.scheduler) }
    }

    var count: Int { items.withLock { $0.count } }

    static func isEmpty(of proc: LightProc) -> Bool {
        (Companion.existing(of: proc)?.part(StashPart.self)?.count ?? 0) == 0
    }

    /// Sets the message in hand aside, with its ask if it is one.
    static func stash<Message: Sendable>(
        _ message: Message,
        _ capacity: Int,
        of proc: LightProc
    ) throws(StashFull<Message>) {
        let part = of(proc)
        // Only the process itself adds to it.
        let count = part.count
        if count >= capacity { throw StashFull(message: message, capacity: count, process: proc.id) }
        let receipt = receipt(of: message, proc)
        proc.managedQueue?.setAside()
        let item = Item(type: type(of: message), receipt: receipt) { proc in
            ProcRef<Message>(proc).deliver(message, receipt: receipt, lane: .control)
        }
        part.items.withLock { $0.append(item) }
    }

    private static func receipt<Message: Sendable>(of message: Message, _ proc: LightProc) -> Ask? {
        guard let dynamic = message as? AnyMessage else { return proc.releaseAskInHand() as? Ask }
        guard let ask = dynamic.reply?.token.ask, !ask.isSettled else { return nil }
        proc.forget(ask)
        return ask
    }

    /// Puts messages back, the oldest first.
    func unstash(_ count: Int, to proc: LightProc) -> Int {
        // Closed to all, as the process leaves its group: then the stash is told of when it ends.
        if proc.isClosed || proc.managedQueue?.isClosed == true { return 0 }
        var done = 0
        // Ends: each round removes one.
        while done < count, let item = items.withLock({ $0.popFirst() }) {
            if !item.putBack(proc) { BastionSystem.of(proc)?.deadLetter(of: item.type, to: proc, .closed) }
            done += 1
        }
        return done
    }

    /// What is left comes before all that waits in the user lane of the next incarnation, or is a dead letter if there is none.
    func incarnationEnded(of proc: LightProc, incarnation: UInt32, reason: ExitReason) { _ = unstash(.max, to: proc) }

    func closed(_ proc: LightProc?, _ id: ProcID, reason: ExitReason) {
        let left = items.withLock { $0.removeAll() }
        if left.isEmpty { return }
        let system = proc.flatMap { BastionSystem.of($0) } ?? SystemDirectory.first(on: scheduler)
        for item in left {
            item.receipt?.processEnded(reason)
            system?.deadLetter(DeadLetter(item.type, to: id, proc?.name, .closed))
        }
        LightProc.runOnce(on: scheduler) { _ = left }
    }
}

extension Context {
    /// Sets the message that was received last aside, until ``unstashAll()`` or ``unstash(_:)``.
    ///
    /// An ask stays alive: its asker waits on, and learns of this process's end only when it has the message in hand again. The stash survives
    /// a restart: what is in it comes before all that waits in the user lane of the next incarnation. A process that nobody supervises
    /// stays alive while an ask is in its stash. Costs an allocation and a lock.
    /// - Parameters:
    ///   - message: The message in hand, whole.
    ///   - capacity: How many may be in the stash.
    /// - Throws: ``StashFull``, with the message, which is still in hand then.
    public func stash<Message: Sendable>(_ message: Message, capacity: Int = 1_000) throws(StashFull<Message>) {
        try StashPart.stash(message, capacity, of: proc)
    }

    /// Puts all stashed messages back: they come before all that waits in the user lane, in their order, by way of the control lane.
    ///
    /// - Returns: How many.
    @discardableResult
    public func unstashAll() -> Int { unstash(.max) }

    /// Puts the oldest stashed messages back, so many at most; see ``unstashAll()``.
    @discardableResult
    public func unstash(_ count: Int) -> Int { StashPart.of(proc).unstash(count, to: proc) }

    /// How many messages are in the stash.
    public var stashed: Int { Companion.existing(of: proc)?.part(StashPart.self)?.count ?? 0 }
}

extension ReactiveContext {
    /// Sets the message in hand aside, until ``unstashAll()`` or ``unstash(_:)``; see ``Context/stash(_:capacity:)``.
    ///
    /// - Throws: ``StashFull``, with the message, which is still in hand then.
    public func stash(_ message: Body.Message, capacity: Int = 1_000) throws(StashFull<Body.Message>) {
        try StashPart.stash(message, capacity, of: proc)
    }

    /// Puts all stashed messages back: they come next, in their order, behind what waits in the control lane.
    ///
    /// - Returns: How many.
    @discardableResult
    public func unstashAll() -> Int { unstash(.max) }

    /// Puts the oldest stashed messages back, so many at most; see ``unstashAll()``.
    @discardableResult
    public func unstash(_ count: Int) -> Int { StashPart.of(proc).unstash(count, to: proc) }

    /// How many messages are in the stash.
    public var stashed: Int { Companion.existing(of: proc)?.part(StashPart.self)?.count ?? 0 }
}
