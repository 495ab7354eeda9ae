// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

/// What ties a process to others: who watches it, whom it watches, and whom it is linked to.
///
/// Everything of one process lies behind one lock. What is told to another process is told outside of it: a monitor needs no
/// two of these locks at a time, making and dissolving a link takes both, that of the older process first. So neither a circle
/// of links nor two processes that end each other can block or go round.
///
/// A link or a monitor is at its end when it is found in the table no more; whoever takes it out has the say.
final class Bonds: CompanionPart {
    typealias DownMap = @Sendable (Down) -> any Sendable
    typealias ExitMap = @Sendable (Exit) -> any Sendable

    /// A monitor, at the process that watches.
    struct Watch {
        weak var target: LightProc?
        let ref: MonitorRef
        let name: String?
        let map: DownMap?
        /// Set when its message is on the way.
        var reason: ExitReason?
        /// Set when its message was made to be looked at.
        var made: (any Sendable)?

        func message(_ reason: ExitReason) -> any Sendable {
            if let made { return made }
            let down = Down(monitor: ref, process: ref.process, name: name, reason: reason)
            return map?(down) ?? down
        }
    }

    /// A monitor, at the process that is watched.
    struct Watcher {
        weak var proc: LightProc?
        /// Which incarnation is watched; the last one there is: until the process has ended for good.
        let incarnation: UInt32
        static var untilClosed: UInt32 { .max }
    }

    /// A link, at each of the two.
    struct Link {
        weak var peer: LightProc?
        /// The incarnation that is linked.
        let own: UInt32
        /// That of the peer.
        let other: UInt32
    }

    /// An ``Exit`` on its way to this process, or in its mailbox.
    struct PendingExit {
        let exit: Exit
        let map: ExitMap?
        /// Set when its message was made to be looked at.
        var made: (any Sendable)?

        var message: any Sendable { made ?? map?(exit) ?? exit }
    }

    struct Content {
        var isClosed = false
        var watched: [UInt64: Watch] = [:]
        var watchers: [UInt64: Watcher] = [:]
        var links: [ProcID: Link] = [:]
        /// Set while an incarnation traps exits.
        var trap: (incarnation: UInt32, map: ExitMap?)?
        var exits: [UInt64: PendingExit] = [:]
        /// A supervisor's: the end of who is linked to it is none of its business.
        var ignoresExits = false
        /// How an incarnation is being ended by a link or by an exit that was sent to it.
        var sentence: (incarnation: UInt32, reason: ExitReason)?
    }

    let id: ProcID
    private let scheduler: any ProcScheduler
    let content = Locked(Content())

    private init(of proc: LightProc) {
        id = proc.id
        scheduler = proc.scheduler
    }

    static func of(_ proc: LightProc) -> Bonds { Companion.of(proc).part(Bonds.self, of: proc) { Bonds(of: proc) } }

    static func existing(of proc: LightProc) -> Bonds? { Companion.existing(of: proc)?.part(Bonds.self) }

    /// Numbers monitors and exits.
    private static let numbers = Numbers()
    private final class Numbers: Sendable {
        let next = AtomicWord(1)
    }
    static func nextNumber() -> UInt64 {
        // ordering: relaxed: only the counting must be atomic.
        UInt64(numbers.next.wrappingAdd(1, ordering: .relaxed).oldValue)
    }

    /// Changes two processes' bonds at once. Any order of the two.
    static func withBoth<Result>(
        _ first: Bonds,
        _ second: Bonds,
        _ body: (inout Content, inout Content) -> Result
    ) -> Result {
        precondition(first !== second, "impossible: a process has no bond with itself")
        if first.id < second.id {
            return first.content.withLock { one in second.content.withLock { two in body(&one, &two) } }
        }
        return second.content.withLock { two in first.content.withLock { one in body(&one, &two) } }
    }

    // MARK: What happens to the process

    func starting(_ proc: LightProc, incarnation: UInt32) {
        // Linked before it ran, to one that has ended meanwhile.
        let reason = content.withLock { $0.sentence?.incarnation == incarnation ? $0.sentence?.reason : nil }
        if let reason { proc.end(incarnation, for: reason) }
    }

    func endDecided(of proc: LightProc, incarnation: UInt32, reason: ExitReason) {
        tell(content.withLock { $0.takeEnds(of: incarnation) }, proc, reason)
    }

    func closed(_ proc: LightProc?, _ id: ProcID, reason: ExitReason) {
        let ends = content.withLock { content in
            content.isClosed = true
            return content.takeEnds(of: Watcher.untilClosed)
        }
        tell(ends, proc, reason)
    }

    /// Tells the others. On whichever thread decided; outside of the lock.
    ///
    /// - Parameter proc: Nil when its last reference went while it was idle: that is no failure, and takes nobody with it.
    private func tell(_ ends: Ends, _ proc: LightProc?, _ reason: ExitReason) {
        for (number, watcher) in ends.watchers {
            guard let other = watcher.proc else { continue }
            Bonds.existing(of: other)?.fire(number, reason, to: other)
        }
        let name = ends.links.isEmpty ? nil : proc?.name
        var sentences: [Sentence] = []
        for link in ends.links.values {
            guard let peer = link.peer, let bonds = Bonds.existing(of: peer) else { continue }
            let exit = Exit(process: id, name: name, reason: reason, isFromLink: true)
            let sentence = bonds.linkBroken(exit, of: link.own, link.other, to: peer, sparing: proc == nil)
            if let sentence { sentences.append(sentence) }
        }
        Sentence.carryOut(sentences)
        for (number, target) in ends.targets { target.drop(number) }
        // What is the user's in it dies elsewhere.
        if ends.ownsOthers {
            LightProc.runOnce(on: scheduler) { ends.destroy() }
        }
    }

    // MARK: Taking messages

    /// The process takes the message of a monitor out of its mailbox; nil if that was withdrawn. In its name.
    func takeDown(_ number: UInt64) -> (any Sendable)? {
        guard let watch = content.withLock({ $0.watched.removeValue(forKey: number) }), let reason = watch.reason
        else { return nil }
        return watch.message(reason)
    }

    /// The process takes an exit out of its mailbox; nil if that was withdrawn. In its name.
    func takeExit(_ number: UInt64) -> (any Sendable)? {
        content.withLock({ $0.exits.removeValue(forKey: number) })?.message
    }

    /// The process looks at the message of a monitor; nil if that was withdrawn. It is made once, in its name.
    func lookAtDown(_ number: UInt64) -> (any Sendable)? {
        guard let watch = content.withLock({ $0.watched[number] }), let reason = watch.reason else { return nil }
        let message = watch.message(reason)
        return content.withLock { content in
            guard let watch = content.watched[number] else { return nil }
            // Another task of the process has made it meanwhile.
            if let made = watch.made { return made }
            content.watched[number]?.made = message
            return message
        }
    }

    /// The process looks at an exit; nil if that was withdrawn. It is made once, in its name.
    func lookAtExit(_ number: UInt64) -> (any Sendable)? {
        guard let message = content.withLock({ $0.exits[number] })?.message else { return nil }
        return content.withLock { content in
            guard let exit = content.exits[number] else { return nil }
            if let made = exit.made { return made }
            content.exits[number]?.made = message
            return message
        }
    }
}

extension Bonds.Content {
    /// Takes everything out that is at its end with an incarnation.
    mutating func takeEnds(of incarnation: UInt32) -> Bonds.Ends {
        let isLast = incarnation == Bonds.Watcher.untilClosed
        let ended = watchers.filter { isLast || $0.value.incarnation <= incarnation }
        for number in ended.keys { watchers[number] = nil }
        // What this process ties itself is tied by its present incarnation only.
        let ends = Bonds.Ends(watchers: ended, links: links, watched: watched, exits: exits, trap: trap?.map)
        links = [:]
        watched = [:]
        exits = [:]
        trap = nil
        sentence = nil
        return ends
    }
}

extension Bonds {
    /// What an incarnation leaves behind.
    final class Ends: Sendable {
        let watchers: [UInt64: Watcher]
        let links: [ProcID: Link]
        /// What the user's closures, and errors, are in.
        private let others: Locked<(watched: [UInt64: Watch], exits: [UInt64: PendingExit], trap: ExitMap?)>

        init(
            watchers: [UInt64: Watcher],
            links: [ProcID: Link],
            watched: [UInt64: Watch],
            exits: [UInt64: PendingExit],
            trap: ExitMap?
        ) {
            self.watchers = watchers
            self.links = links
            others = Locked((watched, exits, trap))
        }

        /// The processes that were watched and live, by monitor.
        var targets: [(UInt64, Bonds)] {
            others.withLock { others in
                others.watched.compactMap { number, watch in
                    guard watch.reason == nil, let target = watch.target else { return nil }
                    return Bonds.existing(of: target).map { (number, $0) }
                }
            }
        }

        var ownsOthers: Bool {
            others.withLock {
                !$0.exits.isEmpty || $0.trap != nil || $0.watched.contains { $1.map != nil || $1.reason != nil }
            }
        }

        func destroy() {
            let last = others.withLock { others in
                defer { others = ([:], [:], nil) }
                return others
            }
            _ = last
        }
    }

    /// An end that a process is to be put to.
    struct Sentence: Sendable {
        let proc: LightProc
        let incarnation: UInt32
        let reason: ExitReason

        /// Ends the processes. Any thread; outside of locks.
        ///
        /// A reactive process is only given an order. The end of an async one is decided by who gives it, and that of those which
        /// are linked to it: in a process of their own, or a long chain of them would need as much stack.
        static func carryOut(_ sentences: [Sentence]) {
            for sentence in sentences where sentence.proc.isReactive { sentence.carryOut() }
            let others = sentences.filter { !$0.proc.isReactive }
            guard let first = others.first else { return }
            LightProc.runOnce(on: first.proc.scheduler) { for sentence in others { sentence.carryOut() } }
        }

        func carryOut() { proc.end(incarnation, for: reason) }
    }
}

extension LightProc {
    /// The incarnation that a monitor or link of now is about: that which lives, or the first one of a process that has not been
    /// started yet; nil if there is none.
    var presentIncarnation: UInt32? {
        let state = self.state
        switch state.phase {
        case .created: return 1
        case .active: return state.incarnation
        case .ending, .ended, .closed: return nil
        }
    }

    /// Whether the end of an incarnation has not been decided yet.
    func isLiving(_ incarnation: UInt32) -> Bool {
        let state = self.state
        return state.phase == .active && state.incarnation == incarnation
    }

    /// Adds a notice to the messages of the process, behind all that were sent before. Dropped when it is closed. Any thread.
    func deliver(_ notice: Notice) {
        if let queue = managedQueue {
            queue.offer(notice, to: self)
        } else if isReactive {
            let node = MessageNode.make(notice: notice)
            if !push(node) { node.refuse(as: Notice.self) }
        } else {
            let node = MessageNode.make(notice: Envelope(message: notice))
            if !push(node) { node.refuse(as: Envelope.self) }
        }
    }
}
