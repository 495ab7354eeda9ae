// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

/// That groups have distributors and dispatchers, for as long as their supervisor runs.
struct Enlistment: Sendable {
    private var distributors: [DistributorCell] = []
    private var dispatchers: [DispatcherCell] = []

    /// Declares all that is in the specifications of a supervisor's groups, or nothing.
    init(_ specs: [Children], under supervisor: Supervisor) throws(SupervisionError) {
        do throws(SupervisionError) {
            for spec in specs { try declare(spec, under: supervisor) }
        } catch {
            release()
            throw error
        }
    }

    /// The groups are no more.
    func release() {
        for cell in distributors { cell.release() }
        for cell in dispatchers { cell.release() }
    }

    private mutating func declare(_ spec: Children, under supervisor: Supervisor) throws(SupervisionError) {
        if let name = spec.dispatch.registeredName, name.isEmpty { throw Self.emptyName(spec, "registered name") }
        for (name, strategy) in spec.dispatch.distributors {
            if name.isEmpty { throw Self.emptyName(spec, "distributor") }
            let cell = supervisor.system.distributorCell(name)
            do throws(DistributorProblem) {
                try cell.declare(messageType: spec.messageType, strategy: strategy)
            } catch {
                throw Self.error(error, spec, name)
            }
            distributors.append(cell)
        }
        for (number, dispatcher) in spec.dispatch.dispatchers.enumerated() {
            if dispatcher.type == .named("") { throw Self.emptyName(spec, "dispatcher") }
            let cell = supervisor.dispatcherCell(dispatcher, number, of: spec)
            guard cell.declare(dispatcher.handler) else {
                throw SupervisionError(
                    .conflictingDispatcher,
                    "group \(spec.name): the dispatcher \(cell.name) has another handler; give both groups the same object"
                )
            }
            dispatchers.append(cell)
        }
    }

    private static func emptyName(_ spec: Children, _ what: String) -> SupervisionError {
        SupervisionError(.emptyName, "group \(spec.name): its \(what) needs a name that is not empty")
    }

    private static func error(_ problem: DistributorProblem, _ spec: Children, _ name: String) -> SupervisionError {
        if case .wrongMessageType(let taken) = problem {
            return SupervisionError(
                .wrongMessageType,
                "group \(spec.name) takes \(spec.messageType ?? Any.self), but the distributor \(name) is for \(taken)"
            )
        }
        return SupervisionError(
            .conflictingStrategy,
            "group \(spec.name): the distributor \(name) has another strategy; give both groups the same, or one of them none"
        )
    }
}

extension Supervisor {
    /// A member was made for a group, and has not started: it can be found from now on, until it ends for good.
    ///
    /// - Throws: `nameTaken`; then it is to be closed, which ends all that was done here.
    package func memberAdded(_ proc: LightProc, number: Int, of spec: Children) throws(SupervisionError) {
        let member = Recipient(proc, messageType: spec.messageType)
        if let registered = spec.dispatch.registeredName {
            let isOne = spec.redundancy == 1 && spec.features.resizer == nil
            let name = isOne ? registered : "\(registered)-\(number)"
            do throws(RegistryError) {
                try system.registry.register(name, member)
            } catch {
                throw SupervisionError(.nameTaken, "group \(spec.name): \(error)")
            }
        }
        memberTakenBack(proc, of: spec)
    }

    /// A member that was taken out of its group is one again; it has kept its name.
    func memberTakenBack(_ proc: LightProc, of spec: Children) {
        let member = Recipient(proc, messageType: spec.messageType)
        for (name, _) in spec.dispatch.distributors { _ = system.distributorCell(name).add(member) }
        for (number, dispatcher) in spec.dispatch.dispatchers.enumerated() {
            dispatcherCell(dispatcher, number, of: spec).add(member)
        }
    }

    /// A member is to get nothing new by way of its group's distributors and dispatchers, as it is to be taken out of the group.
    /// It keeps its name, and what was sent to it. Not needed for one that has ended.
    package func memberRemoved(_ proc: LightProc, of spec: Children) {
        for (name, _) in spec.dispatch.distributors { system.distributorCell(name).remove(proc) }
        for (number, dispatcher) in spec.dispatch.dispatchers.enumerated() {
            dispatcherCell(dispatcher, number, of: spec).remove(proc)
        }
    }

    fileprivate func dispatcherCell(_ dispatcher: Dispatcher, _ number: Int, of spec: Children) -> DispatcherCell {
        let name: DispatcherName =
            switch dispatcher.type {
            case .named(let name): .named(name)
            case .anonymous: .anonymous(ObjectIdentifier(self), group: spec.name, number: number)
            }
        return system.dispatchers.cell(name) { DispatcherCell(name, system) }
    }
}

extension BastionSystem {
    func distributorCell(_ name: String) -> DistributorCell {
        distributors.cell(name) { DistributorCell(name, self) }
    }
}
