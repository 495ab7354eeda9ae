// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

/// What a supervisor decides: a pure value. Time comes in as an argument, what is to be done comes out as actions.
///
/// Strategy one-for-one: each child is restarted by itself. Children start in the order in which they were added and
/// stop in reverse, one after the other. Some may leave while the others go on.
struct SupervisorMachine: Sendable {
    typealias ChildID = UInt64

    struct Settings: Sendable {
        var restart: RestartType
        var backoff: Backoff
        /// A child that ends before it was told to have started is not started again, and its end is no restart.
        var mustStart = false
        /// What is said when the child is over for good takes time: `retire` comes before `forget`.
        var hasFarewell = false
    }

    enum Action: Equatable, Sendable {
        case start(ChildID)
        /// Tell `backoffElapsed` with this generation after the delay.
        case wait(ChildID, generation: Int, Duration)
        /// Ask the child to stop; `childEnded` follows.
        case stop(ChildID)
        /// The child will not be started again: say farewell, then tell `childRetired`; `forget` follows.
        case retire(ChildID)
        /// The child will not be started again.
        case forget(ChildID)
        /// The supervisor is done: all children have ended.
        case finish(Outcome)
    }

    enum Outcome: Equatable, Sendable {
        case stopped
        /// More restarts than the intensity allows; the child was the last straw.
        case gaveUp(ChildID)
    }

    private enum ChildState: Equatable {
        /// It runs, or is about to.
        case up(since: Duration)
        /// It waits for its backoff to elapse. Nothing runs.
        case waiting(generation: Int)
        /// It was asked to stop.
        case stopping
        /// It ended for good, and its farewell is being said. Nothing runs.
        case retiring
    }

    private struct Child {
        let id: ChildID
        let settings: Settings
        var state: ChildState
        var failuresInARow = 0
        var generation = 0
        /// It has not started yet, and must.
        var isStarting: Bool
        /// With whom it leaves, while the others stay: it is not started again.
        var party: Int?

        init(id: ChildID, settings: Settings, state: ChildState) {
            self.id = id
            self.settings = settings
            self.state = state
            isStarting = settings.mustStart
        }
    }

    private enum Phase: Equatable {
        case running
        /// Children are being stopped in reverse order; nothing is started.
        case stopping(Outcome)
        case finished
    }

    private var children: [Child] = []
    private var phase = Phase.running
    private var window: RestartWindow
    /// How many times children left.
    private var parties = 0

    private let finishesWhenEmpty: Bool

    /// - Parameter finishesWhenEmpty: Whether the supervisor is done when its last child has ended for good.
    init(intensity: RestartIntensity, finishesWhenEmpty: Bool = false) {
        window = RestartWindow(intensity)
        self.finishesWhenEmpty = finishesWhenEmpty
    }

    var childCount: Int { children.count }
    var isRunning: Bool { phase == .running }

    // MARK: Events

    /// A child is added. It is refused when the supervisor is stopping.
    mutating func add(_ id: ChildID, _ settings: Settings, at now: Duration) -> [Action] {
        guard phase == .running else { return [.forget(id)] }
        children.append(Child(id: id, settings: settings, state: .up(since: now)))
        return [.start(id)]
    }

    /// A child's incarnation is over.
    mutating func childEnded(_ id: ChildID, _ reason: ExitReason, at now: Duration) -> [Action] {
        // Of a child that was forgotten: nothing is to be done.
        guard let index = children.firstIndex(where: { $0.id == id }) else { return [] }
        switch phase {
        case .running:
            return childEndedWhileRunning(index, reason, at: now)
        case .stopping:
            return letGo(index)
        case .finished:
            return []
        }
    }

    /// A child that must start has done so: from now on it is restarted as its type says.
    mutating func childStarted(_ id: ChildID) {
        guard let index = children.firstIndex(where: { $0.id == id }) else { return }
        children[index].isStarting = false
    }

    /// The farewell of a child was said. Also told late, or again: then nothing is to be done.
    mutating func childRetired(_ id: ChildID) -> [Action] {
        guard let index = children.firstIndex(where: { $0.id == id }), children[index].state == .retiring else {
            return []
        }
        return letGo(index)
    }

    /// Children are to leave: they are stopped in reverse order, one after the other, and not started again, whatever their
    /// type. That is no failure. Those that are unknown, or leave already, do not count.
    mutating func remove(_ ids: [ChildID]) -> [Action] {
        guard phase == .running else { return [] }
        parties += 1
        let leaving = Set(ids)
        for index in children.indices where leaving.contains(children[index].id) && children[index].party == nil {
            children[index].party = parties
        }
        return stopNext(of: parties)
    }

    /// The time that `wait` asked for is up.
    mutating func backoffElapsed(_ id: ChildID, generation: Int, at now: Duration) -> [Action] {
        // Late: the child was forgotten, or the supervisor is stopping.
        guard phase == .running, let index = children.firstIndex(where: { $0.id == id }),
            children[index].state == .waiting(generation: generation), children[index].party == nil
        else { return [] }
        children[index].state = .up(since: now)
        return [.start(id)]
    }

    /// The supervisor is asked to stop.
    mutating func stop() -> [Action] {
        guard phase == .running else { return [] }
        return beginStopping(.stopped)
    }

    // MARK: Decisions

    private mutating func childEndedWhileRunning(_ index: Int, _ reason: ExitReason, at now: Duration) -> [Action] {
        let child = children[index]
        if child.party != nil || child.isStarting || !child.settings.restart.restarts(after: reason) {
            return letGo(index)
        }
        if window.restart(at: now) == .tooMany {
            phase = .stopping(.gaveUp(child.id))
            return letGo(index)
        }
        return restart(index, at: now)
    }

    /// A child that does not run is not started again. What comes next is done as well.
    private mutating func letGo(_ index: Int) -> [Action] {
        let child = children[index]
        return [dismiss(index)] + goOn(without: child)
    }

    /// Takes out a child that does not run, unless its farewell is to be said first.
    private mutating func dismiss(_ index: Int) -> Action {
        let child = children[index]
        guard child.settings.hasFarewell, child.state != .retiring else {
            children.remove(at: index)
            return .forget(child.id)
        }
        children[index].state = .retiring
        return .retire(child.id)
    }

    private mutating func goOn(without child: Child) -> [Action] {
        switch phase {
        case .running:
            if let party = child.party { return stopNext(of: party) }
            return finishesWhenEmpty && children.isEmpty ? beginStopping(.stopped) : []
        case .stopping:
            return stopLast()
        case .finished:
            return []
        }
    }

    /// Stops that child of a party which was started last; those that only wait are let go on the way.
    private mutating func stopNext(of party: Int) -> [Action] {
        var actions: [Action] = []
        // Ends: each round takes a child out, or leaves one whose end will bring us here again.
        while let index = children.lastIndex(where: { $0.party == party }) {
            switch children[index].state {
            case .waiting:
                actions.append(dismiss(index))
            case .up:
                children[index].state = .stopping
                return actions + [.stop(children[index].id)]
            case .stopping, .retiring:
                return actions
            }
        }
        if finishesWhenEmpty, children.isEmpty { return actions + beginStopping(.stopped) }
        return actions
    }

    private mutating func restart(_ index: Int, at now: Duration) -> [Action] {
        let backoff = children[index].settings.backoff
        if case .up(let since) = children[index].state {
            let lastDelay = backoff.delay(afterFailures: children[index].failuresInARow)
            let stayedUp =
                children[index].failuresInARow == 0 || now - since > lastDelay + backoff.delay(afterFailures: 1)
            children[index].failuresInARow = stayedUp ? 1 : children[index].failuresInARow + 1
        }
        let delay = backoff.delay(afterFailures: children[index].failuresInARow)
        guard delay > .zero else {
            children[index].state = .up(since: now)
            return [.start(children[index].id)]
        }
        children[index].generation += 1
        children[index].state = .waiting(generation: children[index].generation)
        return [.wait(children[index].id, generation: children[index].generation, delay)]
    }

    private mutating func beginStopping(_ outcome: Outcome) -> [Action] {
        phase = .stopping(outcome)
        return stopLast()
    }

    /// Stops the child that was started last; those that only wait are forgotten on the way.
    private mutating func stopLast() -> [Action] {
        guard case .stopping(let outcome) = phase else {
            preconditionFailure("impossible: children are stopped only while the supervisor stops")
        }
        var actions: [Action] = []
        // Ends: as in `stopNext`.
        while let last = children.last {
            switch last.state {
            case .waiting:
                actions.append(dismiss(children.count - 1))
            case .up:
                children[children.count - 1].state = .stopping
                return actions + [.stop(last.id)]
            case .stopping, .retiring:
                return actions
            }
        }
        phase = .finished
        return actions + [.finish(outcome)]
    }
}
