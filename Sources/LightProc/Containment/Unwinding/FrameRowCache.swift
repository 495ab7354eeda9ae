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
    /// Beside each row its short form, where it has one.
    let steps: UnsafeMutablePointer<FrameStep>
    private let scratch: UnsafeMutablePointer<FrameRow>
    /// Tells origins, which short forms carry; nil where nobody asks for them.
    private let regions: CodeRegions?

    /// - Parameter regions: What tells the origins of frames that a walk skips.
    package init(regions: CodeRegions? = nil) {
        self.regions = regions
        slots = .allocate(capacity: Self.capacity)
        slots.initialize(repeating: FrameRow(), count: Self.capacity)
        steps = .allocate(capacity: Self.capacity)
        steps.initialize(repeating: FrameStep(), count: Self.capacity)
        scratch = .allocate(capacity: FrameProgram.scratchRows)
        scratch.initialize(repeating: FrameRow(), count: FrameProgram.scratchRows)
    }

    deinit {
        // FrameRow and FrameStep are trivial: nothing to deinitialise.
        slots.deallocate()
        steps.deallocate()
        scratch.deallocate()
    }

    /// Forgets everything; call it after a `dlclose`.
    package func removeAll() {
        slots.update(repeating: FrameRow(), count: Self.capacity)
        steps.update(repeating: FrameStep(), count: Self.capacity)
    }

    /// Which slot belongs to an address.
    @inline(__always)
    static func index(of address: UInt) -> Int {
        // Fibonacci hashing: return addresses differ mostly in their low bits. It keeps nine, as there are 512 slots.
        Int(bitPattern: (address &* 0x9e37_79b9_7f4a_7c15) &>> 55)
    }

    /// The row at an instruction, or nil where no unwind table covers it.
    ///
    /// The result is valid until the next call.
    func row(at address: UInt) -> UnsafePointer<FrameRow>? {
        let index = Self.index(of: address)
        // safety: the index is below 512, and there are 512 slots.
        let slot = slots + index
        if slot.pointee.address == address && address != 0 { return UnsafePointer(slot) }
        steps[index].address = 0
        guard let description = FrameDescription(covering: address) else { return nil }
        var program = FrameProgram(description, target: address, scratch: scratch)
        guard program.run(into: &slot.pointee) else {
            slot.pointee.address = 0
            return nil
        }
        if let regions { steps[index] = FrameStep(slot.pointee, origin: regions.origin(of: address)) }
        return UnsafePointer(slot)
    }
}
