// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// Walks the frames of a thread that stands still, from the registers a signal handler saved.
///
/// Unwinds exactly, by the call frame information that the program's exceptions and debuggers use;
/// where there is none it follows the frame pointer. Invariants: the canonical frame address grows
/// from frame to frame, the number of frames is bounded, memory is read inside the given stack only,
/// so a walk ends and never faults, whatever the registers hold.
///
/// Allocates nothing when it is given a `cache`, and takes no lock where `FrameDescription` takes none.
package struct StackWalker {
    /// One activation on the stack.
    package struct Frame: Sendable, Equatable {
        /// The faulting instruction in the first frame, a return address in the others.
        package let programCounter: UInt
        package let isReturnAddress: Bool
        /// The stack pointer before the call that made this frame.
        package let canonicalFrameAddress: UInt

        /// An address inside the instruction the frame stands at; symbols are looked up with this,
        /// since a call that does not return may be the last instruction of its function.
        package var lookupAddress: UInt {
            isReturnAddress ? programCounter &- 1 : programCounter
        }
    }

    /// More than a worker's stack has room for: a verdict needs all frames, also those of an endless recursion.
    package static let defaultFrameLimit = 65_536

    private let stack: StackMemory
    private let cache: FrameRowCache
    private var registers: RegisterFile
    private var isReturnAddress = false
    private var previousFrameAddress: UInt = 0
    private var framesLeft: Int
    private var isFirst = true
    /// Whether the walk has come to the function that the thread began with; false at its end where the trail was lost.
    package private(set) var hasReachedBase = false

    /// - Parameters:
    ///   - registers: as saved at the faulting instruction.
    ///   - stack: the thread's stack, which stays mapped and unchanged during the walk.
    ///   - cache: rows to reuse between walks of one thread; a fresh one costs two allocations.
    package init(
        registers: RegisterFile,
        stack: Range<UInt>,
        cache: FrameRowCache = FrameRowCache(),
        frameLimit: Int = defaultFrameLimit
    ) {
        self.registers = registers
        self.stack = StackMemory(stack)
        self.cache = cache
        framesLeft = frameLimit
    }

    /// The next frame outwards, nil after the outermost one or where the trail is lost.
    package mutating func next() -> Frame? {
        guard framesLeft > 0 else { return nil }
        framesLeft -= 1
        let frame: Frame
        let lookupAddress = isReturnAddress ? registers.programCounter &- 1 : registers.programCounter
        if let row = cache.row(at: lookupAddress) {
            frame = stepByRow(row)
        } else if isFirst, let popped = stepOutOfWildCall() {
            frame = popped
        } else {
            frame = stepByFramePointer()
        }
        isFirst = false
        return frame
    }

    /// Goes on over the frames whose rows the cache has in their short form, which takes a few loads a frame.
    ///
    /// The frames are those that ``next()`` would give, up to the first that needs more.
    /// - Returns: Their origins: a set of bits, each `1 << origin.rawValue`.
    package mutating func skipKnownFrames() -> UInt16 {
        guard isReturnAddress else { return 0 }
        let steps = cache.steps
        let end = stack.upperBound
        // A frame address from here on has all that a step reads between itself and the bottom of the stack.
        let start = max(previousFrameAddress, stack.lowerBound &+ UInt(FrameStep.depth))
        var (stackPointer, framePointer) = (registers.stackPointer, registers.framePointer)
        var address = registers.programCounter &- 1
        var frameAddress = start
        var left = framesLeft
        var origins: UInt16 = 0
        // The row of the frames stepped over last, and the last of these, if they restore other registers.
        var pending: UnsafeMutablePointer<FrameStep>?
        while left > 0 {
            // safety: the index of an address is within the table.
            let step = steps + FrameRowCache.index(of: address)
            guard step.pointee.address == address, address != 0 else { break }
            let base = step.pointee.isFromFramePointer ? framePointer : stackPointer
            let next = base &+ UInt(bitPattern: step.pointee.frameOffset)
            // Words are read where words are: anything else is for the careful way.
            guard next > frameAddress, next <= end, next & 7 == 0 else { break }
            guard let words = UnsafePointer<UInt>(bitPattern: next) else { break }
            // safety: `next` lies in the stack, at least `FrameStep.depth` bytes above its bottom, and the places of a
            // step are at most that far below it.
            let returnAddress = withoutSignature(words[step.pointee.returnAddressPlace])
            if returnAddress == 0 { break }
            if pending != step {
                // Only the outermost of a run of like frames has the last word on what its caller's registers were.
                if let pending { restoreOthers(pending.pointee.address, frameAddress) }
                pending = step.pointee.restoresOthers ? step : nil
            }
            // safety: as above.
            if step.pointee.framePointerPlace != 0 { framePointer = words[step.pointee.framePointerPlace] }
            framePointer = withoutAsyncMark(framePointer)
            origins |= step.pointee.origin
            stackPointer = next
            frameAddress = next
            address = returnAddress &- 1
            left &-= 1
        }
        guard left < framesLeft else { return 0 }
        if let pending { restoreOthers(pending.pointee.address, frameAddress) }
        registers.stackPointer = stackPointer
        registers.framePointer = framePointer
        registers.programCounter = address &+ 1
        previousFrameAddress = frameAddress
        framesLeft = left
        return origins
    }

    /// Restores what a frame saved, except for the registers that a skip keeps track of itself.
    private mutating func restoreOthers(_ address: UInt, _ frameAddress: UInt) {
        guard let row = cache.row(at: address) else { return }
        let tracked: UInt64 =
            1 << UInt64(RegisterFile.programCounterNumber) | 1 << UInt64(RegisterFile.framePointerNumber)
        var changed = row.pointee.changedRegisters & ~tracked
        while changed != 0 {
            let number = changed.trailingZeroBitCount
            changed &= changed &- 1
            if let value = value(by: row.pointee[number], of: number, frameAddress) { registers[number] = value }
        }
    }

    // MARK: Steps. Each returns the current frame and leaves the registers of its caller.

    private mutating func stepByRow(_ row: UnsafePointer<FrameRow>) -> Frame {
        guard let frameAddress = frameAddress(by: row.pointee.frameAddress),
            accept(frameAddress)
        else { return lastFrame(at: registers.stackPointer) }
        let frame = frame(at: frameAddress)
        var caller = registers
        caller.stackPointer = frameAddress
        // The program counter comes by the return address column, below.
        var changed = row.pointee.changedRegisters & ~(1 << UInt64(RegisterFile.programCounterNumber))
        while changed != 0 {
            let number = changed.trailingZeroBitCount
            changed &= changed &- 1
            if let value = value(by: row.pointee[number], of: number, frameAddress) { caller[number] = value }
        }
        let returnRegister = row.pointee.returnAddressRegister
        guard let returnAddress = returnAddress(row, returnRegister, frameAddress) else {
            framesLeft = 0
            // The outermost function says that it returns nowhere, in its table or by a zero.
            switch row.pointee[returnRegister] {
            case .undefined: hasReachedBase = true
            case .saved: hasReachedBase = value(by: row.pointee[returnRegister], of: returnRegister, frameAddress) == 0
            default: break
            }
            return frame
        }
        caller.programCounter = returnAddress
        caller.framePointer = withoutAsyncMark(caller.framePointer)
        registers = caller
        // The code that a signal interrupted is at its exact instruction, not after a call.
        isReturnAddress = !row.pointee.isSignalFrame
        return frame
    }

    /// A call through a wild pointer has pushed its return address and gone nowhere.
    private mutating func stepOutOfWildCall() -> Frame? {
        guard !LoadedObject.exists(at: registers.programCounter) else { return nil }
        #if arch(x86_64)
        let stackPointer = registers.stackPointer
        guard let returnAddress = stack.word(at: stackPointer),
            LoadedObject.exists(at: returnAddress &- 1), accept(stackPointer &+ 8)
        else { return nil }
        let frame = frame(at: stackPointer &+ 8)
        registers.stackPointer = stackPointer &+ 8
        #elseif arch(arm64)
        let returnAddress = withoutSignature(registers[RegisterFile.linkNumber])
        guard LoadedObject.exists(at: returnAddress &- 1) else { return nil }
        let frame = frame(at: registers.stackPointer)
        #endif
        registers.programCounter = returnAddress
        isReturnAddress = true
        return frame
    }

    /// A frame record is the caller's frame pointer and then the return address, on both machines.
    private mutating func stepByFramePointer() -> Frame {
        let record = registers.framePointer
        let frameAddress = record &+ 16
        guard let callerFramePointer = stack.word(at: record),
            let returnAddress = stack.word(at: record &+ 8),
            record >= registers.stackPointer, withoutSignature(returnAddress) != 0,
            accept(frameAddress)
        else { return lastFrame(at: registers.stackPointer) }
        let frame = frame(at: frameAddress)
        registers.framePointer = withoutAsyncMark(callerFramePointer)
        registers.stackPointer = frameAddress
        registers.programCounter = withoutSignature(returnAddress)
        isReturnAddress = true
        return frame
    }

    private mutating func lastFrame(at address: UInt) -> Frame {
        framesLeft = 0
        return frame(at: address)
    }

    private func frame(at address: UInt) -> Frame {
        Frame(
            programCounter: registers.programCounter,
            isReturnAddress: isReturnAddress,
            canonicalFrameAddress: address
        )
    }

    /// Whether a frame address lies in the stack and above the one before; takes it if so.
    private mutating func accept(_ frameAddress: UInt) -> Bool {
        guard frameAddress > previousFrameAddress, frameAddress > stack.lowerBound,
            frameAddress <= stack.upperBound
        else { return false }
        previousFrameAddress = frameAddress
        return true
    }

    // MARK: Rules

    private func frameAddress(by rule: FrameAddressRule) -> UInt? {
        switch rule {
        case .unknown: return nil
        case .register(let number, let offset):
            guard number < RegisterFile.count else { return nil }
            return registers[number] &+ UInt(bitPattern: offset)
        case .expression(let block):
            var expression = FrameExpression(registers: registers, stack: stack)
            return expression.value(ofBlockAt: block, initial: nil)
        }
    }

    private func value(by rule: RegisterRule, of number: Int, _ frameAddress: UInt) -> UInt? {
        switch rule {
        case .sameValue: return registers[number]
        case .undefined: return nil
        case .saved(let offset): return stack.word(at: frameAddress &+ UInt(bitPattern: offset))
        case .value(let offset): return frameAddress &+ UInt(bitPattern: offset)
        case .register(let other): return other < RegisterFile.count ? registers[other] : nil
        case .savedAtExpression(let block):
            var expression = FrameExpression(registers: registers, stack: stack)
            let address = expression.value(ofBlockAt: block, initial: frameAddress)
            return address.flatMap(stack.word(at:))
        case .valueOfExpression(let block):
            var expression = FrameExpression(registers: registers, stack: stack)
            return expression.value(ofBlockAt: block, initial: frameAddress)
        }
    }

    private func returnAddress(
        _ row: UnsafePointer<FrameRow>,
        _ number: Int,
        _ frameAddress: UInt
    ) -> UInt? {
        guard number < RegisterFile.count else { return nil }
        let rule = row.pointee[number]
        // "Unchanged" means the caller's program counter is the register itself. That is how a leaf
        // function looks on arm64 (the link register); on x86-64 it would be the function's own.
        if case .sameValue = rule, number == RegisterFile.programCounterNumber { return nil }
        guard let value = value(by: rule, of: number, frameAddress) else { return nil }
        let address = withoutSignature(value)
        return address == 0 ? nil : address
    }

    // MARK: Marks in pointers

    /// Swift's asynchronous frames set bit 60 of the frame pointer they save.
    private func withoutAsyncMark(_ framePointer: UInt) -> UInt {
        framePointer >> 60 == 1 ? framePointer & ~(1 << 60) : framePointer
    }

    /// Signed return addresses carry their signature above the 48 bits of a user address.
    private func withoutSignature(_ address: UInt) -> UInt {
        #if arch(arm64)
        address & 0x0000_ffff_ffff_ffff
        #else
        address
        #endif
    }
}
