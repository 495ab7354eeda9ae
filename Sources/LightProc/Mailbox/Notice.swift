// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// Stands among the messages of a process for one that is made when it is taken out: until then it can be withdrawn.
///
/// What a process is told of others lies in its user lane as a notice, behind what they sent before. It is no message of a user:
/// one that is left when the process closes is no dead letter.
@usableFromInline
package final class Notice: Sendable {
    private let look: @Sendable (LightProc) -> (any Sendable)?
    private let take: @Sendable (LightProc) -> (any Sendable)?

    /// Both make the message, in the name of the process; nil when it was withdrawn. They own nothing of the user's: they may be
    /// destroyed anywhere.
    ///
    /// - Parameters:
    ///   - look: Leaves it there.
    ///   - take: Takes it out; what was made to be looked at is what is taken.
    package init(
        look: @escaping @Sendable (LightProc) -> (any Sendable)?,
        take: @escaping @Sendable (LightProc) -> (any Sendable)?
    ) {
        self.look = look
        self.take = take
    }

    /// The message, unless it was withdrawn. By the process, once.
    @usableFromInline
    package func message(for proc: LightProc) -> (any Sendable)? { take(proc) }

    /// The same, without taking it: by the process, as often as it likes.
    package func preview(for proc: LightProc) -> (any Sendable)? { look(proc) }
}
