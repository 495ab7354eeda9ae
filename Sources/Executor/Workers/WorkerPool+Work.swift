// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CLightProc
import LightProc

/// What a worker's thread does: take, search, sleep. How it finds something is the business of `RunQueues`.
extension WorkerPool {
    func work(_ thread: WorkerThread, as worker: Worker) {
        take(worker, for: thread)
        worker.noteAwake()
        // The predecessor on this seat may have trapped as a searcher only in user code, where nobody searches.
        while let item = worker.take() ?? takeTimed(worker) ?? queues.search(worker) ?? sleep(worker) {
            if isDropping.load(ordering: .relaxed) { item.kill() }
            if thread.run(item) { queues.requeue(item, worker) }
            // ordering: relaxed: it may take another turn.
            if worker.isLeaving.load(ordering: .relaxed) { break }
        }
        if worker.index >= placement.seats.count { handOver(worker) }
        worker.noteSleep()
    }

    /// What a timer has made ready, when there is nothing else: before others are robbed.
    @inline(__always)
    private func takeTimed(_ worker: Worker) -> RunItem? {
        guard worker.timers.hasSome else { return nil }
        worker.fireTimers()
        return worker.takeOwn()
    }

    /// Sleeps until there is something to search for. Returns nil when the pool is stopping and nothing is left.
    private func sleep(_ worker: Worker) -> RunItem? {
        while true {
            var isStopping = false
            queues.lieDown(worker) {
                isStopping =
                    self.isStopping.load(ordering: .sequentiallyConsistent)
                    || worker.isLeaving.load(ordering: .sequentiallyConsistent)
                return isStopping
            }
            if worker.parking.value == 1 {
                worker.noteSleep()
                offerHelp()
                waitUntilWoken(worker)
                worker.noteAwake()
                stirWatch()
            }
            if let item = queues.getUp(worker) ?? queues.search(worker) { return item }
            if isStopping { return nil }
        }
    }

    /// Sleeps until another thread takes this worker off the list of sleepers, or one of its timers does.
    private func waitUntilWoken(_ worker: Worker) {
        // Ends: whoever takes this worker off the list changes the word first.
        while worker.parking.value == 1 {
            // After the word says that this worker sleeps: see `PoolTimers`.
            let next = timers.isStopped ? .max : worker.timers.next
            if next == .max {
                worker.parking.blockingWait(while: 1)
                continue
            }
            let now = UInt(MonotonicClock.nanoseconds)
            if next > now {
                worker.parking.blockingWait(while: 1, timeout: .nanoseconds(Int64(clamping: next - now)))
            } else if worker.parking.compareExchange(1, 2) {
                queues.idle.endSleep(toSearch: true)
            }
        }
    }
}
