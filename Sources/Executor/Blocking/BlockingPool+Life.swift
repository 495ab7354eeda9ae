// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

/// The scout, which adds threads while jobs wait; and how the pool starts and ends.
extension BlockingPool {
    // MARK: Growth

    /// Whether the scout must be called.
    func watch(_ shared: inout Shared) -> Bool {
        if shared.isWatching || shared.isClosed { return false }
        shared.isWatching = true
        return true
    }

    func callScout() {
        shared.withLock { shared in
            guard shared.scout == nil, !shared.isClosed else { return }
            let everywhere = Site(osPUs: sites.reduce(into: []) { $0? += $1.osPUs ?? [] })
            shared.scout = PlainThread(name: "bastion-scout") { [self] in
                if !(everywhere.osPUs ?? []).isEmpty { everywhere.take(complaints) }
                scout()
            }
        }
        calls.increment()
        calls.wake()
    }

    private func scout() {
        // Ends: when the pool is closed.
        while true {
            // Read before the look, so that no call is slept through.
            let seen = calls.value
            let before = MonotonicClock.now
            let (isClosed, late) = shared.withLock { shared -> (Bool, [(node: Int, threads: [Int32])]) in
                // The kernel's numbers: known of threads that have a job, as they took it under this lock.
                let late = shared.queues.lateNodes(at: before).map { node in
                    (
                        node,
                        shared.threads.values.filter { $0.hasJob && $0.member.node == node }.map(
                            \.thread.record.pointee.number
                        )
                    )
                }
                return (shared.isClosed, late)
            }
            if isClosed { return }
            let asleep = late.filter { !$0.threads.contains(where: KernelThread.isRunnable) }.map(\.node)
            let now = MonotonicClock.now
            let (look, members) = withShared { shared in
                let look = shared.queues.look(at: now) { asleep.contains($0) }
                if look.nextLook == nil { shared.isWatching = false }
                return (look, look.wakes.compactMap { shared.threads[$0]?.member })
            }
            for member in members { member.wake() }
            for (node, count) in look.hires { for _ in 0..<count { employ(on: node) } }
            calls.blockingWait(while: seen, timeout: look.nextLook)
        }
    }

    // MARK: Life

    var isStopping: Bool { shared.withLock { $0.queues.isStopping } }

    /// Takes work again after `shutdown`; what was given meanwhile is run.
    func start() {
        let (nodes, mustCall) = withShared { shared in
            shared.queues.resume()
            shared.isDropping = false
            shared.isClosed = false
            let nodes = shared.queues.abandonedNodes
            for node in nodes { shared.queues.hire(for: node) }
            return (nodes, shared.queues.isBehind(at: MonotonicClock.now) && watch(&shared))
        }
        for node in nodes { employ(on: node) }
        if mustCall { callScout() }
    }

    /// Ends the pool: what it was given is run, or killed first, and its threads are joined.
    func shutdown(dropping: Bool) {
        let sleepers = withShared { shared in
            shared.isDropping = dropping
            return shared.queues.stop().compactMap { shared.threads[$0]?.member }
        }
        for member in sleepers { member.wake() }
        joinAll()
        let scout = shared.withLock { shared in
            shared.isClosed = true
            shared.isWatching = false
            defer { shared.scout = nil }
            return shared.scout
        }
        calls.increment()
        calls.wake()
        scout?.join()
        // Those that it added at the last moment.
        joinAll()
        shared.withLock { $0.stacks.unmapAll() }
    }

    private func joinAll() {
        enum Step {
            case join(WorkerThread)
            case hire(Int)
            case wait
            case nothing
        }
        // Ends: no job is left, and every thread returns when none is, or traps, and the reaper retires it.
        while true {
            let seen = changes.value
            let step = withShared { shared -> Step in
                if let thread = shared.left.last ?? shared.threads.first?.value.thread { return .join(thread) }
                if shared.pendingTraps > 0 || shared.queues.threads > 0 { return .wait }
                // What came when the last thread was about to leave.
                guard let node = shared.queues.abandonedNodes.first else { return .nothing }
                shared.queues.hire(for: node)
                return .hire(node)
            }
            switch step {
            case .join(let thread): if thread.blockingWaitUntilEnded() == .returned { dismiss(thread) }
            case .hire(let node): employ(on: node)
            case .wait: changes.blockingWait(while: seen)
            case .nothing: return
            }
        }
    }

    /// Joins a thread that has returned, unless somebody else does.
    private func dismiss(_ thread: WorkerThread) {
        let isMine = shared.withLock { shared -> Bool in
            let before = shared.left.count + shared.threads.count
            shared.left.removeAll { $0 === thread }
            shared.threads = shared.threads.filter { $0.value.thread !== thread }
            return shared.left.count + shared.threads.count < before
        }
        guard isMine else { return }
        thread.join()
        shared.withLock { $0.stacks.put(thread.stack, afterTrap: false) }
    }
}
