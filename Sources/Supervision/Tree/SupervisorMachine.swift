// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

/// What a supervisor decides: a pure value. Time comes in as an argument, what is to be done comes out as actions.
///
/// Strategy one-for-one: each child is restarted by itself. Children start in the order in which they were added and
/// stop in reverse, one after the other.
struct SupervisorMachine: Sendable {
    typealias ChildID = UInt64

    struct Settings: Sendable {
        var restart: RestartType
        var backoff: Backoff
    }

    enum Action: Equatable, Sendable {
        case start(ChildID)
        /// Tell `backoffElapsed` with this generation after the delay.
        case wait(ChildID, generation: Int, Duration)
        /// Ask the child to stop; `childEnded` follows.
        case stop(ChildID)
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
    }

    private struct Child {
        let id: ChildID
        let settings: Settings
        var state: ChildState
        var failuresInARow = 0
        var generation = 0
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
            children.remove(at: index)
            return [.forget(id)] + stopLast()
        case .finished:
            return []
        }
    }

    /// The time that `wait` asked for is up.
    mutating func backoffElapsed(_ id: ChildID, generation: Int, at now: Duration) -> [Action] {
        // Late: the child was forgotten, or the supervisor is stopping.
        guard phase == .running, let index = children.firstIndex(where: { $0.id == id }),
            children[index].state == .waiting(generation: generation)
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
        guard child.settings.restart.restarts(after: reason) else {
            children.remove(at: index)
            guard finishesWhenEmpty, children.isEmpty else { return [.forget(child.id)] }
            return [.forget(child.id)] + beginStopping(.stopped)
        }
        if window.restart(at: now) == .tooMany {
            children.remove(at: index)
            return [.forget(child.id)] + beginStopping(.gaveUp(child.id))
        }
        return restart(index, at: now)
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
        while let last = children.last {
            switch last.state {
            case .waiting:
                children.removeLast()
                actions.append(.forget(last.id))
            case .up:
                children[children.count - 1].state = .stopping
                return actions + [.stop(last.id)]
            case .stopping:
                // Its end will bring us here again.
                return actions
            }
        }
        phase = .finished
        return actions + [.finish(outcome)]
    }
}
