// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CLightProc
import LightProc
import Synchronization

/// A wheel with its lock: the timers of one worker, or some of those that are set on other threads.
///
/// `next` says without the lock when there is something to do; it is never later than the first deadline, but while somebody
/// fires: then it says that there is nothing to do, and is set anew at the end. So one thread fires at a time, and
/// actions are called in the order of their deadlines.
final class TimerShard: TimerHost, @unchecked Sendable {
    // Sendable: the words are atomic and stay where they are; the rest is under the lock.

    /// What is called. In a struct: a function as a generic argument would be wrapped once more.
    struct Action {
        let call: @Sendable () -> Void
    }

    private struct Content: ~Copyable {
        var wheel = TimerWheel<Action>()
        var isFiring = false
    }

    /// On cache lines of their own: the owner writes here at each timer, the keeper and others read.
    private struct Words: ~Copyable {
        let next = Atomic<UInt>(.max)
        let tally = TimerTally()
    }

    /// Whose worker's timers these are; nil: those of other threads, which the keeper fires.
    let worker: Int?
    private let content = Locked(Content(), onOwnCacheLines: true)
    private let words: UnsafeMutablePointer<Words>
    private let watch: TimerWatch

    /// So long the keeper leaves it to the worker to fire, after the deadline: a turn that takes longer is a long one.
    static let grace: UInt = 2_000_000

    init(worker: Int?, watch: TimerWatch) {
        self.worker = worker
        self.watch = watch
        words = UnsafeMutableRawPointer.allocate(byteCount: 128, alignment: 128).bindMemory(to: Words.self, capacity: 1)
        words.initialize(to: Words())
    }

    deinit {
        words.deinitialize(count: 1)
        UnsafeMutableRawPointer(words).deallocate()
    }

    /// When there is something to do, in nanoseconds of the monotonic clock; `UInt.max`: nothing.
    @inline(__always)
    var next: UInt {
        // ordering: sequentiallyConsistent: see `TimerAlarm`.
        words.pointee.next.load(ordering: .sequentiallyConsistent)
    }

    /// Whether there may be something to do some time. By the owner, for whom it is up to date.
    @inline(__always)
    var hasSome: Bool { words.pointee.next.known != .max }

    /// When the keeper has to see to it.
    var keepersTime: UInt {
        let next = self.next
        return next == .max || worker == nil ? next : next &+ Self.grace
    }

    var counters: TimerCounters { words.pointee.tally.counters(of: worker) }

    /// Adds a timer. A worker's only by the worker itself; others by any thread.
    func insert(after duration: Duration, _ action: @escaping @Sendable () -> Void) -> TimerToken {
        let now = MonotonicClock.nanoseconds
        let deadline = now &+ min(duration.timerDelay, UInt64(Int64.max) - now)
        let (handle, isFirst) = content.withLock { content in
            content.wheel.advance(to: now)
            let handle = content.wheel.insert(Action(call: action), at: deadline)
            words.pointee.tally.inserted.count()
            // Whoever fires sets it when done.
            let isFirst = !content.isFiring && UInt(deadline) < words.pointee.next.known
            if isFirst { words.pointee.next.store(UInt(deadline), ordering: .sequentiallyConsistent) }
            return (handle, isFirst)
        }
        if isFirst { watch.look(self) }
        return TimerToken(self, handle.bits)
    }

    func cancelTimer(_ handle: UInt64) {
        // Released outside the lock: what the action holds may be anything.
        let action = content.withLock { content -> Action? in
            let action = content.wheel.cancel(TimerHandle(bits: handle))
            if action != nil {
                words.pointee.tally.cancelled.count()
                // Nothing is left: nobody needs to wake up for nothing.
                if content.wheel.count == 0 { words.pointee.next.store(.max, ordering: .sequentiallyConsistent) }
            }
            return action
        }
        withExtendedLifetime(action) {}
    }

    /// Calls what is due, in order; at most as many as `limit`. By the owner between two turns, or by the keeper.
    ///
    /// - Returns: False if somebody else fires at this moment.
    @discardableResult
    func fire(limit: Int, byKeeper: Bool = false) -> Bool {
        var left = limit
        // Ends: each round calls one, or is the last.
        while true {
            let now = MonotonicClock.nanoseconds
            let step = content.withLock { content -> Step in
                if left == limit {
                    if content.isFiring { return .busy }
                    content.isFiring = true
                    words.pointee.next.store(.max, ordering: .sequentiallyConsistent)
                }
                if left > 0, !watch.isStopped, let due = content.wheel.popDue(at: now) {
                    words.pointee.tally.noteFired(late: now - due.deadline, byKeeper: byKeeper && worker != nil)
                    return .call(due.payload)
                }
                content.isFiring = false
                let next = content.wheel.nextExpiry.map { UInt($0) } ?? .max
                words.pointee.next.store(next, ordering: .sequentiallyConsistent)
                return .done
            }
            switch step {
            case .busy: return false
            case .call(let action): action.call()
            case .done:
                watch.look(self)
                return true
            }
            left -= 1
        }
    }

    private enum Step {
        case call(Action)
        case busy
        case done
    }

    /// Forgets all timers; they are never called.
    func removeAll() {
        let actions = content.withLock { content in
            words.pointee.next.store(.max, ordering: .sequentiallyConsistent)
            return content.wheel.removeAll()
        }
        withExtendedLifetime(actions) {}
    }
}

/// What shards and keeper share.
final class TimerWatch: Sendable {
    let alarm = TimerAlarm()
    /// Whether no timer is to fire.
    private let stopped = Atomic<Bool>(true)
    /// Counts reasons for the keeper to look; the futex it sleeps on.
    let changes = FutexWord()

    var isStopped: Bool {
        get { stopped.load(ordering: .sequentiallyConsistent) }
        set { stopped.store(newValue, ordering: .sequentiallyConsistent) }
    }

    /// The first deadline of a shard has changed. Wakes the keeper if it would sleep past it.
    @inline(__always)
    func look(_ shard: TimerShard) {
        let time = shard.keepersTime
        if time != .max, alarm.mustWake(for: time) { wakeKeeper() }
    }

    @inline(never)
    func wakeKeeper() {
        changes.increment()
        changes.wake()
    }
}
