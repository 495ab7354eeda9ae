// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// By what names the members of a group can be found.
struct DispatchSpec: Sendable {
    var registeredName: String?
    var distributors: [(name: String, strategy: DistributionStrategy?)] = []
    var dispatchers: [Dispatcher] = []
}

extension Children {
    /// The same group, whose members are found by a name in the system's registry, from before they start until they end for good.
    ///
    /// The one member of a group has the name itself, one of several the name and its number, as in `prices-0`. A name that
    /// is taken is an error of type ``SupervisionError`` when the group is started, and one that another group of the same tree wants, too, before anything
    /// is started. Who is added to a group later has the number in
    /// its name; if that name is taken the log says so, and the member has none.
    public func registered(as name: String) -> Children { with { $0.registeredName = name } }

    /// The same group, whose members are members of a distributor, from before they start until they end for good.
    ///
    /// - Parameters:
    ///   - name: Of the distributor; several groups may share one.
    ///   - strategy: Which members get a message; nil: what another group said, or else round robin. Two groups that ask
    ///     for different ones are an error of type ``SupervisionError``: in one tree before anything is started, otherwise when the second is.
    public func distributor(_ name: String, _ strategy: DistributionStrategy? = nil) -> Children {
        with { $0.distributors.append((name, strategy)) }
    }

    /// The same group, with a dispatcher of a name before it; see ``Dispatcher``. Groups with one name share it.
    public func dispatcher(_ name: String) -> Children { dispatcher(.named(name)) }

    /// The same group, with a dispatcher before it. Groups with one name share it.
    public func dispatcher(_ dispatcher: Dispatcher) -> Children { with { $0.dispatchers.append(dispatcher) } }

    private func with(_ change: (inout DispatchSpec) -> Void) -> Children {
        var children = self
        change(&children.dispatch)
        return children
    }
}
