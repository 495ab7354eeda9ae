// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import LightProc
import Testing

/// Registers and stacks full of garbage: a walk may find nothing, but it ends and never faults.
@Suite struct UnwindingHostileTests {
    /// In a process of its own: objects that other tests load and unload meanwhile (hwloc's plugins) would be part of
    /// the garbage.
    @Test func garbageEndsAWalkAndDoesNoHarm() async {
        await #expect(processExitsWith: .success) { UnwindingHostileTests().walkGarbage() }
    }

    private func walkGarbage() {
        print("SEED=\(RandomCases.seed) SCALE=\(RandomCases.scale)")
        var random = SeededGenerator(state: RandomCases.seed)
        let code = codeAddresses()
        let cache = FrameRowCache(regions: CodeRegions())
        let words = 128
        let stack = UnsafeMutablePointer<UInt>.allocate(capacity: words)
        defer { stack.deallocate() }
        let low = UInt(bitPattern: stack)
        let range = low..<low + UInt(words * 8)
        var longest = 0
        var skipped = 0
        for round in 0..<10_000 * RandomCases.scale {
            for index in 0..<words { stack[index] = value(range, code, &random) }
            var registers = RegisterFile()
            for number in 0..<RegisterFile.count { registers[number] = value(range, code, &random) }
            registers.programCounter = Bool.random(using: &random) ? code(&random) : value(range, code, &random)
            var walker = StackWalker(registers: registers, stack: range, cache: cache, frameLimit: 1_000)
            let skips = round % 2 == 1
            var previous: UInt = 0
            var count = 0
            while let frame = walker.next() {
                count += 1
                // The last frame may repeat the stack pointer when its own address cannot be found.
                precondition(
                    count == 1 || frame.canonicalFrameAddress <= previous || range.contains(previous - 1),
                    "a frame outside of the stack"
                )
                previous = frame.canonicalFrameAddress
                guard skips else { continue }
                let before = walker
                let origins = walker.skipKnownFrames()
                skipped += origins == 0 ? 0 : 1
                // What is skipped is what would have been walked: the next frame lies on the same trail.
                if origins != 0 { precondition(isOnTrail(before, walker), "a skip has left the trail") }
            }
            precondition(count <= words + 1, "more frames than words")
            longest = max(longest, count)
        }
        // Otherwise the garbage is not near enough to the truth to test anything.
        precondition(longest > 4, "too little of it was walked")
        precondition(skipped > 0, "nothing was skipped")
    }

    /// Whether a walk comes by, frame by frame, where another got by skipping.
    private func isOnTrail(_ start: StackWalker, _ end: StackWalker) -> Bool {
        var (start, end) = (start, end)
        guard let wanted = end.next() else { return true }
        while let frame = start.next() {
            if frame == wanted { return true }
        }
        return false
    }

    @Test func anEmptyStackGivesOneFrame() {
        var registers = RegisterFile()
        registers.programCounter = UInt(bitPattern: dlsym(nil, "qsort"))
        var walker = StackWalker(registers: registers, stack: 4096..<4096)
        #expect(walker.next()?.programCounter == registers.programCounter)
        #expect(walker.next() == nil)
    }

    /// A word as it may stand in a register or on a stack: an address of the stack or of code, a small number, anything.
    private func value(
        _ stack: Range<UInt>,
        _ code: (inout SeededGenerator) -> UInt,
        _ random: inout SeededGenerator
    ) -> UInt {
        switch UInt8.random(in: 0..<6, using: &random) {
        case 0, 1: UInt.random(in: stack, using: &random) & ~7
        case 2, 3: code(&random)
        case 4:
            [0, 1, .max, .max - 7, 1 << 63, 1 << 60, stack.lowerBound, stack.upperBound].randomElement(using: &random)!
        default: UInt.random(in: 0...UInt.max, using: &random)
        }
    }

    /// Makes addresses in the C library, the Swift library and this test.
    private func codeAddresses() -> (inout SeededGenerator) -> UInt {
        let objects = ObjectList().entries.map(\.object).filter { $0.end - $0.start > 65_536 }
        // Some come again and again, as a recursion's do.
        var known: [UInt] = []
        return { random in
            if known.count == 64, Bool.random(using: &random) { return known.randomElement(using: &random)! }
            let object = objects.randomElement(using: &random)!
            let address = UInt.random(in: object.start..<object.end, using: &random)
            if known.count < 64, FrameDescription(covering: address) != nil { known.append(address) }
            return address
        }
    }
}
