// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc
import Testing

/// Tables made by hand, instruction by instruction, and random ones.
@Suite struct UnwindingTableTests {
    struct Case: Sendable, CustomTestStringConvertible {
        let testDescription: String
        let program: [UInt8]
        /// Nil: the program must be refused.
        let frameAddress: FrameAddressRule?
        var rules: [Int: RegisterRule] = [:]
    }

    /// The common entry says: code alignment 1, data alignment -8, CFA = r7+8, r16 at CFA-8, r3 at CFA-16.
    /// Rows are asked for at the function's start plus 10.
    static let cases: [Case] = [
        Case(
            testDescription: "empty",
            program: [],
            frameAddress: .register(7, offset: 8),
            rules: [3: .saved(offset: -16)]
        ),
        Case(testDescription: "def_cfa_offset", program: [0x0e, 16], frameAddress: .register(7, offset: 16)),
        Case(testDescription: "def_cfa", program: [0x0c, 6, 0x80, 1], frameAddress: .register(6, offset: 128)),
        Case(testDescription: "def_cfa_register", program: [0x0d, 6], frameAddress: .register(6, offset: 8)),
        Case(testDescription: "def_cfa_sf", program: [0x12, 6, 0x7e], frameAddress: .register(6, offset: 16)),
        Case(testDescription: "def_cfa_offset_sf", program: [0x13, 0x7d], frameAddress: .register(7, offset: 24)),
        Case(
            testDescription: "advances up to the address",
            program: [0x44, 0x0e, 16, 0x46, 0x0e, 24],
            frameAddress: .register(7, offset: 24)
        ),
        Case(
            testDescription: "advances beyond the address",
            program: [0x44, 0x0e, 16, 0x47, 0x0e, 24],
            frameAddress: .register(7, offset: 16)
        ),
        Case(
            testDescription: "advance_loc1, 2 and 4",
            program: [0x02, 1, 0x0e, 16, 0x03, 1, 0, 0x0e, 24, 0x04, 9, 0, 0, 0, 0x0e, 32],
            frameAddress: .register(7, offset: 24)
        ),
        Case(
            testDescription: "offset and restore",
            program: [0x86, 2, 0x83, 9, 0xc3],
            frameAddress: .register(7, offset: 8),
            rules: [6: .saved(offset: -16), 3: .saved(offset: -16)]
        ),
        Case(
            testDescription: "offset_extended and restore_extended",
            program: [0x05, 6, 3, 0x05, 3, 9, 0x06, 3],
            frameAddress: .register(7, offset: 8),
            rules: [6: .saved(offset: -24), 3: .saved(offset: -16)]
        ),
        Case(
            testDescription: "offset_extended_sf",
            program: [0x11, 6, 0x7e],
            frameAddress: .register(7, offset: 8),
            rules: [6: .saved(offset: 16)]
        ),
        Case(
            testDescription: "undefined, same_value, register",
            program: [0x07, 1, 0x08, 3, 0x09, 2, 5],
            frameAddress: .register(7, offset: 8),
            rules: [1: .undefined, 3: .sameValue, 2: .register(5)]
        ),
        Case(
            testDescription: "val_offset and val_offset_sf",
            program: [0x14, 6, 2, 0x15, 5, 0x7f],
            frameAddress: .register(7, offset: 8),
            rules: [6: .value(offset: -16), 5: .value(offset: 8)]
        ),
        Case(
            testDescription: "remember and restore state",
            program: [0x0a, 0x0e, 32, 0x86, 4, 0x0a, 0x0e, 64, 0x0b, 0x0b],
            frameAddress: .register(7, offset: 8),
            rules: [6: .sameValue]
        ),
        Case(
            testDescription: "GNU_args_size",
            program: [0x2e, 0x80, 2, 0x0e, 16],
            frameAddress: .register(7, offset: 16)
        ),
        Case(
            testDescription: "GNU_negative_offset_extended",
            program: [0x2f, 6, 2],
            frameAddress: .register(7, offset: 8),
            rules: [6: .saved(offset: 16)]
        ),
        Case(testDescription: "negate_ra_state", program: [0x2d, 0x0e, 16], frameAddress: .register(7, offset: 16)),
        Case(
            testDescription: "a vector register is passed over",
            program: [0x05, 72, 4, 0x0e, 16],
            frameAddress: .register(7, offset: 16)
        ),
        Case(testDescription: "an unknown instruction", program: [0x3f], frameAddress: nil),
        Case(testDescription: "restore without remember", program: [0x0b], frameAddress: nil),
        Case(testDescription: "a truncated operand", program: [0x0c, 6], frameAddress: nil),
        Case(testDescription: "a truncated block", program: [0x0f, 9, 0x77], frameAddress: nil),
        Case(
            testDescription: "too many remembered states",
            program: Array(repeating: 0x0a, count: 9),
            frameAddress: nil
        ),
    ]

    @Test(arguments: cases) func aProgramGivesItsRow(_ example: Case) {
        withTable(example.program) { entry, bases in
            guard let description = FrameDescription(entry: entry, bases: bases) else {
                Issue.record("the entry was refused")
                return
            }
            #expect(description.function == 0x1000..<0x1100)
            #expect(description.returnAddressRegister == 16)
            #expect(!description.isSignalFrame)
            let row = row(of: description, at: 0x100a)
            #expect(row?.frameAddress == example.frameAddress)
            for (number, rule) in example.rules where number < RegisterFile.count { #expect(row?[number] == rule) }
        }
    }

    @Test func expressionsAreFoundWhereTheyStand() {
        withTable([0x0f, 2, 0x77, 8, 0x10, 6, 1, 0x30, 0x16, 5, 1, 0x31]) { entry, bases in
            let description = FrameDescription(entry: entry, bases: bases)
            let start = description?.program.start ?? 0
            let row = description.flatMap { self.row(of: $0, at: 0x1000) }
            #expect(row?.frameAddress == .expression(start + 1))
            #expect(row?[6] == .savedAtExpression(start + 6))
            #expect(row?[5] == .valueOfExpression(start + 10))
        }
    }

    @Test func aSignalFrameSaysSo() {
        withTable([], augmentation: "zRS") { entry, bases in
            #expect(FrameDescription(entry: entry, bases: bases)?.isSignalFrame == true)
        }
    }

    @Test(
        arguments: [
            ([0x35, 0x33, 0x22], 8), ([0x35, 0x33, 0x1c], 2), ([0x35, 0x33, 0x1e], 15), ([0x31, 0x30, 0x1d], 1),
            ([0x08, 200, 0x09, 0xff, 0x22], 199), ([0x0a, 1, 1], 257), ([0x10, 0x80, 1], 128), ([0x11, 0x7f, 0x19], 1),
            ([0x31, 0x32, 0x14], 1), ([0x31, 0x32, 0x16], 1), ([0x31, 0x32, 0x33, 0x17, 0x13], 1),
            ([0x33, 0x23, 4], 7),
            ([0x31, 0x34, 0x24], 16), ([0x38, 0x31, 0x25], 4), ([0x09, 0xf8, 0x32, 0x26, 0x1f], 2),
            ([0x35, 0x31, 0x28, 1, 0, 0x36, 0x96], 5), ([0x35, 0x2f, 1, 0, 0x36], 5), ([0x31, 0x32, 0x2d], 1),
            ([0x77, 0x10], 0x2010), ([0x77, 0, 0x06], 0xabcd), ([0x77, 0, 0x94, 1], 0xcd),
            // As in the x86-64 procedure linkage table: r7 + 8 + ((r16 & 15) >= 11 ? 8 : 0).
            ([0x77, 8, 0x80, 0, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22], 0x2010),
        ] as [([UInt8], Int)]
    ) func anExpressionHasItsValue(_ bytes: [UInt8], _ value: Int) {
        #expect(evaluate(bytes) == UInt(value))
    }

    @Test(
        arguments: [
            [0x22], [0xff], [0x06], [0x35, 0x30, 0x1d, 0x06], [0x2f, 0xfd, 0xff], [0x15, 9], [0x0e, 1],
            [0x92, 0x7f, 0],
            Array(repeating: 0x31, count: 33), [0x2f, 0x70, 0x70],
        ] as [[UInt8]]
    ) func aSenselessExpressionHasNoValue(_ bytes: [UInt8]) {
        #expect(evaluate(bytes) == nil)
    }

    @Test func divisionsThatHaveNoResultDoNotTrap() {
        _ = evaluate([0x31, 0x30, 0x1b])
        _ = evaluate([0x31, 0x30, 0x1d])
        // Int.min / -1
        _ = evaluate([0x31, 0x08, 63, 0x24, 0x09, 0xff, 0x1b])
    }

    @Test func randomTablesDoNoHarm() {
        print("SEED=\(RandomCases.seed) SCALE=\(RandomCases.scale)")
        var random = SeededGenerator(state: RandomCases.seed)
        for _ in 0..<5_000 * RandomCases.scale {
            let program = (0..<Int.random(in: 0...24, using: &random)).map { _ in
                UInt8.random(in: 0...255, using: &random)
            }
            withTable(program) { entry, bases in
                guard let description = FrameDescription(entry: entry, bases: bases) else { return }
                _ = row(of: description, at: 0x1000 + UInt.random(in: 0..<256, using: &random))
            }
            _ = evaluate(program)
        }
    }

    @Test func numbersOfVariableLengthAreRead() {
        let bytes: [UInt8] = [0xe5, 0x8e, 0x26, 0x9b, 0xf1, 0x59, 0x7f, 0xff]
        bytes.withUnsafeBytes { bytes in
            let start = UInt(bitPattern: bytes.baseAddress)
            var reader = ByteReader(start: start, end: start + UInt(bytes.count))
            #expect(reader.unsignedLEB() == 624_485)
            #expect(reader.signedLEB() == -624_485)
            #expect(reader.signedLEB() == -1)
            #expect(!reader.failed)
            // The last number goes on after the end.
            _ = reader.unsignedLEB()
            #expect(reader.failed)
        }
    }

    private func row(of description: FrameDescription, at address: UInt) -> FrameRow? {
        let scratch = UnsafeMutablePointer<FrameRow>.allocate(capacity: FrameProgram.scratchRows)
        scratch.initialize(repeating: FrameRow(), count: FrameProgram.scratchRows)
        defer { scratch.deallocate() }
        var program = FrameProgram(description, target: address, scratch: scratch)
        var row = FrameRow()
        return program.run(into: &row) ? row : nil
    }

    /// Evaluates an expression over a stack of 64 bytes at 0x2000 (moved there by arithmetic on its real address).
    private func evaluate(_ bytes: [UInt8]) -> UInt? {
        var stack: [UInt] = [0xabcd, 0, 0, 0, 0, 0, 0, 0]
        return stack.withUnsafeMutableBytes { stack in
            let base = UInt(bitPattern: stack.baseAddress)
            var registers = RegisterFile()
            registers[7] = base
            registers[16] = 0x40000b
            let block = [UInt8(bytes.count)] + bytes
            return block.withUnsafeBytes { block in
                var expression = FrameExpression(registers: registers, stack: StackMemory(base..<base + 64))
                let value = expression.value(ofBlockAt: UInt(bitPattern: block.baseAddress), initial: nil)
                return value.map { $0 >= base && $0 < base + 64 ? $0 - base + 0x2000 : $0 }
            }
        }
    }

    /// Lays out a common entry and a frame description with a program, and gives the latter's address.
    private func withTable<Result>(
        _ program: [UInt8],
        augmentation: String = "zR",
        _ body: (UInt, PointerBases) -> Result
    ) -> Result {
        func padded(_ bytes: [UInt8]) -> [UInt8] { bytes + Array(repeating: 0, count: (8 - bytes.count % 8) % 8) }
        func word<Value: FixedWidthInteger>(_ value: Value) -> [UInt8] {
            withUnsafeBytes(of: value.littleEndian) { Array($0) }
        }
        // Version 1, alignment 1 and -8, return address 16, one byte of augmentation: absolute eight-byte pointers.
        let common =
            word(UInt32(0)) + [1] + Array(augmentation.utf8) + [0, 1, 0x78, 16, 1, 0x00]
            + [0x0c, 7, 8, 0x90, 1, 0x83, 2]
        let commonEntry = word(UInt32(padded(common).count)) + padded(common)
        // Distance from the field to the common entry's start.
        let description = word(UInt32(commonEntry.count + 4)) + word(UInt(0x1000)) + word(UInt(0x100)) + [0] + program
        let bytes = commonEntry + word(UInt32(description.count)) + description
        return bytes.withUnsafeBytes { bytes in
            var bases = PointerBases()
            bases.function = 0x1000
            return body(UInt(bitPattern: bytes.baseAddress) + UInt(commonEntry.count), bases)
        }
    }
}
