// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// A cursor over unwind tables in mapped memory that never reads past its end.
///
/// A read past the end returns zero and sets `failed`, so that a decoder can read on and check once.
/// No operation traps, whatever the bytes are.
package struct ByteReader {
    package private(set) var position: UInt
    package let end: UInt
    package private(set) var failed = false

    /// - Precondition: every byte from `start` to `end` is mapped while the reader is in use.
    package init(start: UInt, end: UInt) {
        position = start
        self.end = end
    }

    package var isAtEnd: Bool { failed || position >= end }

    package mutating func byte() -> UInt8 { load(UInt8.self) }

    package mutating func load<Value: FixedWidthInteger & BitwiseCopyable>(_: Value.Type) -> Value {
        let size = UInt(MemoryLayout<Value>.size)
        guard !failed, position <= end, end - position >= size,
            let pointer = UnsafeRawPointer(bitPattern: position)
        else {
            failed = true
            return 0
        }
        position &+= size
        // safety: the bytes lie before `end`, and the maker of the reader keeps them mapped.
        return pointer.loadUnaligned(as: Value.self)
    }

    package mutating func unsignedLEB() -> UInt {
        var value: UInt = 0
        var shift: UInt = 0
        while true {
            let byte = byte()
            if shift < 64 { value |= UInt(byte & 0x7f) &<< shift }
            shift &+= 7
            // Ends: every turn consumes a byte, and past the end the byte is zero.
            if byte & 0x80 == 0 { return value }
        }
    }

    package mutating func signedLEB() -> Int {
        var value: UInt = 0
        var shift: UInt = 0
        while true {
            let byte = byte()
            if shift < 64 { value |= UInt(byte & 0x7f) &<< shift }
            shift &+= 7
            guard byte & 0x80 == 0 else { continue }
            if byte & 0x40 != 0, shift < 64 { value |= UInt.max &<< shift }
            return Int(bitPattern: value)
        }
    }

    package mutating func skip(_ count: UInt) {
        guard !failed, position <= end, end - position >= count else {
            failed = true
            return
        }
        position &+= count
    }

    /// Reads a null-terminated byte string of at most eight bytes, as a CIE's augmentation is.
    package mutating func augmentation() -> InlineArray<8, UInt8> {
        var bytes = InlineArray<8, UInt8>(repeating: 0)
        var index = 0
        while true {
            let byte = byte()
            if byte == 0 { return bytes }
            guard index < 7 else {
                failed = true
                return bytes
            }
            bytes[index] = byte
            index += 1
        }
    }

    /// Reads a pointer in one of the DW_EH_PE encodings, without following an indirect one.
    package mutating func encodedPointer(_ encoding: UInt8, bases: PointerBases) -> UInt {
        if encoding == 0xff { return 0 }
        if encoding == 0x50 {
            position = (position &+ 7) & ~7
            return load(UInt.self)
        }
        let field = position
        let value: UInt
        switch encoding & 0x0f {
        case 0x00, 0x04, 0x0c: value = load(UInt.self)
        case 0x01: value = unsignedLEB()
        case 0x02: value = UInt(load(UInt16.self))
        case 0x03: value = UInt(load(UInt32.self))
        case 0x09: value = UInt(bitPattern: signedLEB())
        case 0x0a: value = UInt(bitPattern: Int(load(Int16.self)))
        case 0x0b: value = UInt(bitPattern: Int(load(Int32.self)))
        default:
            failed = true
            return 0
        }
        switch encoding & 0x70 {
        case 0x00: return value
        case 0x10: return value &+ field
        case 0x20: return value &+ bases.text
        case 0x30: return value &+ bases.data
        case 0x40: return value &+ bases.function
        default:
            failed = true
            return 0
        }
    }
}

/// The addresses that relative pointers in unwind tables count from.
package struct PointerBases: Sendable {
    package var text: UInt = 0
    package var data: UInt = 0
    package var function: UInt = 0

    package init() {}
}
