// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import LightProc

@testable import Supervision

/// Erlang/OTP's `supervisor` over a list: one thing after the other, each to its end, without care for cost.
struct SupervisorReference {
    typealias ID = SupervisorMachine.ChildID
    typealias Step = SupervisorWorld.Step

    struct Child {
        let id: ID
        var settings: SupervisorMachine.Settings
        var isUp = false
        /// It is about to be started.
        var isQueued = true
        var starts = 0
        var restarts = 0
    }

    var strategy: RestartStrategy
    var maximum: Int?
    var period: Duration
    var auto: AutoShutdown
    var children: [Child] = []
    var restarts: [Duration] = []
    var now = Duration.zero
    var steps: [Step] = []
    var outcome: SupervisorMachine.Outcome?
    /// Whether a start of a child succeeds: the n-th.
    let succeeds: (ID, Int) -> Bool
    /// What was decided about it if it does not; nil: nothing.
    let decides: (ID, Int) -> SupervisorMachine.Decision?

    private func index(_ id: ID) -> Int? { children.firstIndex { $0.id == id } }

    // MARK: What it is asked for

    mutating func add(_ new: [(id: ID, settings: SupervisorMachine.Settings)], isWaitedFor: Bool) {
        children += new.map { Child(id: $0.id, settings: $0.settings) }
        if !isWaitedFor { return startInOrder(new.map(\.id)) }
        for (position, child) in new.enumerated() where !start(child.id) {
            for before in new[..<position].reversed() { stop(before.id) }
            children.removeAll { child in new.contains { $0.id == child.id } }
            return
        }
    }

    mutating func ends(_ id: ID, isFailure: Bool, decision: SupervisorMachine.Decision? = nil) {
        guard let index = index(id) else { return }
        children[index].isUp = false
        let child = children[index]
        switch decision {
        case .escalate:
            children.remove(at: index)
            return finish(.escalated(id))
        case .restart: return restart(id)
        case .stop: break
        case nil:
            let wants = child.settings.restart == .permanent || child.settings.restart == .transient && isFailure
            let isExhausted = child.settings.restartLimit.map { child.restarts >= $0 } ?? false
            if wants, !isExhausted { return restart(id) }
        }
        if child.settings.restart == .temporary || strategy == .dynamic { children.remove(at: index) }
        guard child.settings.isSignificant else { return }
        switch auto {
        case .never: break
        case .anySignificant: finish(.shutDown)
        case .allSignificant:
            if !children.contains(where: { ($0.isUp || $0.isQueued) && $0.settings.isSignificant }) {
                finish(.shutDown)
            }
        }
    }

    mutating func terminate(_ ids: [ID]) {
        for child in children.reversed() where ids.contains(child.id) {
            if child.isUp { stop(child.id) }
            if child.settings.restart == .temporary || strategy == .dynamic { children.removeAll { $0.id == child.id } }
        }
    }

    mutating func remove(_ ids: [ID]) {
        for child in children.reversed() where ids.contains(child.id) {
            if child.isUp { stop(child.id) }
            children.removeAll { $0.id == child.id }
        }
    }

    mutating func comeBack(_ id: ID) -> SupervisorMachine.Refusal? {
        guard let index = index(id) else { return .unknown }
        if children[index].isUp { return .running }
        _ = start(id)
        return nil
    }

    mutating func delete(_ id: ID) -> SupervisorMachine.Refusal? {
        guard let index = index(id) else { return .unknown }
        if children[index].isUp { return .running }
        children.remove(at: index)
        return nil
    }

    mutating func finish(_ how: SupervisorMachine.Outcome) {
        for child in children.reversed() where child.isUp { stop(child.id) }
        children = []
        outcome = how
    }

    // MARK: How it does that

    private mutating func start(_ id: ID) -> Bool {
        guard let index = index(id) else { preconditionFailure("started, and unknown") }
        steps.append(.start(id))
        children[index].starts += 1
        children[index].isQueued = false
        children[index].isUp = succeeds(id, children[index].starts)
        return children[index].isUp
    }

    private mutating func stop(_ id: ID) {
        steps.append(.stop(id))
        if let index = index(id) { children[index].isUp = false }
    }

    /// Until one fails: what becomes of that one says what becomes of the others.
    private mutating func startInOrder(_ ids: [ID]) {
        for (position, id) in ids.enumerated() {
            if outcome != nil { return }
            if start(id) { continue }
            guard let child = index(id).map({ children[$0] }) else { return }
            let counted = restarts.count
            let decision = decides(id, child.starts)
            // The first start, if nobody waits for it, and what was decided about: an end like others.
            let isExhausted = child.settings.restartLimit.map { child.restarts >= $0 } ?? false
            if decision != nil || child.starts == 1 || isExhausted {
                ends(id, isFailure: true, decision: decision)
            } else {
                restart(id)
            }
            if outcome != nil { return }
            if restarts.count == counted { continue }
            if strategy == .oneForOne || strategy == .dynamic { return startInOrder(Array(ids[(position + 1)...])) }
            // Started with it.
            return
        }
    }

    private mutating func restart(_ id: ID) {
        restarts.append(now)
        let counted = restarts.filter { now - $0 <= period }.count
        if let maximum, counted > maximum {
            children.removeAll { $0.id == id }
            return finish(.gaveUp(id))
        }
        guard let index = index(id) else { return }
        children[index].restarts += 1
        switch strategy {
        case .oneForOne, .dynamic: startInOrder([id])
        case .oneForAll: sweep(from: 0, cause: id)
        case .restForOne: sweep(from: index, cause: id)
        }
    }

    private mutating func sweep(from first: Int, cause: ID) {
        let range = children[first...]
        for child in range.reversed() where child.isUp { stop(child.id) }
        // One that has not run yet is to start like the others; one that has become temporary while it was down is not.
        let gone = Set(
            range.filter { $0.settings.restart == .temporary && !$0.isQueued && $0.id != cause }.map(\.id)
        )
        children.removeAll { gone.contains($0.id) }
        for index in first..<children.count { children[index].isQueued = true }
        startInOrder(range.map(\.id).filter { !gone.contains($0) })
    }
}

/// Drives the machine to rest after each thing that happens, and the reference beside it.
struct SupervisorComparison {
    typealias ID = SupervisorMachine.ChildID
    private struct Fault: Error {}

    private var random: SplitMix64
    private var world: SupervisorWorld
    private var reference: SupervisorReference
    private var lastID: ID = 0
    private(set) var story: [String] = []
    private let failsOneIn: Int
    private let seed: UInt64
    private let changesRules: Bool
    private let decidesOneIn: Int
    private var starts: [ID: Int] = [:]

    init(seed: UInt64, strategy: RestartStrategy) {
        var random = SplitMix64(seed: seed)
        let auto: AutoShutdown =
            strategy == .dynamic || !random.oneIn(3) ? .never : random.oneIn(2) ? .anySignificant : .allSignificant
        let intensity: RestartIntensity = random.oneIn(2) ? .unlimited : .init(random.below(6), within: .seconds(2))
        // Where there is no limit it ends by chance.
        let failsOneIn = random.oneIn(3) ? 1000 : (intensity.maximum == nil ? 8 : 2) + random.below(5)
        self.seed = seed
        self.failsOneIn = failsOneIn
        changesRules = random.oneIn(4)
        // OTP decides by the restart type only.
        let decidesOneIn = random.oneIn(2) ? 0 : 1 + random.below(6)
        self.decidesOneIn = decidesOneIn
        self.random = random
        world = SupervisorWorld(
            SupervisorMachine(strategy: strategy, intensity: intensity, autoShutdown: auto)
        )
        reference = SupervisorReference(
            strategy: strategy,
            maximum: intensity.maximum,
            period: intensity.period,
            auto: auto,
            succeeds: { Self.succeeds($0, $1, seed, failsOneIn) },
            decides: { Self.decision($0, $1, seed, decidesOneIn) }
        )
    }

    private static func succeeds(_ id: ID, _ start: Int, _ seed: UInt64, _ failsOneIn: Int) -> Bool {
        var draw = SplitMix64(seed: seed &* 31 &+ id &* 1009 &+ UInt64(start))
        return !draw.oneIn(failsOneIn)
    }

    private static func decision(_ id: ID, _ start: Int, _ seed: UInt64, _ oneIn: Int) -> SupervisorMachine.Decision? {
        var draw = SplitMix64(seed: seed &* 37 &+ id &* 1013 &+ UInt64(start))
        return oneIn == 0 ? nil : some(decision: &draw, oneIn)
    }

    private static func some(decision draw: inout SplitMix64, _ oneIn: Int) -> SupervisorMachine.Decision? {
        guard draw.oneIn(oneIn) else { return nil }
        return draw.oneIn(8) ? .escalate : draw.oneIn(2) ? .stop : .restart
    }

    mutating func run(events: Int) -> [String] {
        add()
        for _ in 0..<events where world.problems.isEmpty && reference.outcome == nil { event() }
        if world.problems.isEmpty, reference.outcome == nil {
            story.append("stop")
            reference.finish(.stopped)
            world.perform(world.machine.stop(at: world.now))
            settle()
        }
        return world.problems
    }

    private mutating func event() {
        let pause = Duration.milliseconds(random.below(800))
        world.now += pause
        reference.now += pause
        switch random.below(20) {
        case 0..<9:
            guard let id = world.alive.keys.sorted().randomElement(using: &random) else { return add() }
            let reason: ExitReason = random.oneIn(4) ? .normal : random.oneIn(6) ? .shutdown : .error(Fault())
            let decision = decidesOneIn == 0 ? nil : Self.some(decision: &random, decidesOneIn)
            story.append("\(id) ends \(reason.isFailure) \(decision.map { "\($0)" } ?? "")")
            reference.ends(id, isFailure: reason.isFailure, decision: decision)
            world.ends(id, reason, decision: decision)
        case 9..<12: return world.known.count < 8 ? add() : ()
        case 12..<14:
            let ids = some()
            story.append("terminate \(ids)")
            reference.terminate(ids)
            world.terminate(ids)
        case 14:
            let ids = some()
            story.append("remove \(ids)")
            reference.remove(ids)
            world.remove(ids)
        case 15..<18:
            let id = (world.down.sorted() + some()).randomElement(using: &random) ?? 1
            story.append("restart \(id)")
            let expected = reference.comeBack(id)
            let refusal = world.restart(id)
            if refusal != expected { world.problem("restart \(id): \(refusal as Any), not \(expected as Any)") }
        case 18:
            let id = (world.down.sorted() + some()).randomElement(using: &random) ?? 1
            story.append("delete \(id)")
            let expected = reference.delete(id)
            let refusal = world.delete(id)
            if refusal != expected { world.problem("delete \(id): \(refusal as Any), not \(expected as Any)") }
        default:
            if random.oneIn(2) {
                guard let id = some().first, let index = reference.children.firstIndex(where: { $0.id == id }) else {
                    return
                }
                let old = reference.children[index].settings
                let new = settings(startsUnseen: old.startsUnseen)
                story.append("change \(id)")
                reference.children[index].settings = new
                world.machine.change(id, new)
            } else if changesRules {
                changeRules()
            }
        }
        settle()
    }

    private mutating func changeRules() {
        if random.oneIn(2) {
            reference.strategy = [.oneForOne, .oneForAll, .restForOne][random.below(3)]
            world.perform(world.machine.change(strategy: reference.strategy))
        }
        if random.oneIn(2) {
            reference.auto = AutoShutdown.allCases[random.below(3)]
            world.perform(world.machine.change(autoShutdown: reference.auto))
        }
        if random.oneIn(2), reference.maximum != nil {
            let maximum = random.below(6)
            reference.maximum = maximum
            world.perform(world.machine.change(intensity: .init(maximum, within: reference.period)))
        }
        story.append("rules: \(reference.strategy) \(reference.auto) \(reference.maximum as Any)")
    }

    private mutating func add() {
        let isWaitedFor = random.oneIn(2) && reference.strategy != .dynamic
        // Several that nobody waits for start beside each other when they fail: there is no order to compare.
        let isOrdered = isWaitedFor || reference.strategy == .oneForAll || reference.strategy == .restForOne
        let count = isOrdered ? 1 + random.below(3) : 1
        let new = (0..<count).map { _ in
            lastID += 1
            return (id: lastID, settings: settings(startsUnseen: !isWaitedFor && random.oneIn(2)))
        }
        story.append("add \(new.map(\.id)) \(isWaitedFor)")
        reference.add(new, isWaitedFor: isWaitedFor)
        world.add(new, ticket: isWaitedFor ? Int(lastID) : nil)
        settle()
    }

    private mutating func settings(startsUnseen: Bool) -> SupervisorMachine.Settings {
        let restart = RestartType.allCases[random.below(3)]
        return SupervisorMachine.Settings(
            restart: restart,
            backoff: random.oneIn(6) ? .constant(.milliseconds(1)) : .none,
            isSignificant: restart != .permanent && random.oneIn(2),
            startsUnseen: startsUnseen,
            restartLimit: random.oneIn(8) ? random.below(3) : nil,
            hasFarewell: random.oneIn(5)
        )
    }

    private mutating func some() -> [ID] {
        Array(world.known.sorted().shuffled(using: &random).prefix(1 + random.below(3)))
    }

    /// Lets all happen that will, and compares.
    private mutating func settle() {
        var left = 5_000
        while world.problems.isEmpty, let event = world.due.randomElement(using: &random) {
            if case .begins(let id) = event {
                let start = Int(world.child(id)?.starts ?? 0)
                if Self.succeeds(id, start, seed, failsOneIn) {
                    world.begins(id)
                } else {
                    let decision = Self.decision(id, start, seed, decidesOneIn)
                    world.ends(id, .error(Fault()), decision: decision)
                }
            } else {
                world.happen(event)
            }
            left -= 1
            if left == 0 { return world.problem("does not come to rest") }
        }
        world.checkRest()
        guard world.problems.isEmpty else { return }
        if world.outcome != reference.outcome {
            return world.problem("outcome \(world.outcome as Any), not \(reference.outcome as Any)")
        }
        let (state, expected) = (
            world.children.map { "\($0.id) \(world.alive[$0.id] == nil ? "down" : "up") \($0.restarts)" },
            reference.children.map { "\($0.id) \($0.isUp ? "up" : "down") \($0.restarts)" }
        )
        if state != expected { world.problem("\(state), not \(expected)") }
        // Dynamic ones are stopped at the same time.
        var (steps, others) = (world.steps, reference.steps)
        if reference.strategy == .dynamic {
            steps.sort { "\($0)" < "\($1)" }
            others.sort { "\($0)" < "\($1)" }
        }
        if steps != others { world.problem("steps \(steps), not \(others)") }
        world.steps = []
        reference.steps = []
    }
}
