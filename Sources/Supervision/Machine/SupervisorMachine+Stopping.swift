// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

extension SupervisorMachine {
    // MARK: Stopping

    /// Children are to end, whatever else was to become of them.
    mutating func take(_ ids: [ChildID], fate: (ChildList.Child) -> ChildList.Fate, at now: Duration) -> [Action] {
        guard phase == .running else { return [] }
        var taken: [(ordinal: UInt64, id: ChildID)] = []
        for id in ids {
            guard let index = children.index(of: id) else { continue }
            let child = children[index]
            let fate = fate(child)
            // It leaves already, or is where it is to be.
            if let present = child.fate, present != .queued, present >= fate { continue }
            if child.state == .down, fate == .down { continue }
            children[index].fate = fate
            if fate == .down { children[index].wasTerminated = true }
            taken.append((child.ordinal, id))
        }
        taken.sort { $0.ordinal < $1.ordinal }
        let number = number()
        chains[number] = Chain(left: taken.map(\.id), isParallel: strategy == .dynamic, purpose: .leave)
        return advance(chain: number, at: now)
    }

    /// The supervisor ends: all children are stopped in reverse order, dynamic ones at the same time.
    mutating func end(
        _ outcome: Outcome,
        atOnce: Bool = false,
        last: Set<ChildID> = [],
        at now: Duration
    ) -> [Action] {
        phase = .stopping(outcome)
        self.outcome = outcome
        sweep = nil
        sequences = [:]
        turns = [:]
        // Whoever was to be stopped is from now on in this one's turn.
        chains = [:]
        chainsOf = [:]
        var ids: [ChildID] = []
        ids.reserveCapacity(children.count)
        for index in children.indices(from: children.first) {
            children[index].fate = .gone
            ids.append(children[index].id)
        }
        if !last.isEmpty { ids = ids.filter(last.contains) + ids.filter { !last.contains($0) } }
        let number = number()
        chains[number] = Chain(left: ids, isParallel: atOnce || strategy == .dynamic, purpose: .end)
        return advance(chain: number, at: now)
    }

    /// A child that was told to stop, or has failed to start, has not ended although its time is up, as nothing interrupts what it does: the next
    /// are stopped, or started, and all is over when it has ended all the same. Who is swept away waits for it: nothing could be started again
    /// before.
    ///
    /// - Parameter hasEnded: Its process has, and something below it has not.
    mutating func stopIsLate(_ id: ChildID, hasEnded: Bool = false, at now: Duration) -> [Action] {
        guard let index = children.index(of: id), !children[index].isLate else { return [] }
        if hasEnded, children[index].state == .starting { children[index].hasFailedToStart = true }
        if hasFailedToStart(id) {
            children[index].isLate = true
            return startIsStuck(id, at: now)
        }
        // It has ended meanwhile, or was told to stop by itself.
        guard children[index].state == .stopping else { return [] }
        children[index].isLate = true
        // It may have been in the middle of a start.
        var actions = children[index].fate == .queued ? [] : goOn(afterStartOf: id, at: now)
        for number in chainsOf[id] ?? [] where chains[number].map({ $0.purpose != .sweep }) == true {
            chains[number]?.pending -= 1
            chains[number]?.late.insert(id)
            actions += advance(chain: number, at: now)
        }
        return actions
    }

    /// All that is left to wait for are children whose time is up.
    var lingers: Bool {
        guard case .stopping = phase else { return false }
        return chains.values.contains { $0.purpose == .end && $0.left.isEmpty && $0.pending == 0 && !$0.late.isEmpty }
    }

    /// Stops that child of a chain whose turn it is; those that do not run are dismissed on the way.
    mutating func advance(chain number: Int, at now: Duration) -> [Action] {
        var actions: [Action] = []
        while let id = chains[number]?.left.popLast() {
            guard let index = children.index(of: id) else { continue }
            let child = children[index]
            switch child.state {
            case .starting, .up:
                // It ended before its turn, and somebody has started it again: others may be in charge of it by now.
                guard let fate = child.fate, fate != .queued || chains[number]?.purpose == .sweep else { continue }
                // Late already if its start has failed, and it hangs.
                children.set(.stopping, at: index)
                actions.append(.stop(id))
            case .stopping, .retiring:
                break
            case .down, .queued, .waiting:
                // It ended by itself before its turn, and what was to become of it did.
                if child.fate == nil { continue }
                actions += settle(index, at: now)
                if children.index(of: id) == nil || children[index].state != .retiring { continue }
            }
            chainsOf[id, default: []].append(number)
            if children[index].isLate, children[index].state == .stopping, chains[number]?.purpose != .sweep {
                chains[number]?.late.insert(id)
                continue
            }
            chains[number]?.pending += 1
            if chains[number]?.isParallel != true { return actions }
        }
        guard let chain = chains[number], chain.pending == 0 else { return actions }
        if !chain.late.isEmpty { return actions + (chain.purpose == .end ? [.linger] : []) }
        chains[number] = nil
        switch chain.purpose {
        case .leave:
            return actions
        case .sweep:
            return actions + sweptAway(chain: number, at: now)
        case .end:
            guard case .stopping(let outcome) = phase else { return actions }
            phase = .finished
            return actions + [.finish(outcome)]
        }
    }

    /// A child that is to end does not run any more: what was to become of it does.
    mutating func settle(_ index: Int, at now: Duration) -> [Action] {
        let child = children[index]
        switch child.fate {
        case .queued:
            children[index].fate = nil
            children.set(.queued, at: index)
            return goOn(afterEndOf: child.id, at: now)
        case .down:
            return dismiss(index, .down) + goOn(afterEndOf: child.id, at: now)
        case .gone:
            return dismiss(index, .gone) + goOn(afterEndOf: child.id, at: now)
        case nil:
            preconditionFailure("impossible: a child that is to end has a fate")
        }
    }

    /// A child that does not run is over, unless its farewell is to be said first.
    mutating func dismiss(_ index: Int, _ fate: ChildList.Fate) -> [Action] {
        let child = children[index]
        // One that is down has had its farewell.
        if child.settings.hasFarewell, child.starts > 0, child.state != .down {
            children[index].fate = max(fate, child.fate ?? fate)
            children.set(.retiring, at: index)
            return [.retire(child.id)]
        }
        if fate == .gone || strategy == .dynamic {
            drop(index)
            return [.forget(child.id)]
        }
        layDown(index)
        return [.lay(child.id)]
    }

    /// Takes a child out.
    mutating func drop(_ index: Int) {
        if sweep?.first == children[index].id { sweep?.first = children.after(index).map { children[$0].id } }
        children.remove(at: index)
    }

    mutating func layDown(_ index: Int) {
        children[index].fate = nil
        children[index].failuresInARow = 0
        children[index].isManual = false
        children.set(.down, at: index)
    }

    /// A child does not run any more: whoever waits for that goes on.
    mutating func goOn(afterEndOf id: ChildID, at now: Duration) -> [Action] {
        // Its farewell comes first.
        if let index = children.index(of: id), children[index].state == .retiring { return [] }
        // One that had not started when it was to end: the next comes.
        var actions = goOn(afterStartOf: id, at: now)
        for number in chainsOf.removeValue(forKey: id) ?? [] {
            let wasLate = chains[number]?.late.remove(id) != nil
            if !wasLate { chains[number]?.pending -= 1 }
            // Its turn was over long ago, and now it is another one's.
            if wasLate, let chain = chains[number], !chain.isParallel, chain.pending > 0 { continue }
            actions += advance(chain: number, at: now)
        }
        // The sweep waited for it.
        if sweep?.cause == id, sweep?.phase == .waiting, phase == .running { actions += startAgain(at: now) }
        return actions
    }
}
