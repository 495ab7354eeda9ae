// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

/// The members of a dispatcher, and its handler.
///
/// It exists while a supervisor runs that was started with a group of it, or while it has members.
final class DispatcherCell: Roll {
    private struct State {
        /// Supervisors that were started with it and have not finished, by group.
        var declarations = 0
        /// Brought by a group; nil: `byDefault` decides.
        var handler: (any DispatcherHandler)?
        var members: [Recipient] = []
        var isMember: Set<ProcID> = []
        /// What the handler is to be told.
        var outbox = Outbox<Notice>()

        var exists: Bool { declarations > 0 || !members.isEmpty }

        mutating func post(_ member: Recipient, _ notification: NotificationType) {
            guard let handler else { return }
            let entries = Recipients(members)
            outbox.post(Notice(handler: handler, from: member, entries: entries, notification: notification))
        }
    }
    private struct Notice: Sendable {
        let handler: any DispatcherHandler
        let from: Recipient
        let entries: Recipients
        let notification: NotificationType
    }

    let name: DispatcherName
    private weak let system: BastionSystem?
    private let byDefault = RoundRobinHandler()
    private let state = Locked(State())
    /// In whose name the handler is told of members.
    private let relay: Relay<Notice>

    init(_ name: DispatcherName, _ system: BastionSystem) {
        self.name = name
        self.system = system
        relay = Relay("dispatcher \(name)", on: system.relays) { notice in
            notice.handler.notify(from: notice.from, entries: notice.entries, notification: notice.notification)
        }
    }

    deinit { system?.dispatchers.forget(name) }

    /// A group wants to be part of it. False if that brings another handler than the one that is there.
    func declare(_ handler: (any DispatcherHandler)?) -> Bool {
        // One that was there before is the user's: it does not die under the lock.
        var former: (any DispatcherHandler)?
        defer { withExtendedLifetime(former) {} }
        return state.withLock { state in
            if !state.exists {
                former = state.handler
                state.handler = nil
            }
            if let handler {
                if let present = state.handler, present !== handler { return false }
                state.handler = handler
            }
            state.declarations += 1
            return true
        }
    }

    /// A declaration has come to its end.
    func release() { state.withLock { $0.declarations -= 1 } }

    func add(_ member: Recipient) {
        let isNew = state.withLock { state in
            guard state.isMember.insert(member.id).inserted else { return false }
            state.members.append(member)
            state.post(member, .register)
            return true
        }
        guard isNew else { return }
        deliver()
        // Told at once if it has ended.
        system?.departures.watch(member.proc, for: self)
    }

    func remove(_ proc: LightProc) {
        if take(proc.id) { system?.departures.unwatch(proc, for: self) }
    }

    func departed(_ id: ProcID) { _ = take(id) }

    private func take(_ id: ProcID) -> Bool {
        let member = state.withLock { state -> Recipient? in
            // The last that came is mostly the first that goes.
            guard state.isMember.remove(id) != nil, let place = state.members.lastIndex(where: { $0.id == id }) else {
                return nil
            }
            let member = state.members.remove(at: place)
            state.post(member, .remove)
            return member
        }
        if member != nil { deliver() }
        return member != nil
    }

    private func deliver() {
        // Ends: when the outbox is empty, or another thread is at it.
        while let batch = state.withLock({ $0.outbox.collect() }) {
            for notice in batch { relay.send(notice) }
            state.withLock { $0.outbox.delivered() }
        }
    }

    /// Handler and members; nil if the dispatcher does not exist. O(1).
    var present: (handler: any DispatcherHandler, members: Recipients)? {
        state.withLock { state in
            state.exists ? (state.handler ?? byDefault, Recipients(state.members)) : nil
        }
    }
}

/// By what a dispatcher is found.
enum DispatcherName: Hashable, Sendable, CustomStringConvertible {
    case named(String)
    /// By its supervisor, the name of its group there, and its number among the dispatchers of that group.
    case anonymous(ObjectIdentifier, group: String, number: Int)

    var description: String {
        switch self {
        case .named(let name): name
        case .anonymous(_, let group, let number): "\(number) of \(group)"
        }
    }
}
