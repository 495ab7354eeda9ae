// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CLightProc
import Glibc
import LightProc

/// The thread on which a seeded executor runs when traps are to be contained: a worker's thread, with an heir beside it.
///
/// Who drives the executor waits meanwhile, so there is still one thing at a time. A trap ends the thread; its heir tells the
/// process, and goes on with what was to be done.
final class SeededThread: TrapOwner, TaskExecutor {
    private struct State {
        var thread: WorkerThread?
        var stacks = WorkerStackPool()
        /// Done over and over, until it says that it is done.
        var turn: (@Sendable () -> Bool)?
        /// Threads that trapped and were not joined yet.
        var unburied = 0
    }
    private let state = Locked(State())
    /// 0: rest. 1: `turn` is to be taken. 2: leave.
    private let call = FutexWord()
    private let done = FutexWord()
    private let burials = FutexWord()
    /// Called on an heir, with what tells the process.
    private let afterTrap: @Sendable (WorkerThread, () -> Void) -> Void

    init(afterTrap: @escaping @Sendable (WorkerThread, () -> Void) -> Void) {
        self.afterTrap = afterTrap
        TrapReaper.shared.retain()
        let thread = makeThread()
        state.withLock { $0.thread = thread }
        thread.setHeir(makeThread())
        seat(thread)
    }

    private func makeThread() -> WorkerThread {
        let stack = state.withLock { $0.stacks.take() }
        return WorkerThread(stack: stack, owner: self, name: "bastion-seeded") { $0.touchAlternateStack() }
    }

    private func seat(_ thread: WorkerThread) { thread.assign { [self] in serve($0) } }

    /// The thread, if the caller runs on it.
    var own: WorkerThread? {
        let record = crt_self()
        return state.withLock { $0.thread?.record == record ? $0.thread : nil }
    }

    /// Takes turns on the thread until one is the last; returns then. One caller at a time, on another thread.
    func perform(_ turn: @escaping @Sendable () -> Bool) {
        state.withLock { $0.turn = turn }
        done.set(0)
        call.set(1)
        call.wake()
        while done.value == 0 { done.blockingWait(while: 0) }
        state.withLock { $0.turn = nil }
    }

    private func serve(_ thread: WorkerThread) {
        // Ends: when the executor is gone.
        while true {
            switch call.value {
            case 0: call.blockingWait(while: 0)
            case 1:
                while state.withLock({ $0.turn })?() == true {}
                call.set(0)
                done.set(1)
                done.wake()
            default: return
            }
        }
    }

    /// Ends the thread and joins it. On another thread, once, while nothing is performed.
    func stop() {
        call.set(2)
        call.wake()
        if let thread = state.withLock({ $0.thread }) {
            _ = thread.blockingWaitUntilEnded()
            if let heir = thread.takeHeir() {
                heir.dismiss()
                heir.join()
                state.withLock { $0.stacks.put(heir.stack, afterTrap: false) }
            }
            thread.join()
            state.withLock { state in
                state.thread = nil
                state.stacks.put(thread.stack, afterTrap: false)
            }
        }
        // Ends: the reaper retires every thread that trapped.
        while true {
            let seen = burials.value
            if state.withLock({ $0.unburied }) == 0 { break }
            burials.blockingWait(while: seen)
        }
        TrapReaper.shared.release()
        state.withLock { $0.stacks.unmapAll() }
    }

    // MARK: TrapOwner

    func inherit(from predecessor: UnsafeMutablePointer<crt_thread>, by heir: WorkerThread) {
        guard takeOver(from: predecessor, heir) else { return }
        serve(heir)
    }

    @inline(never)
    private func takeOver(from predecessor: UnsafeMutablePointer<crt_thread>, _ heir: WorkerThread) -> Bool {
        guard let trap = TrapReaper.shared.examine(predecessor, by: heir) else { return false }
        state.withLock { state in
            state.thread = heir
            state.unburied += 1
        }
        heir.setHeir(makeThread())
        afterTrap(heir) { trap.tell() }
        // What a report says must not come at a time that depends on another thread.
        trap.culprit.proc.lastExit?.trapReport?.resolve(withFrames: true)
        TrapReaper.shared.leave(trap.thread)
        crt_wakeReaper()
        return true
    }

    /// Of a thread without an heir; this one always has one while it runs something.
    func replace(_ thread: WorkerThread) {
        preconditionFailure("impossible: the seeded executor's thread has an heir before it runs anything")
    }

    func retire(_ thread: WorkerThread) {
        state.withLock { state in
            state.stacks.put(thread.stack, afterTrap: true)
            state.unburied -= 1
        }
        burials.increment()
        burials.wake(.max)
    }

    // MARK: Jobs of no process

    var taskExecutor: UnownedTaskExecutor { asUnownedTaskExecutor() }

    func enqueue(_ job: consuming ExecutorJob) {
        preconditionFailure("impossible: only jobs of processes are queued on a seeded executor")
    }
}
