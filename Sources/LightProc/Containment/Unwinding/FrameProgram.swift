// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// Runs the call frame instructions of a description up to an address, which leaves the row there.
///
/// The rows it needs on the way (the common entry's row and those that DW_CFA_remember_state puts
/// aside) live in memory of the caller, so that a run allocates nothing.
package struct FrameProgram {
    /// Rows a run needs beside its result: one initial row and the remembered ones.
    package static let scratchRows = 9

    private let description: FrameDescription
    private let target: UInt
    private let scratch: UnsafeMutablePointer<FrameRow>
    private var remembered = 0
    private var location: UInt

    /// - Parameter scratch: `scratchRows` initialised rows that nobody else uses meanwhile.
    package init(
        _ description: FrameDescription,
        target: UInt,
        scratch: UnsafeMutablePointer<FrameRow>
    ) {
        self.description = description
        self.target = target
        self.scratch = scratch
        location = description.functionStart
    }

    /// Fills `row`; false if the program is damaged or uses an unknown instruction.
    package mutating func run(into row: inout FrameRow) -> Bool {
        row = FrameRow()
        row.address = target
        row.returnAddressRegister = description.returnAddressRegister
        row.isSignalFrame = description.isSignalFrame
        // safety: scratch holds scratchRows rows; index 0 is the initial row.
        scratch[0] = row
        var initial = ByteReader(
            start: description.initialProgram.start,
            end: description.initialProgram.end
        )
        guard execute(&initial, &row) else { return false }
        scratch[0] = row
        remembered = 0
        location = description.functionStart
        var own = ByteReader(start: description.program.start, end: description.program.end)
        return execute(&own, &row)
    }

    private mutating func execute(_ reader: inout ByteReader, _ row: inout FrameRow) -> Bool {
        // Ends: every instruction consumes at least one byte.
        while !reader.isAtEnd && location <= target {
            let instruction = reader.byte()
            let low = Int(instruction & 0x3f)
            switch instruction & 0xc0 {
            case 0x40: advance(UInt(low))
            case 0x80: row[low] = .saved(offset: factored(reader.unsignedLEB()))
            case 0xc0: row[low] = scratch[0][low]
            default: guard executeExtended(instruction, &reader, &row) else { return false }
            }
        }
        return !reader.failed
    }

    private mutating func executeExtended(
        _ instruction: UInt8,
        _ reader: inout ByteReader,
        _ row: inout FrameRow
    ) -> Bool {
        switch instruction {
        case 0x00: break  // nop
        case 0x01:  // set_loc
            location = reader.encodedPointer(description.pointerEncoding, bases: description.bases)
        case 0x02: advance(UInt(reader.byte()))
        case 0x03: advance(UInt(reader.load(UInt16.self)))
        case 0x04: advance(UInt(reader.load(UInt32.self)))
        case 0x05: setRule(&reader, &row) { .saved(offset: $1.factored($0.unsignedLEB())) }
        case 0x06:  // restore_extended
            let number = register(&reader)
            row[number] = scratch[0][number]
        case 0x07: setRule(&reader, &row) { _, _ in .undefined }
        case 0x08: setRule(&reader, &row) { _, _ in .sameValue }
        case 0x09: setRule(&reader, &row) { reader, program in .register(program.register(&reader)) }
        case 0x0a: return rememberState(row)
        case 0x0b: return restoreState(&row)
        case 0x0c:  // def_cfa
            let number = register(&reader)
            row.frameAddress = .register(number, offset: Int(bitPattern: reader.unsignedLEB()))
        case 0x0d:  // def_cfa_register
            guard case .register(_, let offset) = row.frameAddress else { return false }
            row.frameAddress = .register(register(&reader), offset: offset)
        case 0x0e:  // def_cfa_offset
            guard case .register(let number, _) = row.frameAddress else { return false }
            row.frameAddress = .register(number, offset: Int(bitPattern: reader.unsignedLEB()))
        case 0x0f: row.frameAddress = .expression(expression(&reader))
        case 0x10: setRule(&reader, &row) { .savedAtExpression($1.expression(&$0)) }
        case 0x11:  // offset_extended_sf
            setRule(&reader, &row) { .saved(offset: $0.signedLEB() &* $1.description.dataAlignment) }
        case 0x12:  // def_cfa_sf
            let number = register(&reader)
            row.frameAddress = .register(
                number,
                offset: reader.signedLEB() &* description.dataAlignment
            )
        case 0x13:  // def_cfa_offset_sf
            guard case .register(let number, _) = row.frameAddress else { return false }
            row.frameAddress = .register(
                number,
                offset: reader.signedLEB() &* description.dataAlignment
            )
        case 0x14: setRule(&reader, &row) { .value(offset: $1.factored($0.unsignedLEB())) }
        case 0x15:  // val_offset_sf
            setRule(&reader, &row) { .value(offset: $0.signedLEB() &* $1.description.dataAlignment) }
        case 0x16: setRule(&reader, &row) { .valueOfExpression($1.expression(&$0)) }
        // AARCH64_negate_ra_state_with_pc and negate_ra_state: whether the return address carries a
        // signature; the walker strips it always.
        case 0x2c, 0x2d: break
        case 0x2e: _ = reader.unsignedLEB()  // GNU_args_size: for landing pads only
        case 0x2f:  // GNU_negative_offset_extended
            setRule(&reader, &row) { .saved(offset: 0 &- $1.factored($0.unsignedLEB())) }
        default: return false
        }
        return true
    }

    private mutating func advance(_ delta: UInt) {
        location = location &+ delta &* description.codeAlignment
    }

    private func rememberedSlot(_ depth: Int) -> UnsafeMutablePointer<FrameRow>? {
        // safety: slots 1..<scratchRows are the remembered rows.
        depth >= 0 && depth < Self.scratchRows - 1 ? scratch + 1 + depth : nil
    }

    private mutating func rememberState(_ row: FrameRow) -> Bool {
        guard let slot = rememberedSlot(remembered) else { return false }
        slot.pointee = row
        remembered += 1
        return true
    }

    private mutating func restoreState(_ row: inout FrameRow) -> Bool {
        guard let slot = rememberedSlot(remembered - 1) else { return false }
        row = slot.pointee
        remembered -= 1
        return true
    }

    private func factored(_ offset: UInt) -> Int {
        Int(bitPattern: offset) &* description.dataAlignment
    }

    /// Reads a register number; one too large to matter becomes one that every row drops.
    private func register(_ reader: inout ByteReader) -> Int {
        Int(min(reader.unsignedLEB(), 0xffff))
    }

    /// The address of an expression block; the cursor moves behind it.
    private func expression(_ reader: inout ByteReader) -> UInt {
        let block = reader.position
        reader.skip(reader.unsignedLEB())
        return block
    }

    private func setRule(
        _ reader: inout ByteReader,
        _ row: inout FrameRow,
        _ rule: (inout ByteReader, FrameProgram) -> RegisterRule
    ) {
        let number = register(&reader)
        row[number] = rule(&reader, self)
    }
}
