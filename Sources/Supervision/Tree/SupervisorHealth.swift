// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// How a supervisor and all below it are, at one moment: what a `/healthz` answers.
public struct SupervisorHealth: Sendable, CustomStringConvertible {
    /// From best to worst.
    public enum Status: String, Sendable, Hashable, Comparable, CaseIterable {
        /// All that is to run does.
        case healthy
        /// Some have not started yet, and nothing has failed.
        case starting
        /// Some are being restarted, or are being stopped, or should run and do not.
        case degraded
        /// The supervisor has ended.
        case down

        /// Whether it is better.
        public static func < (lhs: Status, rhs: Status) -> Bool {
            allCases.firstIndex(of: lhs) ?? 0 < allCases.firstIndex(of: rhs) ?? 0
        }
    }

    /// A child, and what is below it.
    public struct Child: Sendable {
        /// The child itself.
        public let info: ChildInfo
        /// Supervisors that it is, or has started, also those that are being stopped after its end.
        public let below: [SupervisorHealth]

        /// How it is, with all below.
        public var status: Status {
            let own: Status =
                switch info.state {
                case .running: .healthy
                case .starting, .waitingForOthers: info.restarts == 0 ? .starting : .degraded
                case .restarting, .stopping: .degraded
                // Others have done what they were there for.
                case .down: info.restart == .permanent ? .degraded : .healthy
                }
            // A nested supervisor that has ended is what its own state says.
            if info.state == .down { return own }
            return below.map { $0.status == .down ? .degraded : $0.status }.reduce(own, max)
        }
    }

    /// Where the supervisor stands.
    public let path: String
    /// Whether it has ended.
    public let hasEnded: Bool
    /// In the order in which they start.
    public let children: [Child]

    /// How it is: the worst of its children.
    public var status: Status { hasEnded ? .down : children.map(\.status).reduce(.healthy, max) }

    /// Whether requests should come here.
    public var isHealthy: Bool { status == .healthy }

    /// The tree, a line each; describes errors, on the caller's thread, as in `/shop/orders-3 restarting (2 restarts, last: error: outOfStock)`.
    public var description: String { lines(indent: "").joined(separator: "\n") }

    private func lines(indent: String) -> [String] {
        ["\(indent)\(path) \(status.rawValue)"]
            + children.flatMap { child -> [String] in
                let info = child.info
                let last = info.lastExit.map { ", last: \($0)" } ?? ""
                let restarts = info.restarts == 0 ? "" : " (\(info.restarts) restarts\(last))"
                let own = info.kind == .supervisor ? [] : ["\(indent)  \(info.path) \(info.state)\(restarts)"]
                return own + child.below.flatMap { $0.lines(indent: indent + "  ") }
            }
    }

    /// The same as JSON: `path`, `status`, and `children` with `path`, `state`, `restarts` and `below`.
    public var json: String {
        let members = children.map { child in
            let below = child.below.map(\.json).joined(separator: ",")
            return #"{"path":\#(Self.quoted(child.info.path)),"state":"\#(child.info.state)","#
                + #""restarts":\#(child.info.restarts),"below":[\#(below)]}"#
        }
        return #"{"path":\#(Self.quoted(path)),"status":"\#(status.rawValue)","#
            + #""children":[\#(members.joined(separator: ","))]}"#
    }

    /// Names have no control characters.
    private static func quoted(_ text: String) -> String {
        var result = "\""
        for character in text.unicodeScalars {
            if character == "\"" || character == "\\" { result.unicodeScalars.append("\\") }
            result.unicodeScalars.append(character)
        }
        return result + "\""
    }
}

extension SupervisorRef {
    /// How this supervisor and all below it are. Asks each of them: O(children). They answer also while children start, stop or wait.
    public func health() async -> SupervisorHealth { await supervisor.health() }
}

extension BastionSystem {
    /// How the supervisors at the top are, with all below, in the order in which they were started.
    public func health() async -> [SupervisorHealth] {
        var result: [SupervisorHealth] = []
        for tree in trees where !tree.isOfSpawned { result.append(await tree.health()) }
        return result
    }
}

extension SupervisorCell {
    fileprivate func health() async -> SupervisorHealth {
        var children: [SupervisorHealth.Child] = []
        for info in await SupervisorRef(supervisor: self).whichChildren() {
            var below: [SupervisorHealth] = []
            for supervisor in roster.child(info.name)?.supervisorsAlsoEnding ?? [] {
                below.append(await supervisor.health())
            }
            children.append(SupervisorHealth.Child(info: info, below: below))
        }
        return SupervisorHealth(path: path, hasEnded: outcome != nil, children: children)
    }
}
