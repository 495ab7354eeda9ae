// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CLightProc
import Glibc
import LightProc

/// A thread that got a signal and stays where it was, as a trapped worker does.
///
/// Installs handlers for the whole program, so it is used in exit tests only, once in each.
struct FaultedThread {
    let signal: Int32
    let registers: RegisterFile
    let stack: Range<UInt>
    /// The same stack by the unwinder of the C++ runtime, from the faulting instruction on.
    let unwound: [UInt]

    /// Starts a thread that runs `body` and waits for its signal.
    static func run(_ body: @escaping @Sendable () -> Void) -> FaultedThread {
        let size = 512 * 1024
        let guardSize = 64 * 1024
        let base = mmap(nil, size + guardSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)!
        mprotect(base, guardSize, PROT_NONE)
        sem_init(parked, 0, 0)
        installHandlers()
        var attributes = pthread_attr_t()
        pthread_attr_init(&attributes)
        pthread_attr_setstack(&attributes, base + guardSize, size)
        let start = Unmanaged.passRetained(Start(body))
        var thread = pthread_t()
        pthread_create(&thread, &attributes, runThread, start.toOpaque())
        // Ends: the body raises a signal, or the test does not end, which it is there to show.
        while sem_wait(parked) != 0 {}
        let low = UInt(bitPattern: base) + UInt(guardSize)
        let count = Int(record.pointee.count)
        let trace = (0..<count).map { record.pointee.trace[$0] }
        let registers = RegisterFile(machineContext: UnsafeRawPointer(context))
        let first = trace.firstIndex(of: registers.programCounter) ?? trace.endIndex
        // Beyond the outermost frame libgcc reports one at zero.
        return FaultedThread(
            signal: record.pointee.signal,
            registers: registers,
            stack: low..<low + UInt(size),
            unwound: trace[first...].filter { $0 != 0 }
        )
    }

    func frames() -> [StackWalker.Frame] {
        var walker = StackWalker(registers: registers, stack: stack)
        var frames: [StackWalker.Frame] = []
        while let frame = walker.next() { frames.append(frame) }
        return frames
    }

    func origins(_ regions: CodeRegions) -> StackOrigins {
        var origins = StackOrigins()
        for frame in frames() { origins.add(regions.origin(of: frame)) }
        return origins
    }

    /// The demangled names of all functions on the stack, innermost first.
    func functions() -> [String] {
        let symbolizer = Symbolizer()
        return frames().flatMap { symbolizer.symbol(of: $0).locations.map(\.function) }
    }

    fileprivate final class Start: Sendable {
        let body: @Sendable () -> Void
        init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    }

    fileprivate struct Record {
        var signal: Int32 = 0
        var count = 0
        var trace = InlineArray<256, UInt>(repeating: 0)
    }

    // Written by the signal handler, read after `parked` was posted.
    fileprivate nonisolated(unsafe) static let record: UnsafeMutablePointer<Record> = {
        let record = UnsafeMutablePointer<Record>.allocate(capacity: 1)
        record.initialize(to: Record())
        return record
    }()
    fileprivate nonisolated(unsafe) static let context = UnsafeMutablePointer<mcontext_t>.allocate(capacity: 1)
    fileprivate nonisolated(unsafe) static let parked = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)

    private static func installHandlers() {
        // Touched here so that the handler does not initialise them.
        _ = (record, context, parked)
        var action = sigaction()
        action.__sigaction_handler.sa_sigaction = park
        action.sa_flags = SA_SIGINFO | SA_ONSTACK
        for signal in [SIGILL, SIGTRAP, SIGABRT, SIGFPE, SIGSEGV, SIGBUS, SIGUSR1] {
            sigaction(signal, &action, nil)
        }
    }
}

private func runThread(_ argument: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    // Inherited from the thread of the test, which is one of Dispatch's: they block nearly all.
    var none = sigset_t()
    sigemptyset(&none)
    pthread_sigmask(SIG_SETMASK, &none, nil)
    var alternate = stack_t()
    alternate.ss_size = 256 * 1024
    alternate.ss_sp = mmap(nil, alternate.ss_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    sigaltstack(&alternate, nil)
    let start = Unmanaged<FaultedThread.Start>.fromOpaque(argument!).takeRetainedValue()
    start.body()
    return nil
}

private func park(_ signal: Int32, _: UnsafeMutablePointer<siginfo_t>?, _ context: UnsafeMutableRawPointer?) {
    let record = FaultedThread.record
    record.pointee.signal = signal
    FaultedThread.context.initialize(to: context!.assumingMemoryBound(to: ucontext_t.self).pointee.uc_mcontext)
    defer {
        sem_post(FaultedThread.parked)
        while true { pause() }
    }
    // It reads the code at the faulting instruction, which may not be there.
    guard signal != SIGSEGV else { return }
    _ = crt_unwindBacktrace(
        { context, argument in
            let record = argument!.assumingMemoryBound(to: FaultedThread.Record.self)
            guard record.pointee.count < 256 else { return 5 }
            record.pointee.trace[record.pointee.count] = crt_unwindInstruction(context!)
            record.pointee.count += 1
            return 0
        },
        record
    )
}

/// Hides a value from the optimiser.
@inline(never) @_optimize(none) func opaque<Value>(_ value: Value) -> Value { value }

/// SEED and SCALE for random tests: `SCALE=10` runs ten times as many cases.
enum RandomCases {
    static let seed = getenv("SEED").flatMap { UInt64(String(cString: $0)) } ?? 42
    static let scale = getenv("SCALE").flatMap { Int(String(cString: $0)) } ?? 1
}

/// SplitMix64: small, seedable, good enough for tests.
struct SeededGenerator: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var value = state
        value = (value ^ (value >> 30)) &* 0xbf58_476d_1ce4_e5b9
        value = (value ^ (value >> 27)) &* 0x94d0_49bb_1331_11eb
        return value ^ (value >> 31)
    }
}
