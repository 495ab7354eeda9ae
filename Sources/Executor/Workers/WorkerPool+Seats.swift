// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CLightProc
import Glibc
import LightProc

/// How threads come onto the seats, and what happens when one of them traps or the pool ends.
extension WorkerPool {
    /// Joins the threads on the seats, and their successors where some of them trap on the way.
    func joinAll() {
        while true {
            let seen = changes.value
            let (seat, unburied) = staff.withLock { ($0.seated.first, $0.unburied.count) }
            guard let (index, thread) = seat else {
                if unburied > 0 {
                    // Ends: the reaper retires every thread that trapped.
                    changes.blockingWait(while: seen)
                    continue
                }
                // What the reaper queued after the successor of a thread that trapped had found nothing and left.
                guard queues.hasWork else { return }
                seatThread(on: queues.seatOfPinnedWork ?? 0)
                continue
            }
            // A thread that trapped is off its seat by now, and the reaper's.
            guard thread.blockingWaitUntilEnded() == .returned else { continue }
            // It has left, so it calls its heir no more.
            if let heir = thread.takeHeir() { dismiss(heir) }
            thread.join()
            staff.withLock { staff in
                staff.seated[index] = nil
                if index >= placement.seats.count { staff.standIns.free(index - placement.seats.count) }
                staff.stacks.put(thread.stack, afterTrap: false)
            }
        }
    }

    /// Puts a new thread on a seat.
    func seatThread(on index: Int) {
        let thread = makeThread(for: index)
        staff.withLock { $0.seated[index] = thread }
        seat(thread)
    }

    private func seat(_ thread: WorkerThread) {
        thread.assign { [self] thread in
            // Unmanaged: a frame that a trap cuts off releases nothing.
            Unmanaged.passUnretained(workers[thread.seat])._withUnsafeGuaranteedRef { work(thread, as: $0) }
        }
    }

    private func makeThread(for index: Int) -> WorkerThread {
        let memory = memoryOfSeat[index % placement.seats.count]
        let stack = staff.withLock { $0.stacks.take(memory) }
        return WorkerThread(stack: stack, owner: self, seat: index, name: "bastion-worker") {
            [placement, complaints] thread in
            // Before it touches anything.
            memory.preferForCallingThread()
            thread.touchAlternateStack()
            guard placement.pinsWorkers else { return }
            complaints.place("worker \(index) is not pinned") { () throws(TopologyError) in
                if index < placement.seats.count {
                    try ThreadPlacement.pin(toOSPU: placement.seats[index].osPU)
                } else {
                    // The worker that it stands in for may keep its own busy: anywhere on the node.
                    let node = placement.seats[index - placement.seats.count].node
                    try ThreadPlacement.restrict(toOSPUs: placement.usableOSPUs(ofNode: node))
                }
            }
        }
    }

    /// Has a thread wait beside a seat for the one on it to trap. On the thread that makes the pool, or the reaper's.
    func provideHeir(for index: Int) {
        // Who stands in for another has none: the reaper replaces it.
        guard index < placement.seats.count else { return }
        let heir = makeThread(for: index)
        let isNeeded = staff.withLock { staff in
            guard !staff.isStopping, let thread = staff.seated[index], !thread.hasHeir else { return false }
            thread.setHeir(heir)
            return true
        }
        if !isNeeded { dismiss(heir) }
    }

    private func dismiss(_ heir: WorkerThread) {
        heir.dismiss()
        heir.join()
        staff.withLock { $0.stacks.put(heir.stack, afterTrap: false) }
    }

    func take(_ worker: Worker, for thread: WorkerThread) {
        crt_setNodes(worker.nodes)
        thread.record.pointee.seat = Unmanaged.passUnretained(worker).toOpaque()
    }

    // MARK: TrapOwner

    func inherit(from predecessor: UnsafeMutablePointer<crt_thread>, by heir: WorkerThread) {
        guard takeOver(from: predecessor, heir) else { return }
        // From here on as in `seat`: what this frame held would leak if the thread traps in its turn.
        Unmanaged.passUnretained(workers[heir.seat])._withUnsafeGuaranteedRef { worker in
            // The hooks, the supervisor's decision, the next start: before time is spent on the dead thread. Should one
            // of them trap, the reaper is called for that and finds both.
            for _ in 0..<Self.itemsBeforeBurial {
                guard let item = worker.take() else { break }
                if heir.run(item, keepingOn: worker.nodes) { queues.requeue(item, worker) }
            }
            crt_wakeReaper()
            work(heir, as: worker)
        }
    }

    /// Decides about the trap, takes the seat, and tells the process. False when the trap is not contained: then the
    /// program ends, or, should the former handler have survived it, everything is as before.
    @inline(never)
    private func takeOver(from predecessor: UnsafeMutablePointer<crt_thread>, _ heir: WorkerThread) -> Bool {
        guard let trap = TrapReaper.shared.examine(predecessor, by: heir) else { return false }
        staff.withLock { staff in
            staff.unburied.trapped(on: heir.seat)
            staff.seated[heir.seat] = heir
            // A second heir may have been provided meanwhile: it stays with the seat.
            if let next = trap.thread.takeHeir() { heir.setHeir(next) }
        }
        // On the seat first: what the end of the process makes ready runs here, next.
        take(workers[heir.seat], for: heir)
        trap.tell()
        TrapReaper.shared.leave(trap.thread)
        return true
    }

    /// So many items an heir runs before it has its predecessor buried, which wakes another thread.
    private static let itemsBeforeBurial = 8

    func replace(_ thread: WorkerThread) {
        let (isSeated, heir) = staff.withLock { staff -> (Bool, WorkerThread?) in
            staff.unburied.trapped(on: thread.seat)
            guard staff.seated[thread.seat] === thread else { return (false, nil) }
            // One may have come after the thread had trapped.
            let heir = thread.takeHeir()
            if let heir { staff.seated[thread.seat] = heir }
            return (true, heir)
        }
        if let heir { seat(heir) } else if isSeated { seatThread(on: thread.seat) }
    }

    func retire(_ thread: WorkerThread) {
        let wantsHeir = staff.withLock { staff in
            staff.stacks.put(thread.stack, afterTrap: true)
            return staff.unburied.isOnlyOne(on: thread.seat)
        }
        if wantsHeir { provideHeir(for: thread.seat) }
        staff.withLock { $0.unburied.buried(on: thread.seat) }
        changes.increment()
        changes.wake(.max)
    }
}
