// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// The integer registers of one frame, addressed by their DWARF numbers.
///
/// On x86-64 the numbers 0...16 are rax, rdx, rcx, rbx, rsi, rdi, rbp, rsp, r8...r15 and the
/// program counter; on arm64 0...30 are x0...x30, 31 is sp, and 32 holds the program counter.
package struct RegisterFile: Sendable {
    #if arch(x86_64)
    package static let count = 17
    package static let framePointerNumber = 6
    package static let stackPointerNumber = 7
    package static let programCounterNumber = 16
    @usableFromInline typealias Values = InlineArray<17, UInt>
    #elseif arch(arm64)
    package static let count = 33
    package static let framePointerNumber = 29
    package static let linkNumber = 30
    package static let stackPointerNumber = 31
    package static let programCounterNumber = 32
    @usableFromInline typealias Values = InlineArray<33, UInt>
    #else
    #error("RegisterFile knows x86-64 and arm64 only")
    #endif

    private var values: Values

    /// All registers zero.
    package init() {
        values = Values(repeating: 0)
    }

    /// Reads the registers that the kernel saved for a signal handler.
    ///
    /// - Parameter machineContext: the address of `uc_mcontext` in the handler's `ucontext_t`,
    ///   or of a copy of it.
    package init(machineContext: UnsafeRawPointer) {
        self.init()
        #if arch(x86_64)
        // gregs order of <sys/ucontext.h>: r8...r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip.
        let dwarfNumbers: InlineArray<17, Int> = [
            8, 9, 10, 11, 12, 13, 14, 15, 5, 4, 6, 3, 1, 0, 2, 7, 16,
        ]
        for index in 0..<Self.count {
            // safety: mcontext_t begins with 23 eight-byte gregs on x86-64.
            values[dwarfNumbers[index]] = machineContext.load(
                fromByteOffset: index * 8,
                as: UInt.self
            )
        }
        #elseif arch(arm64)
        for index in 0..<Self.count {
            // safety: mcontext_t is fault_address, x0...x30, sp, pc: 34 eight-byte words.
            values[index] = machineContext.load(fromByteOffset: 8 + index * 8, as: UInt.self)
        }
        #endif
    }

    /// Reads `count` words in the order of the DWARF numbers, the program counter at its number.
    package init(dwarfOrder words: UnsafePointer<UInt>) {
        self.init()
        for number in 0..<Self.count {
            // safety: the caller gives `count` words.
            values[number] = words[number]
        }
    }

    /// The value of the register with a DWARF number.
    ///
    /// - Precondition: the number is in `0..<RegisterFile.count`.
    package subscript(number: Int) -> UInt {
        get { values[number] }
        set { values[number] = newValue }
    }

    package var programCounter: UInt {
        get { values[Self.programCounterNumber] }
        set { values[Self.programCounterNumber] = newValue }
    }

    package var stackPointer: UInt {
        get { values[Self.stackPointerNumber] }
        set { values[Self.stackPointerNumber] = newValue }
    }

    package var framePointer: UInt {
        get { values[Self.framePointerNumber] }
        set { values[Self.framePointerNumber] = newValue }
    }
}
