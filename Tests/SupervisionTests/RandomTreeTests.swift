// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import LightProc
import Supervision
import Testing

/// A tree drawn from a seed: leaves that fail when told to, and owners that supervise more of both.
private indirect enum Node: Sendable {
    case leaf(String, RestartType, Backoff)
    case owner(String, RestartType, RestartIntensity, [Node])

    static func random(
        _ name: String,
        depth: Int,
        isForgiving: Bool,
        using random: inout SplitMix64
    ) -> Node {
        let type = isForgiving ? RestartType.permanent : RestartType.allCases.randomElement(using: &random)!
        if depth > 0, Int.random(in: 0..<5, using: &random) < 2 {
            let intensity =
                isForgiving
                ? RestartIntensity.unlimited : .init(Int.random(in: 0...3, using: &random), within: .milliseconds(20))
            let count = Int.random(in: 1...3, using: &random)
            let below = (0..<count).map {
                Node.random("\(name).\($0)", depth: depth - 1, isForgiving: isForgiving, using: &random)
            }
            return .owner(name, type, intensity, below)
        }
        let backoff: Backoff =
            Bool.random(using: &random) ? .none : .exponential(.milliseconds(2), cap: .milliseconds(8))
        return .leaf(name, type, backoff)
    }

    var leafCount: Int {
        switch self {
        case .leaf: 1
        case .owner(_, _, _, let below): below.reduce(0) { $0 + $1.leafCount }
        }
    }

    func children(_ census: Census) -> Children {
        switch self {
        case .leaf(let name, let type, let backoff):
            Children(name, restart: type, backoff: backoff) { context in
                census.began(name, context, isLeaf: true)
                for await command in context.messages(of: Command.self) {
                    switch command {
                    case .fail: throw Failure()
                    case .finish: return
                    }
                }
            }
        case .owner(let name, let type, let intensity, let below):
            Children(name, restart: type) { context in
                census.began(name, context, isLeaf: false)
                try context.supervise(intensity: intensity) { for node in below { node.children(census) } }
                for await command in context.messages(of: Command.self) {
                    switch command {
                    case .fail: throw Failure()
                    case .finish: return
                    }
                }
            }
        }
    }
}

private enum Command: CaseIterable, Sendable { case fail, finish }

/// Who lives, and what happened, by name: the numbers of processes differ from run to run.
private final class Census: Sendable {
    private struct State {
        var live: [String: ProcRef<Command>] = [:]
        var liveLeaves = 0
        var starts: [ProcID: Int] = [:]
        var doubles: [String] = []
    }
    private let state = Locked(State())
    private let sim: Simulation

    init(_ sim: Simulation) { self.sim = sim }

    func began(_ name: String, _ context: Context, isLeaf: Bool) {
        sim.note("\(name) begins, \(context.restarts) restarts")
        state.withLock { state in
            if state.live.updateValue(context.me(), forKey: name) != nil { state.doubles.append(name) }
            if isLeaf { state.liveLeaves += 1 }
            state.starts[context.id, default: 0] += 1
        }
        context.onExit { [self] reason in
            sim.note("\(name) \(Self.kind(reason))")
            state.withLock { state in
                state.live[name] = nil
                if isLeaf { state.liveLeaves -= 1 }
            }
        }
    }

    private static func kind(_ reason: ExitReason) -> String {
        if case .linked(_, let reason) = reason { return "linked: \(kind(reason))" }
        return "\(reason)"
    }

    func someone(_ random: inout SplitMix64) -> ProcRef<Command>? {
        let live = state.withLock { $0.live }
        return live.keys.sorted().randomElement(using: &random).flatMap { live[$0] }
    }

    var liveCount: Int { state.withLock { $0.live.count } }
    var liveLeaves: Int { state.withLock { $0.liveLeaves } }
    var restarts: Int { state.withLock { $0.starts.values.reduce(0) { $0 + $1 - 1 } } }
    var doubles: [String] { state.withLock { $0.doubles } }
}

/// Random trees under random faults, in virtual time.
@Suite struct RandomTreeTests {
    private struct Outcome {
        var lines: [String]
        var problems: [String]
    }

    private func run(_ seed: UInt64) throws -> Outcome {
        var random = SplitMix64(seed: seed)
        let sim = Simulation(seed: seed)
        let census = Census(sim)
        let isForgiving = Bool.random(using: &random)
        let count = Int.random(in: 1...4, using: &random)
        let nodes = (0..<count).map {
            Node.random("\($0)", depth: 3, isForgiving: isForgiving, using: &random)
        }
        let tree = try sim.system.supervise(
            intensity: isForgiving ? .unlimited : .init(Int.random(in: 1...9, using: &random), within: .seconds(1))
        ) {
            for node in nodes { node.children(census) }
        }
        for _ in 0..<40 {
            switch Int.random(in: 0..<10, using: &random) {
            case 0, 1: census.someone(&random)?.tell(.fail)
            case 2: census.someone(&random)?.tell(.finish)
            case 3, 4: census.someone(&random)?.proc.kill()
            case 5: census.someone(&random)?.proc.stop()
            case 6: sim.advance(by: .milliseconds(Int.random(in: 0...5, using: &random)))
            case 7: sim.drain()
            default: for _ in 0..<Int.random(in: 1...20, using: &random) { sim.executor.step() }
            }
        }
        sim.advance(by: .seconds(60))
        var problems: [String] = []
        if isForgiving, census.liveLeaves != nodes.reduce(0, { $0 + $1.leafCount }) {
            problems.append("\(census.liveLeaves) leaves live")
        }
        if sim.system.restarts != census.restarts {
            problems.append("\(sim.system.restarts) restarts counted, \(census.restarts) seen")
        }
        if !sim.stops(tree) { problems.append("the tree does not stop") }
        if census.liveCount != 0 { problems.append("\(census.liveCount) processes outlive the tree") }
        if !census.doubles.isEmpty { problems.append("two incarnations at once: \(census.doubles)") }
        return Outcome(lines: sim.trace.lines, problems: problems)
    }

    @Test func noChildIsLostAndEverythingEndsOnStop() throws {
        for seed in RandomTest.seeds(#function, count: 200) {
            let outcome = try run(seed)
            #expect(outcome.problems == [], "SEED=\(seed)")
        }
    }

    @Test func equalSeedsGiveEqualTraces() throws {
        for seed in RandomTest.seeds(#function, count: 40) {
            let first = try run(seed).lines
            #expect(first.count > 1)
            #expect(try run(seed).lines == first, "SEED=\(seed)")
        }
    }
}
