// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

/// That a group has distributors and dispatchers, for as long as there is the group.
struct Enlistment: Sendable {
    /// The type of the members' messages; nil for async members, which take any.
    private let messageType: Any.Type?
    private var distributors: [DistributorCell] = []
    private var dispatchers: [DispatcherCell] = []

    /// Declares all that is in the specification of a group, or nothing.
    init(_ spec: Children, under supervisor: SupervisorCell) throws(SupervisionError) {
        messageType = spec.messageType
        do throws(SupervisionError) {
            try declare(spec, under: supervisor)
        } catch {
            release()
            throw error
        }
    }

    /// The group is no more. Once.
    func release() {
        for cell in distributors { cell.release() }
        for cell in dispatchers { cell.release() }
    }

    /// A member is to get what is sent by these ways, until it ends for good.
    func add(_ proc: LightProc) {
        let member = Recipient(proc, messageType: messageType)
        for cell in distributors { _ = cell.add(member) }
        for cell in dispatchers { cell.add(member) }
    }

    /// A member is to get nothing new. What was sent to it stays with it.
    func remove(_ proc: LightProc) {
        for cell in distributors { cell.remove(proc) }
        for cell in dispatchers { cell.remove(proc) }
    }

    private mutating func declare(_ spec: Children, under supervisor: SupervisorCell) throws(SupervisionError) {
        for (name, strategy) in spec.dispatch.distributors {
            let cell = supervisor.system.distributorCell(name)
            do throws(DistributorProblem) {
                try cell.declare(messageType: spec.messageType, strategy: strategy)
            } catch {
                throw SupervisionError(error, of: spec, distributor: name)
            }
            distributors.append(cell)
        }
        for (number, dispatcher) in spec.dispatch.dispatchers.enumerated() {
            let cell = supervisor.dispatcherCell(dispatcher, number, of: spec)
            guard cell.declare(dispatcher.handler) else {
                throw SupervisionError(conflictOf: spec, dispatcher: "\(cell.name)")
            }
            dispatchers.append(cell)
        }
    }
}

extension SupervisorCell {
    /// Declares what groups are found by: all of it, or nothing.
    func enlist(_ specs: [Children]) throws(SupervisionError) -> [Enlistment] {
        var enlistments: [Enlistment] = []
        do throws(SupervisionError) {
            for spec in specs { enlistments.append(try Enlistment(spec, under: self)) }
        } catch {
            for enlistment in enlistments { enlistment.release() }
            throw error
        }
        return enlistments
    }

    /// A member was made, and has not started: it can be found from now on, until it ends for good.
    ///
    /// - Throws: `nameTaken`; by all else it is found even so.
    func introduce(_ record: ChildRecord) throws(SupervisionError) {
        roster.add(record)
        guard let spec = record.group.spec else { return }
        defer { record.group.enlist(record.proc) }
        guard let registered = spec.dispatch.registeredName else { return }
        do throws(RegistryError) {
            try system.registry.register(
                spec.numbersNames || record.number > 0 ? "\(registered)-\(record.number)" : registered,
                Recipient(record.proc, messageType: spec.messageType)
            )
        } catch {
            throw SupervisionError(.nameTaken, "group \(spec.name): \(error)")
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
