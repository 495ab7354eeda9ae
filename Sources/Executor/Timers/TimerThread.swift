// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import LightProc

/// The thread that calls what is due. Sleeps on a futex until the next deadline; at idle it does not run at all.
final class TimerThread: Sendable {
    private struct Shared {
        var timers = TimerQueue<@Sendable () -> Void>()
        /// The deadline the thread sleeps towards; nil: it sleeps until woken. It may belong to a timer that was
        /// cancelled: then the thread wakes once for nothing, which is cheaper than waking it at every cancellation.
        var armed: Duration?
        var isStopping = false
    }
    private let shared = Locked(Shared())
    /// Counts changes of the first deadline; the futex the thread sleeps on.
    private let changes = FutexWord()
    private let thread = Locked<PlainThread?>(nil)

    init() {}

    func start() {
        shared.withLock { $0.isStopping = false }
        thread.withLock { $0 = PlainThread(name: "bastion-timer") { [self] in loop() } }
    }

    /// Ends the thread and waits for it. Timers that are left are never called.
    func stop() {
        shared.withLock { $0.isStopping = true }
        wake()
        thread.withLock { running in
            defer { running = nil }
            return running
        }?.join()
    }

    func schedule(at deadline: Duration, _ action: @escaping @Sendable () -> Void) -> TimerToken {
        let (id, isEarlier) = shared.withLock { shared in
            (shared.timers.insert(action, at: deadline), shared.armed.map { deadline < $0 } ?? true)
        }
        if isEarlier { wake() }
        return TimerToken { [weak self] in _ = self?.shared.withLock { $0.timers.remove(id) } }
    }

    private func wake() {
        changes.increment()
        changes.wake()
    }

    private func loop() {
        while true {
            // Read before the timers are looked at, so that no change is slept through.
            let seen = changes.value
            let now = MonotonicClock.now
            let (due, next, isStopping) = shared.withLock { shared in
                let due = shared.timers.popDue(at: now)
                shared.armed = due == nil ? shared.timers.nextDeadline : now
                return (due, shared.timers.nextDeadline, shared.isStopping)
            }
            if isStopping { return }
            if let due {
                due()
                continue
            }
            changes.blockingWait(while: seen, timeout: next.map { $0 - now })
        }
    }
}

/// The machine's monotonic time.
package enum MonotonicClock {
    /// Time since some fixed moment before the program started.
    package static var now: Duration {
        var time = timespec()
        // Fails only for an unknown clock or a bad address; neither can occur.
        clock_gettime(CLOCK_MONOTONIC, &time)
        return .seconds(time.tv_sec) + .nanoseconds(time.tv_nsec)
    }
}

extension Duration {
    /// Whole nanoseconds, saturating.
    package var inNanoseconds: Int64 {
        let (seconds, attoseconds) = components
        let (product, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
        if overflow { return seconds < 0 ? .min : .max }
        let (sum, carry) = product.addingReportingOverflow(attoseconds / 1_000_000_000)
        return carry ? .max : sum
    }
}
