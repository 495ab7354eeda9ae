// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// The unwind rows of recently seen instructions, found once and then kept.
///
/// Invariant: a slot whose address is not zero holds the row of that address. Lookups allocate
/// nothing and, with glibc 2.35, take no lock: a parked thread may own the allocator's or the
/// loader's. Belongs to one thread. Rows of an object that is unloaded stay until `removeAll()`.
package final class FrameRowCache {
    /// About 320 bytes each on x86-64; a direct-mapped table.
    private static let capacity = 512

    private let slots: UnsafeMutablePointer<FrameRow>
    private let scratch: UnsafeMutablePointer<FrameRow>

    package init() {
        slots = .allocate(capacity: Self.capacity)
        slots.initialize(repeating: FrameRow(), count: Self.capacity)
        scratch = .allocate(capacity: FrameProgram.scratchRows)
        scratch.initialize(repeating: FrameRow(), count: FrameProgram.scratchRows)
    }

    deinit {
        // FrameRow is trivial: nothing to deinitialise.
        slots.deallocate()
        scratch.deallocate()
    }

    /// Forgets everything; call it after a `dlclose`.
    package func removeAll() {
        slots.update(repeating: FrameRow(), count: Self.capacity)
    }

    /// The row at an instruction, or nil where no unwind table covers it.
    ///
    /// The result is valid until the next call.
    func row(at address: UInt) -> UnsafePointer<FrameRow>? {
        // Fibonacci hashing: return addresses differ mostly in their low bits.
        let index = Int((address &* 0x9e37_79b9_7f4a_7c15) >> 55)
        // safety: the hash keeps nine bits, and there are 512 slots.
        let slot = slots + index
        if slot.pointee.address == address && address != 0 { return UnsafePointer(slot) }
        guard let description = FrameDescription(covering: address) else { return nil }
        var program = FrameProgram(description, target: address, scratch: scratch)
        guard program.run(into: &slot.pointee) else {
            slot.pointee.address = 0
            return nil
        }
        return UnsafePointer(slot)
    }
}
