// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// What knows the type of the messages of an async process.
protocol MessageOpener {
    static var messageType: Any.Type { get }
    /// Takes the message out of a node.
    static func open(_ node: MessageNode) -> any Bequest
}

enum Opener<Message: Sendable>: MessageOpener {
    static var messageType: Any.Type { Message.self }
    static func open(_ node: MessageNode) -> any Bequest {
        LastBody<Message>(node.open(as: Message.self).message)
    }
}
