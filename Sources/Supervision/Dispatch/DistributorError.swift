// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// Why a distributor delivered nothing, or an ask through it has no answer.
public struct DistributorError<Message: Sendable>: Error, Sendable, CustomStringConvertible {
    /// What went wrong; compare with the static members, more of which may be added.
    public typealias Code = DistributorErrorCode

    /// What went wrong, for programs.
    public let code: Code
    /// The name of the distributor.
    public let distributor: String
    /// The message, which nobody got; nil of an ask, whose message was not made or has reached somebody.
    public let message: Message?
    /// How the ask ended, when the code is `noAnswer`; of several the last one.
    public let ask: AskError?
    private let detail: String

    init(_ problem: DistributorProblem, _ distributor: String, message: Message? = nil) {
        self.distributor = distributor
        self.message = message
        ask = nil
        switch problem {
        case .noDistributor: (code, detail) = (.noDistributor, "there is none of this name")
        case .emptyRecipients: (code, detail) = (.emptyRecipients, "it has no members")
        case .wrongMessageType(let taken):
            (code, detail) = (.wrongMessageType, "its members take \(taken), not \(Message.self)")
        case .notTaken: (code, detail) = (.notTaken, "no member took the message")
        case .noKey: (code, detail) = (.noKey, "its strategy needs a key, and none was given with the message")
        case .badChoice(let place, let count):
            (code, detail) = (.badChoice, "its strategy chose the member at \(place) of \(count)")
        case .conflictingStrategy: (code, detail) = (.conflictingStrategy, "it has another strategy")
        case .processEnded: (code, detail) = (.processEnded, "the process has ended for good")
        }
    }

    init(_ ask: AskError, _ distributor: String) {
        self.distributor = distributor
        self.ask = ask
        code = .noAnswer
        message = nil
        detail = "\(ask)"
    }

    /// One line: which distributor, and what went wrong; never the message.
    public var description: String { "distributor \(distributor): \(detail)" }
}

/// What can go wrong with a distributor, whatever it distributes.
public struct DistributorErrorCode: Hashable, Sendable {
    private let name: String
    /// No group was started with this distributor, and nobody subscribed; or all that did have gone.
    public static let noDistributor = DistributorErrorCode(name: "noDistributor")
    /// It has no members at the moment.
    public static let emptyRecipients = DistributorErrorCode(name: "emptyRecipients")
    /// Its members take messages of another type.
    public static let wrongMessageType = DistributorErrorCode(name: "wrongMessageType")
    /// No member took the message: they have ended meanwhile, or their mailboxes are full.
    public static let notTaken = DistributorErrorCode(name: "notTaken")
    /// Its strategy chooses by key, and the message had none.
    public static let noKey = DistributorErrorCode(name: "noKey")
    /// Its custom strategy chose a member that is not there.
    public static let badChoice = DistributorErrorCode(name: "badChoice")
    /// It exists, with another strategy than the one asked for.
    public static let conflictingStrategy = DistributorErrorCode(name: "conflictingStrategy")
    /// The process that was to subscribe has ended for good.
    public static let processEnded = DistributorErrorCode(name: "processEnded")
    /// The message was delivered, but the ask has no answer; `ask` says why.
    public static let noAnswer = DistributorErrorCode(name: "noAnswer")
}

/// The same before it is known what is distributed.
enum DistributorProblem: Error {
    case noDistributor
    case emptyRecipients
    case wrongMessageType(Any.Type)
    case notTaken
    case noKey
    case badChoice(Int, of: Int)
    case conflictingStrategy
    case processEnded
}
