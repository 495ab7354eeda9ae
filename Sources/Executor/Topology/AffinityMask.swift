// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

internal import CNuma
internal import Glibc

/// A set of CPU numbers as the kernel takes it: as many words as the largest number needs, with no limit of 1,024.
package struct AffinityMask: Equatable, Sendable {
    /// Bit `n % 64` of word `n / 64` stands for CPU `n`; the kernel's layout of `unsigned long` on 64-bit Linux.
    package private(set) var words: [UInt]

    /// Creates a mask of the given CPU numbers.
    ///
    /// - Precondition: no number is negative.
    package init(_ cpus: [Int]) {
        words = Array(repeating: 0, count: max(1, ((cpus.max() ?? 0) >> 6) + 1))
        for cpu in cpus {
            precondition(cpu >= 0, "a CPU number must not be negative, got \(cpu)")
            words[cpu >> 6] |= 1 << UInt(cpu & 63)
        }
    }

    private init(words: [UInt]) { self.words = words }

    /// The CPU numbers, ascending.
    package var cpus: [Int] {
        words.indices.flatMap { index in
            (0..<64).lazy.filter { words[index] >> UInt($0) & 1 == 1 }.map { index << 6 + $0 }
        }
    }

    /// Returns the mask of a thread: the calling one for 0.
    ///
    /// - Throws: `affinityUnknown` if the kernel refuses, which only a sandbox does.
    package static func ofThread(_ thread: Int32) throws(TopologyError) -> AffinityMask {
        // The kernel refuses masks smaller than its own with EINVAL and does not tell its size. It grows to at most
        // 2^22 bits, far above any kernel's NR_CPUS, so that the loop ends.
        var count = 16
        while true {
            var words = [UInt](repeating: 0, count: count)
            let status = Self.withBitmask(&words) { numa_sched_getaffinity(thread, $0) }
            if status >= 0 { return AffinityMask(words: words) }
            let number = errno
            guard number == EINVAL, count < 1 << 16 else {
                throw TopologyError(
                    .affinityUnknown,
                    "cannot read the affinity mask: \(systemMessage(number)); allow sched_getaffinity in the sandbox",
                    errno: number
                )
            }
            count *= 2
        }
    }

    /// Returns the mask of the process: that of its main thread, so that a pinned caller does not narrow the view.
    package static func ofProcess() throws(TopologyError) -> AffinityMask { try ofThread(getpid()) }

    /// Lets the calling thread run on the CPUs of the mask only; returns 0 or an `errno`.
    package func applyToCallingThread() -> Int32 {
        var copy = words
        return Self.withBitmask(&copy) { numa_sched_setaffinity(0, $0) } == 0 ? 0 : errno
    }

    /// Calls libnuma with the words as its bitmask. libnuma, because the GNU functions of `<sched.h>` are not in Swift's
    /// Glibc module; these two are plain system calls and need no NUMA.
    private static func withBitmask(_ words: inout [UInt], _ body: (UnsafeMutablePointer<bitmask>) -> Int32) -> Int32 {
        words.withUnsafeMutableBufferPointer { buffer in
            // safety: the bitmask describes exactly the buffer, which outlives the call; CNuma sees UInt as unsigned long.
            var mask = bitmask(size: UInt(buffer.count * UInt.bitWidth), maskp: buffer.baseAddress)
            return body(&mask)
        }
    }
}
