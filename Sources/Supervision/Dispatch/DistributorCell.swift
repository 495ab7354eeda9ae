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
        /// By number.
        private var members: [Recipient?] = []
        private var numbers: [ProcID: Int] = [:]
        /// In the order in which they joined; nil until it is needed after a change.
        private var inOrder: [Recipient]?
        private(set) var chooser: Chooser

        init(_ chooser: Chooser) { self.chooser = chooser }

        var isEmpty: Bool { numbers.isEmpty }
        var exists: Bool { declarations > 0 || !isEmpty }

        /// In the order in which they joined. O(n) after a change, otherwise O(1).
        var recipients: Recipients {
            mutating get {
                let list = inOrder ?? chooser.members.compactMap { members[$0] }
                inOrder = list
                return Recipients(list)
            }
        }

        /// They are chosen so from now on, all as if they came just now, in their order.
        mutating func choose(by chooser: Chooser) {
            let recipients = recipients
            self.chooser = chooser
            members = []
            for recipient in recipients { put(recipient) }
        }

        /// False if it is a member already.
        mutating func add(_ member: Recipient) -> Bool {
            guard numbers[member.id] == nil else { return false }
            put(member)
            inOrder = nil
            return true
        }

        private mutating func put(_ member: Recipient) {
            let number = chooser.add()
            while members.count <= number { members.append(nil) }
            members[number] = member
            numbers[member.id] = number
        }

        /// Nil if it is no member.
        mutating func remove(_ id: ProcID) -> Recipient? {
            guard let number = numbers.removeValue(forKey: id) else { return nil }
            chooser.remove(number)
            inOrder = nil
            defer { members[number] = nil }
            return members[number]
        }

        /// Whose turn it is; nil if that needs a key.
        mutating func choose(_ key: DistributionKey?) -> LightProc? {
            let number = chooser.choose(key) { [members] in members[$0]?.proc.load ?? .down }
            return number.flatMap { members[$0]?.proc }
        }

        mutating func nextTurn() -> Int { isEmpty ? 0 : chooser.nextTurn() }

        /// Whether a message of a type can be sent. Here, and not outside, so that the state is not copied for it.
        @inline(__always)
        func check(_ type: Any.Type) throws(DistributorProblem) {
            if !exists { throw .noDistributor }
            if let messageType, messageType != type { throw .wrongMessageType(messageType) }
            if isEmpty { throw .emptyRecipients }
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
        state = Locked(State(Chooser(.roundRobin, seed: seed)))
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
                state.choose(by: Chooser(.roundRobin, seed: seed))
            }
            let present = DistributorTerms(messageType: state.messageType, strategy: state.strategy)
            let terms = try present.joined(by: DistributorTerms(messageType: messageType, strategy: strategy))
            if state.strategy == nil, let strategy {
                state.strategy = strategy
                state.choose(by: Chooser(strategy, seed: seed))
            }
            state.messageType = terms.messageType
            state.declarations += 1
        }
    }

    /// A declaration has come to its end.
    func release() { state.withLock { $0.declarations -= 1 } }

    /// False if it is a member already.
    func add(_ member: Recipient) -> Bool {
        let isNew = state.withLock { $0.add(member) }
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
        // Perhaps the last reference: not under the lock.
        let member = state.withLock { $0.remove(id) }
        return member != nil
    }

    var members: Recipients { state.withLock { $0.recipients } }

    // MARK: Sends

    /// Whose turn it is. O(1), with a hash ring O(log n).
    func pick(_ type: Any.Type, _ key: DistributionKey?) throws(DistributorProblem) -> Pick {
        try state.withLock { state throws(DistributorProblem) in
            try state.check(type)
            if let policy = state.policy { return .choice(policy, state.recipients) }
            guard let proc = state.choose(key) else {
                guard let function = state.strategy?.keyFunction, key == nil else { throw .noKey }
                return .key(function)
            }
            return .member(proc)
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
    func nextTurn() -> Int { state.withLock { $0.nextTurn() } }

    /// Whether a key decides which member gets a message.
    var isKeyed: Bool { state.withLock { $0.chooser.isKeyed } }

    /// All members, for a message of a type.
    func all(_ type: Any.Type) throws(DistributorProblem) -> Recipients {
        try state.withLock { state throws(DistributorProblem) in
            try state.check(type)
            return state.recipients
        }
    }

    /// How the members are chosen.
    var way: DistributionStrategy.Way { state.withLock { $0.strategy?.way ?? .roundRobin } }
}
