// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CLightProc

/// One frame description entry of `.eh_frame` with what its common entry says: where the programs
/// are that tell how a function's frames look, and how to read them.
package struct FrameDescription: Sendable {
    package private(set) var functionStart: UInt
    package private(set) var functionEnd: UInt = 0
    package private(set) var codeAlignment: UInt = 1
    package private(set) var dataAlignment: Int = 1
    package private(set) var returnAddressRegister = 0
    package private(set) var isSignalFrame = false
    /// Encoding of addresses in the programs (DW_CFA_set_loc).
    package private(set) var pointerEncoding: UInt8 = 0
    package private(set) var bases: PointerBases
    package private(set) var initialProgram = (start: UInt(0), end: UInt(0))
    package private(set) var program = (start: UInt(0), end: UInt(0))

    /// Finds the description that covers an address; nil where no code with unwind tables is.
    ///
    /// Takes no lock with GCC 12 and glibc 2.35 or later; before, it takes the loader's.
    package init?(covering address: UInt) {
        var found = crt_ehBases()
        // safety: the address is a key, it is not followed; a found entry stays mapped with its object.
        guard let entry = crt_findFDE(UnsafeRawPointer(bitPattern: address), &found) else { return nil }
        var bases = PointerBases()
        bases.text = UInt(bitPattern: found.textBase)
        bases.data = UInt(bitPattern: found.dataBase)
        bases.function = UInt(bitPattern: found.function)
        self.init(entry: UInt(bitPattern: entry), bases: bases)
    }

    /// Reads the entry at an address.
    ///
    /// - Precondition: a frame description entry and its common entry are mapped there.
    package init?(entry: UInt, bases: PointerBases) {
        self.bases = bases
        functionStart = bases.function
        guard var reader = Self.reader(ofEntryAt: entry) else { return nil }
        let program = reader.end
        let commonField = reader.position
        let commonOffset = reader.load(UInt32.self)
        guard commonOffset != 0, !reader.failed,
            let augmentation = readCommonEntry(at: commonField &- UInt(commonOffset))
        else { return nil }
        functionStart = reader.encodedPointer(pointerEncoding, bases: bases)
        let length = reader.encodedPointer(pointerEncoding & 0x0f, bases: PointerBases())
        functionEnd = functionStart &+ length
        if augmentation[0] == UInt8(ascii: "z") { reader.skip(reader.unsignedLEB()) }
        guard !reader.failed, functionEnd > functionStart else { return nil }
        self.program = (reader.position, program)
    }

    /// The instructions of the function.
    package var function: Range<UInt> { functionStart..<functionEnd }

    private static func reader(ofEntryAt entry: UInt) -> ByteReader? {
        var header = ByteReader(start: entry, end: entry &+ 12)
        var length = UInt(header.load(UInt32.self))
        if length == 0xffff_ffff { length = header.load(UInt.self) }
        // An entry is never near this size; a larger one is not an entry.
        guard length > 4, length < 1 << 28 else { return nil }
        return ByteReader(start: header.position, end: header.position &+ length)
    }

    private mutating func readCommonEntry(at entry: UInt) -> InlineArray<8, UInt8>? {
        guard var reader = Self.reader(ofEntryAt: entry), reader.load(UInt32.self) == 0 else { return nil }
        let version = reader.byte()
        guard version == 1 || version == 3 || version == 4 else { return nil }
        let augmentation = reader.augmentation()
        if version == 4 { reader.skip(2) }
        codeAlignment = reader.unsignedLEB()
        dataAlignment = reader.signedLEB()
        returnAddressRegister = Int(
            truncatingIfNeeded: version == 1 ? UInt(reader.byte()) : reader.unsignedLEB()
        )
        if augmentation[0] == UInt8(ascii: "z") {
            let length = reader.unsignedLEB()
            let afterAugmentation = reader.position &+ length
            readAugmentation(augmentation, &reader)
            guard afterAugmentation >= reader.position, afterAugmentation <= reader.end else { return nil }
            reader.skip(afterAugmentation - reader.position)
        } else if augmentation[0] != 0 {
            // Only the very old "eh" augmentation comes without a z, and no compiler in use emits it.
            return nil
        }
        guard !reader.failed else { return nil }
        initialProgram = (reader.position, reader.end)
        return augmentation
    }

    private mutating func readAugmentation(
        _ augmentation: InlineArray<8, UInt8>,
        _ reader: inout ByteReader
    ) {
        for index in 1..<8 {
            switch augmentation[index] {
            case UInt8(ascii: "L"): _ = reader.byte()
            case UInt8(ascii: "P"):
                let encoding = reader.byte()
                _ = reader.encodedPointer(encoding & 0x7f, bases: bases)
            case UInt8(ascii: "R"): pointerEncoding = reader.byte()
            case UInt8(ascii: "S"): isSignalFrame = true
            // "B": the return address is signed with key B; the walker strips any signature.
            case UInt8(ascii: "B"): break
            // The end, or an unknown letter, whose data the z length lets us skip.
            default: return
            }
        }
    }
}
