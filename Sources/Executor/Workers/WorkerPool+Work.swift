// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CLightProc
import LightProc

/// What a worker's thread does: take, search, sleep. How it finds something is the business of `RunQueues`.
extension WorkerPool {
    func work(_ thread: WorkerThread, as worker: Worker) {
        take(worker, for: thread)
        if worker.index >= placement.seats.count { return standIn(thread, as: worker) }
        worker.noteAwake()
        // The predecessor on this seat may have trapped as a searcher only in user code, where nobody searches.
        while let item = worker.take() ?? takeTimed(worker) ?? takeKept(worker) ?? queues.search(worker)
            ?? sleep(worker)
        {
            if isDropping.load(ordering: .relaxed) { item.kill() }
            if thread.run(item, keepingOn: worker.nodes) { queues.requeue(item, worker) }
            // ordering: relaxed: it may take another turn.
            if worker.isLeaving.load(ordering: .relaxed) { break }
        }
        _ = WorkerThread.letGo(keptOn: worker.nodes)
        worker.noteSleep()
    }

    /// As above, of a worker that stands in for another one. Its thread may run anywhere on its node; for what is pinned to less
    /// than that, or to somewhere else, it goes there, and comes back for what is not.
    private func standIn(_ thread: WorkerThread, as worker: Worker) {
        let home = placement.usableOSPUs(ofNode: placement.seats[worker.index - placement.seats.count].node)
        var site = home
        worker.noteAwake()
        while let item = worker.take() ?? takeTimed(worker) ?? queues.search(worker) ?? sleep(worker) {
            if isDropping.load(ordering: .relaxed) { item.kill() }
            if placement.pinsWorkers {
                let place = queues.place(of: item) ?? home
                let next = Set(home).isSubset(of: place) ? home : place
                if next != site { go(to: next, worker) }
                site = next
            }
            if thread.run(item) { queues.requeue(item, worker) }
            // ordering: relaxed: it may take another turn.
            if worker.isLeaving.load(ordering: .relaxed) { break }
        }
        handOver(worker)
        worker.noteSleep()
    }

    private func go(to osPUs: [Int], _ worker: Worker) {
        complaints.place("worker \(worker.index) is not where what it runs is pinned to") { () throws(TopologyError) in
            try ThreadPlacement.restrict(toOSPUs: osPUs)
        }
    }

    /// What a timer has made ready, when there is nothing else: before others are robbed.
    @inline(__always)
    private func takeTimed(_ worker: Worker) -> RunItem? {
        guard worker.timers.hasSome else { return nil }
        worker.fireTimers()
        return worker.takeOwn() ?? queues.findPinned(worker)
    }

    /// What the end of the process that was kept has made ready, if it was the end: before the worker idles.
    @inline(__always)
    private func takeKept(_ worker: Worker) -> RunItem? {
        WorkerThread.letGo(keptOn: worker.nodes) ? worker.takeOwn() : nil
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
