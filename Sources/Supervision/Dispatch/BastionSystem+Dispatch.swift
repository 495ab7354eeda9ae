// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

extension BastionSystem {
    /// Hands a message to a dispatcher, or to all; their handlers decide who gets it.
    ///
    /// Handlers run on the calling thread, in the name of the caller. O(1) for one dispatcher, and what its handler costs.
    /// - Returns: How many members took it.
    /// - Throws: ``DispatcherError``, with the message, when nobody took it.
    @discardableResult
    public func broadcast<Message: Sendable>(
        _ message: Message,
        to target: BroadcastTarget
    ) throws(DispatcherError<Message>) -> Int {
        let present = present(target)
        if present.isEmpty { throw DispatcherError(code: .noDispatcher, target: target, message: message) }
        var hasMembers = false
        var count = 0
        for (handler, members) in present where !members.isEmpty {
            hasMembers = true
            count += handler.broadcastMessage(entries: members, message: message)
        }
        if count > 0 { return count }
        throw DispatcherError(code: hasMembers ? .notTaken : .emptyRecipients, target: target, message: message)
    }

    /// Tells the handlers of dispatchers something about the calling process; they run on this thread, in its name.
    ///
    /// Does not change who is a member.
    /// - Throws: ``DispatcherError`` when there is no such dispatcher.
    public func notify(
        _ target: BroadcastTarget,
        _ notification: NotificationType
    ) throws(DispatcherError<NotificationType>) {
        let present = present(target)
        if present.isEmpty { throw DispatcherError(code: .noDispatcher, target: target, message: notification) }
        let from = LightProc.current.map { Recipient($0) }
        for (handler, members) in present { handler.notify(from: from, entries: members, notification: notification) }
    }

    /// The members of a dispatcher, in the order in which they joined; nil if there is none of this name.
    public func members(ofDispatcher name: String) -> Recipients? { dispatchers[.named(name)]?.present?.members }

    private func present(_ target: BroadcastTarget) -> [(handler: any DispatcherHandler, members: Recipients)] {
        switch target {
        case .all: dispatchers.all.compactMap(\.present)
        case .group(let name): dispatchers[.named(name)]?.present.map { [$0] } ?? []
        }
    }
}
