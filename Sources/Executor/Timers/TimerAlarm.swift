// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

#if !MODEL_CHECKING
import LightProc
import Synchronization
#endif

/// Until when the keeper of the timers sleeps: the protocol by which no timer is slept through.
///
/// - Whoever sets a timer first stores when it is due (`TimerShard.next`), then looks at the alarm, and if that is later
///   sets it forward and wakes the keeper. Of several at a time only those that set it forward do.
/// - The keeper first sets the alarm to the earliest of what is due, then looks at all once more, and sleeps only if none is
///   earlier.
///
/// Whatever the interleaving, one of the two sees the other (Dekker). What the keeper overwrites by setting the alarm back was
/// set by somebody who had stored his timer before, so the second look finds it.
struct TimerAlarm: ~Copyable {
    private let time = AtomicWord(.max)

    init() {}

    // ordering: sequentiallyConsistent everywhere in this file: see above.

    /// A timer was set that the keeper has to look after from this moment on. True if it must be woken.
    @inline(__always)
    func mustWake(for moment: UInt) -> Bool {
        moment < time.load(ordering: .sequentiallyConsistent) && setForward(to: moment)
    }

    @inline(never)
    private func setForward(to moment: UInt) -> Bool {
        // ordering: relaxed: only a first guess; the exchange below decides.
        var seen = time.load(ordering: .relaxed)
        // A retry means that another thread's exchange succeeded: the system as a whole made progress.
        while moment < seen {
            let (done, original) = time.weakCompareExchange(
                expected: seen,
                desired: moment,
                successOrdering: .sequentiallyConsistent,
                failureOrdering: .sequentiallyConsistent
            )
            if done { return true }
            seen = original
        }
        return false
    }

    /// Sets the alarm. Returns until when to sleep; nil if something earlier has come meanwhile. By the keeper.
    ///
    /// - Parameter earliest: Looks at all timers; called twice.
    func set(_ earliest: () -> UInt) -> UInt? {
        let moment = earliest()
        time.store(moment, ordering: .sequentiallyConsistent)
        return earliest() < moment ? nil : moment
    }
}
