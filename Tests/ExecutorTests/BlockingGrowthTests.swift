// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Testing

@testable import Executor

/// When threads are added: by tables, then by random sequences against the rules.
@Suite struct BlockingGrowthTests {
    private typealias Load = BlockingGrowth.Load
    private let limits = BlockingGrowth.Limits()

    private static func load(
        threads: Int,
        available: Int = 0,
        queued: Int,
        waited: Duration = .milliseconds(1),
        finished: UInt = 0,
        room: Int = 500
    ) -> Load {
        Load(threads: threads, available: available, queued: queued, oldestWait: waited, finished: finished, room: room)
    }

    @Test func theFirstThreadIsThereAtOnce() {
        let growth = Ref(BlockingGrowth())
        #expect(growth.change { $0.jobAdded(Self.load(threads: 0, queued: 1, waited: .zero), at: .zero) } == 1)
        #expect(growth.change { $0.jobAdded(Self.load(threads: 0, queued: 1, waited: .zero, room: 0), at: .zero) } == 0)
        #expect(
            growth.change { $0.jobAdded(Self.load(threads: 1, available: 1, queued: 1, waited: .zero), at: .zero) } == 0
        )
        #expect(growth.change { $0.jobAdded(Self.load(threads: 1, queued: 9, waited: .zero), at: .zero) } == 0)
    }

    private struct Row: CustomTestStringConvertible {
        let load: Load
        let allSleep: Bool
        let added: Int
        let nextLook: Duration?
        var testDescription: String { "\(load), asleep: \(allSleep)" }
    }

    private static let rows = [
        // Nobody waits, or whoever waits will be served by a thread that is on its way.
        Row(load: load(threads: 4, queued: 0, waited: .zero), allSleep: true, added: 0, nextLook: nil),
        Row(load: load(threads: 4, available: 3, queued: 3), allSleep: true, added: 0, nextLook: nil),
        // Not long enough.
        Row(
            load: load(threads: 4, queued: 3, waited: .microseconds(400)),
            allSleep: true,
            added: 0,
            nextLook: .microseconds(600)
        ),
        // All sleep, and nothing was done: as many again, but no more than wait, and than there is room for.
        Row(load: load(threads: 4, queued: 100), allSleep: true, added: 4, nextLook: .milliseconds(1)),
        Row(load: load(threads: 4, queued: 3), allSleep: true, added: 3, nextLook: .milliseconds(1)),
        Row(load: load(threads: 4, available: 2, queued: 3), allSleep: true, added: 1, nextLook: .milliseconds(1)),
        Row(load: load(threads: 4, queued: 100, room: 2), allSleep: true, added: 2, nextLook: .milliseconds(1)),
        Row(load: load(threads: 4, queued: 100, room: 0), allSleep: true, added: 0, nextLook: nil),
        // All sleep at this moment, but get on.
        Row(load: load(threads: 4, queued: 100, finished: 1), allSleep: true, added: 1, nextLook: .milliseconds(1)),
        // Some use a processor.
        Row(load: load(threads: 4, queued: 100), allSleep: false, added: 1, nextLook: .milliseconds(1)),
        // The last thread trapped.
        Row(load: load(threads: 0, queued: 5, waited: .zero), allSleep: true, added: 1, nextLook: .milliseconds(1)),
    ]

    @Test(arguments: rows) private func aLook(_ row: Row) {
        let growth = Ref(BlockingGrowth())
        _ = growth.value.jobAdded(Self.load(threads: 4, queued: 1, waited: .zero), at: .zero)
        let decision = growth.value.look(row.load, at: .milliseconds(1), allSleep: row.allSleep, limits: limits)
        #expect(decision == BlockingGrowth.Decision(added: row.added, nextLook: row.nextLook))
    }

    @Test func aStandstillIsJudgedOnlyWhenItWasWatchedForTheTarget() {
        let growth = Ref(BlockingGrowth())
        let load = Self.load(threads: 2, queued: 10, waited: .milliseconds(5))
        // Nobody had looked before.
        #expect(
            growth.change { $0.look(load, at: .seconds(1), allSleep: true, limits: limits) }
                == .init(nextLook: .milliseconds(1))
        )
        let later = Duration.seconds(1) + .milliseconds(1)
        #expect(growth.change { $0.look(load, at: later, allSleep: true, limits: limits) }.added == 2)
    }

    @Test func whereProcessorsAreBusyThreadsAreAddedSlowly() {
        let growth = Ref(BlockingGrowth())
        var threads = 2
        for millisecond in 1...1000 {
            let load = Self.load(threads: threads, queued: 10_000, finished: UInt(millisecond))
            threads += growth.value.look(load, at: .milliseconds(millisecond), allSleep: false, limits: limits).added
        }
        #expect(threads == 2 + 100)
    }

    /// A model of the pool in steps of 0.1 ms: what jobs do, how many processors there are, and how wide it becomes.
    private struct Simulation {
        var threads = 0, queued = 0, peak = 0, done = 0
        /// What each running job has left, in steps.
        var running: [Int] = []
        var wait = 0
        var growth = BlockingGrowth()
        var nextLook: Duration?

        /// - Parameter step: How long a job takes, and whether it sleeps meanwhile.
        mutating func run(jobs: Int, steps: Int, sleeps: Bool, processors: Int, perStep: Int = 1, until end: Int) {
            let limits = BlockingGrowth.Limits()
            queued = jobs
            for step in 0..<end {
                let now = Duration.microseconds(100 * step)
                var load: Load {
                    Load(
                        threads: threads,
                        available: threads - running.count,
                        queued: queued,
                        oldestWait: .microseconds(100 * wait),
                        finished: UInt(done),
                        room: 512 - threads
                    )
                }
                threads += growth.jobAdded(load, at: now)
                let allSleep = sleeps || running.isEmpty
                let decision = growth.look(load, at: now, allSleep: allSleep, limits: limits)
                threads += decision.added
                peak = max(peak, threads)
                wait += 1
                while running.count < threads, queued > 0 {
                    running.append(steps)
                    queued -= 1
                }
                for index in running.indices where sleeps || index < processors { running[index] -= 1 }
                let left = running.filter { $0 > 0 }
                done += running.count - left.count
                running = left
                if perStep > 1 {
                    let more = min(queued, (perStep - 1) * min(threads, processors))
                    queued -= more
                    done += more
                }
                if queued == 0, running.isEmpty { return }
            }
        }
    }

    @Test func aHundredBlockedJobsRunSideBySideSoon() {
        var pool = Simulation()
        // They never end: 10 ms.
        pool.run(jobs: 100, steps: .max, sleeps: true, processors: 2, until: 100)
        #expect(pool.running.count == 100)
        #expect(pool.threads == 100)
    }

    @Test func aBurstOfTinyJobsNeedsFewThreads() {
        var pool = Simulation()
        // 10,000 jobs of 10 µs each on two processors: 50 ms.
        pool.run(jobs: 10_000, steps: 1, sleeps: false, processors: 2, perStep: 10, until: 10_000)
        #expect(pool.done == 10_000)
        #expect(pool.peak <= 10, "\(pool.peak)")
    }

    @Test func randomSequencesKeepTheRules() {
        let seed = UInt64.random(in: 0 ... .max)
        var random = SplitMix64(seed: seed)
        let growth = Ref(BlockingGrowth())
        var now = Duration.zero
        for _ in 0..<20_000 {
            now += .microseconds(Int64.random(in: 0...2_000, using: &random))
            let threads = Int.random(in: 0...20, using: &random)
            let load = Load(
                threads: threads,
                available: Int.random(in: 0...threads, using: &random),
                queued: Int.random(in: 0...40, using: &random),
                oldestWait: .microseconds(Int64.random(in: 0...3_000, using: &random)),
                finished: UInt.random(in: 0...3, using: &random),
                room: Int.random(in: 0...10, using: &random)
            )
            if Bool.random(using: &random) {
                let added = growth.value.jobAdded(load, at: now)
                #expect(added == (threads == 0 && load.room > 0 ? 1 : 0), "seed \(seed)")
                continue
            }
            let allSleep = Bool.random(using: &random)
            let decision = growth.value.look(load, at: now, allSleep: allSleep, limits: limits)
            #expect(decision.added >= 0 && decision.added <= load.room, "seed \(seed)")
            #expect(decision.added <= max(0, load.queued - load.available), "seed \(seed)")
            #expect(decision.added <= max(1, threads), "seed \(seed)")
            if threads > 0, load.oldestWait < limits.targetDelay { #expect(decision.added == 0, "seed \(seed)") }
            if threads > 0, !allSleep { #expect(decision.added <= 1, "seed \(seed)") }
            // Who is behind is looked at again, unless there is no room.
            #expect((decision.nextLook != nil) == (load.isBehind && load.room > 0), "seed \(seed)")
            if let next = decision.nextLook { #expect(next > .zero && next <= limits.targetDelay, "seed \(seed)") }
        }
    }
}
