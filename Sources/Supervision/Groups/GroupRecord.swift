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
    /// Its only member is a supervisor, which is called as the group is.
    let isSupervisor: Bool

    private struct State {
        /// The user's, so that it is let go of with care; nil once no member is made any more.
        var spec: Children?
        /// Of members that are made of something else, by number; the user's, too.
        var own: [Int: OwnSpec] = [:]
        var traits: MemberTraits
        /// Makes processes as `spec` says; nil until it is needed, and when that is nil.
        var make: (@Sendable () -> LightProc)?
        /// What the group is found by; nil as the specification is.
        var enlistment: Enlistment?
        var members = MemberList<LightProc>()
        /// Who was there last: senders are refused by it when there is nobody else.
        var last: LightProc?
        /// Numbers in use, also of those that are leaving.
        var numbers = NumberPool()
        /// By number: what the supervisor knows the member by; 0 where there is none.
        var ids: [SupervisorMachine.ChildID] = []
        /// Members stay in the list, as the supervisor stops.
        var isFrozen = false
    }
    private let state: Locked<State>
    /// How many times the members have changed.
    private let changes = AtomicWord(0)

    init(_ spec: Children, _ enlistment: Enlistment? = nil) {
        name = spec.name
        messageType = spec.messageType
        isSupervisor = spec.nest != nil
        state = Locked(State(spec: spec, traits: MemberTraits(spec), enlistment: enlistment))
    }

    // MARK: Who sends

    /// Changes with every change of the members.
    var version: UInt {
        // ordering: acquiring: who sees the change finds the members changed.
        changes.load(ordering: .acquiring)
    }

    /// The members at this moment, in the order in which they were started, and the version that they are. O(members).
    var snapshot: (members: [LightProc], version: UInt) { state.withLock { ($0.members.all, version) } }

    /// The member whose turn it is. Costs a lock, and O(log members) when some have left.
    func member(_ turn: UInt) -> LightProc {
        state.withLock { state in
            if !state.members.isEmpty { return state.members.member(at: Int(turn % UInt(state.members.count))) }
            guard let last = state.last else { preconditionFailure("impossible: a group begins with a member") }
            return last
        }
    }

    func contains(_ proc: LightProc) -> Bool {
        // One whose supervisor has forgotten it is in the list only if all stay there.
        let number = proc.record?.number
        return state.withLock { state in number.map { state.members.contains(proc, number: $0) } ?? state.isFrozen }
    }

    // MARK: The supervisor

    /// What members are made of; nil once none is made any more.
    var spec: Children? { state.withLock { $0.spec } }

    var traits: MemberTraits { state.withLock { $0.traits } }

    /// How many members there are.
    var memberCount: Int { state.withLock { $0.members.count } }

    /// What the supervisor knows the members by, also those that leave or are down, by number.
    var ids: [SupervisorMachine.ChildID] { state.withLock { $0.ids.filter { $0 != 0 } } }

    /// What the supervisor knows the member of a number by; nil if there is none.
    func id(of number: Int) -> SupervisorMachine.ChildID? {
        state.withLock { number < $0.ids.count && $0.ids[number] != 0 ? $0.ids[number] : nil }
    }

    /// Members from the last one on, as many as are wanted, that meet a condition, which is under the lock.
    func lastMembers(
        _ count: Int,
        where condition: (LightProc) -> Bool = { _ in true }
    ) -> [(proc: LightProc, number: Int)] {
        state.withLock { state in
            var found: [(proc: LightProc, number: Int)] = []
            for (proc, number) in state.members.reversed {
                if found.count >= count { break }
                if condition(proc) { found.append((proc, number)) }
            }
            return found
        }
    }

    /// What makes processes, which share what they are made of; nil once none is made any more.
    private func maker(under supervisor: SupervisorCell) -> (@Sendable () -> LightProc)? {
        let (spec, present) = state.withLock { ($0.spec, $0.make) }
        guard let spec else { return nil }
        if let present { return present }
        // Looks into the system: not under the lock.
        let fresh = spec.maker(supervisor.system, spec)
        state.withLock { if $0.spec != nil { $0.make = fresh } }
        return fresh
    }

    /// Makes members with the lowest numbers that are free, without starting them. None if the group is over.
    func makeMembers(_ count: Int, under supervisor: SupervisorCell) -> [ChildRecord] {
        guard let spec, let make = maker(under: supervisor) else { return [] }
        let traits = self.traits
        return (0..<count).map { _ in
            let number = state.withLock { $0.numbers.take() }
            let record = ChildRecord(make(), of: spec, traits, number: number, in: self, under: supervisor)
            add(record.proc, number: number, id: record.id)
            return record
        }
    }

    /// Members are made of this from now on; what it is found by stays.
    ///
    /// - Throws: `wrongMessageType`, as references to the group have that type.
    func change(to new: Children) throws(SupervisionError) {
        if new.messageType != messageType {
            throw SupervisionError(
                .wrongMessageType,
                "group \(name) takes \(messageType ?? Any.self), and cannot be changed to take \(new.messageType ?? Any.self)"
            )
        }
        let old = state.withLock { state in
            let old = (state.spec, state.make)
            var new = old.0.map { new.inThePlace(of: $0) } ?? new
            new.features.isStartAwaited = old.0?.features.isStartAwaited ?? true
            state.spec = new
            state.make = nil
            state.traits = MemberTraits(new)
            return old
        }
        // The user's: not under the lock.
        withExtendedLifetime(old) {}
    }

    /// The number of the only member; nil if there are several, or none.
    var onlyNumber: Int? { state.withLock { $0.numbers.only } }

    /// Makes a member of something else than the others. Nil if the group is over.
    func makeMember(of spec: Children, under supervisor: SupervisorCell) -> ChildRecord? {
        let own = OwnSpec(spec)
        let number = state.withLock { state -> Int? in
            guard state.spec != nil else { return nil }
            let number = state.numbers.take()
            state.own[number] = own
            return number
        }
        return number.map { makeMember(of: own, number: $0, under: supervisor, after: nil) }
    }

    private func makeMember(
        of own: OwnSpec,
        number: Int,
        under supervisor: SupervisorCell,
        after predecessor: ChildRecord?
    ) -> ChildRecord {
        let record = ChildRecord(
            own.spec.maker(supervisor.system, own.spec)(),
            of: own.spec,
            own.traits,
            number: number,
            in: self,
            under: supervisor,
            after: predecessor,
            isOwn: true
        )
        add(record.proc, number: number, id: record.id)
        return record
    }

    /// Makes a member in the place of one that has ended for good, of what that was made of. Nil if the group is over.
    func makeSuccessor(of record: ChildRecord, under supervisor: SupervisorCell) -> ChildRecord? {
        guard let spec else { return nil }
        if let own = state.withLock({ $0.own[record.number] }) {
            return makeMember(of: own, number: record.number, under: supervisor, after: record)
        }
        guard let make = maker(under: supervisor) else { return nil }
        let fresh = ChildRecord(
            make(),
            of: spec,
            traits,
            number: record.number,
            in: self,
            under: supervisor,
            after: record
        )
        add(fresh.proc, number: fresh.number, id: fresh.id)
        return fresh
    }

    /// Whether no member is left, and none was set aside to come back.
    var isDeserted: Bool { state.withLock { $0.numbers.isEmpty } }

    /// A member is to get messages through the group.
    func add(_ proc: LightProc, number: Int, id: SupervisorMachine.ChildID) {
        let last = state.withLock { state in
            state.members.append(proc, number: number)
            while state.ids.count <= number { state.ids.append(0) }
            state.ids[number] = id
            change()
            return swap(&state.last, with: proc)
        }
        // Perhaps the last reference: not under the lock.
        _ = last
    }

    /// A member is to get no more messages through the group. False if it was none.
    @discardableResult
    func withdraw(_ proc: LightProc, number: Int) -> Bool {
        let (isMember, last) = state.withLock { state -> (Bool, LightProc?) in
            // The caller has it: none dies under the lock.
            guard state.members.remove(proc, number: number) else { return (false, nil) }
            change()
            return (true, swap(&state.last, with: proc))
        }
        _ = last
        return isMember
    }

    /// A member has left for good.
    ///
    /// - Parameter supervisorStops: Then it stays in the list, where nobody is to take its place.
    /// - Returns: What it alone was made of, which is to be destroyed where it does no harm.
    func forget(_ proc: LightProc, number: Int, supervisorStops: Bool) -> OwnSpec? {
        if !supervisorStops { withdraw(proc, number: number) }
        return state.withLock { state in
            if supervisorStops { state.isFrozen = true }
            // One that was made without a number has none to give back.
            guard number < state.ids.count, state.ids[number] != 0 else { return nil }
            state.ids[number] = 0
            state.numbers.giveBack(number)
            return state.own.removeValue(forKey: number)
        }
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
    func close() -> UsedSpecs? {
        let (spec, own, make, enlistment) = state.withLock { state in
            defer {
                state.spec = nil
                state.own = [:]
                state.make = nil
                state.enlistment = nil
            }
            return (state.spec, state.own, state.make, state.enlistment)
        }
        enlistment?.release()
        // The specification holds all that the maker does.
        withExtendedLifetime(make) {}
        return spec.map { UsedSpecs(common: $0, own: own) }
    }
}

/// What the members of a group were made of.
struct UsedSpecs: Sendable {
    let common: Children
    let own: [Int: OwnSpec]
}

/// What one member is made of, alone, also when it comes back after it was down.
final class OwnSpec: Sendable {
    let spec: Children
    let traits: MemberTraits

    init(_ spec: Children) {
        self.spec = spec
        traits = MemberTraits(spec)
    }
}

/// What the members of a group that were made of one specification have in common.
final class MemberTraits: Sendable {
    /// What the supervisor goes by.
    let settings: SupervisorMachine.Settings
    let shutdownTime: ShutdownTime
    let features: GroupFeatures

    init(_ spec: Children) {
        settings = .init(spec)
        shutdownTime = spec.shutdownTime
        features = spec.features
    }
}
