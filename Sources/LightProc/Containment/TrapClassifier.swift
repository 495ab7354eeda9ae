// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CLightProc
import Glibc

/// Tells traps that left the memory and every shared lock whole from faults that did not.
///
/// How it is told, by signal:
///
/// | signal | contained if |
/// |---|---|
/// | SIGILL | the instruction is the one the compiler traps with (`ud2`) |
/// | SIGTRAP | likewise (arm64: `brk`); an x86 breakpoint is not |
/// | SIGFPE | always: a division by zero in C code |
/// | SIGABRT | the Swift runtime or the program itself called `abort`; not the C library, which does it for a damaged heap |
/// | SIGSEGV, SIGBUS | the address lies in the guard of the worker's own stack: an overflow |
///
/// and in every case only if no frame of the stack stands in the allocator, the loader, a `swift_once`, the making of type
/// metadata, or the cancellation of a task, where a lock is held that others need; nor if the stack cannot be followed to
/// its base, so that nobody knows.
///
/// Runs on the reaper's thread and, as the parked thread may hold any lock, neither allocates nor waits in `examine`.
final class TrapClassifier {
    private let cache: FrameRowCache
    private let regions = CodeRegions()

    init() { cache = FrameRowCache(regions: regions) }

    enum Finding {
        case contained
        case notContained(StaticString)
    }

    struct Evidence {
        var finding: Finding
        /// The innermost frames: addresses to look up.
        var frames: [UInt]
        /// Bytes of the stack that were in use.
        var usedStack = 0
        /// Whether the Swift runtime has most probably said what is wrong.
        var speaks = false
    }

    private static let reportedFrames = 64

    func examine(_ thread: UnsafeMutablePointer<crt_thread>) -> Evidence {
        var origins = StackOrigins()
        let registers = withUnsafePointer(to: &thread.pointee.trap.registers) {
            // safety: the array in the record is `crt_registerCount` words long, in DWARF order.
            $0.withMemoryRebound(to: UInt.self, capacity: Int(crt_registerCount)) { RegisterFile(dwarfOrder: $0) }
        }
        var walker = StackWalker(
            registers: registers,
            stack: thread.pointee.stackLow..<thread.pointee.stackHigh,
            cache: cache
        )
        innermost.removeAll(keepingCapacity: true)
        while let frame = walker.next() {
            origins.add(regions.origin(of: frame))
            // Capacity was reserved: appending does not allocate.
            if innermost.count < Self.reportedFrames {
                innermost.append(frame.lookupAddress)
            } else if origins.isPastTop {
                // A recursion without end fills the stack with frames like those that were seen.
                origins.add(further: walker.skipKnownFrames())
            }
        }
        let finding = judge(thread.pointee.trap, thread, origins, walker.hasReachedBase, pc: registers.programCounter)
        if case .notContained = finding { return Evidence(finding: finding, frames: []) }
        // No lock of the allocator is held on that stack: from here on allocating is safe.
        let (low, high) = (thread.pointee.stackLow, thread.pointee.stackHigh)
        return Evidence(
            finding: finding,
            frames: Array(innermost),
            usedStack: Int(high - min(max(registers.stackPointer, low), high)),
            speaks: origins.isInRuntime
        )
    }

    private var innermost: [UInt] = {
        var frames: [UInt] = []
        frames.reserveCapacity(reportedFrames)
        return frames
    }()

    private func judge(
        _ trap: crt_trap,
        _ thread: UnsafeMutablePointer<crt_thread>,
        _ origins: StackOrigins,
        _ isComplete: Bool,
        pc: UInt
    ) -> Finding {
        switch trap.signal {
        case SIGSEGV, SIGBUS:
            guard (thread.pointee.guardLow..<thread.pointee.stackLow).contains(trap.address) else {
                return .notContained("a wild access: the address is not in the guard of the stack")
            }
        case SIGILL, SIGTRAP:
            guard Self.isTrapInstruction(at: pc) else {
                return .notContained("an illegal instruction or breakpoint that no trap of Swift's is")
            }
        case SIGFPE:
            break
        case SIGABRT:
            guard origins.abortCaller == .swiftRuntime || origins.abortCaller == .program else {
                return .notContained("an abort from outside the Swift runtime: the memory may be damaged")
            }
        default:
            return .notContained("a signal that no trap raises")
        }
        if origins.contains(.allocator) { return .notContained("the stack passes through the allocator") }
        if origins.contains(.loader) { return .notContained("the stack passes through the dynamic loader") }
        if origins.contains(.swiftOnce) { return .notContained("the initialiser of a global was running") }
        if origins.contains(.swiftMetadata) { return .notContained("type metadata was being made") }
        if origins.contains(.swiftTaskStatus) {
            return .notContained("a cancellation handler was running: the lock of the task's status is held")
        }
        guard isComplete else { return .notContained("the stack cannot be followed to its base") }
        return .contained
    }

    /// Whether the instruction at an address is the one that compilers emit for a trap.
    static func isTrapInstruction(at address: UInt) -> Bool {
        guard LoadedObject.exists(at: address), let code = UnsafePointer<UInt8>(bitPattern: address) else {
            return false
        }
        #if arch(x86_64)
        // safety: the address is in a mapped object; an instruction that was executed is readable to its end.
        return code[0] == 0x0f && code[1] == 0x0b
        #elseif arch(arm64)
        // safety: as above; instructions are four bytes.
        let word = UInt32(code[0]) | UInt32(code[1]) << 8 | UInt32(code[2]) << 16 | UInt32(code[3]) << 24
        return word & 0xffe0_001f == 0xd420_0000
        #endif
    }
}
