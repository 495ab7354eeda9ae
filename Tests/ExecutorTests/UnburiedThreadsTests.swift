// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Testing

@testable import Executor

@Suite struct UnburiedThreadsTests {
    @Test func theLastOneOfASeatIsKnown() {
        var threads = UnburiedThreads()
        threads.trapped(on: 0)
        threads.trapped(on: 1)
        threads.trapped(on: 1)
        #expect(threads.count == 3)
        #expect(threads.isOnlyOne(on: 0))
        #expect(!threads.isOnlyOne(on: 1))
        threads.buried(on: 1)
        #expect(threads.isOnlyOne(on: 1))
        threads.buried(on: 0)
        threads.buried(on: 1)
        #expect(threads.count == 0)
        #expect(!threads.isOnlyOne(on: 0))
    }

    /// Workers that trap whenever they run, and a reaper that is slower than they are: whatever the order, the threads
    /// of a seat stay few, and in the end every seat has an heir.
    @Test func aStormThatIsFasterThanTheReaperPilesUpNoThreads() {
        var random = SeededGenerator(seed: RandomRun.seed)
        for _ in 0..<200 {
            var storm = Storm(seats: Int.random(in: 1...4, using: &random))
            for _ in 0..<500 {
                let seat = Int.random(in: 0..<storm.seats.count, using: &random)
                if Int.random(in: 0..<4, using: &random) > 0 {
                    storm.trap(on: seat)
                } else {
                    storm.reap()
                }
                #expect(storm.seats.allSatisfy { $0.threads <= 4 }, "SEED=\(RandomRun.seed)")
            }
            while storm.threads.count > 0 || storm.isWaiting { storm.reap() }
            #expect(storm.seats.allSatisfy { $0.hasHeir && $0.threads == 2 }, "SEED=\(RandomRun.seed)")
        }
    }
}

/// What the pool and the reaper do with threads, without any.
private struct Storm {
    struct Seat {
        var hasHeir = true
        /// The thread on the seat has trapped without an heir.
        var waitsForReaper = false
        var corpses = 0
        var threads: Int { 1 + (hasHeir ? 1 : 0) + corpses }
    }
    var seats: [Seat]
    var threads = UnburiedThreads()
    /// By seat; the reaper takes the last first.
    private var corpses: [Int] = []

    init(seats count: Int) { seats = .init(repeating: Seat(), count: count) }

    var isWaiting: Bool { seats.contains { $0.waitsForReaper } }

    mutating func trap(on seat: Int) {
        if seats[seat].hasHeir {
            seats[seat].hasHeir = false
            seats[seat].corpses += 1
            threads.trapped(on: seat)
            corpses.append(seat)
        } else {
            seats[seat].waitsForReaper = true
        }
    }

    mutating func reap() {
        if let seat = seats.firstIndex(where: { $0.waitsForReaper }) {
            seats[seat].waitsForReaper = false
            seats[seat].corpses += 1
            threads.trapped(on: seat)
            bury(on: seat)
        } else if let seat = corpses.popLast() {
            bury(on: seat)
        }
    }

    private mutating func bury(on seat: Int) {
        if threads.isOnlyOne(on: seat) { seats[seat].hasHeir = true }
        threads.buried(on: seat)
        seats[seat].corpses -= 1
    }
}
