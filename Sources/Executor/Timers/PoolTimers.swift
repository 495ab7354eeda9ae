// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import LightProc
import Synchronization

/// The timers of a pool: a wheel per worker, some for the timers of other threads, and the keeper's thread.
///
/// **Who fires.** The runtime's own timers (`wake(after:)`: sleeps, deadlines, timeouts of asks, backoffs) that are set on a
/// worker lie in the worker's wheel. It looks there before it sleeps, when it wakes, and every so many turns; it sleeps
/// no longer than until the next deadline. Their actions are short: they make a process ready, mostly on this worker.
/// What is set elsewhere, and what `schedule(after:)` was given, lies in wheels that the keeper's thread `bastion-timer` fires.
///
/// **No timer is lost between a worker and its sleep**: only the worker itself adds timers to its wheel, so none comes while
/// it goes to sleep. Others only cancel, which at worst wakes it for nothing.
///
/// **No timer is late for long because its worker is busy**: a turn that takes longer than the grace of 2 ms, or a worker that
/// stood in for another and has left. The keeper sleeps until the first deadline of all, for workers' with the grace
/// added, and fires what the worker did not. That a timer which becomes the first one is not slept through is the business of
/// `TimerAlarm`. While the keeper fires a worker's wheel, that seems empty to the worker, which may then go to sleep without
/// a time: the keeper wakes it when it has fired (it stores `next` before it looks whether the worker sleeps; the worker
/// says that it sleeps before it looks at `next`: Dekker).
///
/// When nothing is set nobody wakes.
final class PoolTimers: Sendable {
    /// By worker.
    let shards: [TimerShard]
    /// Where other threads put theirs, spread by thread.
    private let outside: [TimerShard]
    private let watch = TimerWatch()
    private let thread = Locked<PlainThread?>(nil)

    /// So many actions a worker calls in a row, before it runs what they made ready.
    static let batch = 64

    init(workers: Int) {
        let watch = self.watch
        shards = (0..<workers).map { TimerShard(worker: $0, watch: watch) }
        outside = (0..<min(max(workers / 2, 1), 8)).map { _ in TimerShard(worker: nil, watch: watch) }
    }

    deinit {
        // A timer's action may hold, in a round about way, a token of the same wheel.
        for shard in shards + outside { shard.removeAll() }
    }

    /// Starts the keeper. Timers that were left by `stop` go on.
    ///
    /// - Parameter rouse: Wakes a worker if it sleeps.
    func start(rouse: @escaping @Sendable (_ worker: Int) -> Void) {
        watch.isStopped = false
        thread.withLock { $0 = PlainThread(name: "bastion-timer") { [self] in keep(rouse) } }
    }

    /// Ends the keeper and waits for it. Timers that are left are not called, by workers neither, until `start`.
    func stop() {
        watch.isStopped = true
        watch.wakeKeeper()
        thread.withLock { running in
            defer { running = nil }
            return running
        }?.join()
    }

    var isStopped: Bool { watch.isStopped }

    /// Sets a timer of a thread that is no worker, or whose action is to be called on the keeper's thread.
    func schedule(after duration: Duration, _ action: @escaping @Sendable () -> Void) -> TimerToken {
        let shard =
            outside.count == 1
            ? outside[0]
            // Spread by the bits in which addresses of threads' descriptors differ.
            : outside[Int(truncatingIfNeeded: (UInt(pthread_self()) &* 0x9e37_79b9_7f4a_7c15) >> 40) % outside.count]
        return shard.insert(after: duration, action)
    }

    /// One for each worker, then one for all other threads together.
    var counters: [TimerCounters] { shards.map(\.counters) + [TimerCounters(sumOf: outside.map(\.counters))] }

    private func keep(_ rouse: (Int) -> Void) {
        while true {
            // Read before the timers are looked at, so that no change is slept through.
            let seen = watch.changes.value
            if watch.isStopped { return }
            let now = UInt(MonotonicClock.nanoseconds)
            for shard in shards where shard.keepersTime <= now {
                // Not all at once: the worker may be back any moment.
                shard.fire(limit: Self.batch, byKeeper: true)
                if let worker = shard.worker, shard.next != .max { rouse(worker) }
            }
            for shard in outside where shard.keepersTime <= now { shard.fire(limit: .max, byKeeper: true) }
            guard let time = watch.alarm.set({ earliest }) else { continue }
            if time == .max {
                watch.changes.blockingWait(while: seen)
            } else {
                let now = UInt(MonotonicClock.nanoseconds)
                if time > now { watch.changes.blockingWait(while: seen, timeout: .nanoseconds(Int64(time - now))) }
            }
        }
    }

    private var earliest: UInt {
        var earliest = UInt.max
        for shard in shards { earliest = min(earliest, shard.keepersTime) }
        for shard in outside { earliest = min(earliest, shard.keepersTime) }
        return earliest
    }
}

extension TimerCounters {
    /// Those of several wheels that belong to no worker.
    init(sumOf parts: [TimerCounters]) {
        worker = nil
        pending = parts.reduce(0) { $0 + $1.pending }
        fired = parts.reduce(0) { $0 + $1.fired }
        rescued = parts.reduce(0) { $0 + $1.rescued }
        cancelled = parts.reduce(0) { $0 + $1.cancelled }
        totalLateness = parts.reduce(.zero) { $0 + $1.totalLateness }
        maximumLateness = parts.map(\.maximumLateness).max() ?? .zero
        lateness = parts.dropFirst().reduce(parts.first?.lateness ?? []) { zip($0, $1.lateness).map { $0 + $1 } }
    }
}
