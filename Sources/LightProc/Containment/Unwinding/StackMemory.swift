// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// The part of memory that a walk may read: one thread's stack, which must stay mapped and still.
///
/// Every address that comes from a register or from the stack itself goes through here, so that
/// damaged registers end a walk and never fault it.
package struct StackMemory: Sendable {
    package let lowerBound: UInt
    package let upperBound: UInt

    package init(_ range: Range<UInt>) {
        lowerBound = range.lowerBound
        upperBound = range.upperBound
    }

    /// The word at an address, or nil if any of its bytes lies outside the stack.
    package func word(at address: UInt) -> UInt? {
        guard hasBytes(at: address, count: 8) else { return nil }
        // safety: the eight bytes lie in the stack, which the owner of the walk keeps mapped.
        return UnsafeRawPointer(bitPattern: address)?.loadUnaligned(as: UInt.self)
    }

    /// The `count` bytes at an address as an unsigned integer; `count` is 1, 2, 4 or 8.
    package func integer(at address: UInt, count: Int) -> UInt? {
        guard count != 8 else { return word(at: address) }
        guard hasBytes(at: address, count: UInt(truncatingIfNeeded: count)),
            let pointer = UnsafeRawPointer(bitPattern: address)
        else { return nil }
        // safety: as in word(at:).
        switch count {
        case 1: return UInt(pointer.loadUnaligned(as: UInt8.self))
        case 2: return UInt(pointer.loadUnaligned(as: UInt16.self))
        case 4: return UInt(pointer.loadUnaligned(as: UInt32.self))
        default: return nil
        }
    }

    private func hasBytes(at address: UInt, count: UInt) -> Bool {
        address >= lowerBound && address < upperBound && upperBound - address >= count
    }
}
