// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

public import LightProc

/// What happens to messages on which a process has failed again and again.
///
/// A message is lost with the incarnation that failed on it; what comes back is the next one like it: of the same type, with the
/// same key. Such a message is not handled any more once so many incarnations in a row have failed on its like: a handler
/// decides. One success with it, and the count begins anew.
///
/// ```swift
/// Children("orders", Orders()).poison(.after(3, key: \Order.customer, decide: { _ in .park }))
/// ```
public struct PoisonPolicy: Sendable {
    /// What becomes of a message that is like those that were failed on.
    public enum Verdict: Sendable, Hashable, CaseIterable {
        /// It is handled all the same.
        case handle
        /// It becomes a dead letter; its asker is told `dropped`.
        case deadLetter
        /// It is set aside, until ``ProcRef/releaseParked()``. So many as ``PoisonPolicy/parkingSpace``, then dead letters.
        case park
        /// It becomes a dead letter and the process is stopped.
        case stop
    }

    /// A message that was met, as the handler sees it.
    public struct Suspect: Sendable {
        /// The type of the message.
        public let messageType: Any.Type
        /// What its key is.
        public let key: String
        /// How many incarnations in a row have failed on its like.
        public let failures: Int
        /// How the last of them ended.
        public let lastReason: ExitReason
        /// The process.
        public let process: ProcID
    }

    /// How many messages of a process can be parked.
    public static let parkingSpace = 1_000

    /// How many incarnations in a row must have failed.
    public let failures: Int
    let key: @Sendable (any Sendable) -> String?
    let decide: @Sendable (Suspect) -> Verdict

    /// Asks `decide` about each message whose like so many incarnations in a row have failed on.
    ///
    /// - Parameters:
    ///   - failures: At least 1.
    ///   - key: What makes messages alike, besides their type. Called by the process for each message that it takes.
    ///   - decide: Called by the process, in whose name it runs.
    public static func after<Message: Sendable>(
        _ failures: Int,
        key: @escaping @Sendable (Message) -> String,
        decide: @escaping @Sendable (Suspect) -> Verdict = { _ in .deadLetter }
    ) -> PoisonPolicy {
        PoisonPolicy(failures: failures, key: { ($0 as? Message).map(key) }, decide: decide)
    }

    func validate(group: String) throws(SupervisionError) {
        guard failures < 1 else { return }
        throw SupervisionError(.badMailbox, "group \(group): poison needs at least one failure, got \(failures)")
    }
}

/// On which messages incarnations have failed in a row: a pure value of bounded size.
struct PoisonTable: Sendable {
    struct Key: Hashable, Sendable {
        let type: ObjectIdentifier
        let key: String
    }

    /// So many keys are remembered; of more, the one that failed longest ago is forgotten.
    static let capacity = 1_024

    private var counts: [Key: (failures: Int, number: Int, reason: ExitReason)] = [:]
    private var nextNumber = 0
    /// The message that is being handled.
    private(set) var inHand: Key?

    var count: Int { counts.count }

    /// A message is taken: the one before was handled without a failure.
    mutating func took(_ key: Key?) {
        if let inHand { counts[inHand] = nil }
        inHand = key
    }

    /// An incarnation failed with the message in hand.
    mutating func failed(_ reason: ExitReason) {
        guard let key = inHand else { return }
        inHand = nil
        nextNumber += 1
        counts[key] = ((counts[key]?.failures ?? 0) + 1, nextNumber, reason)
        if counts.count > Self.capacity, let oldest = counts.min(by: { $0.value.number < $1.value.number }) {
            counts[oldest.key] = nil
        }
    }

    /// An incarnation ended without a failure of its own: what it had in hand is not to blame.
    mutating func ended() { inHand = nil }

    func failures(of key: Key) -> (failures: Int, reason: ExitReason)? {
        counts[key].map { ($0.failures, $0.reason) }
    }
}
