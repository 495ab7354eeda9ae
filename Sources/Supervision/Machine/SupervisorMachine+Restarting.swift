// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

extension SupervisorMachine {
    // MARK: Starting

    /// Starts a child, now.
    mutating func start(_ id: ChildID, at now: Duration) -> [Action] {
        guard let index = children.index(of: id) else { return [] }
        if isHeld {
            children.set(.queued, at: index)
            return []
        }
        children[index].starts &+= 1
        children[index].hasFailedToStart = false
        children[index].isLate = false
        children[index].wasTerminated = false
        children.set(.starting, at: index)
        guard isAwaited(children[index]) else {
            hasStarted(index, at: now)
            return [.start(id)]
        }
        guard let time = children[index].settings.startDeadline else { return [.start(id)] }
        return [.start(id), .limitStart(id, generation: children[index].starts, time)]
    }

    /// Whether something depends on when a start is over: others come then, or somebody waits. Otherwise the child counts as started
    /// at once, and is not asked to report it; its end says whether it had.
    private func isAwaited(_ child: ChildList.Child) -> Bool {
        switch strategy {
        case .oneForAll, .restForOne: return true
        case .oneForOne: return !child.hasStarted || child.isManual || child.settings.startDeadline != nil
        case .dynamic:
            let isFirst = !child.hasStarted && !child.settings.startsUnseen
            return isFirst || child.isManual || child.settings.startDeadline != nil
        }
    }

    mutating func hasStarted(_ index: Int, at now: Duration) {
        children[index].hasStarted = true
        children.set(.up(since: now), at: index)
        children[index].isManual = false
        children[index].isLate = false
    }

    /// Starts those whose turn it is.
    mutating func advance(sequence number: Int, at now: Duration) -> [Action] {
        if isHeld { return [] }
        if number == 0, let sweep, sweep.phase != .starting { return [] }
        var actions: [Action] = []
        while var sequence = sequences[number], sequence.next < sequence.ids.count {
            let id = sequence.ids[sequence.next]
            sequence.next += 1
            sequences[number] = sequence
            guard let index = children.index(of: id), children[index].state == .queued, children[index].fate == nil
            else { continue }
            actions += start(id, at: now)
            if children[index].state == .starting {
                turns[id] = number
                return actions
            }
        }
        sequences[number] = nil
        if number == 0 { sweep = nil }
        return actions
    }

    /// A child has started, or ended before it had: the next in its sequence comes.
    mutating func goOn(afterStartOf id: ChildID, at now: Duration) -> [Action] {
        guard let number = turns.removeValue(forKey: id) else { return [] }
        return advance(sequence: number, at: now)
    }

    /// A start has failed, and the child cannot end now: the next in its sequence comes, as if it had. Those that share its fate wait for its
    /// end: they would be started again with it.
    mutating func startIsStuck(_ id: ChildID, at now: Duration) -> [Action] {
        guard hasFailedToStart(id) else { return [] }
        switch strategy {
        case .oneForOne, .dynamic: return goOn(afterStartOf: id, at: now)
        case .oneForAll, .restForOne: return []
        }
    }

    // MARK: Ends

    /// A child has ended before it had started: the first time that is an end like others, as it is when something was decided about it; later
    /// it is tried again.
    mutating func startFailed(
        _ index: Int,
        _ reason: ExitReason,
        _ decision: Decision?,
        at now: Duration
    ) -> [Action] {
        let child = children[index]
        if child.isManual {
            children[index].isManual = false
            return dismiss(index, .down) + goOn(afterEndOf: child.id, at: now)
        }
        if decision != nil || child.starts == 1 || child.isExhausted { return ended(index, reason, decision, at: now) }
        return restart(index, at: now)
    }

    /// A child has ended by itself.
    mutating func ended(_ index: Int, _ reason: ExitReason, _ decision: Decision?, at now: Duration) -> [Action] {
        let child = children[index]
        switch decision {
        case .escalate: return giveUp(index, .escalated(child.id), at: now)
        case .restart: return restart(index, at: now)
        case .stop: break
        case nil:
            if !child.isExhausted, child.settings.restart.restarts(after: reason) { return restart(index, at: now) }
        }
        let isGone = strategy == .dynamic || child.settings.restart == .temporary
        let actions = dismiss(index, isGone ? .gone : .down)
        if child.settings.isSignificant, shutsDown { return actions + end(.shutDown, at: now) }
        return actions + goOn(afterEndOf: child.id, at: now)
    }

    /// A significant child has ended.
    private var shutsDown: Bool {
        switch autoShutdown {
        case .never: false
        case .anySignificant: true
        case .allSignificant: children.significant == 0
        }
    }

    private mutating func giveUp(_ index: Int, _ outcome: Outcome, at now: Duration) -> [Action] {
        // First, so that nothing is started any more.
        phase = .stopping(outcome)
        return dismiss(index, .gone) + end(outcome, at: now)
    }

    /// A child that does not run is to: by itself, or with others.
    private mutating func restart(_ index: Int, at now: Duration) -> [Action] {
        let id = children[index].id
        if window.restart(at: now) == .tooMany { return giveUp(index, .gaveUp(id), at: now) }
        children[index].restarts += 1
        let delay = delayAfterFailure(of: index, at: now)
        switch strategy {
        case .oneForOne, .dynamic:
            let number = turns.removeValue(forKey: id)
            let actions = delay > .zero ? wait(index, delay) : start(id, at: now)
            // The next does not wait for it.
            return actions + (number.map { advance(sequence: $0, at: now) } ?? [])
        case .oneForAll:
            return sweepAway(from: children.first ?? index, cause: index, delay, at: now)
        case .restForOne:
            return sweepAway(from: index, cause: index, delay, at: now)
        }
    }

    private mutating func delayAfterFailure(of index: Int, at now: Duration) -> Duration {
        let child = children[index]
        let backoff = child.settings.backoff
        var failures = Int(child.failuresInARow)
        if case .up(let since) = child.state { failures = backoff.failures(failures, afterUptime: now - since) }
        children[index].failuresInARow = UInt32(clamping: failures + 1)
        let draw = backoff.jitter > 0 ? Double.random(in: 0..<1, using: &draws) : 0.5
        return backoff.delay(afterFailures: failures + 1, draw: draw)
    }

    private mutating func wait(_ index: Int, _ delay: Duration) -> [Action] {
        children[index].generation &+= 1
        children.set(.waiting, at: index)
        lastDelay = delay
        return [.wait(children[index].id, generation: children[index].generation, delay)]
    }

    // MARK: Sweeps

    /// Stops a child and those behind it, where they run, and starts all of them then.
    ///
    /// One sweep goes on at a time: a new one takes over what the one before had left to do.
    private mutating func sweepAway(
        from first: Int,
        cause: Int,
        _ delay: Duration,
        at now: Duration
    ) -> [Action] {
        children.set(.queued, at: cause)
        var (first, delay) = (first, delay)
        // What the one before has not begun to start is this one's.
        if let before = sweep, before.phase != .starting, let index = before.first.flatMap({ children.index(of: $0) }) {
            if children[index].ordinal < children[first].ordinal { first = index }
            delay = max(delay, before.delay)
        }
        var ids: [ChildID] = []
        for index in children.indices(from: first) {
            let child = children[index]
            switch child.state {
            case .down where child.fate == nil, .queued where child.fate == nil, .waiting where child.fate == nil:
                // One that has become temporary since it ended goes with those that run: it is not started again.
                if index != cause, child.state != .queued, child.settings.restart == .temporary {
                    children[index].fate = .gone
                    ids.append(child.id)
                } else {
                    children.set(.queued, at: index)
                }
            case .down, .queued, .waiting:
                // It is about to leave.
                break
            case .starting, .up:
                children[index].fate = max(
                    child.settings.restart == .temporary ? .gone : .queued,
                    child.fate ?? .queued
                )
                children[index].isManual = false
                ids.append(child.id)
            case .stopping, .retiring:
                // Also one that leaves: the others start when it has ended.
                ids.append(child.id)
            }
        }
        let (from, turn) = takeOverStarts(before: first)
        turns = turn.map { [$0: 0] } ?? [:]
        if case .stopping(let chain) = sweep?.phase { chains[chain] = nil }
        let number = number()
        chains[number] = Chain(left: ids, isParallel: false, purpose: .sweep)
        sweep = Sweep(
            cause: children[cause].id,
            delay: delay,
            first: children[from].id,
            phase: .stopping(chain: number)
        )
        return advance(chain: number, at: now)
    }

    /// The starts that go on are the next sweep's from now on.
    ///
    /// - Returns: The first that waits to be started, at the latest that with which the sweep begins; and who before it is in the middle of a start
    ///   that the others wait for.
    private mutating func takeOverStarts(before first: Int) -> (from: Int, turn: ChildID?) {
        var from = first
        let before = sweep?.first.map { [$0] } ?? []
        for id in before + sequences.values.flatMap({ $0.ids[$0.next...] }) {
            guard let index = children.index(of: id), children[index].ordinal < children[from].ordinal else { continue }
            from = index
        }
        sequences = [:]
        let turn = turns.first { id, number in
            guard number == 0, let index = children.index(of: id) else { return false }
            return children[index].ordinal < children[first].ordinal
        }
        return (from, turn?.key)
    }

    /// What was swept away has ended.
    mutating func sweptAway(chain number: Int, at now: Duration) -> [Action] {
        guard let sweep, sweep.phase == .stopping(chain: number) else { return [] }
        if sweep.delay > .zero, let cause = children.index(of: sweep.cause), children[cause].state == .queued {
            self.sweep?.phase = .waiting
            return wait(cause, sweep.delay)
        }
        return startAgain(at: now)
    }

    /// Starts what was swept away, and what came meanwhile, in order.
    mutating func startAgain(at now: Duration) -> [Action] {
        guard sweep != nil else { return [] }
        sweep?.phase = .starting
        let first = sweep?.first.flatMap { children.index(of: $0) }
        let ids = children.indices(from: first)
            .filter { children[$0].state == .queued }
            .map { children[$0].id }
        sequences[0] = Sequence(ids: ids)
        // One that stands before all of them has not started yet.
        if turns.values.contains(0) { return [] }
        return advance(sequence: 0, at: now)
    }
}
