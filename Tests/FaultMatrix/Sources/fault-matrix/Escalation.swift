// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CFaults
import Glibc
import Runtime

/// What must not be contained: the program ends by the signal that it would have ended by without us.
enum Escalation: String, CaseIterable, Sendable {
    case wildWrite, wildRead, wildCall, busError
    case doubleFree, damagedHeap, failedAssertionInC
    case global, globalBelowTask, onceOfC
    case cancellationHandler
    case strangeThread, detachedTask, mainThread, timerThread
    case constructor
    case systemCrashes, groupCrashes
    #if arch(x86_64)
    case lostTrail
    #endif
    case breakpoint, trapFromOutside, signalFromOutside, abortFromOutside

    /// What the program ends by.
    var signal: Int32 {
        switch self {
        case .wildWrite, .wildRead, .wildCall, .signalFromOutside: SIGSEGV
        case .busError: SIGBUS
        case .doubleFree, .damagedHeap, .failedAssertionInC, .abortFromOutside: SIGABRT
        case .breakpoint, .trapFromOutside: SIGTRAP
        default: Self.trapSignal
        }
    }

    #if arch(x86_64)
    private static let trapSignal = SIGILL
    #else
    private static let trapSignal = SIGTRAP
    #endif

    /// What is said about it; nil for what does not even come to the reaper.
    var words: String? {
        switch self {
        case .wildWrite, .wildRead, .wildCall, .busError: "a wild access"
        case .doubleFree, .damagedHeap, .failedAssertionInC: "an abort from outside the Swift runtime"
        case .global, .globalBelowTask, .onceOfC: "the initialiser of a global was running"
        case .cancellationHandler: "a cancellation handler was running"
        case .constructor: "the stack passes through the dynamic loader"
        case .systemCrashes, .groupCrashes: "the policy of the process is to crash"
        #if arch(x86_64)
        case .lostTrail: "the stack cannot be followed to its base"
        #endif
        case .breakpoint: "an illegal instruction or breakpoint"
        case .strangeThread, .detachedTask, .mainThread, .timerThread, .trapFromOutside, .signalFromOutside,
            .abortFromOutside:
            nil
        }
    }

    /// Does it. Returns only if the program survived.
    func commit(in system: BastionSystem) async {
        let executor = system.executor
        switch self {
        case .wildWrite:
            await inProcess(system) { UnsafeMutablePointer<Int>(bitPattern: opaque(0x10))!.pointee = 1 }
        case .wildRead:
            await inProcess(system) { _ = opaque(UnsafePointer<Int>(bitPattern: opaque(0x10))!.pointee) }
        case .wildCall:
            await inProcess(system) { unsafeBitCast(opaque(16), to: (@convention(c) () -> Void).self)() }
        case .busError: await inProcess(system) { _ = faults_readBehindFile() }
        case .doubleFree: await inProcess(system) { faults_freeTwice() }
        case .damagedHeap: await inProcess(system) { faults_damageHeap() }
        case .failedAssertionInC: await inProcess(system) { faults_failAssertion() }
        case .global: await inProcess(system) { _ = opaque(Lazily.broken) }
        case .globalBelowTask:
            _ = await executor.spawn {
                await withTaskGroup(of: Int.self) { group in
                    group.addTask { Lazily.broken }
                    return await group.reduce(0, +)
                }
            }.outcome()
        case .onceOfC: await inProcess(system) { faults_runOnce { Misdeed.index.commit() } }
        case .cancellationHandler: await cancellationHandler(executor)
        case .strangeThread:
            var thread = pthread_t()
            pthread_create(
                &thread,
                nil,
                { _ in
                    Misdeed.index.commit()
                    return nil
                },
                nil
            )
            pthread_join(thread, nil)
        case .detachedTask: _ = await Task.detached { Misdeed.index.commit() }.value
        case .mainThread: _ = await Task { @MainActor in Misdeed.index.commit() }.value
        case .timerThread:
            await withUnsafeContinuation { continuation in
                _ = executor.schedule(after: .microseconds(1)) {
                    Misdeed.index.commit()
                    continuation.resume()
                }
            }
        case .constructor:
            let library = Self.folder + "/libTrapAtLoad.so"
            guard access(library, R_OK) == 0 else { return say("there is no \(library)") }
            await inProcess(system) { _ = dlopen(library, RTLD_NOW) }
        case .systemCrashes:
            await inProcess(BastionSystem(name: "crashing", executor: executor, containment: .crash)) {
                Misdeed.index.commit()
            }
        case .groupCrashes:
            let tree = try? system.supervise { Children("doer", Doer(), containment: .crash) }
            guard let doer = try? tree?.group("doer", of: Doer.Message.self).next else { return }
            doer.tell(.act { Misdeed.index.commit() })
            // Ends: by the trap, or by the watchdog.
            while true { pause() }
        #if arch(x86_64)
        case .lostTrail: await inProcess(system) { faults_loseTrail { Misdeed.index.commit() } }
        #endif
        case .breakpoint: await inProcess(system) { faults_breakpoint() }
        case .trapFromOutside: await inProcess(system) { raise(SIGTRAP) }
        case .signalFromOutside:
            await inProcess(system) {
                kill(getpid(), SIGSEGV)
                while true { pause() }
            }
        case .abortFromOutside:
            await inProcess(system) {
                kill(getpid(), SIGABRT)
                while true { pause() }
            }
        }
    }

    private func inProcess(_ system: BastionSystem, _ act: @escaping @Sendable () -> Void) async {
        let doer = system.spawn(Doer())
        doer.tell(.act(act))
        doer.tell(.stop)
        _ = await ProcHandle(doer.proc).exit()
    }

    private func cancellationHandler(_ executor: any ProcExecutor) async {
        let started = Missing(2)
        let process = executor.spawn {
            await withTaskCancellationHandler {
                started.arrive()
                await withUnsafeContinuation { (_: UnsafeContinuation<Void, Never>) in }
            } onCancel: {
                Misdeed.index.commit()
            }
        }
        started.arrive()
        process.cancel()
        _ = await process.outcome()
    }

    private static var folder: String {
        var path = [CChar](repeating: 0, count: 4096)
        guard readlink("/proc/self/exe", &path, 4095) > 0 else { return "." }
        // safety: readlink wrote at most 4095 bytes, so a zero follows.
        let program = path.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
        return program.lastIndex(of: "/").map { String(program[..<$0]) } ?? "."
    }
}

private enum Lazily {
    static let broken: Int = Misdeed.index.commit()
}

/// A stack that is used up where a lock may be held: whether the trap is contained depends on where exactly it is.
enum Brink: String, CaseIterable, Sendable {
    case calling, allocating, freeing, metadata, global, loader

    /// What is said when it must not be contained.
    var words: String {
        switch self {
        case .calling: "-"
        case .allocating, .freeing: "the stack passes through the allocator"
        case .metadata: "type metadata was being made"
        case .global: "the initialiser of a global was running"
        case .loader: "the stack passes through the dynamic loader"
        }
    }

    /// Does it with so many bytes of stack left, and then asks for the same from another process. True if that answers.
    func isHarmless(withRoom room: Int, in system: BastionSystem) async -> Bool {
        let act = act
        // So that the symbols of the C library are bound, and the blocks there.
        faults_prepareBlocks()
        _ = dlsym(nil, "malloc")
        let doer = system.spawn(Doer())
        doer.tell(.act { faults_withRoom(room, act) })
        doer.tell(.stop)
        let reason = await ProcHandle(doer.proc).exit()
        say("\(rawValue) with \(room) bytes: \(reason.trapReport?.kind.rawValue ?? "there was room")")
        // Whoever needs what the dead thread may have held does not wait for ever: else the watchdog says so.
        for _ in 0..<2 {
            let other = system.spawn(Doer())
            other.tell(.act { act() })
            other.tell(.stop)
            guard case .normal = await ProcHandle(other.proc).exit() else { return false }
        }
        return true
    }

    private var act: @Sendable @convention(c) () -> Void {
        switch self {
        case .calling: { _ = opaque(sum(of: opaque(20))) }
        case .allocating: { free(opaque(malloc(200_000))) }
        case .freeing: { faults_freeBlock() }
        case .metadata: { nest(3, Box<Brink>.self) {} }
        case .global: { _ = opaque(Expensively.made) }
        case .loader: { _ = opaque(dlsym(nil, "no such thing")) }
        }
    }
}

@inline(never)
private func sum(of count: Int) -> Int { count == 0 ? 0 : opaque(sum(of: count - 1)) + count }

private enum Expensively {
    static let made: [Int] = (0..<opaque(100)).map { $0 * $0 }
}
