// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import LightProc
import Testing

@testable import Supervision

/// When a group grows and shrinks: the rules by tables and random loads, then the shell in virtual time.
@Suite struct ResizerTests {
    typealias Sample = ResizerMachine.Sample

    // MARK: Pure

    private static func machine(_ bounds: ClosedRange<Int> = 1...10) -> ResizerMachine {
        ResizerMachine(Resizer(bounds))
    }

    @Test func aGroupGrowsWhenMoreThanHalfOfItIsOverloaded() {
        var machine = Self.machine()
        #expect(machine.decide(Sample(size: 4, overloaded: 2, busy: 4), at: .seconds(1)) == .keep)
        #expect(machine.decide(Sample(size: 4, overloaded: 3, busy: 4), at: .seconds(2)) == .grow(2))
        #expect(machine.decide(Sample(size: 6, overloaded: 6, busy: 6), at: .seconds(3)) == .keep, "it is given time")
        #expect(machine.decide(Sample(size: 6, overloaded: 6, busy: 6), at: .seconds(4)) == .grow(3))
        #expect(machine.decide(Sample(size: 9, overloaded: 9, busy: 9), at: .seconds(6)) == .grow(1), "up to its bound")
        #expect(machine.decide(Sample(size: 10, overloaded: 9, busy: 9), at: .seconds(8)) == .keep)
    }

    @Test func aGroupShrinksWhenItWasIdleForLong() {
        var machine = Self.machine(2...10)
        #expect(machine.decide(Sample(size: 8, overloaded: 0, busy: 4), at: .seconds(0)) == .keep)
        #expect(
            machine.decide(Sample(size: 8, overloaded: 0, busy: 5), at: .seconds(9)) == .keep,
            "busy: from the start again"
        )
        for second in 10..<20 {
            #expect(machine.decide(Sample(size: 8, overloaded: 0, busy: 1), at: .seconds(second)) == .keep)
        }
        #expect(machine.decide(Sample(size: 8, overloaded: 0, busy: 3), at: .seconds(20)) == .shrink(2))
        #expect(machine.decide(Sample(size: 6, overloaded: 0, busy: 2), at: .seconds(21)) == .keep, "for as long again")
        #expect(machine.decide(Sample(size: 6, overloaded: 0, busy: 1), at: .seconds(30)) == .shrink(2))
        #expect(machine.decide(Sample(size: 4, overloaded: 0, busy: 0), at: .seconds(40)) == .shrink(1))
        #expect(machine.decide(Sample(size: 3, overloaded: 0, busy: 0), at: .seconds(50)) == .shrink(1))
        #expect(machine.decide(Sample(size: 2, overloaded: 0, busy: 0), at: .seconds(60)) == .keep, "down to its bound")
    }

    @Test func shrinkingLeavesMoreThanTheBusiestMomentNeeded() {
        var machine = Self.machine()
        #expect(machine.decide(Sample(size: 8, overloaded: 0, busy: 4), at: .seconds(0)) == .keep)
        #expect(machine.decide(Sample(size: 8, overloaded: 0, busy: 0), at: .seconds(10)) == .shrink(2))
        #expect(machine.decide(Sample(size: 5, overloaded: 0, busy: 2), at: .seconds(20)) == .shrink(2))
        var full = Self.machine()
        #expect(full.decide(Sample(size: 2, overloaded: 0, busy: 1), at: .seconds(0)) == .keep)
        #expect(
            full.decide(Sample(size: 2, overloaded: 0, busy: 1), at: .seconds(10)) == .keep,
            "1 of 1 would be too busy"
        )
    }

    @Test func whatWasBusyLongAgoDoesNotCount() {
        var machine = Self.machine()
        #expect(machine.decide(Sample(size: 2, overloaded: 0, busy: 1), at: .seconds(0)) == .keep)
        for second in [10, 15] {
            #expect(machine.decide(Sample(size: 2, overloaded: 0, busy: 0), at: .seconds(second)) == .keep)
        }
        #expect(machine.decide(Sample(size: 2, overloaded: 0, busy: 0), at: .seconds(20)) == .shrink(1))
    }

    @Test func theBoundsComeFirst() {
        var machine = Self.machine(3...5)
        #expect(machine.decide(Sample(size: 1, overloaded: 0, busy: 0), at: .zero) == .grow(2))
        #expect(machine.decide(Sample(size: 9, overloaded: 9, busy: 9), at: .zero) == .shrink(4))
    }

    @Test func whoHadToGrowSoonAfterShrinkingHoldsOutLonger() {
        var machine = Self.machine()
        func idle(_ size: Int, _ second: Int) -> ResizerMachine.Decision {
            machine.decide(Sample(size: size, overloaded: 0, busy: 1), at: .seconds(second))
        }
        func overload(_ size: Int, _ second: Int) -> ResizerMachine.Decision {
            machine.decide(Sample(size: size, overloaded: size, busy: size), at: .seconds(second))
        }
        #expect(idle(4, 0) == .keep)
        #expect(idle(4, 10) == .shrink(1))
        #expect(overload(3, 12) == .grow(2))
        #expect(idle(5, 13) == .keep)
        #expect(idle(5, 23) == .shrink(1), "4 was enough")
        #expect(idle(4, 33) == .keep, "3 was not")
        #expect(idle(4, 43) == .keep)
        #expect(idle(4, 53) == .shrink(1), "after 40 s it is tried again")
        #expect(overload(3, 54) == .grow(2))
        #expect(idle(5, 55) == .keep)
        #expect(idle(5, 65) == .shrink(1))
        #expect(idle(4, 124) == .keep, "this time after 80 s")
        #expect(idle(4, 134) == .shrink(1))
        // With half of the load it is another load.
        #expect(overload(3, 135) == .grow(2))
        #expect(machine.decide(Sample(size: 5, overloaded: 0, busy: 0), at: .seconds(136)) == .keep)
        #expect(machine.decide(Sample(size: 5, overloaded: 0, busy: 0), at: .seconds(146)) == .shrink(2))
    }

    private static func randomResizer(_ random: inout SplitMix64) -> Resizer {
        let lower = Int.random(in: 1...5, using: &random)
        return Resizer(
            lower...Int.random(in: lower...40, using: &random),
            by: Double.random(in: 0.01...2, using: &random),
            shrinkingBy: Double.random(in: 0.01...1, using: &random),
            idleShare: Double.random(in: 0...0.8, using: &random),
            every: .milliseconds(Int.random(in: 1...2000, using: &random)),
            patience: .milliseconds(Int.random(in: 0...20_000, using: &random))
        )
    }

    @Test func noLoadLeadsOutOfTheBounds() {
        for seed in RandomTest.seeds(#function, count: 300) {
            var random = SplitMix64(seed: seed)
            let resizer = Self.randomResizer(&random)
            var machine = ResizerMachine(resizer)
            var now = Duration.zero
            var size = Int.random(in: 0...50, using: &random)
            for _ in 0..<200 {
                now += resizer.interval * Int.random(in: 0...3, using: &random)
                let busy = Int.random(in: 0...size, using: &random)
                let decision = machine.decide(
                    Sample(size: size, overloaded: Int.random(in: 0...busy, using: &random), busy: busy),
                    at: now
                )
                switch decision {
                case .keep: break
                case .grow(let count):
                    #expect(count > 0, "SEED=\(seed)")
                    size += count
                case .shrink(let count):
                    #expect(count > 0, "SEED=\(seed)")
                    size -= count
                }
                #expect(resizer.bounds.contains(size), "SEED=\(seed): \(decision) leads to \(size)")
                // Members end for good, too.
                if Int.random(in: 0..<20, using: &random) == 0 { size = max(0, size - 1) }
            }
        }
    }

    /// At a constant load the size comes to rest: how often it turns from growing to shrinking grows with the logarithm of time only.
    @Test func aConstantLoadLeadsToNoOscillation() {
        for seed in RandomTest.seeds(#function, count: 300) {
            var random = SplitMix64(seed: seed)
            let resizer = Self.randomResizer(&random)
            var machine = ResizerMachine(resizer)
            // So many members are overloaded below a size, none from there on; so many are busy at any size.
            let enough = Int.random(in: 1...45, using: &random)
            let needed = Int.random(in: 0...enough, using: &random)
            var size = Int.random(in: resizer.bounds, using: &random)
            var last = ResizerMachine.Decision.keep
            var turns = 0
            let rounds = 20_000
            for round in 0..<rounds {
                let isOverloaded = size < enough
                let sample = Sample(
                    size: size,
                    overloaded: isOverloaded ? size : 0,
                    busy: isOverloaded ? size : min(needed, size)
                )
                let decision = machine.decide(sample, at: resizer.interval * round)
                switch decision {
                case .keep: continue
                case .grow(let count):
                    size += count
                    if case .shrink = last { turns += 1 }
                case .shrink(let count):
                    size -= count
                    if case .grow = last { turns += 1 }
                }
                last = decision
            }
            #expect(
                turns <= 34,
                "SEED=\(seed): \(turns) turns in \(rounds) intervals, \(resizer), enough \(enough), needed \(needed)"
            )
        }
    }

    @Test(arguments: [
        Resizer(0...3), Resizer(3...5), Resizer(1...3, by: 0), Resizer(1...3, by: .nan), Resizer(1...3, shrinkingBy: 0),
        Resizer(1...3, shrinkingBy: 1.5), Resizer(1...3, idleShare: 0.9), Resizer(1...3, every: .zero),
        Resizer(1...3, patience: .seconds(-1)), Resizer(1...3, growingAbove: .queueDelay(.zero)),
        Resizer(1...3, growingAbove: .depth(-1)),
    ])
    func aResizerThatMakesNoSenseIsRefused(resizer: Resizer) {
        let error = #expect(throws: SupervisionError.self) {
            try Simulation().system.supervise {
                Children("a", redundancy: 2, body: noting(Trace())).resizer(resizer)
            }
        }
        #expect(error?.code == .badResizer)
    }

    // MARK: In virtual time

    /// A wave of load: each message takes 20 ms. The group follows it, within its bounds, and loses nothing.
    @Test(arguments: [true, false])
    func aGroupFollowsAWaveOfLoad(byDepth: Bool) throws {
        let sim = Simulation()
        let handled = Locked(0)
        let threshold: Resizer.Threshold = byDepth ? .depth(3) : .queueDelay(.milliseconds(50))
        let tree = try sim.system.supervise {
            Children("w") { context in
                for await _ in context.messages(of: Int.self) {
                    try await context.sleep(for: .milliseconds(20))
                    handled.withLock { $0 += 1 }
                }
            }.resizer(Resizer(1...12, growingAbove: threshold, every: .milliseconds(500), patience: .seconds(3)))
        }
        let group: Group<Int> = try tree.group("w")
        sim.drain()
        var sizes: [Int] = []
        var sent = 0
        // 5, then 250 messages a second: one member handles 50.
        for second in 0..<120 {
            let rate = second < 30 || second >= 60 ? 5 : 250
            for _ in 0..<rate {
                #expect(group.tell(sent))
                sent += 1
                sim.advance(by: .seconds(1) / rate)
            }
            sizes.append(group.members.count)
        }
        #expect(sizes[..<30].allSatisfy { $0 == 1 })
        #expect(sizes[45..<60].allSatisfy { (6...12).contains($0) }, "\(sizes)")
        #expect(sizes.last == 1, "\(sizes)")
        #expect(sizes.allSatisfy { (1...12).contains($0) })
        sim.advance(by: .seconds(10))
        #expect(handled.withLock { $0 } == sent && sim.system.deadLetters == 0)
        #expect(sim.stops(tree))
        sim.advance(by: .seconds(10))
        #expect(sim.executor.nextTimer == nil)
    }

    @Test func aGroupHasAtLeastItsLowerBound() throws {
        let sim = Simulation()
        let tree = try sim.system.supervise {
            Children("echo", Echo("echo", sim.trace), redundancy: 2, restart: .transient).resizer(Resizer(2...4))
        }
        let group: Group<Echo.Message> = try tree.group("echo")
        group.members[0].tell(.finish)
        sim.drain()
        #expect(group.members.count == 1)
        sim.advance(by: .seconds(1))
        #expect(group.members.map { $0.proc.name } == ["echo-1", "echo-0"])
    }
}
