// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import Glibc
import LightProc
import Testing

@testable import Fort

/// A rhythm by reference: what is expected of it may change it.
private final class Rhythm {
    private var rhythm: HeartRhythm
    init(sets: Int) { rhythm = HeartRhythm(sets: sets) }
    func timeIsUp() -> UInt? { rhythm.timeIsUp() }
    func probeRan(on set: Int, round: UInt) -> Bool { rhythm.probeRan(on: set, round: round) }
}

@Suite struct HeartTests {
    @Test(
        arguments: [
            (nil, nil, nil), (Duration.seconds(10), nil, Duration.seconds(2)), (nil, .seconds(10), .milliseconds(2500)),
            (.seconds(10), .seconds(4), .seconds(1)), (.seconds(1), .seconds(4), .milliseconds(200)),
            (.microseconds(1), nil, .milliseconds(1)),
        ] as [(Duration?, Duration?, Duration?)]
    )
    func theIntervalSuitsWhoeverWaits(_ hangTime: Duration?, _ watchdogTime: Duration?, _ expected: Duration?) {
        let interval = HeartRhythm.interval(hangTime: hangTime, watchdogTime: watchdogTime)
        #expect(interval == expected)
        guard let interval, interval > .milliseconds(1) else { return }
        if let hangTime { #expect(hangTime / interval >= 4) }
        if let watchdogTime { #expect(interval <= watchdogTime / 2) }
    }

    @Test func aBeatComesWhenTheLastProbeOfTheRoundHasRun() {
        let rhythm = Rhythm(sets: 3)
        let first = rhythm.timeIsUp()
        #expect(first == 1)
        #expect(!rhythm.probeRan(on: 2, round: 1))
        #expect(!rhythm.probeRan(on: 0, round: 1))
        #expect(!rhythm.probeRan(on: 0, round: 1), "it has run already")
        #expect(rhythm.timeIsUp() == nil, "one has not run")
        #expect(rhythm.probeRan(on: 1, round: 1))
        #expect(rhythm.timeIsUp() == 2)
        #expect(!rhythm.probeRan(on: 1, round: 1), "of an earlier round")
        #expect(!rhythm.probeRan(on: 0, round: 2))
        #expect(!rhythm.probeRan(on: 2, round: 2))
        #expect(rhythm.probeRan(on: 1, round: 2))
    }

    /// Against the rule itself: a beat for each round, when each set has run its probe, and no round before that.
    @Test func randomOrdersOfProbesGiveABeatForEachRound() {
        let seed = UInt64.random(in: 0 ... .max)
        print("SEED=\(seed)")
        var random = SplitMix64(seed: seed)
        for _ in 0..<200 {
            let sets = Int.random(in: 1...8, using: &random)
            let rhythm = Rhythm(sets: sets)
            var waiting: Set<Int> = []
            var (rounds, beats) = (UInt(0), UInt(0))
            for _ in 0..<100 {
                if waiting.isEmpty || Bool.random(using: &random) {
                    let round = rhythm.timeIsUp()
                    #expect((round != nil) == waiting.isEmpty)
                    if let round {
                        rounds += 1
                        #expect(round == rounds)
                        waiting = Set(0..<sets)
                    }
                } else if let set = waiting.randomElement(using: &random) {
                    waiting.remove(set)
                    let isBeat = rhythm.probeRan(on: set, round: rounds)
                    #expect(isBeat == waiting.isEmpty)
                    if isBeat { beats += 1 }
                }
                #expect(beats == (waiting.isEmpty ? rounds : rounds - 1))
            }
        }
    }

    @Test func anExecutorThatGetsOnBeatsAndOneWhoseWorkersAreAllStuckDoesNot() throws {
        let pool = try WorkerPool(workers: 1, stallThreshold: .milliseconds(20), writesWarnings: false)
        defer { pool.shutdown() }
        let beats = FutexWord()
        let heart = Heart(pool, every: .milliseconds(2)) {
            beats.increment()
            beats.wake(.max)
        }
        func blockingWait(moreThan count: UInt32) {
            // Ends: each beat changes the word.
            while beats.value <= count { beats.blockingWait(while: beats.value) }
        }
        heart.start()
        blockingWait(moreThan: 3)

        let (first, second, end) = (BlockingGate(), BlockingGate(), BlockingGate())
        for began in [first, second] {
            pool.spawn {
                began.open()
                end.blockingWait()
            }
        }
        // The worker, and the one that stands in for it.
        first.blockingWait()
        second.blockingWait()
        let known = beats.value
        let missed = heart.missedTimes
        // Ends: the timer goes on.
        while heart.missedTimes < missed + 10 { sched_yield() }
        #expect(beats.value == known)
        end.open()
        blockingWait(moreThan: known + 3)
    }
}
