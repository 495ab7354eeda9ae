// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

/// How a supervisor and all below it are, at one moment: what a `/healthz` answers.
public struct SupervisorHealth: Sendable, CustomStringConvertible {
    /// From best to worst.
    public enum Status: String, Sendable, Hashable, Comparable, CaseIterable {
        /// All that is to run does.
        case healthy
        /// Some have not started yet, and nothing has failed.
        case starting
        /// Some are being restarted, or are being stopped, or should run and do not: also those that have failed for good, or given up.
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
                // Others have done what they were there for, or were terminated.
                case .down: info.restart == .permanent || info.hasFailed ? .degraded : .healthy
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
                // One that runs has a line of its own below.
                let isBelow = info.kind == .supervisor && !child.below.isEmpty
                let own = isBelow ? [] : ["\(indent)  \(info.path) \(info.state)\(Self.notes(info))"]
                return own + child.below.flatMap { $0.lines(indent: indent + "  ") }
            }
    }

    private static func notes(_ info: ChildInfo) -> String {
        var notes: [String] = []
        if info.restarts > 0 { notes.append("\(info.restarts) restarts") }
        if info.gaveUp { notes.append("gave up") }
        if let last = info.lastExit, info.hasFailed || !notes.isEmpty { notes.append("last: \(last)") }
        return notes.isEmpty ? "" : " (\(notes.joined(separator: ", ")))"
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
    /// How the supervisors at the top are, with all below, in the order in which they were started; then those that have given up, which
    /// are down, until one of that name is started again or the system is stopped. Of these the last 256 are known.
    public func health() async -> [SupervisorHealth] {
        var result: [SupervisorHealth] = []
        for tree in trees where !tree.isOfSpawned { result.append(await tree.health()) }
        // One that gave up while it was asked is there already.
        for path in fallen.paths where !result.contains(where: { $0.hasEnded && $0.path == path }) {
            result.append(SupervisorHealth(path: path, hasEnded: true, children: []))
        }
        return result
    }
}

/// Where supervisors at the top stood that have given up: of each path once, the last ones only.
final class FallenTrees: Sendable {
    static let limit = 256
    private let known = Locked<[String]>([])

    /// In the order in which they gave up.
    var paths: [String] { known.withLock { $0 } }

    func add(_ path: String) {
        known.withLock { known in
            known.removeAll { $0 == path }
            known.append(path)
            known.removeFirst(max(0, known.count - Self.limit))
        }
    }

    /// Another one stands there.
    func remove(_ path: String) { known.withLock { $0.removeAll { $0 == path } } }

    func removeAll() { known.withLock { $0 = [] } }
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
