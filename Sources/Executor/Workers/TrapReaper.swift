// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CLightProc
import Glibc
import LightProc

/// The thread that looks at traps: decides, replaces the worker, tells the process, and sees the old thread off.
///
/// One for the whole program, because signals are. It runs while at least one pool does.
final class TrapReaper: Sendable {
    static let shared = TrapReaper()

    private struct Shared {
        var users = 0
        var thread: PlainThread?
        var contained = 0
        var stop: Stop?
    }
    private let shared = Locked(Shared())
    /// One per loop: a reaper that is to end ends, also when the next has begun.
    private final class Stop: Sendable {
        let word = FutexWord()
    }

    private init() {}

    /// Traps contained since the program started.
    var containedCount: Int { shared.withLock { $0.contained } }

    func retain() {
        shared.withLock { shared in
            shared.users += 1
            guard shared.users == 1 else { return }
            let stop = Stop()
            shared.stop = stop
            let ready = BlockingGate()
            shared.thread = PlainThread(name: "bastion-reaper") { [self] in loop(ready, stop) }
            // The handler is in place before anything runs that may trap.
            ready.blockingWait()
        }
    }

    func release() {
        let thread = shared.withLock { shared -> PlainThread? in
            shared.users -= 1
            guard shared.users == 0 else { return nil }
            shared.stop?.word.set(1)
            return shared.thread.take()
        }
        guard let thread else { return }
        crt_wakeReaper()
        thread.join()
    }

    private func loop(_ ready: BlockingGate, _ stop: Stop) {
        let containment = TrapContainment()
        ready.open()
        // Every pool has joined its workers before it releases the reaper, so no trap can be pending at the end.
        while stop.word.value == 0 {
            var pending = crt_awaitTraps()
            while let record = pending {
                // Read before the verdict: with it the record may go away.
                pending = record.pointee.nextTrapped
                handle(record, containment, &pending)
            }
        }
    }

    /// Looks at the traps that are waiting for what the runtime said about this one.
    ///
    /// Its words may be in the hands of another thread's handler. That one was on the list of trapped threads before it
    /// took them, so it is found here.
    private func shareMessages(
        _ containment: TrapContainment,
        _ pending: inout UnsafeMutablePointer<crt_thread>?
    ) {
        var more = crt_takeTraps()
        while let next = more {
            more = next.pointee.nextTrapped
            next.pointee.nextTrapped = pending
            pending = next
        }
        var other = pending
        while let next = other {
            containment.shareMessages(of: next)
            other = next.pointee.nextTrapped
        }
    }

    private func handle(
        _ record: UnsafeMutablePointer<crt_thread>,
        _ containment: TrapContainment,
        _ pending: inout UnsafeMutablePointer<crt_thread>?
    ) {
        switch containment.verdict(on: record) {
        case .escalate(let why):
            complain(why)
            crt_deliverVerdict(record, UInt32(crt_verdictEscalate))
        case .contain(let culprit, let evidence):
            // safety: a worker thread keeps itself alive until it is joined, below.
            let thread = Unmanaged<WorkerThread>.fromOpaque(record.pointee.owner).takeUnretainedValue()
            let owner = thread.owner
            owner.replace(thread)
            thread.markTrapped()
            if record.pointee.trap.message == nil { shareMessages(containment, &pending) }
            let report = containment.report(evidence, of: culprit, on: record)
            shared.withLock { $0.contained += 1 }
            let running = thread.takeRunning()
            let guest = ProcTaskExecutor.guest(of: record)
            let isOwnJob = running?.isJob(of: culprit.executor) ?? false || guest != nil && guest === culprit.executor
            culprit.proc.trapped(
                report,
                in: culprit.executor,
                isOwnJob: isOwnJob,
                task: culprit.executor == nil ? nil : record.pointee.trap.task
            )
            if case .proc(let host) = running {
                // After the culprit, who is to end with the trap itself and not with its consequence.
                host._withUnsafeGuaranteedRef { $0.lostGuest(of: record, report, culprit: culprit.executor) }
            }
            letGo(of: running, culprit: culprit)
            crt_deliverVerdict(record, UInt32(crt_verdictContain))
            let stack = thread.stack
            thread.join()
            owner.retire(stack)
        }
    }

    /// Gives up the dead thread's hold on what it was running.
    ///
    /// That may be a job of another process than the one that trapped: inside an actor that both share, the thread was
    /// draining the other's work. Either way that job no longer runs, and is counted as returned.
    private func letGo(of running: WorkerThread.Running?, culprit: TrapContainment.Culprit) {
        switch running {
        case .proc(let proc):
            proc.release()
        case .job(let held):
            let executor = held.takeRetainedValue()
            if executor !== culprit.executor { executor.proc.jobReturned(executor.incarnation) }
        case nil:
            break
        }
    }

    private func complain(_ why: String) {
        let line = "bastion: this trap is not contained: \(why)\n"
        _ = line.withCString { write(STDERR_FILENO, $0, strlen($0)) }
    }
}

/// Counts of the whole program.
public enum ContainmentStatistics {
    /// Traps contained since the program started, in all systems.
    public static var contained: Int { TrapReaper.shared.containedCount }
}
