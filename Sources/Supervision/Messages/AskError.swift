// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

public import LightProc

/// Why an ask has no answer.
public struct AskError: Error, Sendable, CustomStringConvertible {
    /// What kept the answer away; compare with the static members, more of which may be added.
    public struct Code: Hashable, Sendable, CustomStringConvertible {
        /// The same in a few words, as they appear in the error's text.
        public let description: String

        /// The process ended with the message in its hands, or for good while it waited in the mailbox; `reason` says how.
        public static let processEnded = Code(description: "the process ended")
        /// The process had ended for good before the message reached it.
        public static let refused = Code(description: "the process is closed")
        /// No answer within the time. The answer may still come; it is then dropped.
        public static let timeout = Code(description: "no answer within the time")
        /// The asking task was cancelled.
        public static let cancelled = Code(description: "the ask was cancelled")
        /// The mailbox of the process has no room, and its policy does not make any.
        public static let full = Code(description: "its mailbox is full")
        /// The mailbox dropped the ask, as its policy says: for lack of room, or because it had waited too long.
        public static let dropped = Code(description: "its mailbox dropped the ask")
        /// The process that was asked waits for the asking one in its turn, perhaps over others: see ``AskError/cycle``.
        public static let cycle = Code(description: "it waits for the asking process in its turn")
        /// The process dropped the reply without using it.
        public static let unanswered = Code(description: "the process dropped the reply without answering")
        /// It was answered with another type than was asked for; ``AskError/types`` names both.
        public static let wrongAnswer = Code(description: "the answer is of another type")
        /// The process takes messages of another type.
        public static let wrongMessage = Code(description: "it takes no messages of that type")
    }

    /// What kept the answer away.
    public var code: Code { content.code }
    /// How the process ended, when it did.
    public var reason: ExitReason? { content.reason }
    /// The process that was asked.
    public var process: ProcID { content.process }
    /// Processes that wait for each other in a circle, the asking one first; nil if none was found.
    public var cycle: AskCycle? { content.cycle }
    /// Which type of answer was asked for and which one came, when they differ.
    public var types: (asked: Any.Type, answered: Any.Type)? { content.types }

    /// An object, so that results are small where all goes well.
    private let content: Content

    private final class Content: Sendable {
        let code: Code
        let process: ProcID
        let reason: ExitReason?
        let cycle: AskCycle?
        let types: (asked: Any.Type, answered: Any.Type)?

        init(
            _ code: Code,
            _ process: ProcID,
            _ reason: ExitReason?,
            _ cycle: AskCycle?,
            _ types: (asked: Any.Type, answered: Any.Type)?
        ) {
            self.code = code
            self.process = process
            self.reason = reason
            self.cycle = cycle
            self.types = types
        }
    }

    init(
        _ code: Code,
        process: ProcID,
        reason: ExitReason? = nil,
        cycle: AskCycle? = nil,
        types: (asked: Any.Type, answered: Any.Type)? = nil
    ) {
        content = Content(code, process, reason, cycle, types)
    }

    /// One line: which process was asked, what kept the answer away, and how the process ended if it did.
    public var description: String {
        let why = reason.map { ": \($0)" } ?? types.map { ": \($0.answered) for \($0.asked)" } ?? ""
        return "\(process) was asked: \(code)\(why)\(cycle.map { " (\($0))" } ?? "")"
    }
}
