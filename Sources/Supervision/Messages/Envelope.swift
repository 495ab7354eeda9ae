// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

/// What travels in the mailbox of an async process: a message of any type.
@frozen @usableFromInline
struct Envelope: Sendable {
    @usableFromInline let message: any Sendable

    @inlinable
    init(message: any Sendable) { self.message = message }

    /// The type of the message, a metatype as a word. Not asked of the runtime, which takes longer.
    @inlinable
    var typeWord: UInt {
        // safety: `Sendable` has no witness table, so that this is laid out as an `Any`: three words, then the type.
        withUnsafeBytes(of: message) { $0.load(fromByteOffset: 24, as: UInt.self) }
    }

    /// The message, if it is of this type.
    @inlinable
    func message<Message: Sendable>(as type: Message.Type) -> Message? {
        func open<Actual>(_ actual: Actual) -> Message? {
            // Nearly always the same: a cast asks the runtime, which takes some hundred instructions.
            guard Actual.self == Message.self else {
                return Self.standsForAnother(Actual.self) ? nil : actual as? Message
            }
            return withUnsafePointer(to: actual) {
                // safety: they are the same type.
                UnsafeRawPointer($0).assumingMemoryBound(to: Message.self).pointee
            }
        }
        // Not called directly: `any Sendable` is itself Sendable, so that it would not be opened.
        return _openExistential(message, do: open)
    }

    /// Whether messages of a type are the runtime's own, in place of one that is made when it is taken.
    @usableFromInline
    static func standsForAnother(_ type: Any.Type) -> Bool { type == QueueToken.self || type == Notice.self }
}
