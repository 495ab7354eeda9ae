// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

public import LightProc

/// The members of a distributor, and whose turn it is.
///
/// It exists while a supervisor runs that was started with a group of it, or while it has members. All its decisions are made
/// by ``Chooser`` under one lock, under which no code of the user's runs; sends are done outside.
@usableFromInline
final class DistributorCell: Roll {
    private struct State {
        /// Supervisors that were started with it and have not finished, by group.
        var declarations = 0
        /// What reactive members take; nil while there are only async ones, which take anything.
        var messageType: Any.Type?
        /// Nil: round robin, and nobody has said so.
        var strategy: DistributionStrategy? {
            didSet { if case .custom(let policy)? = strategy?.way { self.policy = policy } else { policy = nil } }
        }
        /// Of a custom strategy.
        private(set) var policy: (any DistributionPolicy)?
        var members: [Recipient] = []
        var isMember: Set<ProcID> = []
        var chooser: Chooser

        var exists: Bool { declarations > 0 || !members.isEmpty }

        /// Whether a message of a type can be sent. Here, and not outside, so that the state is not copied for it.
        @inline(__always)
        func check(_ type: Any.Type) throws(DistributorProblem) {
            if !exists { throw .noDistributor }
            if let messageType, messageType != type { throw .wrongMessageType(messageType) }
            if members.isEmpty { throw .emptyRecipients }
        }
    }

    /// What is to be done for one message.
    enum Pick {
        case member(LightProc)
        /// Make the key, and pick again with it.
        case key(KeyFunction)
        case choice(any DistributionPolicy, Recipients)
    }

    let name: String
    private weak let system: BastionSystem?
    private let seed: UInt64
    private let state: Locked<State>

    init(_ name: String, _ system: BastionSystem) {
        self.name = name
        self.system = system
        // Draws by name, so that runs of a simulation are equal.
        seed = DistributionKey(name).hash
        state = Locked(State(chooser: Chooser(.roundRobin, seed: seed)))
    }

    deinit { system?.distributors.forget(name) }

    // MARK: Members

    /// A group, or a subscriber, wants to be part of it. What is nil it does not care about.
    func declare(messageType: Any.Type?, strategy: DistributionStrategy?) throws(DistributorProblem) {
        // The closures of one that was there before are the user's: they do not die under the lock.
        var former: DistributionStrategy?
        defer { withExtendedLifetime(former) {} }
        try state.withLock { state throws(DistributorProblem) in
            if !state.exists {
                former = state.strategy
                state.messageType = nil
                state.strategy = nil
                state.chooser = Chooser(.roundRobin, seed: seed)
            }
            if let taken = state.messageType, let messageType, taken != messageType { throw .wrongMessageType(taken) }
            if let strategy {
                if let present = state.strategy, !present.isSame(as: strategy) { throw .conflictingStrategy }
                if let function = strategy.keyFunction, let taken = messageType ?? state.messageType,
                    function.messageType != taken
                {
                    throw .wrongMessageType(taken)
                }
                if state.strategy == nil {
                    state.strategy = strategy
                    state.chooser = Chooser(strategy, seed: seed)
                    for _ in state.members { state.chooser.add() }
                }
            }
            if let messageType { state.messageType = messageType }
            state.declarations += 1
        }
    }

    /// A declaration has come to its end.
    func release() { state.withLock { $0.declarations -= 1 } }

    /// False if it is a member already.
    func add(_ member: Recipient) -> Bool {
        let isNew = state.withLock { state in
            guard state.isMember.insert(member.id).inserted else { return false }
            state.members.append(member)
            state.chooser.add()
            return true
        }
        // Told at once if it has ended.
        if isNew { system?.departures.watch(member.proc, for: self) }
        return isNew
    }

    /// False if it is no member.
    @discardableResult
    func remove(_ proc: LightProc) -> Bool {
        guard take(proc.id) else { return false }
        system?.departures.unwatch(proc, for: self)
        return true
    }

    func departed(_ id: ProcID) { _ = take(id) }

    private func take(_ id: ProcID) -> Bool {
        let member = state.withLock { state -> Recipient? in
            // The last that came is mostly the first that goes.
            guard state.isMember.remove(id) != nil, let place = state.members.lastIndex(where: { $0.id == id }) else {
                return nil
            }
            state.chooser.remove(at: place)
            return state.members.remove(at: place)
        }
        return member != nil
    }

    var members: Recipients { Recipients(state.withLock { $0.members }) }

    // MARK: Sends

    /// Whose turn it is. O(1), with a hash ring O(log n).
    func pick(_ type: Any.Type, _ key: DistributionKey?) throws(DistributorProblem) -> Pick {
        try state.withLock { state throws(DistributorProblem) in
            try state.check(type)
            if let policy = state.policy { return .choice(policy, Recipients(state.members)) }
            let members = state.members
            guard let place = state.chooser.choose(key, load: { members[$0].proc.load }) else {
                guard let function = state.strategy?.keyFunction, key == nil else { throw .noKey }
                return .key(function)
            }
            return .member(members[place].proc)
        }
    }

    /// As `pick`, where that is one member at once, nil otherwise.
    @usableFromInline
    func pickQuickly(_ type: Any.Type, _ key: DistributionKey?) -> LightProc? {
        guard case .member(let proc)? = try? pick(type, key) else { return nil }
        return proc
    }

    /// A member did not take a message: if it has ended it is a member no more.
    @usableFromInline
    func passOver(_ proc: LightProc) {
        if proc.hasEnded { remove(proc) }
    }

    /// The place of the member whose turn it is, whatever the strategy.
    func nextTurn() -> Int { state.withLock { $0.members.isEmpty ? 0 : $0.chooser.nextTurn() } }

    /// Whether a key decides which member gets a message.
    var isKeyed: Bool { state.withLock { $0.chooser.isKeyed } }

    /// All members, for a message of a type.
    func all(_ type: Any.Type) throws(DistributorProblem) -> Recipients {
        try state.withLock { state throws(DistributorProblem) in
            try state.check(type)
            return Recipients(state.members)
        }
    }

    /// How the members are chosen.
    var way: DistributionStrategy.Way { state.withLock { $0.strategy?.way ?? .roundRobin } }
}
