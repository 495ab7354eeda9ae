// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

public import LightProc

extension Children {
    /// Pins the members to processors: all of them run on workers there only, over restarts, with their child tasks.
    ///
    /// Also the members of supervisors that they start, unless those are pinned to something else. When the group is to start and the executor
    /// has no such workers that is a ``SupervisionError`` which says what there is.
    public func pinned(to cores: CoreSet) -> Children {
        var children = self
        children.features.cores = cores
        return children
    }

    /// What the members are pinned to; nil: to nothing that the group says.
    public var cores: CoreSet? { features.cores }

    /// Pins the members of a group that says nothing of that, as what stands above it is pinned.
    func pinned(byDefault cores: CoreSet?) -> Children {
        guard let cores, features.cores == nil else { return self }
        return pinned(to: cores)
    }

    /// What a group is made of from now on: how many members it has, and what it is found by, stays as it was.
    func inThePlace(of old: Children) -> Children {
        var children = pinned(byDefault: old.cores)
        children.redundancy = old.redundancy
        children.dispatch = old.dispatch
        // A supervisor's own changes count, which may be later than what this was made of.
        if old.nest != nil { children.nest = old.nest }
        return children
    }

    /// Looks whether the executor of a system has workers where the members, and all below them, are pinned to.
    func validatePinning(in system: BastionSystem) throws(SupervisionError) {
        for child in nest?.children ?? [] { try child.validatePinning(in: system) }
        guard let cores else { return }
        do throws(PinningError) {
            _ = try system.executor.pinNumber(of: cores)
        } catch {
            throw SupervisionError(.badPinning, "group \(name): \(error.description)")
        }
    }

    /// Pins a member that was just made.
    func pin(_ proc: LightProc) {
        guard let cores else { return }
        do throws(PinningError) {
            try proc.pin(to: cores)
        } catch {
            preconditionFailure("impossible: looked at before the group was made: \(error.description)")
        }
    }
}
