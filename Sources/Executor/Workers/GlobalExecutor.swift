// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CLightProc
import Glibc
import LightProc
import Synchronization

/// Why a pool did not become the global executor of the program.
public enum GlobalExecutorError: Error, Sendable, Equatable, CustomStringConvertible {
    /// This runtime has no hooks for that.
    case unsupportedRuntime
    /// This pool, or another one, is the global executor already: there is one for the life of a program.
    case alreadyInstalled
    /// Something else in the program has set the hooks.
    case takenByOther

    /// One line that says what is wrong.
    public var description: String {
        switch self {
        case .unsupportedRuntime: "the Swift runtime of this program has no hooks for a global executor"
        case .alreadyInstalled: "a pool is the global executor of this program already"
        case .takenByOther: "something else in this program has replaced the global executor"
        }
    }
}

extension WorkerPool {
    /// Makes this pool the global executor of the program: what has no executor of its own runs on its workers.
    ///
    /// That is every `Task { }` and `Task.detached { }` that prefers no executor, their child tasks, default actors, and what
    /// `Task.sleep` wakes. The main actor stays on the main thread, and actors and tasks with executors of their own where
    /// they are. These tasks share the workers with processes, and count as ones of normal priority. They belong to no
    /// process: a trap in one ends the program.
    ///
    /// At any time, once, for the rest of the program: before the first task, or later, when jobs that are queued elsewhere
    /// still run there. The pool is never freed. While it is shut down, such tasks run where they would run without this;
    /// those that sleep move there when the shutdown begins. As tasks then run on workers, call ``shutdown(_:)`` from the main
    /// thread or one of your own. Sleeps count on the monotonic clock, which stands still while the machine is suspended.
    ///
    /// Costs nothing by itself. It uses the hooks of the runtime (`swift_task_enqueueGlobal_hook` and its siblings), as
    /// executor factories are not part of the public interface of this toolchain.
    ///
    /// - Throws: ``GlobalExecutorError``; then nothing has changed.
    public func installAsGlobalExecutor() throws(GlobalExecutorError) {
        try GlobalExecutor.shared.install(self)
    }

    /// Whether this pool is the global executor of the program.
    public var isGlobalExecutor: Bool { GlobalExecutor.shared.isInstalled(self) }
}

/// The place between the runtime's hooks and the pool that was installed, if one was.
///
/// *Open* means that the pool takes jobs. It is closed before the pool's workers are told to stop, when nobody is any more
/// between the look at that and the queue: so no job is left in the queue of a pool without workers.
final class GlobalExecutor: Sendable {
    static let shared = GlobalExecutor()

    private let installed = Locked<WorkerPool?>(nil)
    /// The pool that is open; 0: none.
    private let open = Atomic<UInt>(0)
    /// Threads, other than workers of the pool, that are about to queue something there.
    private let users = Atomic<Int>(0)
    private let delayed = Locked<[UInt: Delayed]>([:])

    private struct Delayed {
        let token: TimerToken
        let deadline: Duration
    }

    private init() {}

    func install(_ pool: WorkerPool) throws(GlobalExecutorError) {
        try installed.withLock { installed throws(GlobalExecutorError) in
            guard installed == nil else { throw .alreadyInstalled }
            let status = crt_installGlobalExecutor(
                crt_globalExecutor(
                    enqueue: { GlobalExecutor.shared.enqueue(UInt(bitPattern: $0)) },
                    enqueueAfter: { GlobalExecutor.shared.enqueue(UInt(bitPattern: $0), after: $1) }
                )
            )
            switch Int(status) {
            case Int(crt_globalUnsupported): throw .unsupportedRuntime
            case Int(crt_globalTaken): throw .takenByOther
            default: installed = pool
            }
        }
        pool.whileRunning { open(pool) }
    }

    func isInstalled(_ pool: WorkerPool) -> Bool { installed.withLock { $0 === pool } }

    /// The pool has workers from now on.
    func open(_ pool: WorkerPool) {
        guard isInstalled(pool) else { return }
        // ordering: sequentiallyConsistent: see `enqueue`.
        open.store(UInt(bitPattern: Unmanaged.passUnretained(pool).toOpaque()), ordering: .sequentiallyConsistent)
    }

    /// The pool is about to lose its workers: what comes, or wakes up, from now on runs elsewhere.
    func close(_ pool: WorkerPool) {
        guard isInstalled(pool) else { return }
        // ordering: sequentiallyConsistent: see `enqueue`.
        open.store(0, ordering: .sequentiallyConsistent)
        // Ends: each of them puts one job into a queue.
        while users.load(ordering: .sequentiallyConsistent) > 0 { sched_yield() }
        let sleepers = delayed.withLock { delayed in
            defer { delayed = [:] }
            return delayed
        }
        let now = MonotonicClock.now
        for (job, sleeper) in sleepers {
            sleeper.token.cancel()
            crt_enqueueGlobalAfter(
                UnsafeMutableRawPointer(bitPattern: job),
                UInt64(max(0, (sleeper.deadline - now).inNanoseconds))
            )
        }
    }

    /// Calls `body` with the pool, which does not lose its workers meanwhile. False if none is open.
    @inline(__always)
    private func withPool(_ body: (WorkerPool) -> Void) -> Bool {
        // ordering: acquiring: pairs with the store in `open`; publishes the pool.
        guard let pointer = UnsafeRawPointer(bitPattern: open.load(ordering: .acquiring)) else { return false }
        // safety: a pool that was installed is never freed.
        return Unmanaged<WorkerPool>.fromOpaque(pointer)._withUnsafeGuaranteedRef { pool in
            if pool.queues.withOwnWorker({ $0 != nil }) {
                // It looks at its queues again before it ends.
                body(pool)
                return true
            }
            // ordering: sequentiallyConsistent: counted before the second look; `close` stores before it looks at the
            // count. So one of the two sees the other.
            users.add(1, ordering: .sequentiallyConsistent)
            let isOpen = open.load(ordering: .sequentiallyConsistent) != 0
            if isOpen { body(pool) }
            users.subtract(1, ordering: .sequentiallyConsistent)
            return isOpen
        }
    }

    private func enqueue(_ job: UInt) -> Bool {
        withPool { pool in
            // safety: an unowned job is the pointer to it.
            pool.enqueue(global: unsafeBitCast(job, to: UnownedJob.self))
        }
    }

    private func enqueue(_ job: UInt, after nanoseconds: UInt64) -> Bool {
        withPool { pool in
            let delay = Duration.nanoseconds(Int64(clamping: nanoseconds))
            delayed.withLock { delayed in
                // Under the lock: it may fire at once, and then has to wait for being known.
                let token = pool.schedule(after: delay) { [self] in wake(job) }
                delayed[job] = Delayed(token: token, deadline: MonotonicClock.now + delay)
            }
        }
    }

    private func wake(_ job: UInt) {
        // Nil: the pool was closed, and the job sleeps elsewhere.
        guard delayed.withLock({ $0.removeValue(forKey: job) }) != nil else { return }
        crt_enqueueGlobal(UnsafeMutableRawPointer(bitPattern: job))
    }
}
