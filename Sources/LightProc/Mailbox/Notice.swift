// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// Stands among the messages of a process for one that is made when it is taken out: until then it can be withdrawn.
///
/// What a process is told of others lies in its user lane as a notice, behind what they sent before. It is no message of a user:
/// one that is left when the process closes is no dead letter.
@usableFromInline
package final class Notice: Sendable {
    private let make: @Sendable (LightProc) -> (any Sendable)?

    /// - Parameter make: Makes the message, in the name of the process that takes it; nil when it was withdrawn. Owns nothing
    ///   of the user's: it may be destroyed anywhere.
    package init(_ make: @escaping @Sendable (LightProc) -> (any Sendable)?) { self.make = make }

    /// The message, unless it was withdrawn. By the process, once.
    @usableFromInline
    package func message(for proc: LightProc) -> (any Sendable)? { make(proc) }
}
