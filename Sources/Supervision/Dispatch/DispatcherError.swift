// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// Why a message that was broadcast reached nobody. It comes back in the error.
public struct DispatcherError<Message: Sendable>: Error, Sendable, CustomStringConvertible {
    /// What went wrong; compare with the static members, more of which may be added.
    public typealias Code = DispatcherErrorCode

    /// What went wrong, for programs.
    public let code: Code
    /// Where it was to go.
    public let target: BroadcastTarget
    /// The message, which nobody got.
    public let message: Message

    /// One line: where the message was to go, of which type it is, and what went wrong; never its contents.
    public var description: String {
        let place =
            switch target {
            case .all: "all dispatchers"
            case .group(let name): "the dispatcher \(name)"
            }
        return "a \(Message.self) to \(place) reached nobody: \(code.description)"
    }
}

/// What can go wrong with a broadcast, whatever is sent.
public struct DispatcherErrorCode: Hashable, Sendable, CustomStringConvertible {
    /// The same in a few words, as they appear in the error's text.
    public let description: String
    /// No running group has a dispatcher of this name; or none at all.
    public static let noDispatcher = DispatcherErrorCode(description: "there is no such dispatcher")
    /// No dispatcher has members at the moment.
    public static let emptyRecipients = DispatcherErrorCode(description: "there are no members")
    /// No handler handed it to a member that took it: they take other types, or have ended.
    public static let notTaken = DispatcherErrorCode(description: "no member took it")
}
