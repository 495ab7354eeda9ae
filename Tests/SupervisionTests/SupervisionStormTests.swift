// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import LightProc
import Testing

@testable import Supervision

/// Random trees, failures and commands, in virtual time: nobody runs twice, nobody is left, everybody is answered.
@Suite struct SupervisionStormTests {
    /// Who runs, by name.
    private final class Census: Sendable {
        private struct State {
            var live: Set<String> = []
            var starts = 0
            var doubles: [String] = []
        }
        private let state = Locked(State())
        private let answers = Locked(0)

        func answer() { answers.withLock { $0 += 1 } }
        var answered: Int { answers.withLock { $0 } }

        func begins(_ context: Context, _ name: String) {
            state.withLock { state in
                state.starts += 1
                if !state.live.insert(name).inserted { state.doubles.append(name) }
            }
            context.onExit { [self] _ in state.withLock { _ = $0.live.remove(name) } }
        }

        var live: Set<String> { state.withLock { $0.live } }
        var doubles: [String] { state.withLock { $0.doubles } }
        var starts: Int { state.withLock { $0.starts } }
    }

    private struct Storm {
        let cast: Cast
        let census = Census()
        var asked = 0
        var random: SplitMix64
        var groups = 0
        var nests: [String] = []
        var tree: SupervisorRef?

        init(seed: UInt64) {
            random = SplitMix64(seed: seed)
            cast = Cast(seed: seed)
        }

        mutating func strategy() -> RestartStrategy { RestartStrategy.allCases[random.below(4)] }

        mutating func children(depth: Int) -> [Children] {
            (0..<(1 + random.below(3))).map { _ in
                groups += 1
                if depth > 0, random.oneIn(3) {
                    let name = "s\(groups)"
                    if depth == 2 { nests.append(name) }
                    let strategy = strategy()
                    let below = children(depth: depth - 1)
                    return Supervisor(
                        name,
                        strategy: strategy,
                        intensity: .init(random.below(4), within: .milliseconds(200)),
                        restart: RestartType.allCases[random.below(3)],
                        backoff: random.oneIn(4) ? .constant(.milliseconds(30)) : .none
                    ) { for child in below { child } }.children
                }
                return leaf("k\(groups)")
            }
        }

        mutating func leaf(_ name: String) -> Children {
            let (census, failures, executor) = (census, cast.failures, cast.sim.executor)
            let start = random.oneIn(4) ? Duration.milliseconds(20) : nil
            let stop = random.oneIn(4) ? Duration.milliseconds(20) : nil
            var leaf = Children(
                name,
                redundancy: 1 + random.below(2),
                restart: RestartType.allCases[random.below(3)],
                backoff: random.oneIn(4) ? .constant(.milliseconds(30)) : .none,
                shutdownTime: random.oneIn(5) ? .brutalKill : .milliseconds(random.below(50))
            ) { context in
                census.begins(context, context.path)
                if failures.take(name) { throw Failure() }
                if let start {
                    await suspended { continuation in
                        executor.schedule(after: start) { continuation.resume() }
                    }
                }
                context.ready()
                for await cue in context.messages(of: Cast.Cue.self) {
                    switch cue {
                    case .finish: return
                    case .fail: throw Failure()
                    case .trap: await context.proc.trapHere()
                    case .echo: break
                    }
                }
                guard let stop else { return }
                await suspended { continuation in
                    executor.schedule(after: stop) { continuation.resume() }
                }
            }
            if random.oneIn(2) { leaf = leaf.signalsReady() }
            if random.oneIn(4) { leaf = leaf.startsWithin(.milliseconds(5 + random.below(30))) }
            if random.oneIn(5) { leaf = leaf.restartedAtMost(random.below(3)) }
            if random.oneIn(4) { leaf = leaf.callbacks(Callbacks(afterStop: { _ in })) }
            return leaf
        }

        mutating func call(_ body: @escaping @Sendable () async throws -> Void) {
            asked += 1
            let census = census
            _ = cast.sim.executor.spawn {
                try? await body()
                census.answer()
            }
        }

        mutating func run() throws {
            let (first, strategy) = (children(depth: 2), strategy())
            let tree = try cast.sim.system.supervise("shop", strategy: strategy, intensity: .unlimited) {
                for child in first { child }
            }
            self.tree = tree
            for _ in 0..<60 {
                for _ in 0..<random.below(30) { cast.sim.executor.step() }
                step(tree)
            }
            tree.stop {}
            cast.sim.advance(by: .seconds(20))
        }

        private mutating func step(_ tree: SupervisorRef) {
            var target = tree
            if random.oneIn(2), let name = nests.randomElement(using: &random), let nest = try? tree.supervisor(name) {
                target = nest
            }
            let child = target.supervisor.roster.children.map(\.name).sorted().randomElement(using: &random) ?? "none"
            let ref = target
            switch random.below(20) {
            case 0..<8:
                guard let path = census.live.sorted().randomElement(using: &random), let path = ProcPath(path),
                    let victim = try? cast.sim.system.lookup(path, of: Cast.Cue.self)
                else { return }
                if random.oneIn(3), let group = path.components.last?.split(separator: "-").first {
                    cast.failures.set(1, for: String(group))
                }
                switch random.below(5) {
                case 0: victim.proc.kill()
                case 1: victim.tell(.finish)
                case 2: victim.tell(.trap)
                default: victim.tell(.fail)
                }
            case 8..<10: call { try await ref.terminate(child: child) }
            case 10..<12: call { try await ref.restart(child: child) }
            case 12: call { try await ref.delete(child: child) }
            case 13:
                groups += 1
                let leaf = leaf("k\(groups)")
                call { try await ref.children(startingWithin: .milliseconds(100)) { leaf } }
            case 14:
                groups += 1
                let leaf = leaf("k\(groups)")
                try? ref.children { leaf }
            case 15: call { _ = await ref.whichChildren().count + ref.countChildren().active }
            case 16:
                let strategy = random.oneIn(2) ? strategy() : nil
                if random.oneIn(3) { call { try await ref.change(strategy: strategy) } }
            case 17:
                if let group = child.split(separator: "-").first.map(String.init), random.oneIn(3) {
                    call { try await ref.terminate(group: group) }
                }
            default: cast.sim.advance(by: .milliseconds(random.below(40)))
            }
        }
    }

    @Test func inAStormNobodyRunsTwiceAndEverybodyIsAnswered() throws {
        var starts = 0
        for seed in RandomTest.seeds(#function, count: 60) {
            var storm = Storm(seed: seed)
            try storm.run()
            starts += storm.census.starts
            #expect(storm.census.doubles == [], "SEED=\(seed)")
            #expect(storm.census.live == [], "SEED=\(seed)")
            #expect(storm.tree?.supervisor.outcome == .stopped, "SEED=\(seed)")
            #expect(storm.census.answered == storm.asked, "SEED=\(seed)")
            #expect(storm.cast.sim.system.trees.isEmpty, "SEED=\(seed)")
        }
        #expect(starts > 1000)
    }
}
