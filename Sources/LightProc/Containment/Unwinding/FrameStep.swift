// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// The short form of an unwind row, for frames of which there are thousands: a recursion's.
///
/// Most rows say the same things: the frame's address is the stack or frame pointer plus something, the return address
/// and some registers are saved at fixed places below it. A step by such a row takes a few loads.
struct FrameStep {
    /// The instruction the row was made for; 0 where it has no short form.
    var address: UInt = 0
    /// To be added to the stack pointer, or to the frame pointer, for the canonical frame address.
    private(set) var frameOffset = 0
    private(set) var isFromFramePointer = false
    /// What to add to the frame address, in words, for where the return address is saved.
    private(set) var returnAddressPlace = 0
    /// Likewise for the frame pointer; 0 if the frame left it alone.
    private(set) var framePointerPlace = 0
    /// Whether the row says something about other registers.
    private(set) var restoresOthers = false
    /// One bit: `1 << origin.rawValue`.
    private(set) var origin: UInt16 = 0

    /// All saved words lie at most so many bytes below the frame address.
    static let depth = 256

    init() {}

    /// The short form of a row, with address 0 if it has none.
    init(_ row: FrameRow, origin: FrameOrigin) {
        guard case .register(let base, let offset) = row.frameAddress, !row.isSignalFrame,
            base == RegisterFile.stackPointerNumber || base == RegisterFile.framePointerNumber
        else { return }
        frameOffset = offset
        isFromFramePointer = base == RegisterFile.framePointerNumber
        guard let place = Self.place(row[row.returnAddressRegister]) else { return }
        returnAddressPlace = place
        var changed = row.changedRegisters
        while changed != 0 {
            let number = changed.trailingZeroBitCount
            changed &= changed &- 1
            guard let place = Self.place(row[number]) else { return }
            switch number {
            // What the walker derives from the frame itself.
            case RegisterFile.stackPointerNumber: return
            case RegisterFile.framePointerNumber: framePointerPlace = place
            case RegisterFile.programCounterNumber: break
            default: restoresOthers = true
            }
        }
        self.origin = 1 << UInt16(origin.rawValue)
        address = row.address
    }

    /// The place in words below the frame address, if the rule is of that kind.
    private static func place(_ rule: RegisterRule) -> Int? {
        guard case .saved(let offset) = rule, offset < 0, offset >= -depth, offset % 8 == 0 else { return nil }
        return offset / 8
    }
}
