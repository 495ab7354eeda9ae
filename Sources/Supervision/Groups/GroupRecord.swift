// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

/// A group as its supervisor knows it: who its members are at this moment.
///
/// Members are added where groups are, before anybody knows the group, and by the supervisor's process; they are removed by that
/// only. A member that ends for good, or is drained, is none any more; when the supervisor stops
/// its groups stay as they were.
///
/// What the group has of distributors and dispatchers has the same members, from `enlist` on, and without those that have ended.
final class GroupRecord: Sendable {
    let name: String
    /// The type of the members' messages; nil for async members, which take any.
    let messageType: Any.Type?

    private struct State {
        /// The user's, so that it is let go of with care; nil once no member is made any more.
        var spec: Children?
        /// What the group is found by; nil as the specification is.
        var enlistment: Enlistment?
        var members: [LightProc] = []
        /// Who was there last: senders are refused by it when there is nobody else.
        var last: LightProc?
        /// Numbers in use, also of those that are leaving.
        var numbers: Set<Int> = []
    }
    private let state: Locked<State>
    /// How many times the members have changed.
    private let changes = AtomicWord(0)

    init(_ spec: Children, _ enlistment: Enlistment? = nil) {
        name = spec.name
        messageType = spec.messageType
        state = Locked(State(spec: spec, enlistment: enlistment))
    }

    // MARK: Who sends

    /// Changes with every change of the members.
    var version: UInt {
        // ordering: acquiring: who sees the change finds the members changed.
        changes.load(ordering: .acquiring)
    }

    /// The members at this moment, in the order in which they were started, and the version that they are.
    var snapshot: (members: [LightProc], version: UInt) { state.withLock { ($0.members, version) } }

    /// The member whose turn it is. Costs a lock.
    func member(_ turn: UInt) -> LightProc {
        state.withLock { state in
            if !state.members.isEmpty { return state.members[Int(turn % UInt(state.members.count))] }
            guard let last = state.last else { preconditionFailure("impossible: a group begins with a member") }
            return last
        }
    }

    func contains(_ proc: LightProc) -> Bool { state.withLock { $0.members.contains { $0 === proc } } }

    // MARK: The supervisor

    /// What members are made of; nil once none is made any more.
    var spec: Children? { state.withLock { $0.spec } }

    /// Makes members with the lowest numbers that are free, without starting them. None if the group is over.
    func makeMembers(_ count: Int, under supervisor: Supervisor, mustStart: Bool = false) -> [ChildRecord] {
        guard let spec else { return [] }
        var next = 0
        return (0..<count).map { _ in
            let number = state.withLock { state in
                // Ends: there are finitely many numbers in use.
                while !state.numbers.insert(next).inserted { next += 1 }
                return next
            }
            let record = ChildRecord(of: spec, number: number, in: self, under: supervisor, mustStart: mustStart)
            add(record.proc)
            return record
        }
    }

    /// A member is to get messages through the group.
    func add(_ proc: LightProc) {
        let last = state.withLock { state in
            state.members.append(proc)
            change()
            return swap(&state.last, with: proc)
        }
        // Perhaps the last reference: not under the lock.
        _ = last
    }

    /// A member is to get no more messages through the group. False if it was none.
    @discardableResult
    func withdraw(_ proc: LightProc) -> Bool {
        let (isMember, last) = state.withLock { state -> (Bool, LightProc?) in
            guard let index = state.members.lastIndex(where: { $0 === proc }) else { return (false, nil) }
            state.members.remove(at: index)
            change()
            return (true, swap(&state.last, with: proc))
        }
        _ = last
        return isMember
    }

    /// A member has left for good.
    ///
    /// - Parameter supervisorStops: Then it stays in the list, where nobody is to take its place.
    func forget(_ proc: LightProc, number: Int, supervisorStops: Bool) {
        if !supervisorStops { withdraw(proc) }
        state.withLock { _ = $0.numbers.remove(number) }
    }

    /// A member is to get messages also by what the group is found by. Nothing if the group is over.
    func enlist(_ proc: LightProc) { state.withLock { $0.enlistment }?.add(proc) }

    /// A member is to get nothing new by what the group is found by. Not needed for one that has ended for good.
    func delist(_ proc: LightProc) { state.withLock { $0.enlistment }?.remove(proc) }

    private func change() {
        // ordering: releasing: pairs with the load in `version`. Changed under the lock only.
        _ = changes.wrappingAdd(1, ordering: .releasing)
    }

    private func swap<Value>(_ value: inout Value, with new: Value) -> Value {
        let old = value
        value = new
        return old
    }

    /// No member is made any more, and the group keeps nothing alive that it was found by.
    ///
    /// - Returns: What members were made of, which is to be destroyed where it does no harm; nil if that was taken before.
    func close() -> Children? {
        let (spec, enlistment) = state.withLock { state in
            defer {
                state.spec = nil
                state.enlistment = nil
            }
            return (state.spec, state.enlistment)
        }
        enlistment?.release()
        return spec
    }
}
