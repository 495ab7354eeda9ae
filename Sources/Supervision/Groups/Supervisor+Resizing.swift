// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

/// A group whose size changes, as its supervisor's process knows it.
struct GroupSize {
    /// How far a member that leaves has come.
    enum Leaving {
        /// It gets nothing through the group any more, and handles what it has. It may be taken back.
        case draining
        /// Its queue takes nothing any more; it may have a message in hand.
        case sealed
    }
    /// Nil for a group whose size is set by hand.
    var machine: ResizerMachine?
    var leaving: [SupervisorMachine.ChildID: Leaving] = [:]

    /// How long to wait before looking again at members that leave.
    static let drainInterval = Duration.milliseconds(10)
}

extension SupervisorCell {
    /// The resizer looks at its group.
    func sample(_ group: GroupRecord, _ body: inout SupervisorBody) -> [SupervisorMachine.Action] {
        let key = ObjectIdentifier(group)
        guard let resizer = body.undertakings.sizes[key]?.machine?.resizer else { return [] }
        setTimer(.sample, for: group, after: resizer.interval, &body)
        let members = group.snapshot.members
        var seen = ResizerMachine.Sample(size: members.count, overloaded: 0, busy: 0)
        for proc in members {
            if !proc.hasNothingToDo { seen.busy += 1 }
            guard let counters = proc.managedQueue?.counters else { continue }
            let isOverloaded =
                switch resizer.threshold {
                case .queueDelay(let delay): counters.queueDelay > delay
                case .depth(let depth): counters.depth > depth
                }
            if isOverloaded { seen.overloaded += 1 }
        }
        switch body.undertakings.sizes[key]?.machine?.decide(seen, at: system.executor.now) {
        case .keep, nil: return []
        case .grow(let count): return grow(group, by: count, &body)
        case .shrink(let count):
            withdraw(group.lastMembers(count, where: \.hasNothingToDo), from: group, &body)
            return drain(group, &body)
        }
    }

    /// A group is to have so many members, set by hand.
    func resize(_ group: GroupRecord, to size: Int, _ body: inout SupervisorBody) -> [SupervisorMachine.Action] {
        let key = ObjectIdentifier(group)
        if body.undertakings.sizes[key] == nil { body.undertakings.sizes[key] = GroupSize() }
        let count = group.memberCount
        if count < size { return grow(group, by: size - count, &body) }
        withdraw(group.lastMembers(count - size), from: group, &body)
        return drain(group, &body)
    }

    private func grow(
        _ group: GroupRecord,
        by count: Int,
        _ body: inout SupervisorBody
    ) -> [SupervisorMachine.Action] {
        guard body.machine.isRunning else { return [] }
        let key = ObjectIdentifier(group)
        var missing = count
        // Those that were to leave and can still be taken back come first.
        for (id, state) in body.undertakings.sizes[key]?.leaving.sorted(by: { $0.key < $1.key }) ?? [] {
            guard missing > 0, case .draining = state, let child = body.children[id] else { continue }
            body.undertakings.sizes[key]?.leaving[id] = nil
            group.add(child.proc, number: child.number, id: id)
            group.enlist(child.proc)
            missing -= 1
        }
        let records = group.makeMembers(missing, under: self)
        for record in records {
            do throws(SupervisionError) {
                try introduce(record)
            } catch {
                // It works all the same.
                system.tell(.warning) { [path] in ("\(error)", ["supervisor": "\(path)"]) }
            }
        }
        return add(records, &body)
    }

    private func withdraw(
        _ members: [(proc: LightProc, number: Int)],
        from group: GroupRecord,
        _ body: inout SupervisorBody
    ) {
        for (proc, number) in members where group.withdraw(proc, number: number) {
            group.delist(proc)
            guard let id = group.id(of: number) else { continue }
            body.undertakings.sizes[ObjectIdentifier(group)]?.leaving[id] = .draining
        }
    }

    /// Members that leave and are done with what they had are stopped; the others are looked at again later.
    func drain(_ group: GroupRecord, _ body: inout SupervisorBody) -> [SupervisorMachine.Action] {
        let key = ObjectIdentifier(group)
        var done: [SupervisorMachine.ChildID] = []
        for (id, state) in body.undertakings.sizes[key]?.leaving ?? [:] {
            guard let proc = body.children[id]?.proc else { continue }
            if case .draining = state {
                // A mailbox without a policy cannot be closed to others first: what comes at this moment is a dead letter.
                guard StashPart.isEmpty(of: proc), proc.managedQueue?.closeIfEmpty() ?? proc.hasNothingToDo else {
                    continue
                }
                body.undertakings.sizes[key]?.leaving[id] = .sealed
            }
            // A reactive member is stopped after the message in hand; of an async one nobody knows whether it has one, unless it
            // waits for the next.
            if proc.isReactive || proc.hasNothingToDo { done.append(id) }
        }
        for id in done { body.undertakings.sizes[key]?.leaving[id] = nil }
        if body.undertakings.sizes[key]?.leaving.isEmpty == false {
            setTimer(.drain, for: group, after: GroupSize.drainInterval, &body)
        }
        return body.machine.remove(done, at: system.executor.now)
    }
}
