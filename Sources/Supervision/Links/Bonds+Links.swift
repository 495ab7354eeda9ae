// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

/// Links, and exits that are sent.
extension Bonds {
    /// What became of a wish to be linked.
    enum Linking {
        /// They are linked, or were before.
        case linked
        /// The other one is over.
        case noProcess
        /// The incarnation that wished it is over.
        case tooLate
    }

    /// Links an incarnation of `proc` with the present one of `target`. Once: a second link of the same two is the first one.
    @discardableResult
    static func link(_ target: LightProc, by proc: LightProc, _ incarnation: UInt32) -> Linking {
        if target === proc { return .linked }
        let own = of(proc)
        let result = withBoth(own, of(target)) { mine, theirs -> Linking in
            guard proc.isLiving(incarnation) else { return .tooLate }
            // Perhaps with an incarnation whose end is being told at this moment: it comes here, too.
            if mine.links[target.id] != nil { return .linked }
            guard let other = target.presentIncarnation else { return .noProcess }
            mine.links[target.id] = Link(peer: target, own: incarnation, other: other)
            theirs.links[proc.id] = Link(peer: proc, own: other, other: incarnation)
            return .linked
        }
        if case .noProcess = result {
            let exit = Exit(process: target.id, name: target.name, reason: .noProcess, isFromLink: true)
            own.receive(exit, incarnation, to: proc, ending: .linked(target.id, .noProcess))
        }
        return result
    }

    /// Links an incarnation of `proc` with a supervisor, which itself does not end by it.
    static func link(_ supervisor: SupervisorCell, by proc: LightProc, _ incarnation: UInt32) {
        of(supervisor.proc).content.withLock { $0.ignoresExits = true }
        link(supervisor.proc, by: proc, incarnation)
    }

    /// Links a process that has not run yet with the one that made it; ends it if that is over.
    static func linkNew(_ process: LightProc, by proc: LightProc, _ incarnation: UInt32) {
        guard case .tooLate = link(process, by: proc, incarnation), let first = process.presentIncarnation else {
            return
        }
        let exit = Exit(process: proc.id, name: proc.name, reason: .noProcess, isFromLink: true)
        of(process).receive(exit, first, to: process, ending: .linked(proc.id, .noProcess))
    }

    /// Dissolves a link: from here on neither learns of the other's end by it.
    static func unlink(_ target: LightProc, by proc: LightProc, _ incarnation: UInt32) {
        if target === proc { return }
        let own = of(proc)
        let (flushed, sentence) = withBoth(own, of(target)) { mine, theirs in
            if mine.links[target.id]?.own == incarnation {
                mine.links[target.id] = nil
                theirs.links[proc.id] = nil
            }
            let flushed = mine.exits.filter { $1.exit.isFromLink && $1.exit.process == target.id }
            for number in flushed.keys { mine.exits[number] = nil }
            return (flushed, mine.sentence)
        }
        // It was too late, and is not to look as if it had not been.
        if let sentence, sentence.incarnation == incarnation { proc.end(incarnation, for: sentence.reason) }
        // The user's errors and closures, in the user's name.
        _ = flushed
    }

    /// A process that an incarnation of this one is linked to has ended, one incarnation of it.
    ///
    /// - Parameter sparing: Whether only a process that traps exits is told.
    /// - Returns: How this one is to end, if it is.
    func linkBroken(_ exit: Exit, of other: UInt32, _ own: UInt32, to proc: LightProc, sparing: Bool) -> Sentence? {
        let ending: ExitReason? =
            switch exit.reason {
            case .normal: nil
            // No failure, and so none of who is linked to it; of a chain: where it began stays known, and the reason does not grow.
            case .shutdown, .linked: exit.reason
            case .error, .trap, .killed, .deadlineExceeded, .unresponsive, .noProcess:
                .linked(exit.process, exit.reason)
            }
        let verdict = content.withLock { content -> Verdict in
            // Dissolved meanwhile, or this incarnation has ended as well.
            guard let link = content.links[exit.process], link.own == own, link.other == other else { return .nothing }
            content.links[exit.process] = nil
            return content.judge(exit, own, proc, ending: sparing ? nil : ending)
        }
        return perform(verdict, proc)
    }

    /// An incarnation of this process gets an exit.
    ///
    /// - Parameters:
    ///   - ending: How it ends if it does not trap exits; nil: it does not.
    ///   - trappable: Whether it may be trapped.
    func receive(
        _ exit: Exit,
        _ incarnation: UInt32,
        to proc: LightProc,
        ending: ExitReason?,
        trappable: Bool = true
    ) {
        let verdict = content.withLock { $0.judge(exit, incarnation, proc, ending: ending, trappable: trappable) }
        perform(verdict, proc)?.carryOut()
    }

    private func perform(_ verdict: Verdict, _ proc: LightProc) -> Sentence? {
        switch verdict {
        case .nothing: return nil
        case .end(let sentence): return sentence
        case .deliver(let number):
            proc.deliver(
                Notice(
                    look: { proc in Bonds.existing(of: proc)?.lookAtExit(number) },
                    take: { proc in Bonds.existing(of: proc)?.takeExit(number) }
                )
            )
            return nil
        }
    }

    /// Sends an exit to the present incarnation of a process, if there is one.
    static func exit(_ target: LightProc, for reason: ExitReason, by proc: LightProc) {
        guard let incarnation = target.presentIncarnation else { return }
        let exit = Exit(process: proc.id, name: proc.name, reason: reason, isFromLink: false)
        switch reason {
        case .normal:
            of(target).receive(exit, incarnation, to: target, ending: target === proc ? .normal : nil)
        case .killed:
            of(target).receive(exit, incarnation, to: target, ending: .killed, trappable: false)
        case .shutdown, .error, .trap, .deadlineExceeded, .unresponsive, .linked, .noProcess:
            of(target).receive(exit, incarnation, to: target, ending: reason)
        }
    }

    /// An incarnation traps exits from now on, or no longer.
    func trapExits(_ traps: Bool, _ map: ExitMap?, of proc: LightProc, _ incarnation: UInt32) {
        let before = content.withLock { content -> ExitMap? in
            guard proc.isLiving(incarnation) else { return map }
            defer { content.trap = traps ? (incarnation, map) : nil }
            return content.trap?.map
        }
        _ = before
    }

    enum Verdict {
        case nothing
        case deliver(UInt64)
        case end(Sentence)
    }
}

extension Bonds.Content {
    /// Decides what an exit does to an incarnation. What it decided counts from here on.
    fileprivate mutating func judge(
        _ exit: Exit,
        _ incarnation: UInt32,
        _ proc: LightProc,
        ending: ExitReason?,
        trappable: Bool = true
    ) -> Bonds.Verdict {
        if trappable, let trap, trap.incarnation == incarnation {
            let number = Bonds.nextNumber()
            exits[number] = Bonds.PendingExit(exit: exit, map: trap.map)
            return .deliver(number)
        }
        guard let ending, !ignoresExits else { return .nothing }
        // The first one counts; what comes late for an incarnation that is over does not hide that of the present one.
        if incarnation > sentence?.incarnation ?? 0 { sentence = (incarnation, ending) }
        return .end(Bonds.Sentence(proc: proc, incarnation: incarnation, reason: ending))
    }
}
