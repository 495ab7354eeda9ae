// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// How a register's value in the calling frame is found.
package enum RegisterRule: Sendable, Equatable {
    /// The callee left it alone (also the rule of a register that no instruction mentions).
    case sameValue
    /// It cannot be recovered; for the return address this marks the outermost frame.
    case undefined
    /// Saved at the canonical frame address plus an offset.
    case saved(offset: Int)
    /// The canonical frame address plus an offset.
    case value(offset: Int)
    /// In another register.
    case register(Int)
    /// Saved at the address that the DWARF expression block at this address computes.
    case savedAtExpression(UInt)
    /// What the DWARF expression block at this address computes.
    case valueOfExpression(UInt)
}

/// How a frame's canonical frame address (the stack pointer before the call) is found.
package enum FrameAddressRule: Sendable, Equatable {
    case unknown
    case register(Int, offset: Int)
    case expression(UInt)
}

/// One row of a function's unwind table: the rules that hold at one instruction.
package struct FrameRow: Sendable {
    #if arch(x86_64)
    typealias Rules = InlineArray<17, RegisterRule>
    #elseif arch(arm64)
    typealias Rules = InlineArray<33, RegisterRule>
    #endif

    /// The instruction the row was made for.
    package var address: UInt = 0
    package var frameAddress = FrameAddressRule.unknown
    package var returnAddressRegister = 0
    package var isSignalFrame = false
    private var rules = Rules(repeating: .sameValue)
    /// Bit n: register n has a rule other than "same value", so that a step looks at those only.
    package private(set) var changedRegisters: UInt64 = 0

    package init() {}

    /// The rule of a register; numbers beyond the integer registers are accepted and dropped.
    package subscript(number: Int) -> RegisterRule {
        get { number >= 0 && number < RegisterFile.count ? rules[number] : .sameValue }
        set {
            guard number >= 0 && number < RegisterFile.count else { return }
            rules[number] = newValue
            if case .sameValue = newValue {
                changedRegisters &= ~(1 << UInt64(number))
            } else {
                changedRegisters |= 1 << UInt64(number)
            }
        }
    }
}
