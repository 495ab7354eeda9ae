// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CLightProc
import Glibc
import TestSupport
import Testing

@testable import Executor
@testable import LightProc

/// The stacks that trap handlers run on, against what the kernel writes there.
@Suite struct AlternateStackTests {
    /// `AT_MINSIGSTKSZ`: the kernel's frame with the whole register state of this machine; 0 where the kernel is older.
    private static let frame = Int(getauxval(51))
    /// The frame with the state of AVX-512 and AMX tiles, on a machine that has both.
    private static let largestFrame = 12 * 1024
    /// For the handler, and for one that was installed before ours.
    private static let handlers = 32 * 1024

    private struct Stack: Sendable {
        let base: UInt
        let size: Int
        let flags: Int32
        /// Where the asking thread stands.
        let here: UInt

        static func current() -> Stack {
            var stack = stack_t()
            precondition(sigaltstack(nil, &stack) == 0, "sigaltstack: \(errno)")
            let here = withUnsafeMutablePointer(to: &stack) { UInt(bitPattern: $0) }
            return Stack(base: UInt(bitPattern: stack.ss_sp), size: stack.ss_size, flags: stack.ss_flags, here: here)
        }

        /// Writes to every page, as a handler and the kernel may.
        func touch() {
            for offset in stride(from: 0, to: size, by: 4096) {
                // safety: the thread whose stack it is handles no signal.
                UnsafeMutablePointer<UInt8>(bitPattern: base + UInt(offset))?.pointee = 1
            }
        }
    }

    @Test func itHoldsTheWholeRegisterStateBesideTheHandlers() async throws {
        let pool = try WorkerPool(workers: 1)
        let ask: @Sendable () -> Stack = {
            let stack = Stack.current()
            stack.touch()
            return stack
        }
        for handle in [pool.spawn { ask() }, pool.spawnBlocking { ask() }] {
            let stack = try await handle.outcome().get()
            #expect(stack.flags == 0, "enabled, and not in use")
            #expect(stack.size >= max(Self.frame, Self.largestFrame) + Self.handlers, "of \(stack.size) bytes")
            #expect(stack.size % 4096 == 0)
            #expect(!(stack.base..<stack.base + UInt(stack.size)).contains(stack.here), "a stack of its own")
        }
        await pool.shutDownElsewhere()
    }

    /// A thread that takes the place of one that trapped has one, too.
    @Test func anHeirHasOneOfItsOwn() async throws {
        let pool = try WorkerPool(workers: 1)
        let before = try await pool.spawn { Stack.current() }.outcome().get()
        _ = await pool.spawn { Misdeed.endlessRecursion.commit() }.outcome()
        let after = try await pool.spawn { Stack.current() }.outcome().get()
        #expect(after.flags == 0)
        #expect(after.size == before.size)
        #expect(after.base != before.base)
        await pool.shutDownElsewhere()
    }
}
