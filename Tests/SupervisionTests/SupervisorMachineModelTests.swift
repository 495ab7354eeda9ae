// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import LightProc
import Testing

@testable import Supervision

/// The supervisor again, in plain words and without care for cost: every fact is computed from the whole history.
private struct Model {
    enum State: Equatable {
        case up(Duration)
        case waiting(Int)
        case stopping
        case retiring
    }
    struct Child {
        var id: UInt64
        var restart: RestartType
        var base: Int
        var cap: Int
        var state: State
        var mustStart = false
        var hasFarewell = false
        var row = 0
        var waits = 0
        /// With whom it leaves.
        var party: Int?
        var settings: SupervisorMachine.Settings {
            .init(restart: restart, backoff: backoff, mustStart: mustStart, hasFarewell: hasFarewell)
        }

        /// Milliseconds; 0: no backoff.
        func delay(_ row: Int) -> Duration {
            var milliseconds = base
            for _ in 0..<max(row - 1, 0) { milliseconds = min(milliseconds * 2, 1 << 40) }
            return .milliseconds(min(milliseconds, cap))
        }
        var backoff: Backoff {
            base == 0 ? .none : .exponential(.milliseconds(base), cap: .milliseconds(cap))
        }
    }

    let maximum: Int?
    let period: Duration
    let finishesWhenEmpty: Bool
    var children: [Child] = []
    var restarts: [Duration] = []
    var outcome: SupervisorMachine.Outcome?
    var isFinished = false
    var parties = 0

    mutating func add(_ child: Child) -> [SupervisorMachine.Action] {
        guard outcome == nil else { return [.forget(child.id)] }
        children.append(child)
        return [.start(child.id)]
    }

    mutating func ended(_ id: UInt64, isFailure: Bool, at now: Duration) -> [SupervisorMachine.Action] {
        guard let index = children.firstIndex(where: { $0.id == id }) else { return [] }
        var child = children[index]
        let isRestarted =
            outcome == nil && child.party == nil && !child.mustStart
            && (child.restart == .permanent || (child.restart == .transient && isFailure))
        if isRestarted { restarts.append(now) }
        if let maximum, isRestarted, restarts.count(where: { now - $0 <= period }) > maximum {
            outcome = .gaveUp(id)
            return letGo(index)
        }
        guard isRestarted else { return letGo(index) }
        guard case .up(let since) = child.state else { preconditionFailure("the test ends what runs only") }
        child.row = child.row > 0 && now - since <= child.delay(child.row) + child.delay(1) ? child.row + 1 : 1
        let delay = child.delay(child.row)
        if delay > .zero { child.waits += 1 }
        child.state = delay > .zero ? .waiting(child.waits) : .up(now)
        children[index] = child
        return delay > .zero ? [.wait(id, generation: child.waits, delay)] : [.start(id)]
    }

    mutating func started(_ id: UInt64) {
        for index in children.indices where children[index].id == id { children[index].mustStart = false }
    }

    mutating func retired(_ id: UInt64) -> [SupervisorMachine.Action] {
        guard let index = children.firstIndex(where: { $0.id == id && $0.state == .retiring }) else { return [] }
        children[index].hasFarewell = false
        return letGo(index)
    }

    mutating func remove(_ ids: [UInt64]) -> [SupervisorMachine.Action] {
        if outcome != nil { return [] }
        parties += 1
        for index in children.indices where ids.contains(children[index].id) && children[index].party == nil {
            children[index].party = parties
        }
        return leaveNext(parties)
    }

    /// It does not run: the farewell, or out.
    private mutating func letGo(_ index: Int) -> [SupervisorMachine.Action] {
        let child = children[index]
        var action = SupervisorMachine.Action.retire(child.id)
        if child.hasFarewell {
            children[index].state = .retiring
        } else {
            children.remove(at: index)
            action = .forget(child.id)
        }
        if outcome != nil { return [action] + stopNext() }
        if let party = child.party { return [action] + leaveNext(party) }
        if finishesWhenEmpty, children.isEmpty { return [action] + stop() }
        return [action]
    }

    private mutating func leaveNext(_ party: Int) -> [SupervisorMachine.Action] {
        guard let index = children.indices.last(where: { children[$0].party == party }) else {
            return finishesWhenEmpty && children.isEmpty ? stop() : []
        }
        switch children[index].state {
        case .waiting: return letGo(index)
        case .up:
            children[index].state = .stopping
            return [.stop(children[index].id)]
        case .stopping, .retiring: return []
        }
    }

    mutating func elapsed(_ id: UInt64, _ generation: Int, at now: Duration) -> [SupervisorMachine.Action] {
        guard outcome == nil, let index = children.firstIndex(where: { $0.id == id }),
            children[index].state == .waiting(generation), children[index].party == nil
        else { return [] }
        children[index].state = .up(now)
        return [.start(id)]
    }

    mutating func stop() -> [SupervisorMachine.Action] {
        guard outcome == nil else { return [] }
        outcome = .stopped
        return stopNext()
    }

    private mutating func stopNext() -> [SupervisorMachine.Action] {
        guard let outcome, !isFinished else { return [] }
        guard var last = children.popLast() else {
            isFinished = true
            return [.finish(outcome)]
        }
        if case .waiting = last.state {
            if !last.hasFarewell { return [.forget(last.id)] + stopNext() }
            last.state = .retiring
            children.append(last)
            return [.retire(last.id)]
        }
        guard case .up = last.state else {
            children.append(last)
            return []
        }
        last.state = .stopping
        children.append(last)
        return [.stop(last.id)]
    }
}

@Suite struct SupervisorMachineModelTests {
    @Test func randomEventsGiveWhatTheModelGives() {
        for seed in RandomTest.seeds(#function, count: 300) {
            #expect(run(seed) == nil, "SEED=\(seed)")
        }
    }

    /// Nil if machine and model agreed on every event.
    private func run(_ seed: UInt64) -> String? {
        var random = SplitMix64(seed: seed)
        let maximum = Bool.random(using: &random) ? Int.random(in: 0...6, using: &random) : nil
        let period = Duration.milliseconds(Int.random(in: 1...400, using: &random))
        let finishesWhenEmpty = Bool.random(using: &random)
        var machine = SupervisorMachine(
            intensity: maximum.map { RestartIntensity($0, within: period) } ?? .unlimited,
            finishesWhenEmpty: finishesWhenEmpty
        )
        var model = Model(maximum: maximum, period: period, finishesWhenEmpty: finishesWhenEmpty)
        var now = Duration.zero
        var nextID: UInt64 = 1
        var waits: [(UInt64, Int)] = []
        for step in 0..<200 {
            if Int.random(in: 0..<3, using: &random) == 0 {
                now += .milliseconds(Int.random(in: 0...60, using: &random))
            }
            let event: String
            let expected: [SupervisorMachine.Action]
            let actual: [SupervisorMachine.Action]
            switch Int.random(in: 0..<100, using: &random) {
            case 0..<15:
                event = "add \(nextID)"
                let child = Model.Child(
                    id: nextID,
                    restart: RestartType.allCases.randomElement(using: &random)!,
                    base: Bool.random(using: &random) ? 0 : Int.random(in: 1...20, using: &random),
                    cap: Int.random(in: 1...100, using: &random),
                    state: .up(now),
                    mustStart: Int.random(in: 0..<4, using: &random) == 0,
                    hasFarewell: Int.random(in: 0..<3, using: &random) == 0
                )
                nextID += 1
                expected = model.add(child)
                actual = machine.add(child.id, child.settings, at: now)
            case 15..<65:
                // One that runs or stops, or one that is unknown or forgotten; never one that waits.
                let known = model.children.filter {
                    switch $0.state {
                    case .waiting, .retiring: false
                    case .up, .stopping: true
                    }
                }
                let forgotten = (0...nextID).filter { id in !model.children.contains { $0.id == id } }
                let id =
                    Int.random(in: 0..<8, using: &random) == 0
                    ? forgotten.randomElement(using: &random)
                    : known.randomElement(using: &random)?.id
                guard let id else { continue }
                let end = EndKind.allCases.randomElement(using: &random)!
                event = "ended \(id) \(end)"
                expected = model.ended(id, isFailure: end != .normal && end != .shutdown, at: now)
                actual = machine.childEnded(id, end.reason, at: now)
            case 65..<72:
                let ids =
                    model.children.map(\.id).filter { _ in Int.random(in: 0..<4, using: &random) == 0 } + [nextID + 7]
                event = "remove \(ids)"
                expected = model.remove(ids)
                actual = machine.remove(ids)
            case 72..<80:
                guard let id = model.children.randomElement(using: &random)?.id else { continue }
                event = "started \(id)"
                model.started(id)
                machine.childStarted(id)
                (expected, actual) = ([], [])
            case 80..<88:
                let retiring = model.children.filter { $0.state == .retiring }
                guard let id = (retiring + model.children.prefix(1)).randomElement(using: &random)?.id else { continue }
                event = "retired \(id)"
                expected = model.retired(id)
                actual = machine.childRetired(id)
            case 88..<98:
                guard let (id, generation) = waits.randomElement(using: &random) else { continue }
                event = "elapsed \(id) \(generation)"
                expected = model.elapsed(id, generation, at: now)
                actual = machine.backoffElapsed(id, generation: generation, at: now)
            default:
                event = "stop"
                expected = model.stop()
                actual = machine.stop()
            }
            for case .wait(let id, let generation, _) in actual { waits.append((id, generation)) }
            guard actual == expected, machine.childCount == model.children.count else {
                return "step \(step), \(event) at \(now): \(actual), not \(expected)"
            }
        }
        return nil
    }
}
