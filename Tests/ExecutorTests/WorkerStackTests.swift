// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CLightProc
import TestSupport
import Testing

@testable import Executor
@testable import LightProc

/// What a trapped process left on its stack may still be pointed to: the stack rests before another thread gets it.
@Suite struct WorkerStackTests {
    @Test func theStackOfAThreadThatTrappedIsUsedAgainWhenEnoughOthersCameAfterIt() {
        var stacks = WorkerStackPool(resting: 2)
        let trapped = (0..<3).map { _ in stacks.take() }
        let returned = stacks.take()
        let word = UnsafeMutablePointer<UInt>(bitPattern: trapped[0].low)!
        // safety: the lowest word of a stack that no thread uses.
        word.pointee = 7
        stacks.put(trapped[0], afterTrap: true)
        stacks.put(trapped[1], afterTrap: true)
        #expect(word.pointee == 7)
        let fresh = stacks.take()
        #expect(!trapped.contains { $0.base == fresh.base })
        // One that returned left nothing.
        stacks.put(returned, afterTrap: false)
        #expect(stacks.take().base == returned.base)
        stacks.put(trapped[2], afterTrap: true)
        #expect(stacks.take().base == trapped[0].base)
        #expect(word.pointee == 7)
        for stack in [trapped[0], returned, fresh] { stacks.put(stack, afterTrap: false) }
        stacks.unmapAll()
    }

    /// Traps one after the other on one worker: 32 others come before its stack comes again.
    @Test func inAPoolStacksRest() async throws {
        let pool = try WorkerPool(workers: 1)
        let stacks = Locked<[UInt]>([])
        for _ in 0..<90 {
            let handle = pool.spawn {
                stacks.withLock { $0.append(crt_self()?.pointee.stackLow ?? 0) }
                Misdeed.index.commit()
            }
            #expect(await handle.handle.exit().trapReport?.process == handle.id)
        }
        let used = stacks.withLock { $0 }
        #expect(used.count == 90)
        var last: [UInt: Int] = [:]
        var shortestRest = Int.max
        for (number, stack) in used.enumerated() {
            if let before = last.updateValue(number, forKey: stack) {
                shortestRest = min(shortestRest, number - before)
            }
        }
        #expect(shortestRest > 32, "a stack came again after \(shortestRest) traps")
        // And they do come again: those at rest, those of threads that are not buried yet, the worker's and its heir's.
        #expect(last.count <= 32 + 3 + 2 + 1, "\(last.count) stacks for 90 traps")
        await pool.shutDownElsewhere()
    }
}
