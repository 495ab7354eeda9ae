// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CLightProc
import Glibc
import LightProc

/// Decides about threads that trapped, and sees them off.
///
/// A worker has an heir, a thread that sleeps on the same PU: when the worker traps, its heir decides about the trap and
/// goes on in its place, without another thread having to wake up. The dead thread is then buried by the reaper's thread.
/// That thread also decides itself about traps of threads that have no heir: those of the blocking pool, and workers that
/// trapped before a new heir was there.
///
/// One for the whole program, because signals are. Its thread runs while at least one pool does; the last one takes the
/// ``ReportThread`` with it, which looks up symbols and tells observers.
final class TrapReaper: Sendable {
    static let shared = TrapReaper()

    private struct Shared {
        var users = 0
        var thread: PlainThread?
        var stop: Stop?
    }
    private let shared = Locked(Shared())
    /// Threads that trapped and were succeeded; their verdict is held.
    private let corpses = Locked<[WorkerThread]>([])

    /// One per loop: a reaper that is to end ends, also when the next has begun.
    private final class Stop: Sendable {
        let word = FutexWord()
    }

    private init() {}

    func retain() {
        // The handler is in place before anything runs that may trap.
        _ = TrapContainment.shared
        shared.withLock { shared in
            shared.users += 1
            guard shared.users == 1 else { return }
            let stop = Stop()
            shared.stop = stop
            shared.thread = PlainThread(name: "bastion-reaper") { [self] in reap(stop) }
        }
    }

    func release() {
        let thread = shared.withLock { shared -> PlainThread? in
            shared.users -= 1
            guard shared.users == 0 else { return nil }
            shared.stop?.word.set(1)
            defer { shared.thread = nil }
            return shared.thread
        }
        guard let thread else { return }
        crt_wakeReaper()
        thread.join()
        ReportThread.shared.blockingWaitForEnd()
    }

    private func reap(_ stop: Stop) {
        // Every pool has joined its workers before it releases the reaper, so nothing can be pending at the end.
        while true {
            // Read before the looks, so that no call is slept through.
            let seen = crt_reaperCalls()
            if stop.word.value != 0 { return }
            var pending = crt_takeTraps()
            while let record = pending {
                // Read before the verdict: with it the record may go away.
                pending = record.pointee.nextTrapped
                decide(record)
            }
            // Ends: what is added meanwhile wakes this thread again, or is taken here.
            while let corpse = corpses.withLock({ $0.popLast() }) { bury(corpse) }
            crt_awaitReaperCall(seen)
        }
    }

    /// Decides about a thread without an heir.
    private func decide(_ record: UnsafeMutablePointer<crt_thread>) {
        guard let trap = examine(record) else { return }
        // Told first: the successor finds that there is something to do, also while the pool is stopping.
        trap.tell()
        trap.thread.owner.replace(trap.thread)
        bury(trap.thread)
    }

    /// Looks at a trap. Nil if it is not contained: then the thread has been told, and the program ends, unless a handler that was
    /// there before ours knows what to do: for that case an heir goes back to its place first.
    ///
    /// Any thread; does not allocate before it is known that the parked thread holds no lock of the allocator.
    func examine(_ record: UnsafeMutablePointer<crt_thread>, by heir: WorkerThread? = nil) -> ContainedTrap? {
        switch TrapContainment.shared.verdict(on: record) {
        case .escalate(let why, let byDecider):
            crt_trapReported()
            complain(why)
            if byDecider { crt_endProgram(record) }
            heir?.waitAgain(for: record)
            crt_deliverVerdict(record, UInt32(crt_verdictEscalate))
            return nil
        case .contain(let culprit, let evidence):
            guard crt_deliverVerdict(record, UInt32(crt_verdictHeld)) else {
                crt_trapReported()
                return nil
            }
            // safety: a worker thread keeps itself alive until it is joined, in `bury`.
            let thread = Unmanaged<WorkerThread>.fromOpaque(record.pointee.owner).takeUnretainedValue()
            thread.releaseStandardStreams()
            return ContainedTrap(thread: thread, culprit: culprit, evidence: evidence)
        }
    }

    /// Leaves a thread whose place was taken to the reaper, which buries it when it is woken next. Any thread.
    func leave(_ thread: WorkerThread) { corpses.withLock { $0.append(thread) } }

    /// Lets a thread end that trapped, and gives back what it used. On the reaper's thread.
    private func bury(_ thread: WorkerThread) {
        ReportThread.shared.wake()
        thread.markTrapped()
        crt_deliverVerdict(thread.record, UInt32(crt_verdictContain))
        let owner = thread.owner
        thread.join()
        owner.retire(thread)
    }

    private func complain(_ why: StaticString) {
        Self.write("bastion: this trap is not contained: ")
        Self.write(why)
        Self.write("\n")
    }

    /// Without allocating: the thread that trapped may hold the allocator's lock.
    private static func write(_ text: StaticString) {
        // What cannot be written to stderr cannot be told otherwise either.
        _ = Glibc.write(STDERR_FILENO, text.utf8Start, text.utf8CodeUnitCount)
    }
}

/// A trap that is contained, of a thread that is parked.
struct ContainedTrap {
    let thread: WorkerThread
    let culprit: TrapContainment.Culprit
    let evidence: TrapContainment.Evidence

    /// Tells the process, and gives up the thread's hold on what it was running.
    ///
    /// That may be a job of another process than the one that trapped: inside an actor that both share, the thread was
    /// draining the other's work. Either way that job no longer runs, and is counted as returned.
    func tell() {
        let report = TrapContainment.shared.report(evidence, of: culprit, on: thread.record)
        let running = thread.takeRunning()
        let guest = ProcTaskExecutor.guest(of: thread.record)
        let isOwnJob = running?.isJob(of: culprit.executor) ?? false || guest != nil && guest === culprit.executor
        culprit.proc.trapped(
            report,
            in: culprit.executor,
            isOwnJob: isOwnJob,
            task: culprit.executor == nil ? nil : thread.record.pointee.trap.task
        )
        if case .proc(let host) = running {
            // After the culprit, who is to end with the trap itself and not with its consequence.
            host._withUnsafeGuaranteedRef { $0.lostGuest(of: thread.record, report, culprit: culprit.executor) }
        }
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
}
