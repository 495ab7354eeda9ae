// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import Synchronization

/// What the kernel knows of this program.
enum Machine {
    struct Clock {
        let wall: Double
        let cpu: Double
        static func - (left: Clock, right: Clock) -> (wall: Double, cpu: Double) {
            (left.wall - right.wall, left.cpu - right.cpu)
        }
    }

    /// Seconds since some moment, and of CPU time since the program started.
    static var clock: Clock {
        var usage = rusage()
        getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
        let cpu =
            Double(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec)
            + Double(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6
        return Clock(wall: Double(nanoseconds) * 1e-9, cpu: cpu)
    }

    static var nanoseconds: UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }

    /// A field of the program's status, in KiB; 0 where there is none.
    static func status(_ key: String) -> Int {
        guard let file = fopen("/proc/self/status", "r") else { return 0 }
        defer { fclose(file) }
        var line = [CChar](repeating: 0, count: 256)
        while fgets(&line, 256, file) != nil {
            // safety: fgets terminated the line within the buffer.
            let text = line.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
            guard text.hasPrefix(key + ":") else { continue }
            return text.split(whereSeparator: { " \t".contains($0) }).dropFirst().first.flatMap { Int($0) } ?? 0
        }
        return 0
    }

    /// Writes a line to standard error.
    static func complain(_ line: String) {
        (line + "\n").withCString { _ = write(2, $0, strlen($0)) }
    }

    static func decimal(_ number: Double, _ places: Int) -> String {
        var buffer = [CChar](repeating: 0, count: 64)
        _ = withVaList([Int32(places), number]) { vsnprintf(&buffer, 64, "%.*f", $0) }
        // safety: vsnprintf terminated the text within the buffer.
        return buffer.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
    }
}

/// What the main thread waits for: opened when as many have arrived.
final class Latch: Sendable {
    private let missing: Atomic<Int>
    private let semaphore: Semaphore

    private final class Semaphore: @unchecked Sendable {
        // Sendable: a semaphore is made for threads to share.
        let pointer = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)
        init() { sem_init(pointer, 0, 0) }
        deinit {
            sem_destroy(pointer)
            pointer.deallocate()
        }
    }

    init(_ count: Int = 1) {
        missing = Atomic(count)
        semaphore = Semaphore()
    }

    func arrive(_ count: Int = 1) {
        if missing.subtract(count, ordering: .acquiringAndReleasing).newValue == 0 { sem_post(semaphore.pointer) }
    }

    func blockingWait() {
        // Ends: EINTR only makes it begin anew.
        while sem_wait(semaphore.pointer) != 0 {}
    }
}

/// The generator of the other runtimes' programs.
struct Xorshift: Sendable {
    private var state: UInt64
    init(_ seed: Int) { state = (UInt64(seed) &+ 1) &* 0x9E37_79B9_7F4A_7C15 }
    mutating func below(_ bound: Int) -> Int {
        state ^= state << 13
        state ^= state >> 7
        state ^= state << 17
        return Int(state % UInt64(bound))
    }
}
