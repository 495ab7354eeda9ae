// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// Evaluates the DWARF expressions that unwind rules use (procedure linkage tables, signal frames,
/// realigned stacks).
///
/// Reads memory through `StackMemory` only, takes a bounded number of steps, and traps on nothing.
package struct FrameExpression {
    private static let stepLimit = 512
    private static let depthLimit = 32

    private let registers: RegisterFile
    private let stack: StackMemory
    private var operands = InlineArray<32, UInt>(repeating: 0)
    private var depth = 0
    private var failed = false

    package init(registers: RegisterFile, stack: StackMemory) {
        self.registers = registers
        self.stack = stack
    }

    /// The value of the block (a length and as many bytes) at an address, or nil.
    ///
    /// - Parameter initial: the canonical frame address for register rules, nil for its own rule.
    package mutating func value(ofBlockAt block: UInt, initial: UInt?) -> UInt? {
        // The row's program was read through a reader that covered the block, so ten bytes of a
        // length and then the length itself are mapped.
        var header = ByteReader(start: block, end: block &+ 10)
        let length = header.unsignedLEB()
        guard !header.failed, length <= 4096 else { return nil }
        let start = header.position
        var reader = ByteReader(start: start, end: start &+ length)
        depth = 0
        failed = false
        if let initial { push(initial) }
        var steps = 0
        while !reader.isAtEnd {
            steps += 1
            guard steps <= Self.stepLimit, execute(&reader, start: start), !failed else { return nil }
        }
        let result = pop()
        return failed || reader.failed ? nil : result
    }

    private mutating func execute(_ reader: inout ByteReader, start: UInt) -> Bool {
        let operation = reader.byte()
        switch operation {
        case 0x03, 0x0e: push(reader.load(UInt.self))
        case 0x06: dereference(count: 8)
        case 0x94: dereference(count: Int(reader.byte()))
        case 0x08: push(UInt(reader.byte()))
        case 0x09: push(signed: Int(reader.load(Int8.self)))
        case 0x0a: push(UInt(reader.load(UInt16.self)))
        case 0x0b: push(signed: Int(reader.load(Int16.self)))
        case 0x0c: push(UInt(reader.load(UInt32.self)))
        case 0x0d: push(signed: Int(reader.load(Int32.self)))
        case 0x0f: push(reader.load(UInt.self))
        case 0x10: push(reader.unsignedLEB())
        case 0x11: push(signed: reader.signedLEB())
        case 0x12: pick(0)
        case 0x13: _ = pop()
        case 0x14: pick(1)
        case 0x15: pick(Int(reader.byte()))
        case 0x16:  // swap
            let (top, second) = (pop(), pop())
            push(top)
            push(second)
        case 0x17:  // rot
            let (top, second, third) = (pop(), pop(), pop())
            push(top)
            push(third)
            push(second)
        case 0x19: push(Int(bitPattern: pop()).magnitude)
        case 0x1f: push(0 &- pop())
        case 0x20: push(~pop())
        case 0x23: push(pop() &+ reader.unsignedLEB())
        case 0x1a...0x1e, 0x21...0x22, 0x24...0x27, 0x29...0x2e: binary(operation)
        case 0x28, 0x2f: return branch(&reader, start: start, isConditional: operation == 0x28)
        case 0x30...0x4f: push(UInt(operation - 0x30))
        case 0x70...0x8f:
            push(register(Int(operation - 0x70)) &+ UInt(bitPattern: reader.signedLEB()))
        case 0x92:
            let number = reader.unsignedLEB()
            push(register(Int(min(number, 0xffff))) &+ UInt(bitPattern: reader.signedLEB()))
        case 0x96: break  // nop
        default: return false
        }
        return true
    }

    private mutating func binary(_ operation: UInt8) {
        let right = pop()
        let left = pop()
        let (signedLeft, signedRight) = (Int(bitPattern: left), Int(bitPattern: right))
        switch operation {
        case 0x1a: push(left & right)
        case 0x1b: push(signed: signedLeft.dividedReportingOverflow(by: signedRight).partialValue)
        case 0x1c: push(left &- right)
        case 0x1d: push(left.remainderReportingOverflow(dividingBy: right).partialValue)
        case 0x1e: push(left &* right)
        case 0x21: push(left | right)
        case 0x22: push(left &+ right)
        case 0x24: push(right < 64 ? left &<< right : 0)
        case 0x25: push(right < 64 ? left &>> right : 0)
        case 0x26: push(signed: signedLeft &>> Int(min(right, 63)))
        case 0x27: push(left ^ right)
        case 0x29: push(signedLeft == signedRight ? 1 : 0)
        case 0x2a: push(signedLeft >= signedRight ? 1 : 0)
        case 0x2b: push(signedLeft > signedRight ? 1 : 0)
        case 0x2c: push(signedLeft <= signedRight ? 1 : 0)
        case 0x2d: push(signedLeft < signedRight ? 1 : 0)
        case 0x2e: push(signedLeft != signedRight ? 1 : 0)
        default: failed = true
        }
    }

    private mutating func branch(
        _ reader: inout ByteReader,
        start: UInt,
        isConditional: Bool
    ) -> Bool {
        let distance = Int(reader.load(Int16.self))
        if isConditional && pop() == 0 { return true }
        let target = reader.position &+ UInt(bitPattern: distance)
        guard target >= start, target <= reader.end else { return false }
        reader = ByteReader(start: target, end: reader.end)
        return true
    }

    private mutating func register(_ number: Int) -> UInt {
        guard number < RegisterFile.count else {
            failed = true
            return 0
        }
        return registers[number]
    }

    private mutating func dereference(count: Int) {
        guard let value = stack.integer(at: pop(), count: count) else {
            failed = true
            return
        }
        push(value)
    }

    private mutating func pick(_ index: Int) {
        guard index < depth else {
            failed = true
            return
        }
        push(operands[depth - 1 - index])
    }

    private mutating func push(_ value: UInt) {
        guard depth < Self.depthLimit else {
            failed = true
            return
        }
        operands[depth] = value
        depth += 1
    }

    private mutating func push(signed value: Int) {
        push(UInt(bitPattern: value))
    }

    private mutating func pop() -> UInt {
        guard depth > 0 else {
            failed = true
            return 0
        }
        depth -= 1
        return operands[depth]
    }
}
