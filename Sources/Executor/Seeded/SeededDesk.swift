// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CLightProc
import Glibc
package import LightProc

/// Who is told of each step of a seeded executor, and may put it off.
package protocol SeededObserver: AnyObject, Sendable {
    /// A worker is about to run a process, or a job of an async one.
    ///
    /// On the thread that drives the executor, outside of locks.
    /// - Returns: Nil to let it run; otherwise it is queued again when that time has passed.
    func willRun(_ proc: LightProc, isJob: Bool, worker: Int, at time: Duration) -> Duration?
}

/// A made-up worker's place: what it has in hand, and the record that its thread would have.
struct SeededDesk: @unchecked Sendable {
    // Sendable: the record is used by the thread that drives the executor, the rest under its lock.
    private let worker: Worker
    private let storage: Storage
    /// What it has taken and not run yet.
    var hand: RunItem?
    /// Whether the thread that drives the executor is this worker at the moment: its step drives the executor in turn.
    var isBusy = false
    /// Until which pick the worker is kept from its work.
    var stalledUntil = 0

    private final class Storage {
        let record: UnsafeMutablePointer<crt_thread> = .allocate(capacity: 1)
        init() {
            // safety: all-zero bytes are a valid record; without stack bounds its traps are not contained.
            memset(record, 0, MemoryLayout<crt_thread>.size)
        }
        deinit { record.deallocate() }
    }

    init(_ worker: Worker) {
        self.worker = worker
        storage = Storage()
        record.pointee.seat = Unmanaged.passUnretained(worker).toOpaque()
    }

    var record: UnsafeMutablePointer<crt_thread> { storage.record }

    /// Whether it has a step to take: it does not sleep.
    var mayStep: Bool { !isBusy && !worker.isParked }

    mutating func takeHand() -> RunItem? {
        defer { hand = nil }
        return hand
    }
}

extension RunItem {
    /// Whose turn it is; nil if it belongs to no process.
    var process: LightProc? {
        switch content {
        case .proc(let proc): proc.takeUnretainedValue()
        case .job(_, let executor): executor.takeUnretainedValue().proc
        case .plain, .global: nil
        }
    }

    var isJob: Bool {
        if case .proc = content { return false }
        return true
    }

    /// Runs it on a thread that contains no traps. True if it must be queued again.
    func run(_ record: UnsafeMutablePointer<crt_thread>?) -> Bool {
        defer { record?.pointee.process = nil }
        switch content {
        case .proc(let proc):
            record?.pointee.process = proc.toOpaque()
            if proc._withUnsafeGuaranteedRef({ $0.run() }) { return true }
            proc.release()
        case .job(let job, let executor):
            record?.pointee.process = Unmanaged.passUnretained(executor.takeUnretainedValue().proc).toOpaque()
            executor.takeRetainedValue().run(job)
        case .plain, .global:
            preconditionFailure("impossible: only jobs of processes are queued here")
        }
        return false
    }
}

/// Where made-up workers sit. Described once per number: reading a description takes milliseconds.
enum SeededPlacement {
    private static let known = Locked<[Int: Placement]>([:])

    static func of(_ workers: Int) -> Placement {
        precondition(workers > 0, "a seeded executor needs at least one worker, got \(workers)")
        if let placement = known.withLock({ $0[workers] }) { return placement }
        let description =
            workers > 2 ? "numa:2 l3:1 core:\((workers + 1) / 2) pu:1" : "numa:1 l3:1 core:\(workers) pu:1"
        guard let topology = try? Topology(synthetic: description),
            let placement = try? Placement(topology, options: .init(workerCount: workers, pinning: .never))
        else { preconditionFailure("\(workers) workers are too many for a seeded executor") }
        known.withLock { $0[workers] = placement }
        return placement
    }
}

/// What a seeded executor draws.
final class SeededChoice: Sendable {
    private struct State {
        var random: SplitMix64
        var time: UInt64 = 1
    }
    private let state: Locked<State>

    init(seed: UInt64) { state = Locked(State(random: SplitMix64(seed: seed))) }

    /// A number from 0 up to `bound`, which is positive and small.
    func below(_ bound: Int) -> Int { state.withLock { Int($0.random.next() % UInt64(bound)) } }

    /// A time that is up to 2 ms later than the last one, in nanoseconds.
    func tick() -> UInt64 {
        state.withLock { state in
            state.time += state.random.next() % 2_000_000
            return state.time
        }
    }
}
