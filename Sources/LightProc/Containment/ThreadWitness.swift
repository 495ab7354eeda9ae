// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CLightProc

/// What a thread that is about to end the program can still say of itself.
///
/// Everything here may be called in a signal handler: it neither allocates nor waits once it was called before.
package enum ThreadWitness {
    /// The number of the process that the calling thread runs; 0: none.
    package static var processInHand: UInt64 {
        guard let process = crt_currentProcess() else { return 0 }
        // safety: the worker holds the process while it runs it.
        return Unmanaged<LightProc>.fromOpaque(process)._withUnsafeGuaranteedRef { $0.id.rawValue }
    }

    /// For handlers, which come one at a time.
    private nonisolated(unsafe) static let cache = FrameRowCache()

    /// Writes the addresses that symbols are looked up with, innermost first. One thread at a time.
    ///
    /// - Parameters:
    ///   - registers: In DWARF order, `crt_registerCount` words.
    ///   - stack: What is read of the memory; it has to be readable.
    /// - Returns: How many.
    package static func walk(
        registers: UnsafePointer<UInt>,
        stack: Range<UInt>,
        into frames: UnsafeMutablePointer<UInt64>,
        limit: UInt32
    ) -> UInt32 {
        var walker = StackWalker(
            registers: RegisterFile(dwarfOrder: registers),
            stack: stack,
            cache: cache,
            frameLimit: Int(limit)
        )
        var count: UInt32 = 0
        while count < limit, let frame = walker.next() {
            // safety: the caller has room for `limit`.
            frames[Int(count)] = UInt64(frame.lookupAddress)
            count += 1
        }
        return count
    }
}
