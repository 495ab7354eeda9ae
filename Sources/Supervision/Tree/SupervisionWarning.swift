// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// Something in the description of a tree that can be carried out, but hardly as it was meant.
public struct SupervisionWarning: Sendable, Hashable, CustomStringConvertible {
    /// What is odd; compare with the static members, more of which may be added.
    public struct Code: Hashable, Sendable {
        private let name: String
        /// A nested supervisor is killed before its children had the time to stop that they may take.
        public static let shutdownTimeTooShort = Code(name: "shutdownTimeTooShort")
        /// A child waits so long before each restart that it never fails often enough for its supervisor to give up.
        public static let backoffBeyondPeriod = Code(name: "backoffBeyondPeriod")
        /// A supervisor is to shut itself down, but has no significant child.
        public static let nothingSignificant = Code(name: "nothingSignificant")
        /// A temporary or transient child with a limit, backoff or policy that never comes to bear.
        public static let backoffWithoutRestarts = Code(name: "backoffWithoutRestarts")
        /// The time for the start of a nested supervisor is shorter than that of one of its children.
        public static let startTimeTooShort = Code(name: "startTimeTooShort")
    }
    /// What is odd, for programs.
    public let code: Code
    /// Where, as in `/shop/orders`.
    public let path: String
    /// What is odd and how to mend it, for humans.
    public let description: String
}

extension Supervisor {
    /// Checks the whole tree without starting anything.
    ///
    /// - Returns: What can be carried out, but hardly as it was meant; also told in the log when the tree is started.
    /// - Throws: ``SupervisionError`` when something cannot be carried out, as starting it would. What depends on the system and on what
    ///   runs there (processors, names, distributors and dispatchers that other trees have) is known at the start only.
    public func validate() throws(SupervisionError) -> [SupervisionWarning] {
        try children.validate()
        try DispatchCheck.validate([children])
        guard let nest = children.nest else { preconditionFailure("impossible: made with one") }
        return nest.warnings(path: "/\(children.name)")
    }
}

extension NestSpec {
    fileprivate func warnings(path: String) -> [SupervisionWarning] { rules.warnings(children, path: path) }
}

extension SupervisionRules {
    func warnings(_ children: [Children], path: String) -> [SupervisionWarning] {
        var warnings: [SupervisionWarning] = []
        func warn(_ code: SupervisionWarning.Code, _ place: String, _ text: String) {
            warnings.append(SupervisionWarning(code: code, path: place, description: "\(place): \(text)"))
        }
        if autoShutdown != .never, !children.isEmpty, !children.contains(where: \.features.isSignificant) {
            warn(
                .nothingSignificant,
                path,
                "it is to shut itself down when significant children have ended, but none is; mark some with significant()"
            )
        }
        for child in children {
            let place = "\(path)/\(child.name)"
            let delay = child.backoff.longest
            if let maximum = intensity.maximum, maximum > 0, child.restart != .temporary,
                child.backoff.time(of: maximum, atMost: intensity.period) > intensity.period
            {
                warn(
                    .backoffBeyondPeriod,
                    place,
                    "waiting up to \(delay) before each restart it never fails more than \(maximum) times within "
                        + "\(intensity.period): its supervisor never gives up; choose a lower cap or a longer period"
                )
            }
            if child.restart == .temporary, child.features.failurePolicy == nil,
                delay > .zero || child.features.restartLimit != nil
            {
                warn(
                    .backoffWithoutRestarts,
                    place,
                    "a temporary child is never restarted: its backoff and limit have no effect"
                )
            }
            guard let nest = child.nest else { continue }
            if let time = child.shutdownTime.time, nest.stopBudget.map({ $0 > time }) ?? true {
                let budget = nest.stopBudget.map { "\($0)" } ?? "as long as they like"
                warn(
                    .shutdownTimeTooShort,
                    place,
                    "its children may take \(budget) to stop, one after the other, but it is killed after \(time)"
                )
            }
            if let time = child.features.startDeadline,
                let longest = nest.children.compactMap(\.features.startDeadline).max(), longest > time
            {
                warn(
                    .startTimeTooShort,
                    place,
                    "a child of it may take \(longest) to start, but its own start is given up after \(time)"
                )
            }
            warnings += nest.warnings(path: place)
        }
        return warnings
    }
}

extension NestSpec {
    /// How long all children may take to stop; nil: as long as they like.
    fileprivate var stopBudget: Duration? {
        var total = Duration.zero
        for child in children {
            guard let time = child.shutdownTime.time else {
                // A supervisor that is not limited takes what its own children may.
                guard let below = child.nest?.stopBudget else { return nil }
                total = rules.strategy == .dynamic ? max(total, below) : total + below
                continue
            }
            total = rules.strategy == .dynamic ? max(total, time) : total + time * child.redundancy
        }
        return total
    }
}
