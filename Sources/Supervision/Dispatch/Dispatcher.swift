// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// How a dispatcher is known.
public enum DispatcherType: Sendable, Hashable {
    /// It belongs to one group; only ``BroadcastTarget/all`` reaches it.
    case anonymous
    /// It has a name, under which several groups may share it.
    case named(String)
}

/// Which dispatchers a message goes to.
public enum BroadcastTarget: Sendable, Hashable {
    /// All of the system, the anonymous ones too.
    case all
    /// The one of a name.
    case group(String)
}

/// What dispatchers are told besides messages.
public enum NotificationType: Sendable, Hashable {
    /// A process became a member.
    case register
    /// A process is a member no more.
    case remove
}

/// What stands before a group of children: it decides, with a handler of your own if you like, who gets what is broadcast.
///
/// Put on a group with ``Children/dispatcher(_:)-(Dispatcher)``, it knows the members from before they start until they end for
/// good, over restarts. ``BastionSystem/broadcast(_:to:)`` sends through it.
public struct Dispatcher: Sendable {
    /// How it is known.
    public let type: DispatcherType
    /// Nil: the one that is there, or else round robin.
    let handler: (any DispatcherHandler)?

    /// Creates a description of a dispatcher.
    ///
    /// - Parameters:
    ///   - type: Groups with dispatchers of one name share one.
    ///   - handler: Who decides; nil: the one that another group brought, or else a ``RoundRobinHandler``.
    public init(_ type: DispatcherType = .anonymous, handler: (any DispatcherHandler)? = nil) {
        self.type = type
        self.handler = handler
    }

    /// Creates a description of a dispatcher with a name.
    public static func named(_ name: String, handler: (any DispatcherHandler)? = nil) -> Dispatcher {
        Dispatcher(.named(name), handler: handler)
    }
}
