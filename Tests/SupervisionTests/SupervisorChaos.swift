// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import LightProc

@testable import Supervision

/// A random program in which everything happens at once: children end while others are stopped, are added while others start, ...
struct SupervisorChaos {
    typealias Machine = SupervisorMachine
    typealias ID = Machine.ChildID

    private struct Fault: Error {}

    private var random: SplitMix64
    private(set) var world: SupervisorWorld
    private var lastID: ID = 0
    private var lastTicket = 0
    private let changesRules: Bool
    /// What happened, for who looks for the reason of a failure.
    private(set) var story: [String] = []

    init(seed: UInt64, strategy: RestartStrategy) {
        random = SplitMix64(seed: seed)
        let auto: AutoShutdown =
            random.oneIn(3) && strategy != .dynamic
            ? (random.oneIn(2) ? .anySignificant : .allSignificant) : .never
        let intensity: RestartIntensity = random.oneIn(3) ? .init(random.below(6), within: .seconds(3)) : .unlimited
        changesRules = random.oneIn(4)
        world = SupervisorWorld(Machine(strategy: strategy, intensity: intensity, autoShutdown: auto))
        world.checksOrder = !changesRules
    }

    /// What did not hold; empty if all did.
    mutating func run(steps: Int) -> [String] {
        add()
        for _ in 0..<steps where world.problems.isEmpty { step() }
        settle()
        world.checkRest()
        guard world.problems.isEmpty else { return world.problems }
        story.append("stop")
        world.perform(world.machine.stop(at: world.now))
        settle(lateOneIn: 3)
        world.checkRest()
        if world.outcome == nil { world.problem("stopped, and not finished") }
        return world.problems
    }

    /// Lets all happen that will, in some order, with no more than a few failures.
    private mutating func settle(lateOneIn: Int? = nil) {
        var left = 10_000
        while world.problems.isEmpty, let event = world.due.randomElement(using: &random) {
            if let lateOneIn, random.oneIn(lateOneIn) { isLate() }
            happen(event, failsOneIn: 8)
            left -= 1
            if left == 0 { return world.problem("does not come to rest") }
        }
    }

    private mutating func step() {
        world.now += .milliseconds(random.below(200))
        switch random.below(100) {
        case 0..<45:
            if let event = world.due.randomElement(using: &random) { happen(event, failsOneIn: 4) }
        case 45..<61:
            let running = world.alive.keys.sorted()
            if let id = running.randomElement(using: &random) { ends(id) }
        case 61..<65: add()
        case 65..<75:
            let ids = some()
            story.append("terminate \(ids)")
            world.terminate(ids)
        case 75..<78:
            let ids = some()
            story.append("remove \(ids)")
            world.remove(ids)
        case 78..<88:
            if let id = (world.down.sorted() + world.down.sorted() + some()).randomElement(using: &random) {
                story.append("restart \(id)")
                world.restart(id)
            }
        case 88..<90:
            if let id = (world.down.sorted() + some()).randomElement(using: &random) {
                story.append("delete \(id)")
                world.delete(id)
            }
        case 90..<93:
            if let number = world.tickets.keys.sorted().randomElement(using: &random),
                world.ticketOf.values.contains(number)
            {
                story.append("abandon \(number)")
                world.undo(number, failed: nil)
            }
        case 93..<95: late()
        case 95: isLate()
        case 96..<98:
            if let id = some().first {
                story.append("change \(id)")
                world.machine.change(id, settings())
                world.check()
            }
        case 98: changeRules()
        default:
            if random.oneIn(10) {
                story.append("stop")
                world.perform(world.machine.stop(at: world.now))
            }
        }
    }

    private mutating func happen(_ event: SupervisorWorld.Due, failsOneIn: Int) {
        if case .begins(let id) = event, random.oneIn(failsOneIn) { return ends(id) }
        story.append("\(event)")
        world.happen(event, reason: random.oneIn(4) ? .killed : .shutdown)
    }

    private mutating func ends(_ id: ID) {
        let reason: ExitReason = random.oneIn(4) ? .normal : random.oneIn(6) ? .killed : .error(Fault())
        let decision: Machine.Decision? =
            random.oneIn(12) ? (random.oneIn(8) ? .escalate : random.oneIn(2) ? .stop : .restart) : nil
        story.append("\(id) ends: \(reason.isFailure) \(decision.map { "\($0)" } ?? "")")
        world.ends(id, reason, decision: decision)
    }

    private mutating func isLate() {
        let hasEnded = random.oneIn(8)
        let candidates = world.alive.keys.filter { id in
            if world.late.contains(id) { return false }
            if world.alive[id] == .told || world.machine.hasFailedToStart(id) { return true }
            return hasEnded && world.machine.isStarting(id) && world.ticketOf[id] == nil
        }
        guard let id = candidates.sorted().randomElement(using: &random) else { return }
        let isStuck = world.machine.hasFailedToStart(id) && random.oneIn(2)
        story.append("\(id) is \(isStuck ? "stuck" : "late")\(hasEnded ? ", and has ended" : "")")
        if isStuck { world.isStuck(id) } else { world.isLate(id, hasEnded: hasEnded) }
    }

    private mutating func add() {
        let count = 1 + random.below(3)
        let new = (0..<count).map { _ in
            lastID += 1
            return (id: lastID, settings: settings())
        }
        lastTicket += 1
        let isWaitedFor = random.oneIn(2) && !new.contains { $0.settings.startsUnseen }
        story.append("add \(new.map(\.id)) \(isWaitedFor ? "ticket \(lastTicket)" : "")")
        world.add(new, ticket: isWaitedFor ? lastTicket : nil)
    }

    private mutating func settings() -> Machine.Settings {
        let restart = RestartType.allCases[random.below(3)]
        return Machine.Settings(
            restart: restart,
            backoff: random.oneIn(4) ? .constant(.milliseconds(100)) : .none,
            isSignificant: restart != .permanent && random.oneIn(3),
            startsUnseen: random.oneIn(4),
            startDeadline: random.oneIn(4) ? .milliseconds(50) : nil,
            restartLimit: random.oneIn(6) ? random.below(3) : nil,
            hasFarewell: random.oneIn(4)
        )
    }

    private mutating func some() -> [ID] {
        let known = world.known.sorted()
        if known.isEmpty { return [lastID] }
        return Array(known.shuffled(using: &random).prefix(1 + random.below(random.oneIn(2) ? 1 : 3)))
    }

    /// What is told late, or again, or of those that are gone.
    private mutating func late() {
        let gone = world.forgotten.sorted().randomElement(using: &random) ?? 999
        let id = world.known.sorted().randomElement(using: &random) ?? gone
        switch random.below(7) {
        case 6:
            if world.alive[id] != .told, !world.machine.hasFailedToStart(id) {
                isIdle(world.machine.stopIsLate(id, at: world.now) + world.machine.startIsStuck(id, at: world.now))
            }
        case 0: world.perform(world.machine.childEnded(gone, .killed, at: world.now))
        case 1: world.perform(world.machine.childStarted(gone, at: world.now))
        case 2:
            let waiting = world.children.filter { $0.state == .waiting }.randomElement(using: &random)
            if let waiting {
                isIdle(world.machine.backoffElapsed(waiting.id, generation: waiting.generation &- 1, at: world.now))
            }
        case 3:
            let starting = world.children.filter { $0.state == .starting }.randomElement(using: &random)
            if let starting { isIdle(world.machine.startTimedOut(starting.id, generation: starting.starts &- 1)) }
        case 4: if !world.retiring.contains(id) { world.perform(world.machine.childRetired(id, at: world.now)) }
        default:
            if let life = world.alive[id], life != .starting {
                world.perform(world.machine.childStarted(id, at: world.now))
            }
        }
    }

    private mutating func isIdle(_ actions: [Machine.Action]) {
        if !actions.isEmpty { world.problem("what comes late leads to \(actions)") }
        world.perform(actions)
    }

    private mutating func changeRules() {
        guard changesRules else { return }
        let strategy = random.oneIn(2) ? RestartStrategy.allCases[random.below(4)] : nil
        story.append("change \(strategy.map { "\($0)" } ?? "")")
        let actions = world.machine.change(
            strategy: strategy,
            intensity: random.oneIn(2) ? .init(random.below(6), within: .seconds(2)) : nil,
            autoShutdown: random.oneIn(2) ? AutoShutdown.allCases[random.below(3)] : nil
        )
        world.perform(actions)
    }
}

extension SplitMix64 {
    mutating func below(_ bound: Int) -> Int { Int.random(in: 0..<bound, using: &self) }
    mutating func oneIn(_ bound: Int) -> Bool { below(bound) == 0 }
}
