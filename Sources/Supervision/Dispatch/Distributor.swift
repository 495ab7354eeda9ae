// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

/// A name behind which processes share work: who sends knows the name and the type of messages only.
///
/// Members are the groups that were started with it (``Children/distributor(_:_:)``), also while they are being restarted, and
/// processes that subscribed; each leaves when it ends for good. A distributor exists from the first of them on, until all
/// supervisors that were started with it have finished and no member is left. Until then there is `noDistributor`, and what is sent
/// comes back in the error.
///
/// ```swift
/// let orders = Distributor<Order>("orders", in: system)
/// try orders.tellOne(order)
/// let total = try await orders.askOne { .total($0) }
/// ```
///
/// Finding it costs a look-up, so keep it. Any thread; sends never block.
public struct Distributor<Message: Sendable>: Sendable {
    /// What the distributor is called.
    public let name: String
    @usableFromInline let cell: DistributorCell

    /// Finds the distributor of a name, whether it exists by now or not.
    public init(_ name: String, in system: BastionSystem = .shared) {
        self.name = name
        cell = system.distributorCell(name)
    }

    /// Finds the distributor of a name, whether it exists by now or not.
    public static func named(_ name: String, in system: BastionSystem = .shared) -> Distributor {
        Distributor(name, in: system)
    }

    /// The members, in the order in which they joined. O(1).
    public var members: Recipients { cell.members }

    // MARK: Members

    /// Makes a process a member, until it ends for good. Until then the distributor holds it.
    ///
    /// - Parameter strategy: How members are chosen; nil: as it is, round robin by default.
    /// - Returns: False if it is one already.
    /// - Throws: `wrongMessageType`, `conflictingStrategy`, `processEnded`.
    @discardableResult
    public func subscribe(
        _ ref: ProcRef<Message>,
        _ strategy: DistributionStrategy? = nil
    ) throws(DistributorError<Message>) -> Bool {
        let proc = ref.proc
        do throws(DistributorProblem) {
            if proc.hasEnded { throw DistributorProblem.processEnded }
            try cell.declare(messageType: proc.isReactive ? Message.self : nil, strategy: strategy)
        } catch {
            throw DistributorError(error, name)
        }
        // The declaration bridges the moment until it is a member.
        defer { cell.release() }
        return cell.add(Recipient(proc, messageType: proc.isReactive ? Message.self : nil))
    }

    /// Ends the membership of a process, whichever of its references is given. False if it was no member.
    ///
    /// What was sent to it before stays with it.
    @discardableResult
    public func unsubscribe<Own: Sendable>(_ ref: ProcRef<Own>) -> Bool { cell.remove(ref.proc) }

    // MARK: Tell

    /// Sends a message to one member, chosen by the strategy. One that does not take it is passed over, unless the strategy is a
    /// keyed one and the member lives: nobody else stands for it.
    ///
    /// O(1) in the number of members, with a hash ring O(log n): one lock, and what the send costs.
    ///
    /// - Parameter key: For the keyed strategies, unless they make it of the message; others ignore it.
    /// - Returns: Who got it.
    /// - Throws: With the message: `noDistributor`, `emptyRecipients`, `wrongMessageType`, `notTaken`, `noKey`, `badChoice`.
    @inlinable @discardableResult
    public func tellOne(
        _ message: Message,
        key: DistributionKey? = nil
    ) throws(DistributorError<Message>) -> ProcRef<Message> {
        if let proc = cell.pickQuickly(Message.self, key) {
            let ref = ProcRef<Message>(proc)
            if ref.tell(message) { return ref }
            cell.passOver(proc)
        }
        return try tellAnother(message, key)
    }

    /// As `tellOne`, where the first choice did not come about at once.
    @usableFromInline @inline(never)
    func tellAnother(_ message: Message, _ key: DistributionKey?) throws(DistributorError<Message>) -> ProcRef<Message>
    {
        do throws(DistributorProblem) {
            return try toOne(key, keyed: { message }, send: { $0.tell(message) ? $0 : nil })
        } catch {
            throw DistributorError(error, name, message: message)
        }
    }

    /// Sends a message to every member; returns how many took it. O(members), under no lock.
    ///
    /// - Throws: With the message, if nobody took it: `noDistributor`, `emptyRecipients`, `wrongMessageType`, `notTaken`.
    @discardableResult
    public func tellEveryone(_ message: Message) throws(DistributorError<Message>) -> Int {
        do throws(DistributorProblem) {
            let count = try cell.all(Message.self).count { ProcRef<Message>($0.proc).tell(message) }
            if count == 0 { throw DistributorProblem.notTaken }
            return count
        } catch {
            throw DistributorError(error, name, message: message)
        }
    }

    /// Sends a message to whom the strategy says: to all under `broadcast`, otherwise to one. Returns how many took it.
    @discardableResult
    public func tell(_ message: Message, key: DistributionKey? = nil) throws(DistributorError<Message>) -> Int {
        if case .broadcast = cell.way { return try tellEveryone(message) }
        try tellOne(message, key: key)
        return 1
    }

    // MARK: Choice

    /// Calls `send` with one member after the other, as the strategy chooses them, until one takes the message.
    ///
    /// - Parameters:
    ///   - message: Makes the message of which the key is made, if need be.
    ///   - send: Nil if the member did not take it: it has ended for good, or its mailbox is full.
    func toOne<Sent>(
        _ key: DistributionKey?,
        keyed message: () throws(DistributorProblem) -> Message,
        send: (ProcRef<Message>) -> Sent?
    ) throws(DistributorProblem) -> Sent {
        var key = key
        // Not more often than there were members at first.
        var left = max(cell.members.count, 1)
        while true {
            let proc: LightProc
            switch try cell.pick(Message.self, key) {
            case .member(let member): proc = member
            case .key(let function):
                guard let function = function as? TypedKeyFunction<Message> else {
                    throw .wrongMessageType(function.messageType)
                }
                key = function.call(try message())
                continue
            case .choice(let policy, let members):
                let place = policy.choose(from: members, key: key)
                guard members.indices.contains(place) else { throw .badChoice(place, of: members.count) }
                proc = members[place].proc
            }
            if let sent = send(ProcRef(proc)) { return sent }
            cell.passOver(proc)
            left -= 1
            // A key has one member: as long as that lives nobody else is chosen.
            if left == 0 || cell.isKeyed && !proc.hasEnded {
                // If all have ended that is what is to be said.
                _ = try cell.all(Message.self)
                throw .notTaken
            }
        }
    }
}
