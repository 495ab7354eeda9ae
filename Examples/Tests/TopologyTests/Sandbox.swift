// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Foundation

/// A sandbox in which the kernel does not tell on which processors one may run.
enum Sandbox {
    struct Refused: Error { let reason: String }

    /// Runs the program in it: a thread is put there, and programs that it starts inherit that. Blocks the calling thread.
    static func run(_ arguments: [String]) throws -> Run {
        let place = Place()
        let thread = Thread {
            place.result = Result {
                try enter()
                return try Run(arguments)
            }
            place.isDone.signal()
        }
        thread.start()
        place.isDone.wait()
        guard let result = place.result else { throw Refused(reason: "the thread left nothing") }
        return try result.get()
    }

    private final class Place: @unchecked Sendable {
        // Sendable: written before the semaphore is signalled, read after the wait for that.
        var result: Result<Run, any Error>?
        let isDone = DispatchSemaphore(value: 0)
    }

    /// Has the kernel refuse `sched_getaffinity` with EPERM, to this thread and what it starts.
    private static func enter() throws {
        #if arch(x86_64)
        let refused: UInt64 = 204
        #elseif arch(arm64)
        let refused: UInt64 = 123
        #endif
        // Of <linux/bpf_common.h> and <linux/seccomp.h>: code, where to jump if true and if false, operand.
        func instruction(_ code: UInt64, _ ifTrue: UInt64, _ ifFalse: UInt64, _ operand: UInt64) -> UInt64 {
            code | ifTrue << 16 | ifFalse << 24 | operand << 32
        }
        let filter = [
            instruction(0x20, 0, 0, 0),  // load the number of the system call
            instruction(0x15, 0, 1, refused),  // is it that one?
            instruction(0x06, 0, 0, 0x0005_0000 | UInt64(EPERM)),  // yes: SECCOMP_RET_ERRNO
            instruction(0x06, 0, 0, 0x7fff_0000),  // no: SECCOMP_RET_ALLOW
        ]
        // `prctl` takes a variable number of arguments, which Swift does not call by name.
        typealias Prctl = @convention(c) (Int32, UInt, UInt, UInt, UInt) -> Int32
        guard let symbol = dlsym(nil, "prctl") else { throw Refused(reason: "no prctl") }
        // safety: words in registers are what it looks for behind its first argument, on both architectures.
        let prctl = unsafeBitCast(symbol, to: Prctl.self)
        let status = filter.withUnsafeBufferPointer { filter in
            // struct sock_fprog: the number of instructions in the first two bytes, then their address.
            let program = [UInt(filter.count), UInt(bitPattern: filter.baseAddress)]
            return program.withUnsafeBufferPointer { program in
                // PR_SET_NO_NEW_PRIVS, without which one would have to be root; PR_SET_SECCOMP, SECCOMP_MODE_FILTER.
                prctl(38, 1, 0, 0, 0) == 0 ? prctl(22, 2, UInt(bitPattern: program.baseAddress), 0, 0) : -1
            }
        }
        if status != 0 { throw Refused(reason: String(cString: strerror(errno))) }
    }
}
