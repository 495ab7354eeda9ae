// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CLightProc
import Glibc
import LightProc

/// The memory of a worker's stack, with a guard below it that tells an overflow from a wild access, and of the stack for
/// its signals.
///
/// Both are used again by other threads: to unmap memory interrupts all processors that threads of the program run on.
struct WorkerStack: Sendable {
    /// Lowest address of the whole mapping, which is the guard's.
    let base: UInt
    let guardSize: Int
    let size: Int
    let memory: NodeMemory
    let alternate: Alternate

    /// The stack on which signal handlers run.
    struct Alternate: @unchecked Sendable {
        // Sendable: the memory is used by one thread at a time.
        let start: UnsafeMutableRawPointer
        let size: Int
    }

    var low: UInt { base + UInt(guardSize) }
    var high: UInt { low + UInt(size) }

    /// A frame larger than the guard could step over it; Swift frames of a megabyte do not occur.
    static let guardSize = 1 << 20
    static let defaultSize = 1 << 20

    /// - Parameter memory: Where it lies.
    init(size: Int = defaultSize, memory: NodeMemory = .anywhere) {
        let mapping = mmap(
            nil,
            Self.guardSize + size,
            PROT_NONE,
            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK,
            -1,
            0
        )
        guard let mapping, mapping != MAP_FAILED else {
            fatalError("cannot map a stack: \(String(cString: strerror(errno)))")
        }
        let status = mprotect(mapping + Self.guardSize, size, PROT_READ | PROT_WRITE)
        precondition(status == 0, "cannot make a stack writable: \(String(cString: strerror(errno)))")
        base = UInt(bitPattern: mapping)
        guardSize = Self.guardSize
        self.size = size
        self.memory = memory
        // Before anybody touches it.
        memory.prefer(for: UnsafeMutableRawBufferPointer(start: mapping + Self.guardSize, count: size))
        let alternateSize = crt_alternateStackSize()
        let start = mmap(
            nil,
            alternateSize,
            PROT_READ | PROT_WRITE,
            MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK,
            -1,
            0
        )
        guard let start, start != MAP_FAILED else {
            fatalError("cannot map an alternate signal stack: \(String(cString: strerror(errno)))")
        }
        memory.prefer(for: UnsafeMutableRawBufferPointer(start: start, count: alternateSize))
        alternate = Alternate(start: start, size: alternateSize)
    }

    func unmap() {
        munmap(UnsafeMutableRawPointer(bitPattern: base), guardSize + size)
        munmap(alternate.start, alternate.size)
    }
}

/// Stacks of ended threads, and new ones.
///
/// What a trapped process left on its stack (a record of a cancelled task, a borrowed buffer) may still be pointed to,
/// so its stack rests: it is used again only when `resting` others came after it.
struct WorkerStackPool {
    private var rested: [WorkerStack] = []
    private var resting: [WorkerStack] = []
    private let limit: Int

    init(resting limit: Int = 32) { self.limit = limit }

    /// A stack that lies where it should.
    mutating func take(_ memory: NodeMemory = .anywhere) -> WorkerStack {
        guard let index = rested.lastIndex(where: { $0.memory == memory }) else { return WorkerStack(memory: memory) }
        return rested.remove(at: index)
    }

    mutating func put(_ stack: WorkerStack, afterTrap: Bool) {
        guard afterTrap else {
            rested.append(stack)
            return
        }
        resting.append(stack)
        if resting.count > limit { rested.append(resting.removeFirst()) }
    }

    mutating func unmapAll() {
        for stack in rested + resting { stack.unmap() }
        rested = []
        resting = []
    }
}
