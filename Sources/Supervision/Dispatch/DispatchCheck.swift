// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// What the groups of a distributor agree on.
struct DistributorTerms: Sendable {
    /// What reactive members take; nil while there are only async ones, which take anything.
    var messageType: Any.Type?
    /// Nil: round robin, and nobody has said so.
    var strategy: DistributionStrategy?

    /// What all agree on with one more group; what is nil that does not care about.
    func joined(by other: DistributorTerms) throws(DistributorProblem) -> DistributorTerms {
        if let taken = messageType, let type = other.messageType, taken != type { throw .wrongMessageType(taken) }
        if let wanted = other.strategy {
            if let strategy, !strategy.isSame(as: wanted) { throw .conflictingStrategy }
            if let function = wanted.keyFunction, let taken = other.messageType ?? messageType,
                function.messageType != taken
            {
                throw .wrongMessageType(taken)
            }
        }
        return DistributorTerms(
            messageType: other.messageType ?? messageType,
            strategy: strategy ?? other.strategy
        )
    }
}

/// The names under which the groups of a tree register their members. A pure value.
struct NameClaims: Sendable {
    /// Names that one process has.
    private var single: [String: String] = [:]
    /// Names that stand before the numbers of members, and how many there are.
    private var numbered: [String: (count: Int, group: String)] = [:]

    struct Conflict: Error, Equatable {
        let name: String
        /// Who has it.
        let group: String
    }

    /// - Parameter count: Of the members that are numbered; nil: the process has the name itself.
    mutating func claim(_ name: String, count: Int?, for group: String) throws(Conflict) {
        guard let count else {
            if let other = single[name] ?? holder(ofMember: name) { throw Conflict(name: name, group: other) }
            single[name] = group
            return
        }
        if let other = numbered[name]?.group { throw Conflict(name: "\(name)-0", group: other) }
        numbered[name] = (count, group)
        for (taken, other) in single where holder(ofMember: taken) != nil { throw Conflict(name: taken, group: other) }
    }

    /// Whose members have this name as that of a number.
    private func holder(ofMember name: String) -> String? {
        guard let hyphen = name.lastIndex(of: "-") else { return nil }
        let digits = name[name.index(after: hyphen)...]
        guard let number = Int(digits), String(number) == digits, let (count, group) = numbered[String(name[..<hyphen])]
        else { return nil }
        return 0..<count ~= number ? group : nil
    }
}

/// Whether the groups of a whole tree agree on the distributors and dispatchers that they share, and have names of their own: known before
/// anything starts. A pure value.
///
/// What runs besides may still contradict them when they start.
struct DispatchCheck {
    private var distributors: [String: DistributorTerms] = [:]
    private var handlers: [String: any DispatcherHandler] = [:]
    private var names = NameClaims()

    /// - Throws: `wrongMessageType`, `conflictingStrategy`, `conflictingDispatcher`, `nameTaken`.
    static func validate(_ specs: [Children]) throws(SupervisionError) {
        var check = DispatchCheck()
        for spec in specs { try check.add(spec) }
    }

    private mutating func add(_ spec: Children) throws(SupervisionError) {
        if let name = spec.dispatch.registeredName {
            do throws(NameClaims.Conflict) {
                try names.claim(name, count: spec.numbersNames ? spec.redundancy : nil, for: spec.name)
            } catch {
                throw SupervisionError(error, of: spec)
            }
        }
        for (name, strategy) in spec.dispatch.distributors {
            let terms = DistributorTerms(messageType: spec.messageType, strategy: strategy)
            do throws(DistributorProblem) {
                distributors[name] = try distributors[name, default: DistributorTerms()].joined(by: terms)
            } catch {
                throw SupervisionError(error, of: spec, distributor: name)
            }
        }
        for dispatcher in spec.dispatch.dispatchers {
            guard case .named(let name) = dispatcher.type, let handler = dispatcher.handler else { continue }
            if let present = handlers[name], present !== handler {
                throw SupervisionError(conflictOf: spec, dispatcher: name)
            }
            handlers[name] = handler
        }
        for child in spec.nest?.children ?? [] { try add(child) }
    }
}

extension DispatchSpec {
    /// - Throws: `emptyName`.
    func validate(group: String) throws(SupervisionError) {
        let what: String? =
            if registeredName?.isEmpty == true {
                "registered name"
            } else if distributors.contains(where: \.name.isEmpty) {
                "distributor"
            } else if dispatchers.contains(where: { $0.type == .named("") }) {
                "dispatcher"
            } else {
                nil
            }
        guard let what else { return }
        throw SupervisionError(.emptyName, "group \(group): its \(what) needs a name that is not empty")
    }
}

extension Children {
    /// Whether members are registered under a name with their number, as there may be several.
    var numbersNames: Bool { redundancy != 1 || features.resizer != nil }
}

extension SupervisionError {
    fileprivate init(_ conflict: NameClaims.Conflict, of spec: Children) {
        let other = conflict.group == spec.name ? "another group of that name" : "the group \(conflict.group)"
        self.init(
            .nameTaken,
            "group \(spec.name): the name \(conflict.name) is registered by \(other), too; give each a name of its own"
        )
    }

    init(_ problem: DistributorProblem, of spec: Children, distributor name: String) {
        if case .wrongMessageType(let taken) = problem {
            self.init(
                .wrongMessageType,
                "group \(spec.name) takes \(spec.messageType ?? Any.self), but the distributor \(name) is for \(taken)"
            )
            return
        }
        self.init(
            .conflictingStrategy,
            "group \(spec.name): the distributor \(name) has another strategy; give both groups the same, or one of them none"
        )
    }

    init(conflictOf spec: Children, dispatcher name: String) {
        self.init(
            .conflictingDispatcher,
            "group \(spec.name): the dispatcher \(name) has another handler; give both groups the same object"
        )
    }
}
