// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import Glibc
import LightProc
import Synchronization

/// A reactive process that does what its messages say.
struct Doer: ReactiveBody {
    struct Deed: Sendable {
        let act: @Sendable () -> Void
    }
    mutating func receive(_ message: consuming Deed, on proc: LightProc) { message.act() }
}

extension LightProc {
    static func doer(on pool: WorkerPool) -> LightProc { reactive(Doer(), on: pool) }

    func tell(_ act: @escaping @Sendable () -> Void) {
        let taken = push(MessageNode.make(Doer.Deed(act: act)))
        precondition(taken, "the process is closed")
    }
}

/// Counts up, and lets threads wait for it.
final class Signal: @unchecked Sendable {
    // Sendable: a semaphore.
    private let semaphore = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)
    init() { sem_init(semaphore, 0, 0) }
    deinit { semaphore.deallocate() }
    func send() { sem_post(semaphore) }
    func blockingWait(_ count: Int = 1) {
        for _ in 0..<count {
            // Ends: repeated only when a signal of the OS came in between.
            while sem_wait(semaphore) != 0 {}
        }
    }
}

/// Notes of many threads.
final class Notes<Note: Sendable>: @unchecked Sendable {
    // Sendable: under a lock.
    private let lock = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private var notes: [Note] = []
    init() { pthread_mutex_init(lock, nil) }

    func add(_ note: Note) {
        pthread_mutex_lock(lock)
        notes.append(note)
        pthread_mutex_unlock(lock)
    }

    func take() -> [Note] {
        pthread_mutex_lock(lock)
        defer { pthread_mutex_unlock(lock) }
        defer { notes = [] }
        return notes
    }
}

/// The workers of a pool, which can be held: each by a process that waits, and does on that worker what it is told.
final class Floor: Sendable {
    let pool: WorkerPool
    let seats: [Seat]

    init(_ pool: WorkerPool) {
        self.pool = pool
        seats = pool.placement.seats
    }

    /// The worker that runs the caller: that of the processing unit.
    func here() -> Seat? {
        let pu = ThreadPlacement.currentPU()
        return seats.first { $0.osPU == pu }
    }

    /// Who holds one worker.
    final class Holder: @unchecked Sendable {
        // Sendable: `deed` and `last` are handed over by the signals.
        let seat: Int
        private var deed: (@Sendable () -> Void)?
        private var last: (@Sendable () -> Void)?
        private let (order, done) = (Signal(), Signal())
        init(seat: Int) { self.seat = seat }

        fileprivate func blockingHold() {
            // Ends: whoever holds lets go.
            while true {
                order.blockingWait()
                guard let deed else { break }
                deed()
                self.deed = nil
                done.send()
            }
            let last = self.last
            self.last = nil
            done.send()
            last?()
        }

        /// Has the worker do something, inside of the process that holds it.
        func blockingDo(_ act: @escaping @Sendable () -> Void) {
            deed = act
            order.send()
            done.blockingWait()
        }

        /// - Parameter last: What the worker does before its turn ends, and so at once before what that makes ready. During a
        ///   long turn, which this one is, that may be given to workers that sleep: so most times, not always.
        func letGo(_ last: (@Sendable () -> Void)? = nil) {
            self.last = last
            order.send()
            done.blockingWait()
        }
    }

    /// Takes hold of every worker; by seat. A worker that is held runs nothing else, so each takes one.
    func blockingHoldAll() -> [Holder] {
        let (arrivals, arrived) = (Notes<Holder>(), Signal())
        for _ in seats {
            LightProc.doer(on: pool).tell { [self] in
                let holder = Holder(seat: here()?.index ?? -1)
                arrivals.add(holder)
                arrived.send()
                holder.blockingHold()
            }
        }
        arrived.blockingWait(seats.count)
        let holders = arrivals.take().sorted { $0.seat < $1.seat }
        precondition(holders.map(\.seat) == seats.map(\.index), "workers are not on their processing units")
        return holders
    }

    /// Takes hold of these workers alone, in their order; all others sleep when it returns.
    func blockingHold(_ seats: [Seat]) -> [Holder] {
        let held = Set(seats.map(\.index))
        let holders = blockingHoldAll()
        for holder in holders where !held.contains(holder.seat) { holder.letGo() }
        blockingWaitUntilIdle(self.seats.filter { !held.contains($0.index) })
        return seats.map { holders[$0.index] }
    }

    /// Waits until workers sleep: all, or these. Ends: nothing is left for them to do.
    func blockingWaitUntilIdle(_ seats: [Seat]? = nil) {
        let waited = (seats ?? self.seats).map(\.index)
        while true {
            let (counters, later) = (pool.counters, pool.counters)
            // Who lies down, with a last look to come that would find what is made ready next, is busy for longer the second time.
            if waited.allSatisfy({ counters[$0].isParked && counters[$0] == later[$0] }) { return }
            usleep(1000)
        }
    }
}
