// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

package import LightProc

/// Something that waits to be run, in one word: a process with messages or orders, a job of an async process, or a job
/// that belongs to no process.
///
/// A process is its pointer, retained. A job is its pointer with the lowest bit set; the executor it belongs to,
/// retained, stands in the first of the two words that the Swift runtime keeps in every job for its scheduler's use. A job
/// of no process is its pointer with the second bit set, and the lowest if it prefers no executor.
/// Each item is run or released exactly once.
package struct RunItem: Sendable, Equatable {
    package let bits: UInt

    package init(bits: UInt) { self.bits = bits }

    package init(_ proc: LightProc) { bits = UInt(bitPattern: Unmanaged.passRetained(proc).toOpaque()) }

    package init(_ job: UnownedJob, _ executor: ProcTaskExecutor) {
        // safety: an unowned job is the pointer to it.
        let address = unsafeBitCast(job, to: UInt.self)
        // safety: a job begins with the object header of two words, then come the scheduler's two.
        UnsafeMutableRawPointer(bitPattern: address)!.storeBytes(
            of: UInt(bitPattern: Unmanaged.passRetained(executor).toOpaque()),
            toByteOffset: 16,
            as: UInt.self
        )
        bits = address | 1
    }

    /// A job that belongs to no process.
    package init(plain job: UnownedJob) {
        // safety: as above.
        bits = unsafeBitCast(job, to: UInt.self) | 2
    }

    /// A job that belongs to no process and prefers no executor: one of the program's global executor.
    package init(global job: UnownedJob) {
        // safety: as above.
        bits = unsafeBitCast(job, to: UInt.self) | 3
    }

    enum Content {
        case proc(Unmanaged<LightProc>)
        case job(UnownedJob, Unmanaged<ProcTaskExecutor>)
        case plain(UnownedJob)
        case global(UnownedJob)
    }

    var content: Content {
        @inline(__always) get {
            // safety: see `init`; the words are there as long as the item was not run.
            if bits & 3 == 0 { return .proc(Unmanaged.fromOpaque(UnsafeRawPointer(bitPattern: bits)!)) }
            let job = UnsafeRawPointer(bitPattern: bits & ~3)!
            if bits & 2 != 0 {
                let job = unsafeBitCast(job, to: UnownedJob.self)
                return bits & 1 != 0 ? .global(job) : .plain(job)
            }
            let executor = UnsafeRawPointer(bitPattern: job.load(fromByteOffset: 16, as: UInt.self))!
            return .job(unsafeBitCast(job, to: UnownedJob.self), Unmanaged.fromOpaque(executor))
        }
    }

    /// Kills the process that it is about, before its turn.
    func kill() {
        switch content {
        case .proc(let proc): proc._withUnsafeGuaranteedRef { $0.kill() }
        case .job(_, let executor): executor._withUnsafeGuaranteedRef { $0.proc.kill() }
        case .plain, .global: break
        }
    }
}
