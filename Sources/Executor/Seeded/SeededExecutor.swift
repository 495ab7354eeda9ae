// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CLightProc
import Glibc
public import LightProc

/// An executor for tests: one thread, the caller's; the order drawn from a seed; time that passes only when told to.
///
/// Equal seeds and equal programs give equal runs, as long as nothing outside (another thread, real time) takes part.
/// Nothing runs by itself: `drain()` runs what is ready, `advance(by:)` lets time pass. Traps are not contained here.
public final class SeededExecutor: ProcExecutor {
    /// What the order of this run is drawn from; print it with a failure, to have the run again.
    public let seed: UInt64

    private struct State {
        var ready: [RunItem] = []
        var random: SplitMix64
        var timers = TimerQueue<@Sendable () -> Void>()
        var now = Duration.zero
        var steps = 0
    }
    private let state: Locked<State>

    /// Creates an executor at time zero with nothing to run.
    public init(seed: UInt64) {
        self.seed = seed
        state = Locked(State(random: SplitMix64(seed: seed)))
    }

    /// Virtual time since the executor was made.
    public var now: Duration { state.withLock { $0.now } }

    /// How many activations and jobs were run.
    public var steps: Int { state.withLock { $0.steps } }

    /// This executor itself: blocking work runs on the caller's thread like everything else.
    public var blockingScheduler: any ProcScheduler { self }

    /// Adds a process to what is ready; it runs in a later `step()`.
    public func schedule(_ proc: LightProc) { state.withLock { $0.ready.append(RunItem(proc)) } }

    /// Adds a job of an async process to what is ready; it runs in a later `step()`.
    public func schedule(_ job: UnownedJob, of executor: ProcTaskExecutor) {
        state.withLock { $0.ready.append(RunItem(job, executor)) }
    }

    /// Calls `action` once, on the thread that advances virtual time past the duration.
    @discardableResult
    public func schedule(after duration: Duration, _ action: @escaping @Sendable () -> Void) -> TimerToken {
        let id = state.withLock { $0.timers.insert(action, at: $0.now + duration) }
        return TimerToken { [weak self] in _ = self?.state.withLock { $0.timers.remove(id) } }
    }

    /// Runs one of the ready items, drawn at random. False if none is ready.
    @discardableResult
    public func step() -> Bool {
        let item = state.withLock { state -> RunItem? in
            guard !state.ready.isEmpty else { return nil }
            state.steps += 1
            return state.ready.remove(at: Int(state.random.next() % UInt64(state.ready.count)))
        }
        guard let item else { return false }
        if run(item) { state.withLock { $0.ready.append(item) } }
        return true
    }

    private func run(_ item: RunItem) -> Bool {
        // The record says which process the thread runs; without stack bounds its traps are not contained.
        withUnsafeTemporaryAllocation(of: crt_thread.self, capacity: 1) { records in
            let record = records.baseAddress!
            // safety: all-zero bytes are a valid record.
            memset(record, 0, MemoryLayout<crt_thread>.size)
            let outer = crt_self()
            crt_setSelf(record)
            defer { crt_setSelf(outer) }
            switch item.content {
            case .proc(let proc):
                record.pointee.process = proc.toOpaque()
                if proc._withUnsafeGuaranteedRef({ $0.run() }) { return true }
                proc.release()
            case .job(let job, let executor):
                record.pointee.process = Unmanaged.passUnretained(executor.takeUnretainedValue().proc).toOpaque()
                executor.takeRetainedValue().run(job)
            case .plain, .global:
                preconditionFailure("impossible: only jobs of processes are queued here")
            }
            return false
        }
    }

    /// Runs what is ready, and what that makes ready, until nothing is. Time stands still.
    ///
    /// - Parameter limit: A run that needs more steps does not come to rest by itself: that is a failure.
    public func drain(limit: Int = 1_000_000) {
        var left = limit
        while step() {
            left -= 1
            precondition(left > 0, "seed \(seed): still not at rest after \(limit) steps")
        }
    }

    /// Runs an async closure as a process, with whatever else is ready, until it has ended. Time stands still.
    ///
    /// - Precondition: It ends without anything from outside: no time has to pass, no other thread has to act.
    public func run<Output: Sendable>(
        _ stack: ProcStack = ProcStack(),
        _ body: @escaping @Sendable () async throws -> Output
    ) -> RecoverableHandle<Output>.Outcome {
        let handle = spawn(stack, body)
        drain()
        precondition(
            handle.handle.proc.isClosed,
            "seed \(seed): the process waits for something; spawn it, then drain() and advance(by:) instead of run"
        )
        return handle.knownOutcome
    }

    /// Lets time pass: timers fire in order, and what each makes ready runs before the next.
    public func advance(by duration: Duration) {
        let end = now + duration
        drain()
        // Ends: each round fires one timer; those that timers set lie later, and `end` stays.
        while let action = state.withLock({ state -> (@Sendable () -> Void)? in
            guard let next = state.timers.nextDeadline, next <= end else { return nil }
            state.now = max(state.now, next)
            return state.timers.popDue(at: state.now)
        }) {
            action()
            drain()
        }
        state.withLock { $0.now = end }
    }
}

/// The generator by Steele, Lea and Flood (2014): small, fast, good enough to draw orders.
public struct SplitMix64: RandomNumberGenerator, Sendable {
    private var state: UInt64
    /// Creates a generator; equal seeds give equal sequences.
    public init(seed: UInt64) { state = seed }

    /// Returns the next 64 random bits.
    public mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
}
