// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

extension Distributor {
    /// Asks one member, chosen by the strategy, without waiting. One that does not take the message is passed over.
    ///
    /// - Parameters:
    ///   - time: How long to wait for the answer; within a deadline of the calling task no longer than that.
    ///   - key: For the keyed strategies, unless they make it of the message; others ignore it.
    ///   - make: Makes the message around the reply. Called once more for each member that is passed over, and for the key.
    /// - Throws: `noDistributor`, `emptyRecipients`, `wrongMessageType`, `notTaken`, `noKey`, `badChoice`.
    public func request<Value: Sendable>(
        within time: Duration = .seconds(5),
        key: DistributionKey? = nil,
        _ make: (Reply<Value>) -> Message
    ) throws(DistributorError<Message>) -> PendingReply<Value> {
        do {
            return try toOne(
                key,
                keyed: { () throws(DistributorProblem) in try Self.unsent(make, cell.members) },
                send: { $0.requestIfTaken(within: time, make) }
            )
        } catch {
            throw DistributorError(error, name)
        }
    }

    /// Asks one member, chosen by the strategy, and waits for the answer; see ``request(within:key:_:)``.
    ///
    /// - Throws: Besides, `noAnswer` with how the ask ended. Another member is not asked then: this one may have done the work.
    public func askOne<Value: Sendable>(
        within time: Duration = .seconds(5),
        key: DistributionKey? = nil,
        _ make: (Reply<Value>) -> Message
    ) async throws(DistributorError<Message>) -> Value {
        let pending = try request(within: time, key: key, make)
        do {
            return try await pending.value()
        } catch {
            throw DistributorError(error, name)
        }
    }

    /// Asks every member, and waits until each has answered or will not, at most for the time. In a full mailbox that lets senders
    /// wait the question waits for room.
    ///
    /// - Returns: One result for each member, in the order in which they joined: its answer, or how the ask ended.
    /// - Throws: `noDistributor`, `emptyRecipients`, `wrongMessageType`.
    public func askEveryone<Value: Sendable>(
        within time: Duration = .seconds(5),
        _ make: (Reply<Value>) -> Message
    ) async throws(DistributorError<Message>) -> [Result<Value, AskError>] {
        let pending: [PendingReply<Value>]
        do {
            pending = try cell.all(Message.self).map { ProcRef<Message>($0.proc).asking(within: time, make) }
        } catch {
            throw DistributorError(error, name)
        }
        var results: [Result<Value, AskError>] = []
        for one in pending {
            do throws(AskError) {
                results.append(.success(try await one.value()))
            } catch {
                results.append(.failure(error))
            }
        }
        return results
    }

    /// Asks some members, or all, and returns the first answer; the other asks are given up then, and their answers dropped.
    ///
    /// A member that fails or does not answer is no answer: only when none is left to wait for there is an error.
    ///
    /// - Parameter count: How many to ask, one after the other by the strategy; nil: all.
    /// - Throws: `noAnswer` with how the last ask ended; `noDistributor`, `emptyRecipients`, `wrongMessageType`.
    public func askFirst<Value: Sendable>(
        of count: Int? = nil,
        within time: Duration = .seconds(5),
        _ make: (Reply<Value>) -> Message
    ) async throws(DistributorError<Message>) -> Value {
        if let count { precondition(count > 0, "at least one member must be asked, got \(count)") }
        let first: FirstAnswer<Value>
        do {
            let all = try cell.all(Message.self)
            // From where it is the next one's turn, so that not always the same are asked.
            let start = count.map { $0 < all.count } == true ? cell.nextTurn() : 0
            first = FirstAnswer(
                (0..<min(count ?? all.count, all.count)).map {
                    ProcRef<Message>(all[(start + $0) % all.count].proc).request(within: time, make)
                }
            )
        } catch {
            throw DistributorError(error, name)
        }
        do throws(AskError) {
            return try await first.value()
        } catch {
            throw DistributorError(error, name)
        }
    }

    /// Asks whom the strategy says: under `broadcast` and `firstAnswer` several, of whom the first answer counts; otherwise one.
    public func ask<Value: Sendable>(
        within time: Duration = .seconds(5),
        key: DistributionKey? = nil,
        _ make: (Reply<Value>) -> Message
    ) async throws(DistributorError<Message>) -> Value {
        switch cell.way {
        case .broadcast: try await askFirst(within: time, make)
        case .firstAnswer(let count): try await askFirst(of: count, within: time, make)
        case .roundRobin, .random, .leastLoaded, .hashed, .sticky, .custom:
            try await askOne(within: time, key: key, make)
        }
    }

    /// A message that is looked at for its key only: nobody waits for its reply.
    private static func unsent<Value: Sendable>(
        _ make: (Reply<Value>) -> Message,
        _ members: Recipients
    ) throws(DistributorProblem) -> Message {
        // It may have left since it was to be chosen.
        guard let member = members.first else { throw .emptyRecipients }
        let ask = Ask(member.proc, for: Value.self, within: .seconds(1))
        // Settled before the reply is dropped: that is nobody's failure.
        ask.cancel()
        return make(Reply(ask))
    }
}

extension ProcRef {
    /// As `request`; nil when the message did not reach the process.
    func requestIfTaken<Value: Sendable>(
        within time: Duration,
        _ make: (Reply<Value>) -> Message
    ) -> PendingReply<Value>? {
        let pending = request(within: time, make)
        guard pending.ask.isSettled else { return pending }
        let outcome = OneShot<Result<Value, AskError>>()
        pending.whenSettled { outcome.settle($0) }
        if case .failure(let error)? = outcome.known, error.wasNeverDelivered { return nil }
        return pending
    }
}

extension AskError {
    /// Whether another process may be asked instead: nobody has seen the message.
    var wasNeverDelivered: Bool { code == .refused || code == .full }
}
