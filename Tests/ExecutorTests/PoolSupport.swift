// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import Synchronization

@testable import Executor
@testable import LightProc

/// The threads of this program that are Bastion's, by name.
enum OurThreads {
    static func names() -> [String] {
        all().compactMap { line("/proc/self/task/\($0)/comm", prefix: "") }.filter { $0.hasPrefix("bastion-") }.sorted()
    }

    /// How many times each fell asleep, by its number and name.
    static func voluntarySwitches() -> [String: Int] {
        var counts: [String: Int] = [:]
        for thread in all() {
            guard let name = line("/proc/self/task/\(thread)/comm", prefix: "bastion-"),
                let count = line("/proc/self/task/\(thread)/status", prefix: "voluntary_ctxt_switches:")
            else { continue }
            counts["\(thread) \(name)"] = count.split(separator: "\t").last.flatMap { Int($0) }
        }
        return counts
    }

    /// A line of the status of the first thread of a name, without the blanks; nil if there is none.
    static func status(of name: String, _ field: String) -> String? {
        all().first { line("/proc/self/task/\($0)/comm", prefix: name) != nil }
            .flatMap { status(ofThread: $0, field) }
    }

    /// Likewise, of a thread by its number.
    static func status(ofThread thread: String, _ field: String) -> String? {
        line("/proc/self/task/\(thread)/status", prefix: field + ":")?
            .dropFirst(field.count + 1).filter { $0 != "\t" && $0 != " " }
    }

    /// The numbers of all threads.
    private static func all() -> [String] {
        guard let stream = opendir("/proc/self/task") else { return [] }
        defer { closedir(stream) }
        var threads: [String] = []
        while let entry = readdir(stream) {
            // safety: the entry is valid until the next readdir; its name is zero-terminated.
            let thread = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if thread.first != "." { threads.append(thread) }
        }
        return threads
    }

    /// The first line of a file that begins like this; nil if there is none, or if the thread is gone.
    private static func line(_ path: String, prefix: String) -> String? {
        guard let file = fopen(path, "r") else { return nil }
        defer { fclose(file) }
        var buffer = [CChar](repeating: 0, count: 256)
        while fgets(&buffer, 256, file) != nil {
            // safety: fgets terminated the line within the buffer.
            let line = buffer.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }.filter { $0 != "\n" }
            if line.hasPrefix(prefix) { return line }
        }
        return nil
    }

    /// Without the thread of the reports, which comes with the first trap.
    static var count: Int { names().count { $0 != "bastion-reports" } }

    /// How many a pool has that is at rest: its workers with their heirs, the timer's, the stall watch's and the reaper's.
    static func atRest(_ pool: WorkerPool) -> Int { 2 * pool.workerCount + 3 }

    /// Waits until there are as many: threads name themselves when they start, and end after they were replaced.
    /// Ends with false after a minute, far more than a thread needs to end, also on a machine that is busy.
    static func blockingWait(forCount count: Int) -> Bool { blockingWait(forCountIn: count...count) }

    static func blockingWait(forCountIn counts: ClosedRange<Int>) -> Bool {
        blockingWait { counts.contains(count) }
    }

    /// Waits until none is left, that of the reports included: for the kernel a thread that was joined is there for a moment still.
    static func blockingWaitForNone() -> Bool { blockingWait { names() == [] } }

    private static func blockingWait(until holds: () -> Bool) -> Bool {
        let end = MonotonicClock.now + .seconds(60)
        while !holds() {
            if MonotonicClock.now > end { return false }
            sched_yield()
        }
        return true
    }
}

/// Something that tasks wait for; opened once.
final class AsyncGate: Sendable {
    private struct State {
        var isOpen = false
        var waiting: [UnsafeContinuation<Void, Never>] = []
    }
    private let state = Locked(State())

    func open() {
        let waiting = state.withLock { state in
            state.isOpen = true
            defer { state.waiting = [] }
            return state.waiting
        }
        for continuation in waiting { continuation.resume() }
    }

    func wait() async {
        await suspended { continuation in
            let isOpen = state.withLock { state in
                if !state.isOpen { state.waiting.append(continuation) }
                return state.isOpen
            }
            if isOpen { continuation.resume() }
        }
    }
}

/// Opens a gate when as many have arrived.
final class Rendezvous: Sendable {
    let everybody = BlockingGate()
    private let missing: Atomic<Int>
    init(_ count: Int) { missing = Atomic(count) }

    func arrive() {
        // ordering: sequentiallyConsistent: tests are not in a hurry.
        if missing.subtract(1, ordering: .sequentiallyConsistent).newValue == 0 { everybody.open() }
    }
}

extension WorkerPool {
    /// By its clock turns take no time: on a busy machine they would seem long, which changes their order. Nor does another
    /// worker stand in for this one.
    static func ofOneWorkerWithoutTime() throws -> WorkerPool {
        WorkerPool(
            placement: try Placement(Topology(synthetic: "core:1 pu:1"), options: .init(pinning: .never)),
            stallThreshold: nil,
            placesMemory: false,
            clock: { 0 }
        )
    }
}

/// A reactive process that does what its messages say.
struct Doer: ReactiveBody {
    struct Deed: Sendable {
        let act: @Sendable (LightProc) throws -> Void
        init(_ act: @escaping @Sendable (LightProc) throws -> Void) { self.act = act }
    }
    mutating func receive(_ message: consuming Deed, on proc: LightProc) throws { try message.act(proc) }
}

/// An innocent process beside those that trap: counts what it gets, in order.
struct Bystander: ReactiveBody {
    enum Message: Sendable {
        case number(Int)
        case report(@Sendable (_ count: Int, _ isInOrder: Bool) -> Void)
    }
    private var count = 0
    private var isInOrder = true

    init() {}

    mutating func receive(_ message: consuming Message, on proc: LightProc) {
        switch message {
        case .number(let number):
            isInOrder = isInOrder && number == count
            count += 1
        case .report(let report): report(count, isInOrder)
        }
    }
}

extension LightProc {
    @discardableResult
    func send<Message: Sendable>(_ message: Message) -> Bool {
        let node = MessageNode.make(message)
        if push(node) { return true }
        node.refuse(as: Message.self)
        return false
    }

    func tell(_ act: @escaping @Sendable (LightProc) throws -> Void) { send(Doer.Deed(act)) }

    /// What a ``Bystander`` got so far. Blocks the caller: ThreadSanitizer does not see the order in which a continuation is
    /// resumed and awaited when it is resumed first.
    func bystanderCount() async -> (count: Int, isInOrder: Bool) {
        let gate = BlockingGate()
        let result = Locked((0, false))
        send(
            Bystander.Message.report { count, isInOrder in
                result.withLock { $0 = (count, isInOrder) }
                gate.open()
            }
        )
        gate.blockingWait()
        return result.withLock { $0 }
    }
}

/// Waits for the exit of a process that nobody observes.
func exit(of proc: LightProc) async -> ExitReason { await ProcHandle(proc).exit() }

/// Starts a process whose call waits in an actor, and returns when it does.
func callThatWaits<Output: Sendable>(
    on pool: WorkerPool,
    _ call: @escaping @Sendable () async -> Output
) async -> RecoverableHandle<Output> {
    let asking = AsyncGate()
    let handle = pool.spawn {
        asking.open()
        return await call()
    }
    await asking.wait()
    while handle.handle.proc.state.activations > 0 { await Task.yield() }
    return handle
}
