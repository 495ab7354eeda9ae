// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

/// Who follows the members of a group: what sends messages to them in turn.
///
/// Both are called under the group's lock, in the order in which the members came and went: they must not block, run the
/// user's code, or ask the group anything.
protocol GroupObserver: AnyObject, Sendable {
    /// A member is to get messages from now on. Before its first start, or when it is taken back before it has left.
    func memberAdded(_ proc: LightProc, to group: String)
    /// A member is to get no more messages: it ended for good, or is about to leave. Once for each time that it was added.
    func memberRemoved(_ proc: LightProc, from group: String)
}

/// A group as its supervisor knows it: who its members are at this moment.
///
/// Members are added where groups are, before anybody knows the group, and by the supervisor's process; they are removed by that
/// only. A member that ends for good, or is drained, is none any more; when the supervisor stops
/// its groups stay as they were.
final class GroupRecord: Sendable {
    let name: String
    /// The type of the members' messages; nil for async members, which take any.
    let messageType: Any.Type?

    private struct State {
        /// The user's, so that it is let go of with care; nil once no member is made any more.
        var spec: Children?
        var members: [LightProc]
        /// Who was there last: senders are refused by it when there is nobody else.
        var last: LightProc?
        /// Numbers in use, also of those that are leaving.
        var numbers: Set<Int> = []
        var observers: [any GroupObserver]
    }
    private let state: Locked<State>
    /// How many times the members have changed.
    private let changes = AtomicWord(0)

    init(_ spec: Children) {
        name = spec.name
        messageType = spec.messageType
        state = Locked(State(spec: spec, members: [], observers: spec.features.observers))
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

    // MARK: Who follows

    /// Tells an observer of the members that there are, and of those that come and go from now on.
    func observe(_ observer: any GroupObserver) {
        state.withLock { state in
            state.observers.append(observer)
            for proc in state.members { observer.memberAdded(proc, to: name) }
        }
    }

    func stopObserving(_ observer: any GroupObserver) {
        state.withLock { $0.observers.removeAll { $0 === observer } }
    }

    // MARK: The supervisor

    /// What members are made of; nil once none is made any more.
    var spec: Children? { state.withLock { $0.spec } }

    /// Makes members with the lowest numbers that are free, without starting them. None if the group is over.
    func makeMembers(_ count: Int, under supervisor: Supervisor, mustStart: Bool = false) -> [ChildRecord] {
        guard let spec else { return [] }
        return (0..<count).map { _ in
            let number = state.withLock { state in
                var number = 0
                // Ends: there are finitely many numbers in use.
                while !state.numbers.insert(number).inserted { number += 1 }
                return number
            }
            let record = ChildRecord(of: spec, number: number, in: self, under: supervisor, mustStart: mustStart)
            add(record.proc)
            return record
        }
    }

    /// A member is to get messages.
    func add(_ proc: LightProc) {
        let last = state.withLock { state in
            state.members.append(proc)
            change()
            for observer in state.observers { observer.memberAdded(proc, to: name) }
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
            for observer in state.observers { observer.memberRemoved(proc, from: name) }
            return (true, swap(&state.last, with: proc))
        }
        _ = last
        return isMember
    }

    /// A member has left for good.
    ///
    /// - Parameter supervisorStops: Then it stays in the list, where nobody is to take its place; who follows is told all the same.
    func forget(_ proc: LightProc, number: Int, supervisorStops: Bool) {
        if supervisorStops {
            state.withLock { state in
                guard state.members.contains(where: { $0 === proc }) else { return }
                for observer in state.observers { observer.memberRemoved(proc, from: name) }
            }
        } else {
            withdraw(proc)
        }
        state.withLock { _ = $0.numbers.remove(number) }
    }

    private func change() {
        // ordering: releasing: pairs with the load in `version`. Changed under the lock only.
        _ = changes.wrappingAdd(1, ordering: .releasing)
    }

    private func swap<Value>(_ value: inout Value, with new: Value) -> Value {
        let old = value
        value = new
        return old
    }

    /// No member is made any more: takes what they are made of, which is to be destroyed where it does no harm.
    func takeSpec() -> Children? {
        state.withLock { state in
            defer { state.spec = nil }
            return state.spec
        }
    }
}
