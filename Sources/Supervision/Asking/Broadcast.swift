// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

extension SupervisorCell {
    /// All children below, of this supervisor and of those that its children have started, in the order in which they were made.
    var everyone: [LightProc] {
        let children = roster.children
        return children.flatMap { child in
            (child.nest == nil ? [child.proc] : []) + child.supervisors.flatMap(\.everyone)
        }
    }
}

extension SupervisorRef {
    /// Sends one value to every child below this supervisor, down to the children of supervisors that its children have started.
    ///
    /// They share the value: nothing is copied for a receiver, except for a typed reactive child, which gets a value of its type. It
    /// reaches async children, and reactive ones whose messages are ``AnyMessage`` (as a broadcast), `any Sendable` or exactly of the
    /// value's type (as a message like others); reactive children of another type are passed over. Children that are being
    /// restarted get it when they are back. The sender gets it too, if it is one of them. Any thread; never blocks.
    /// - Returns: How many took it. Not those that were passed over, have ended for good, or whose mailbox was full.
    @discardableResult
    public func broadcast(_ value: any Sendable) -> Int { supervisor.everyone.map { AnyRef($0) }.broadcast(value) }
}

extension BastionSystem {
    /// Sends one value to every supervised child of the system; see ``SupervisorRef/broadcast(_:)``. Not to what `spawn` started.
    ///
    /// - Returns: How many took it.
    @discardableResult
    public func broadcast(_ value: any Sendable) -> Int {
        roots.withLock { $0 }.flatMap(\.everyone).map { AnyRef($0) }.broadcast(value)
    }
}
