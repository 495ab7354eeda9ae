// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

public import LightProc

/// A message that reached nobody, or was not handled: its type and why, never its contents.
public struct DeadLetter: Sendable, CustomStringConvertible {
    /// Why a message was not handled; compare with the static members, more of which may be added.
    public struct Reason: Hashable, Sendable, CustomStringConvertible {
        /// The same in a few words, as they appear in the log.
        public let description: String

        /// It was left in the mailbox of a process that ended for good.
        public static let closed = Reason(description: "its receiver has ended")
        /// It was of a type that its receiver does not take.
        public static let wrongType = Reason(description: "its receiver does not take that type")
        /// It was dropped because the mailbox was full.
        public static let overflow = Reason(description: "the mailbox was full")
        /// It had waited longer than the mailbox allows.
        public static let expired = Reason(description: "it waited too long")
        /// It was dropped because everything in the mailbox waited too long.
        public static let shed = Reason(description: "load was shed")
        /// Its receiver said that it does not handle it.
        public static let unhandled = Reason(description: "its receiver did not handle it")
        /// Its receiver failed on messages like it too often.
        public static let poisonous = Reason(description: "its receiver failed on it too often")
        /// There was nobody of that name.
        public static let noReceiver = Reason(description: "there was no receiver")
    }

    /// What was sent.
    public let messageType: Any.Type
    /// Who was to have it; nil if there was nobody.
    public let receiver: ProcID?
    /// What that process is called.
    public let receiverName: String?
    /// Who sent it, where that is known.
    public let sender: ProcID?
    /// Why it was not handled.
    public let reason: Reason

    init(
        _ messageType: Any.Type,
        to receiver: ProcID?,
        _ receiverName: String?,
        from sender: ProcID? = nil,
        _ reason: Reason
    ) {
        self.messageType = messageType
        self.receiver = receiver
        self.receiverName = receiverName
        self.sender = sender
        self.reason = reason
    }

    /// As above, of a message; of one that is told apart by its receiver the type of its value.
    init(
        of message: any Sendable,
        to receiver: ProcID,
        _ receiverName: String?,
        from sender: ProcID?,
        _ reason: Reason
    ) {
        let type = (message as? AnyMessage).map { Swift.type(of: $0.payload) } ?? Swift.type(of: message)
        self.init(type, to: receiver, receiverName, from: sender, reason)
    }

    /// One line: the type of the message, whom it was for, and why it was not handled.
    public var description: String {
        let receiver = receiver.map { " to \(receiverName ?? "")\($0)" } ?? ""
        return "\(messageType)\(receiver): \(reason)"
    }
}

/// What ends an observation of dead letters.
public struct DeadLetterObservation: Sendable {
    let end: @Sendable () -> Void
    /// Ends it. Any thread; harmless when repeated. Calls that are on their way still come.
    public func cancel() { end() }
}

/// Decides which dead letters are told in the log, so that a flood of them does not flood the log. A pure value.
struct DeadLetterLog: Sendable {
    /// So many are told within a period; the others are counted.
    static let burst = 10
    static let period = Duration.seconds(10)

    private var periodBegan: Duration?
    private var told = 0
    private var silent = 0

    enum Verdict: Equatable {
        /// Tell it, and how many were not told in the period before.
        case tell(silentBefore: Int)
        case beSilent
    }

    /// A message was not handled. Times never go backwards.
    mutating func letter(at now: Duration) -> Verdict {
        if let began = periodBegan, now - began < Self.period {
            if told < Self.burst {
                told += 1
                return .tell(silentBefore: 0)
            }
            silent += 1
            return .beSilent
        }
        defer {
            periodBegan = now
            told = 1
            silent = 0
        }
        return .tell(silentBefore: silent)
    }
}
