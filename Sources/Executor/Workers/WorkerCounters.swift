// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc
import Synchronization

/// What one worker did since the pool was made, as far as is known at the moment.
///
/// Reading costs a few loads and disturbs nobody. The figures are not of one instant: they may be some turns apart.
public struct WorkerCounters: Sendable, Equatable {
    /// The worker's index: that of its seat. Those behind the last seat stand in for workers that are stuck.
    public let worker: Int
    /// Turns: how many times it took a process or a job to run.
    public let polls: UInt
    /// Turns that came from the slot for what was made ready last; up to 64 behind.
    public let lifoHits: UInt
    /// Times it took from the queue of a worker that shares a core, a level 2 or a level 3 cache with it.
    public let localSteals: UInt
    /// Times it took from the queue of a worker of its node that shares no cache with it.
    public let nearSteals: UInt
    /// Times it took from a worker, or from the queue, of another node.
    public let farSteals: UInt
    /// Items that it took out of the queues for what comes from outside.
    public let injected: UInt
    /// Times it went to sleep.
    public let parks: UInt
    /// Times it woke another worker.
    public let wakes: UInt
    /// How long it was awake: the turns, and what it looked for more before it slept, some microseconds each time.
    public let busyTime: Duration
    /// Whether it sleeps.
    public let isParked: Bool
    /// Items that wait for this worker: in its own queues, and the one that is next. Those of its node are not among them; see
    /// ``WorkerPool/nodeQueueDepths``.
    public let queueDepth: Int
}

/// The words behind ``WorkerCounters``. The owner writes, everybody reads.
struct WorkerTally: ~Copyable {
    let lifoHits = Atomic<UInt>(0)
    let localSteals = Atomic<UInt>(0)
    let nearSteals = Atomic<UInt>(0)
    let farSteals = Atomic<UInt>(0)
    let injected = Atomic<UInt>(0)
    let parks = Atomic<UInt>(0)
    let wakes = Atomic<UInt>(0)
    let busyNanoseconds = Atomic<UInt>(0)
    /// Since when the owner is awake; 0 while it sleeps.
    let awakeSince = Atomic<UInt>(0)
    /// How long a turn may be expected to take, in nanoseconds.
    let expectedTurn = Atomic<UInt>(UInt(TurnOrder.longestExpected))
}

extension Atomic where Value == UInt {
    /// Adds to a word that only the calling thread writes: a load and a store.
    @inline(__always)
    func count(_ amount: UInt = 1) {
        // ordering: relaxed: a statistic, publishes nothing.
        store(load(ordering: .relaxed) &+ amount, ordering: .relaxed)
    }

    @inline(__always)
    var known: UInt {
        // ordering: relaxed: a statistic.
        load(ordering: .relaxed)
    }
}

/// From how far away a thief took something.
enum StealDistance: Int, Sendable {
    case local
    case near
    case far

    init(_ proximity: Proximity) {
        switch proximity {
        case .samePU, .sameCore, .sameL2, .sameL3: self = .local
        case .sameNode: self = .near
        case .sameL3OtherNode, .node, .elsewhere: self = .far
        }
    }
}
