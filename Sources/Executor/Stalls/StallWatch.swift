// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CLightProc
import Glibc
import LightProc
import Synchronization

/// The thread that finds workers that are stuck in one turn: has others that sleep do what waits behind it, and later has
/// somebody stand in for them.
///
/// Looks at all workers every half threshold while all are awake, every half millisecond while some are and others sleep, and
/// sleeps on a futex while all do. A look reads two words a worker. Of a worker that is stuck it takes a sample: the thread is interrupted by a signal, whose handler hands over
/// what would have run next and waits while its stack is walked, some microseconds.
final class StallWatch: Sendable {
    /// The pool, as far as the watch is concerned.
    protocol Workplace: AnyObject, Sendable {
        /// By worker; nil where no thread sits.
        var seatedThreads: [WorkerThread?] { get }
        func look(at worker: Int, _ thread: WorkerThread?) -> StallDetector.Look
        /// Whether all threads on seats sleep.
        var isAtRest: Bool { get }
        /// Whether a worker seems to have something that it would run next.
        func hasNext(_ worker: Int) -> Bool
        /// Joins the threads of those that stood in for others and have left.
        func reapStandIns()
        /// Has another worker stand in for a stuck one, if there is one left.
        func standIn(for worker: Int)
        /// The worker got on: who stood in for it goes.
        func takeBack(_ worker: Int)
        /// What a stuck worker would have run next, and all that waits behind it, is to be run by others.
        func rescue(_ item: RunItem?, from worker: Int)
        func tell(_ report: StallReport)
        /// Whether a worker sleeps that could do what waits behind others' long turns.
        var hasHelpers: Bool { get }
        /// The worker is in one turn for so long: what it would have run next, and what waits behind that, is for the others,
        /// too.
        func offer(_ item: RunItem?, from worker: Int, after nanoseconds: UInt64)
    }

    /// A turn that takes longer keeps what waits behind it from workers that sleep.
    static let longTurn = Duration.microseconds(500)

    private let threshold: Duration
    private let isStopping = Atomic<Bool>(false)
    /// 1 while the watch sleeps because all workers do.
    private let asleep = FutexWord()
    /// What the watch waits at for its next look; 1: it is to stop; 2: for a long time, as nobody sleeps.
    private let pause = FutexWord()
    private let thread = Locked<PlainThread?>(nil)

    /// - Parameter threshold: After which time a worker is stuck.
    init(threshold: Duration) { self.threshold = threshold * Int(crt_patience()) }

    func start(_ workplace: any Workplace, workers: Int) {
        Self.installHandler
        isStopping.store(false, ordering: .sequentiallyConsistent)
        thread.withLock { $0 = PlainThread(name: "bastion-watch") { [self] in loop(workplace, workers) } }
    }

    func stop() {
        isStopping.store(true, ordering: .sequentiallyConsistent)
        pause.set(1)
        pause.wake()
        stir()
        thread.withLock { running in
            defer { running = nil }
            return running
        }?.join()
        pause.set(0)
    }

    /// A worker has woken up. Costs a load unless the watch sleeps.
    @inline(__always)
    func stir() {
        // The worker is counted as awake before this look, and the watch looks at the count after it has lain down: one of
        // the two sees the other (Dekker).
        if asleep.value == 1, asleep.exchange(0) == 1 { asleep.wake() }
    }

    private static let installHandler: Void = {
        let status = crt_installSampleHandler()
        // sigaction fails only for a bad signal number or address: neither can occur here.
        precondition(status == 0, "sigaction failed with errno \(status)")
    }()

    /// A worker is about to sleep while others go on: it could help them. Costs a load unless the watch pauses.
    @inline(__always)
    func stirHelp() {
        if pause.value == 2, pause.compareExchange(2, 0) { pause.wake() }
    }

    private func loop(_ workplace: any Workplace, _ workers: Int) {
        let patience = UInt64(crt_patience())
        var detector = StallDetector(workers: workers, threshold: UInt64(threshold.inNanoseconds))
        let longTurn = UInt64(Self.longTurn.inNanoseconds)
        var longTurns = StallDetector(workers: workers, threshold: longTurn * patience)
        var stallsSeenAt: UInt64 = 0
        var restingLooks = 0
        let sampler = StackSampler()
        /// Who was stuck in what, to be named when it is over.
        var reports: [Int: StallReport] = [:]
        while true {
            if isStopping.load(ordering: .sequentiallyConsistent) { return }
            restingLooks = workplace.isAtRest && !detector.hasStalled ? restingLooks + 1 : 0
            if restingLooks > Self.looksBeforeSleep {
                sleep(workplace)
                restingLooks = 0
            }
            workplace.reapStandIns()
            let threads = workplace.seatedThreads
            let looks = threads.enumerated().map { workplace.look(at: $0.offset, $0.element) }
            let now = MonotonicClock.nanoseconds
            if workplace.hasHelpers {
                for finding in longTurns.look(at: looks, now: now) { offer(finding, threads, sampler, workplace) }
            }
            if now &- stallsSeenAt >= UInt64((threshold / 2).inNanoseconds) {
                stallsSeenAt = now
                for finding in detector.look(at: looks, now: now) {
                    handle(finding, threads, sampler, &reports, workplace)
                }
            }
            pause(workplace, mayRest: restingLooks > 0)
        }
    }

    /// So many looks at a pool at rest come before the watch sleeps: who works for moments only need not wake it each time.
    private static let looksBeforeSleep = 4

    private func sleep(_ workplace: any Workplace) {
        asleep.set(1)
        // Lain down first, then the last look: see `stir`.
        if workplace.isAtRest, !isStopping.load(ordering: .sequentiallyConsistent) {
            // Ends: the first worker that wakes, and `stop`, change the word.
            while asleep.value == 1 { asleep.blockingWait(while: 1) }
        }
        asleep.set(0)
    }

    private func pause(_ workplace: any Workplace, mayRest: Bool) {
        let soon = Self.longTurn * Int(crt_patience())
        if mayRest || workplace.hasHelpers { return pause.blockingWait(while: 0, timeout: soon) }
        // The word first, then the look: see `stirHelp`.
        guard pause.compareExchange(0, 2) else { return }
        if !workplace.hasHelpers { pause.blockingWait(while: 2, timeout: threshold / 2) }
        _ = pause.compareExchange(2, 0)
    }

    /// Gives what waits behind a long turn to workers that sleep.
    private func offer(
        _ finding: StallDetector.Finding,
        _ threads: [WorkerThread?],
        _ sampler: StackSampler,
        _ workplace: any Workplace
    ) {
        switch finding {
        case .stalled(let worker, let time), .stillStalled(let worker, let time):
            let next = takeNext(of: worker, threads[worker], sampler, workplace)
            workplace.offer(next, from: worker, after: time)
        case .recovered: break
        }
    }

    /// What a worker that is in a long turn would run next, if there is anything.
    private func takeNext(
        of worker: Int,
        _ thread: WorkerThread?,
        _ sampler: StackSampler,
        _ workplace: any Workplace
    ) -> RunItem? {
        workplace.hasNext(worker) ? thread.flatMap { sampler.rescue(from: $0) } : nil
    }

    private func handle(
        _ finding: StallDetector.Finding,
        _ threads: [WorkerThread?],
        _ sampler: StackSampler,
        _ reports: inout [Int: StallReport],
        _ workplace: any Workplace
    ) {
        switch finding {
        case .stalled(let worker, let time):
            let sample = threads[worker].flatMap { sampler.sample($0) }
            workplace.rescue(sample?.rescued, from: worker)
            workplace.standIn(for: worker)
            let report = StallReport(
                stage: .stuck,
                worker: worker,
                process: sample?.proc?.id,
                name: sample?.proc?.name,
                path: sample?.proc?.path,
                messageType: sample?.messageType ?? sample?.proc?.messageTypeName,
                duration: .nanoseconds(Int64(time)),
                backtrace: sample?.frames ?? []
            )
            reports[worker] = report
            workplace.tell(report)
        case .stillStalled(let worker, _):
            // It may have made something ready since, which nobody else could take, or may not look for.
            let next = takeNext(of: worker, threads[worker], sampler, workplace)
            workplace.rescue(next, from: worker)
        case .recovered(let worker, let time):
            workplace.takeBack(worker)
            guard let report = reports.removeValue(forKey: worker) else { return }
            workplace.tell(report.recovered(after: .nanoseconds(Int64(time))))
        }
    }
}

extension StallReport {
    fileprivate func recovered(after duration: Duration) -> StallReport {
        StallReport(
            stage: .recovered,
            worker: worker,
            process: process,
            name: name,
            path: path,
            messageType: messageType,
            duration: duration,
            backtrace: backtrace
        )
    }
}

/// Looks into threads that run on. By one thread at a time; several samplers may look at the same thread.
final class StackSampler {
    struct Sample {
        var proc: LightProc?
        /// Which type the message in hand really has, of a process that takes messages of any type.
        var messageType: String?
        var frames: [UInt]
        var rescued: RunItem?
    }

    private let cache = FrameRowCache()
    /// Filled while the thread is interrupted, which may hold the allocator's lock: it must not grow then.
    private let frames = UnsafeMutableBufferPointer<UInt>.allocate(capacity: 64)

    deinit { frames.deallocate() }

    /// Interrupts a thread for some microseconds. Nil if it does not react: it is gone, or blocks the signal.
    func sample(_ thread: WorkerThread) -> Sample? { thread.sampling.withLock { _ in take(of: thread) } }

    private func take(of thread: WorkerThread) -> Sample? {
        let record = thread.record
        guard crt_requestSample(record), crt_awaitSample(record, 100) else { return nil }
        var proc: LightProc?
        var messageType: Any.Type?
        var count = 0
        // As long as it takes for the retain, so that the process is still there; it takes no lock.
        if crt_holdSample(record, true) {
            // safety: the thread runs the process, which it holds, and waits.
            proc = record.pointee.sample.process.map { Unmanaged<LightProc>.fromOpaque($0).takeUnretainedValue() }
            messageType = proc?.actualMessageType(on: record)
            if crt_holdSample(record, false) {
                count = walk(record)
                // It went on meanwhile: what was seen is of different moments.
                if !crt_releaseSample(record) { count = 0 }
            }
        }
        letGoOfKept(record)
        let rescued = crt_takeRescued(record)
        return Sample(
            proc: proc,
            messageType: messageType.map { "\($0)" },
            frames: Array(frames[..<count]),
            rescued: rescued == 0 ? nil : RunItem(bits: rescued)
        )
    }

    /// Takes what a thread would run next. Nil also if it does not react.
    func rescue(from thread: WorkerThread) -> RunItem? {
        let record = thread.record
        return thread.sampling.withLock { _ in
            guard crt_requestSample(record), crt_awaitSample(record, 10) else { return nil }
            _ = crt_releaseSample(record)
            letGoOfKept(record)
            let rescued = crt_takeRescued(record)
            return rescued == 0 ? nil : RunItem(bits: rescued)
        }
    }

    /// Of the process that the thread had run last.
    private func letGoOfKept(_ record: UnsafeMutablePointer<crt_thread>) {
        let kept = crt_takeUnkept(record)
        if kept != 0 { WorkerThread.letGo(of: kept) }
    }

    /// Neither allocates nor waits.
    private func walk(_ record: UnsafeMutablePointer<crt_thread>) -> Int {
        // safety: the array in the record is `crt_registerCount` words long, in DWARF order.
        let registers = RegisterFile(dwarfOrder: crt_sampledRegisters(record))
        var walker = StackWalker(
            registers: registers,
            stack: record.pointee.stackLow..<record.pointee.stackHigh,
            cache: cache,
            frameLimit: frames.count
        )
        var count = 0
        // Ends: the walker gives at most as many frames as it was allowed.
        while count < frames.count, let frame = walker.next() {
            frames[count] = frame.lookupAddress
            count += 1
        }
        return count
    }
}
