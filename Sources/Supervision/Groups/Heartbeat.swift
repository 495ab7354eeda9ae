// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc
import Logging

/// How often the members of a group are asked for a sign of life, and when they count as dead.
struct Heartbeat: Sendable, Hashable {
    let every: Duration
    let within: Duration
    let misses: Int

    var flaw: String? {
        if every <= .zero { return "the period of the heartbeat must be positive, got \(every)" }
        if within <= .zero || within > every {
            return "a sign of life must come within a positive time, not longer than the period, got \(within)"
        }
        return misses < 1 ? "the heartbeat must tolerate less than one miss or more, got \(misses)" : nil
    }
}

extension Children {
    /// Asks each member for a sign of life, and ends one that gives none: its supervisor then restarts it.
    ///
    /// A reactive member gives the sign between two messages; an async one when one of its jobs returns, that is suspends. Who has
    /// nothing to do, who awaits something (for however long), and who is inside of `blocking { }`, is alive. So what is found is a
    /// handler or job that does not come back: a loop, a lock, a call that blocks. It is ended with
    /// ``LightProc/ExitReason/unresponsive(_:)``, a failure, as by a kill: an async member is restarted when its shutdown time is over, a
    /// reactive one cannot be as long as its handler does not return. The log tells at level error.
    ///
    /// Costs one timer a group, which fires for one member after the other, spread over the period; nothing is queued for a member that
    /// is idle. A member that waits for its turn on an overloaded executor longer than `within` counts as a miss: choose times
    /// well above the longest turn that you expect.
    ///
    /// - Parameters:
    ///   - period: How often each member is asked.
    ///   - time: How long it may take to answer, at most the period.
    ///   - misses: How many times in a row it must fail to.
    public func heartbeat(every period: Duration, within time: Duration, misses: Int = 2) -> Children {
        var children = self
        children.features.heartbeat = Heartbeat(every: period, within: time, misses: misses)
        return children
    }
}

/// Whom to ask for a sign of life, and who counts as dead: pure.
///
/// One member is asked at a time, in turn, so that each is asked once a period. A question stays open until it is answered; each
/// time that it is still open `within` after the member's turn is a miss.
struct HeartbeatMonitor: Sendable {
    typealias ChildID = SupervisorMachine.ChildID

    enum Verdict: Equatable {
        case alive
        /// It owes an answer: look again after ``Heartbeat/within``.
        case owes
        /// No answer so far, for the so-manyth time.
        case missed(Int)
        /// It is to be ended; said once for each incarnation.
        case dead(silentFor: Duration)
    }

    private struct Member {
        let id: ChildID
        var incarnation: UInt32 = 0
        /// When the question that is open was asked.
        var asked: Duration?
        var misses = 0
        var isDead = false
    }

    let heartbeat: Heartbeat
    /// In the order in which they came; nil where one has left.
    private var members: [Member?] = []
    private var indices: [ChildID: Int] = [:]
    private var position = 0

    init(_ heartbeat: Heartbeat) { self.heartbeat = heartbeat }

    mutating func add(_ id: ChildID) {
        guard indices[id] == nil else { return }
        indices[id] = members.count
        members.append(Member(id: id))
    }

    mutating func remove(_ id: ChildID) {
        guard let index = indices.removeValue(forKey: id) else { return }
        members[index] = nil
        if indices.count < members.count / 2 { closeGaps() }
    }

    /// Each moves once for one that has left since the last time.
    private mutating func closeGaps() {
        position = members[..<position].count { $0 != nil }
        members.removeAll { $0 == nil }
        for (index, member) in members.enumerated() { if let member { indices[member.id] = index } }
    }

    /// From one member's turn to the next one's.
    var pause: Duration { heartbeat.every / max(indices.count, 1) }

    /// The member whose turn it is; nil if there is none.
    mutating func next() -> ChildID? {
        if indices.isEmpty { return nil }
        // Ends: there is one. Gaps are fewer than members, so a round passes each of them once.
        while true {
            if position >= members.count { position = 0 }
            defer { position += 1 }
            if let member = members[position] { return member.id }
        }
    }

    /// A member was asked.
    mutating func asked(_ id: ChildID, _ incarnation: UInt32, isAlive: Bool, at now: Duration) -> Verdict {
        update(id, incarnation, isAlive) { member in
            member.asked = member.asked ?? now
            return .owes
        }
    }

    /// The time for an answer is up.
    mutating func looked(_ id: ChildID, _ incarnation: UInt32, isAlive: Bool, at now: Duration) -> Verdict {
        let limit = heartbeat.misses
        return update(id, incarnation, isAlive) { member in
            // Answered, and not asked again.
            guard let asked = member.asked else { return .alive }
            member.misses += 1
            guard member.misses >= limit else { return .missed(member.misses) }
            if member.isDead { return .missed(member.misses) }
            member.isDead = true
            return .dead(silentFor: now - asked)
        }
    }

    private mutating func update(
        _ id: ChildID,
        _ incarnation: UInt32,
        _ isAlive: Bool,
        _ unanswered: (inout Member) -> Verdict
    ) -> Verdict {
        // It has left meanwhile.
        guard let index = indices[id], var member = members[index] else { return .alive }
        defer { members[index] = member }
        if isAlive || member.incarnation != incarnation {
            member = Member(id: id, incarnation: incarnation)
            if isAlive { return .alive }
        }
        return unanswered(&member)
    }
}

extension SupervisorCell {
    /// The next member of a group is asked for a sign of life.
    func beat(_ group: GroupRecord, _ body: inout SupervisorBody) {
        let key = ObjectIdentifier(group)
        guard let id = body.undertakings.monitors[key]?.next() else {
            if let monitor = body.undertakings.monitors[key] {
                setTimer(.beat, for: group, after: monitor.pause, &body)
            }
            return
        }
        if let child = body.children[id] {
            let incarnation = child.proc.incarnation
            let now = system.executor.now
            // The last question may have been answered late, and the next one must not hide that.
            if child.proc.hasGivenSignOfLife {
                _ = body.undertakings.monitors[key]?.looked(id, incarnation, isAlive: true, at: now)
            }
            let isAlive = child.proc.askForSignOfLife()
            let verdict = body.undertakings.monitors[key]?.asked(id, incarnation, isAlive: isAlive, at: now)
            if verdict == .owes, let heartbeat = child.features.heartbeat {
                system.executor.wake(after: heartbeat.within) { [weak self, weak group] in
                    if let self, let group { send(.group(group, .look(id))) }
                }
            }
        }
        if let monitor = body.undertakings.monitors[key] { setTimer(.beat, for: group, after: monitor.pause, &body) }
    }

    /// The time that a member may take to answer is up.
    func look(_ id: SupervisorMachine.ChildID, _ group: GroupRecord, _ body: inout SupervisorBody) {
        guard let child = body.children[id] else { return }
        let proc = child.proc
        let incarnation = proc.incarnation
        let verdict = body.undertakings.monitors[ObjectIdentifier(group)]?
            .looked(id, incarnation, isAlive: proc.hasGivenSignOfLife, at: system.executor.now)
        switch verdict {
        case .alive, .owes, nil: break
        case .missed(let misses):
            system.tell(.notice) { [path] in
                ("no sign of life", ["child": "\(proc)", "supervisor": "\(path)", "misses": "\(misses)"])
            }
        case .dead(let silence):
            system.tell(.error) { [path] in
                (
                    "no sign of life for \(silence): the child is ended",
                    ["child": "\(proc)", "supervisor": "\(path)", "message": "\(proc.messageTypeName ?? "-")"]
                )
            }
            proc.end(incarnation, for: .unresponsive(silence))
        }
    }
}
