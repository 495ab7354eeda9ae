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
        while let item = worker.take() ?? queues.search(worker) ?? sleep(worker) {
            if isDropping.load(ordering: .relaxed) { item.kill() }
            if thread.run(item) { queues.requeue(item, worker) }
            // ordering: relaxed: it may take another turn.
            if worker.isLeaving.load(ordering: .relaxed) { break }
        }
        if worker.index >= placement.seats.count { handOver(worker) }
        worker.noteSleep()
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
                // Ends: whoever takes this worker off the list of sleepers changes the word first.
                while worker.parking.value == 1 { worker.parking.blockingWait(while: 1) }
                worker.noteAwake()
                stirWatch()
            }
            if let item = queues.getUp(worker) ?? queues.search(worker) { return item }
            if isStopping { return nil }
        }
    }
}
