// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import LightProc
import Testing

/// Walks real stacks. Each test is a process of its own, because the handlers are the whole program's.
@Suite struct UnwindingWalkTests {
    @Test func framesMatchThoseOfTheLanguagesUnwinder() async {
        await #expect(processExitsWith: .success) {
            let thread = FaultedThread.run { _ = nest(9) { Int(raise(SIGUSR1)) } }
            let frames = thread.frames()
            #expect(frames.map(\.programCounter) == thread.unwound)
            #expect(frames.count > 12)
            #expect(frames.first?.isReturnAddress == false)
            #expect(frames.dropFirst().allSatisfy { $0.isReturnAddress })
            let addresses = frames.map(\.canonicalFrameAddress)
            #expect(zip(addresses, addresses.dropFirst()).allSatisfy { $0 < $1 })
            #expect(addresses.allSatisfy { thread.stack.contains($0 - 1) })
        }
    }

    @Test(.withTheFunctionsOfTheCLibrary)
    func aCallbackOfQsortIsWalkedThrough() async {
        await #expect(processExitsWith: .success) {
            let thread = FaultedThread.run {
                var numbers: [Int32] = [3, 1, 2]
                qsort(&numbers, 3, 4) { _, _ in opaque(raise(SIGUSR1)) &+ 1 }
            }
            #expect(thread.frames().map(\.programCounter) == thread.unwound)
            let regions = CodeRegions()
            let origins = thread.frames().map { regions.origin(of: $0) }
            // The comparison, qsort, and the body again.
            let first = origins.firstIndex(of: .program) ?? 0
            let sort = origins[first...].firstIndex(of: .libc) ?? 0
            #expect(first > 0 && sort > first && origins[sort...].contains(.program))
        }
    }

    @Test func aLazyGlobalStandsInSwiftOnce() async {
        await #expect(processExitsWith: .success) {
            let thread = FaultedThread.run { _ = Lazily.raised }
            let origins = thread.origins(CodeRegions())
            #expect(origins.contains(.swiftOnce))
            #expect(origins.mayHoldSharedLock)
            #expect(thread.frames().map(\.programCounter) == thread.unwound)
        }
    }

    @Test func onceIsLearntAlsoInsideALazyGlobal() async {
        await #expect(processExitsWith: .success) {
            let regions = Lazily.regions
            let thread = FaultedThread.run { _ = Lazily.raised }
            #expect(thread.origins(regions).contains(.swiftOnce))
        }
    }

    @Test func codeReachedWithoutAOnceHoldsNoSharedLock() async {
        await #expect(processExitsWith: .success) {
            let thread = FaultedThread.run { _ = nest(3) { Int(raise(SIGUSR1)) } }
            let origins = thread.origins(CodeRegions())
            #expect(!origins.mayHoldSharedLock)
            #expect(origins.abortCaller == .program)
        }
    }

    @Test(.withTheFunctionsOfTheCLibrary)
    func anAbortOfFreeIsTheAllocators() async {
        await #expect(processExitsWith: .success) {
            let thread = FaultedThread.run { free(opaque(malloc(64)! + 8)) }
            let origins = thread.origins(CodeRegions())
            #expect(thread.signal == SIGABRT)
            #expect(origins.contains(.allocator))
            #expect(origins.abortCaller == .libc)
        }
    }

    @Test func aFailedCastIsAnAbortOfTheSwiftRuntime() async {
        await #expect(processExitsWith: .success) {
            let thread = FaultedThread.run { _ = opaque(opaque(Rock() as Any) as! Feather) }
            let origins = thread.origins(CodeRegions())
            #expect(thread.signal == SIGABRT)
            #expect(origins.abortCaller == .swiftRuntime)
            #expect(!origins.mayHoldSharedLock)
            #expect(thread.frames().map(\.programCounter) == thread.unwound)
        }
    }

    @Test func aFatalErrorStandsInTheRuntimeAndTheProgram() async {
        await #expect(processExitsWith: .success) {
            let thread = FaultedThread.run { if opaque(true) { fatalError("on purpose") } }
            let regions = CodeRegions()
            let origins = thread.frames().map { regions.origin(of: $0) }
            #expect(origins.first == .swiftRuntime)
            #expect(origins.contains(.program))
            let summary = thread.origins(regions)
            #expect(summary.abortCaller == nil)
            #expect(!summary.mayHoldSharedLock)
        }
    }

    @Test func aTrapInADeinitUnderARuntimeFunctionHoldsNoSharedLock() async {
        await #expect(processExitsWith: .success) {
            let thread = FaultedThread.run {
                var things: [Any] = [(Bomb(), 1), Bomb()]
                things[0] = opaque(1)
                things.removeAll()
            }
            #expect(!thread.origins(CodeRegions()).mayHoldSharedLock)
        }
    }

    @Test func aCallOfAWildPointerIsWalkedFromItsCaller() async {
        await #expect(processExitsWith: .success) {
            typealias Function = @convention(c) () -> Int
            let thread = FaultedThread.run {
                _ = nest(2) { opaque(unsafeBitCast(16, to: Function.self))() &+ 1 }
            }
            let frames = thread.frames()
            #expect(thread.signal == SIGSEGV)
            #expect(frames.first?.programCounter == 16)
            #expect(CodeRegions().origin(of: 16) == .unmapped)
            #expect(thread.functions().contains { $0.contains("nest") })
            #expect(thread.functions().contains { $0.contains("runThread") })
        }
    }

    @Test func aStackOverflowIsWalkedToTheBase() async {
        await #expect(processExitsWith: .success) {
            let thread = FaultedThread.run { _ = opaque(deeper(1)) }
            let frames = thread.frames()
            #expect(thread.signal == SIGSEGV)
            #expect(frames.count > 500)
            let regions = CodeRegions()
            #expect(frames.last.map { regions.origin(of: $0) } == .libc)
            #expect(frames.suffix(12).contains { regions.origin(of: $0) == .program })
        }
    }

    /// A verdict needs the origins of all frames, but has no time to look at each of a recursion's.
    @Test(arguments: [false, true])
    func skippedFramesAreThoseThatAreWalkedOtherwise(isMutual: Bool) async {
        await #expect(processExitsWith: .success) { [isMutual] in
            let thread = FaultedThread.run {
                _ = nest(3) { isMutual ? opaque(Deep().odd(1, 2, 3, 4)) : opaque(deeper(1)) }
            }
            let regions = CodeRegions()
            let frames = thread.frames()
            let last = try #require(frames.last)
            let cache = FrameRowCache(regions: regions)
            for isFirst in [true, false] {
                var walker = StackWalker(registers: thread.registers, stack: thread.stack, cache: cache)
                var origins = StackOrigins()
                var position = 0
                var walked = 0
                while let frame = walker.next() {
                    // In step again after each skip, wherever it ended.
                    let found = frames[position...].firstIndex(of: frame)
                    position = try #require(found) + 1
                    walked += 1
                    origins.add(regions.origin(of: frame))
                    if origins.isPastTop { origins.add(further: walker.skipKnownFrames()) }
                }
                #expect(walked < frames.count / 10, "\(walked) of \(frames.count), first: \(isFirst)")
                // A skip may take the outermost frames along, but never beyond them.
                #expect(position <= frames.count)
                let all = thread.origins(regions)
                for origin in FrameOrigin.allCases { #expect(origins.contains(origin) == all.contains(origin)) }
                if position == frames.count { #expect(frames[position - 1] == last) }
            }
        }
    }

    @Test func aTrapInATaskIsWalkedToTheBaseOfItsThread() async {
        await #expect(processExitsWith: .success) {
            let thread = FaultedThread.run {
                let executor = ThreadExecutor()
                Task(executorPreference: executor) { await suspendAndRaise() }
                executor.runForEver()
            }
            #expect(thread.frames().map(\.programCounter) == thread.unwound)
            let functions = thread.functions()
            #expect(functions.contains { $0.contains("suspendAndRaise") })
            #expect(functions.contains { $0.contains("runForEver") })
            #expect(!thread.origins(CodeRegions()).mayHoldSharedLock)
        }
    }

    @Test func aWalkEndsAtItsFrameLimit() async {
        await #expect(processExitsWith: .success) {
            let thread = FaultedThread.run { _ = nest(9) { Int(raise(SIGUSR1)) } }
            var walker = StackWalker(registers: thread.registers, stack: thread.stack, frameLimit: 3)
            var count = 0
            while walker.next() != nil { count += 1 }
            #expect(count == 3)
            #expect(!walker.hasReachedBase)
            var whole = StackWalker(registers: thread.registers, stack: thread.stack)
            while whole.next() != nil {}
            #expect(whole.hasReachedBase)
        }
    }
}

@inline(never) private func nest(_ depth: Int, _ body: () -> Int) -> Int {
    depth == 0 ? opaque(body()) &+ 1 : opaque(nest(depth - 1, body)) &+ 1
}

@inline(never) private func deeper(_ depth: Int) -> Int {
    var numbers = Array(repeating: depth, count: 3 + depth % 5)
    if depth > 0 { numbers[1] = opaque(deeper(depth + 1)) }
    return numbers.reduce(0, &+)
}

/// Two functions that call each other and keep values in all the registers that they must save.
private final class Deep {
    @inline(never) func odd(_ a: Int, _ b: Int, _ c: Int, _ d: Int) -> Int {
        let sum = opaque(even(opaque(b), opaque(c), opaque(d), a &+ 1))
        return sum &+ a &+ b &* c &+ d
    }

    @inline(never) func even(_ a: Int, _ b: Int, _ c: Int, _ d: Int) -> Int {
        if opaque(a) == .min { return 0 }
        return opaque(odd(d, a, b, c)) &+ a
    }
}

private func suspendAndRaise() async {
    await Task.yield()
    raise(SIGUSR1)
    await Task.yield()
}

private enum Lazily {
    static let raised: Int32 = raise(SIGUSR1)
    static let regions = CodeRegions()
}

private class Thing {}
private final class Rock: Thing {}
private final class Feather: Thing {}

private final class Bomb {
    deinit { raise(SIGUSR1) }
}

/// Runs jobs on the thread that asks it to.
// Sendable: `jobs` is touched by the one thread of the test only.
private final class ThreadExecutor: TaskExecutor, @unchecked Sendable {
    private var jobs: [UnownedJob] = []

    func enqueue(_ job: consuming ExecutorJob) {
        jobs.append(UnownedJob(job))
    }

    @inline(never) func runForEver() {
        while true {
            let now = jobs
            jobs = []
            for job in now { job.runSynchronously(on: asUnownedTaskExecutor()) }
        }
    }
}
