// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// When threads for blocking work are added, and how many: by how long the oldest job has waited.
///
/// A thread costs memory and a start, and a queue that is being worked off needs none; one whose threads all sleep in
/// system calls needs more at once. So:
///
/// | the oldest job | the threads | are added |
/// |---|---|---|
/// | any | there is none | one, at once |
/// | is younger than the target | any | none; looked at again when it will be as old |
/// | is older | all sleep, and none has finished a job for as long as the target | as many again |
/// | is older | all sleep, and some have finished jobs | one |
/// | is older | some use a processor | one, if none was added for ten times the target |
///
/// never more than jobs wait, nor than there is room for. Jobs for which a thread is on its way do not count as waiting.
/// Threads leave one by one, each when it had nothing to do for the idle time, which is thousands of times the target:
/// that keeps the number steady under a load that comes in bursts.
///
/// A pure value: time and what the threads do come in as arguments. The measure, the time that the oldest job has spent in
/// the queue, is that of CoDel (Nichols and Jacobson 2012), used here to add servers instead of dropping jobs.
struct BlockingGrowth: Equatable, Sendable {
    /// What bounds and paces the pool.
    struct Limits: Equatable, Sendable {
        var maximumThreads = 512
        /// How long a job may wait before the number of threads is questioned.
        var targetDelay = Duration.milliseconds(1)
        /// How long a thread without work stays.
        var idleTime = Duration.seconds(10)
    }

    /// What is known at a look at one queue.
    struct Load: Equatable, Sendable {
        /// Threads that there are, those on their way included.
        var threads: Int
        /// Threads that have no job: they sleep, were woken, or are starting.
        var available: Int
        var queued: Int
        /// How long the oldest job has waited.
        var oldestWait: Duration
        /// Jobs that were finished so far.
        var finished: UInt
        /// How many threads may still be added.
        var room: Int

        /// Whether jobs wait for which no thread is on its way.
        var isBehind: Bool { queued > available }
    }

    /// What a look came to.
    struct Decision: Equatable, Sendable {
        /// So many threads are to be added.
        var added = 0
        /// When to look again; nil: not before something else happens.
        var nextLook: Duration?
    }

    /// A thread is questioned only against what it did since.
    private struct Mark: Equatable {
        var finished: UInt
        var time: Duration
    }
    private var mark: Mark?
    private var lastGrowth: Duration?
    /// So many target delays lie between two threads that are added while others use processors.
    static let crowdedPause = 10

    /// A job was added to the queue. Returns how many threads are needed at once: one, if there is none.
    mutating func jobAdded(_ load: Load, at now: Duration) -> Int {
        if load.threads == 0, load.room > 0 { return 1 }
        if load.isBehind, mark == nil { mark = Mark(finished: load.finished, time: now) }
        return 0
    }

    /// Decides whether the threads are too few.
    ///
    /// - Parameter allSleep: Whether all threads that have a job sleep in the kernel.
    mutating func look(_ load: Load, at now: Duration, allSleep: Bool, limits: Limits) -> Decision {
        guard load.isBehind else {
            mark = nil
            return Decision()
        }
        let before = mark ?? Mark(finished: load.finished, time: now)
        mark = before
        // Nothing to decide until a thread leaves or traps.
        guard load.room > 0 else { return Decision() }
        let target = limits.targetDelay
        if load.threads == 0 { return grow(1, load, at: now, target) }
        guard load.oldestWait >= target else { return Decision(nextLook: target - load.oldestWait) }
        if allSleep, load.finished != before.finished { return grow(1, load, at: now, target) }
        if allSleep {
            let standstill = now - before.time
            guard standstill >= target else { return Decision(nextLook: target - standstill) }
            return grow(load.threads, load, at: now, target)
        }
        let pause = target * Self.crowdedPause
        if let lastGrowth, now - lastGrowth < pause {
            mark = Mark(finished: load.finished, time: now)
            return Decision(nextLook: target)
        }
        return grow(1, load, at: now, target)
    }

    private mutating func grow(_ count: Int, _ load: Load, at now: Duration, _ target: Duration) -> Decision {
        mark = Mark(finished: load.finished, time: now)
        lastGrowth = now
        return Decision(added: min(count, load.queued - load.available, load.room), nextLook: target)
    }
}
