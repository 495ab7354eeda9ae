// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import LightProc
import Synchronization

/// What the threads for blocking work are doing, as far as is known at the moment.
///
/// Reading costs a few loads and takes no lock. The figures are not of one instant.
public struct BlockingCounters: Sendable, Equatable {
    /// Threads that there are; those that are starting included.
    public let threads: Int
    /// Threads without a job.
    public let idle: Int
    /// Jobs that wait.
    public let queued: Int
    /// How long the job that waits for longest has waited; zero if none does.
    public let oldestWait: Duration
    /// Jobs that were begun since the pool was made: closures, and the turns of processes that clean up after them.
    public let jobs: UInt
    /// The most threads that there were at a time.
    public let peak: Int
}

/// The words behind ``BlockingCounters``. Written under the lock of the pool, read by everybody.
struct BlockingTally: ~Copyable {
    private let threads = Atomic<Int>(0)
    private let idle = Atomic<Int>(0)
    private let queued = Atomic<Int>(0)
    /// Nanoseconds on the monotonic clock; 0: none waits.
    private let oldest = Atomic<Int64>(0)
    private let jobs = Atomic<UInt>(0)
    private let peak = Atomic<Int>(0)

    func update(threads: Int, idle: Int, queued: Int, oldest: Duration?, jobs: UInt, peak: Int) {
        // ordering: relaxed throughout: statistics, which publish nothing.
        self.threads.store(threads, ordering: .relaxed)
        self.idle.store(idle, ordering: .relaxed)
        self.queued.store(queued, ordering: .relaxed)
        self.oldest.store(oldest?.inNanoseconds ?? 0, ordering: .relaxed)
        self.jobs.store(jobs, ordering: .relaxed)
        self.peak.store(peak, ordering: .relaxed)
    }

    func counters(at now: Duration) -> BlockingCounters {
        // ordering: relaxed throughout: as above.
        let since = oldest.load(ordering: .relaxed)
        return BlockingCounters(
            threads: threads.load(ordering: .relaxed),
            idle: idle.load(ordering: .relaxed),
            queued: queued.load(ordering: .relaxed),
            oldestWait: since == 0 ? .zero : max(.zero, now - .nanoseconds(since)),
            jobs: jobs.load(ordering: .relaxed),
            peak: peak.load(ordering: .relaxed)
        )
    }
}

/// What the kernel says of a thread of this program.
enum KernelThread {
    /// Whether the thread runs, or waits for a processor: not so if it sleeps, waits for a disk, or has ended.
    ///
    /// Reads `/proc`, which takes some microseconds. Where that is hidden, the answer is no.
    static func isRunnable(_ number: Int32) -> Bool {
        let file = open("/proc/self/task/\(number)/stat", O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return false }
        defer { close(file) }
        return withUnsafeTemporaryAllocation(byteCount: 256, alignment: 1) { buffer in
            let count = read(file, buffer.baseAddress, buffer.count)
            guard count > 0 else { return false }
            return state(in: buffer[..<count]) == UInt8(ascii: "R")
        }
    }

    /// The letter after the name, which stands in parentheses and may hold any character.
    static func state(in line: some BidirectionalCollection<UInt8>) -> UInt8? {
        guard let end = line.lastIndex(of: UInt8(ascii: ")")) else { return nil }
        return line[end...].dropFirst(2).first
    }
}
