// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CLightProc
package import LightProc

/// What a worker does at one moment, as seen from outside.
package struct WorkerGlance: Sendable {
    package enum Activity: Sendable {
        /// It sleeps: there is nothing for it to do.
        case parked
        /// It looks for something to do.
        case searching
        /// It runs a process.
        case process(ProcID, name: String?, path: String?, messageType: String?)
        /// It runs a job that belongs to no process.
        case job
        /// It runs something, and its thread does not tell what.
        case silent
        /// No thread sits there.
        case vacant
    }
    /// The worker's index; see ``WorkerCounters/worker``.
    package let worker: Int
    /// Whether it stands in for one that is stuck.
    package let isStandIn: Bool
    package let activity: Activity
    /// Addresses within the instructions of the thread's stack, innermost first; empty unless it runs something.
    package let backtrace: [UInt]
}

extension WorkerPool {
    /// What each worker does, by index; those that stand in for others while they do. From any thread that is no worker, also
    /// when all workers are stuck.
    ///
    /// Who runs something is interrupted by a signal for some microseconds, as by the stall watch. A thread that does not react
    /// costs the caller 100 ms.
    package func glances() -> [WorkerGlance] {
        let sampler = StackSampler()
        return seatedThreads.enumerated().compactMap { index, thread in
            let isStandIn = index >= placement.seats.count
            if isStandIn, thread == nil { return nil }
            let (activity, backtrace) = glance(at: workers[index], thread, sampler)
            return WorkerGlance(worker: index, isStandIn: isStandIn, activity: activity, backtrace: backtrace)
        }
    }

    private func glance(
        at worker: Worker,
        _ thread: WorkerThread?,
        _ sampler: StackSampler
    ) -> (WorkerGlance.Activity, [UInt]) {
        guard let thread else { return (.vacant, []) }
        guard crt_seemsToRun(thread.record) else { return (worker.counters.isParked ? .parked : .searching, []) }
        // Without the watch there is no handler for the signal.
        guard hasWatch, let sample = sampler.sample(thread) else { return (.silent, []) }
        if let next = sample.rescued {
            worker.queues.normal.push(next)
            queues.wakeIfNeeded(near: worker)
        }
        guard let proc = sample.proc else { return (.job, sample.frames) }
        let type = sample.messageType ?? proc.messageTypeName
        return (.process(proc.id, name: proc.name, path: proc.path, messageType: type), sample.frames)
    }
}
