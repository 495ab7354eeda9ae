// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import Runtime
import Synchronization

/// What idle processes of each kind occupy: resident memory after, less that before, a process.
///
/// Guards the size of the process object and of what a waiting task holds. The array in which the program keeps them is
/// resident before. Nothing is taken down: the tool ends when it has printed.
enum IdleMemory {
    static func print(_ system: BastionSystem, _ count: Int) async {
        // The first of each kind makes what there is one of.
        _ = await reactive(system, 1000, Tally())
        _ = await async(system, 1000)
        Swift.print("\(count) idle processes, bytes each")
        Swift.print("reactive, body of 8 bytes: \(await reactive(system, count, Tally()))")
        Swift.print("reactive, body of 88 bytes: \(await reactive(system, count, Roomy()))")
        Swift.print("async, waiting for a continuation: \(await async(system, count))")
        let children = max(count / 20, 1)
        Swift.print("supervised async child, waiting for a message (\(children)): \(await child(system, children))")
    }

    /// Each has handled a message.
    private static func reactive<Body: Reactive>(
        _ system: BastionSystem,
        _ count: Int,
        _ body: Body
    ) async -> Int where Body.Message == Int {
        let references = References(count)
        let before = residentBytes()
        let gate = Gate()
        system.spawn(Breeder(left: count, body: body, references: references, system: system, gate: gate)).tell(1)
        await gate.wait()
        return (residentBytes() - before) / count
    }

    private static func async(_ system: BastionSystem, _ count: Int) async -> Int {
        let references = References(count)
        let waiting = Waiting()
        let before = residentBytes()
        for index in 0..<count {
            let handle = system.executor.spawn {
                await withUnsafeContinuation { (_: UnsafeContinuation<Void, Never>) in waiting.add() }
            }
            references.keep(index, handle.handle.proc)
            while waiting.count < index - 64 { sched_yield() }
        }
        while waiting.count < count { sched_yield() }
        return (residentBytes() - before) / count
    }

    private static func child(_ system: BastionSystem, _ count: Int) async -> Int {
        let waiting = Waiting()
        let before = residentBytes()
        let tree = try? system.supervise {
            Children("idle", redundancy: count) { context in
                waiting.add()
                for await _ in context.messages(of: Int.self) {}
            }
        }
        while waiting.count < count { sched_yield() }
        withExtendedLifetime(tree) {}
        return (residentBytes() - before) / count
    }

    static func residentBytes() -> Int {
        // "size resident shared ...", in pages.
        guard let file = fopen("/proc/self/statm", "r") else { return 0 }
        defer { fclose(file) }
        var text = [CChar](repeating: 0, count: 128)
        guard fgets(&text, Int32(text.count), file) != nil else { return 0 }
        var end: UnsafeMutablePointer<CChar>?
        return text.withUnsafeMutableBufferPointer { buffer in
            _ = strtol(buffer.baseAddress!, &end, 10)
            return strtol(end!, nil, 10) * sysconf(Int32(_SC_PAGESIZE))
        }
    }
}

/// Spawns processes in portions, so that the messages that wait are few, and tells each one thing.
private struct Breeder<Body: Reactive>: Reactive where Body.Message == Int {
    var left: Int
    let body: Body
    let references: References
    let system: BastionSystem
    let gate: Gate

    mutating func receive(_ message: consuming Int, in context: borrowing ReactiveContext<Self>) {
        for _ in 0..<min(left, 64) {
            left -= 1
            let ref = system.spawn(body)
            references.keep(left, ref.proc)
            ref.tell(1)
        }
        let gate = self.gate
        if left > 0 {
            context.me.tell(1)
        } else {
            // Behind what was spawned last, on one worker.
            system.spawn(Counter(gate: gate)).tell(0)
        }
    }
}

/// A plain body that is larger than most.
private struct Roomy: Reactive {
    var words = (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    mutating func receive(_ message: consuming Int, in context: borrowing ReactiveContext<Self>) { words.0 &+= message }
}

/// Keeps processes alive for the rest of the program.
private struct References: @unchecked Sendable {
    // Sendable: one task writes it.
    private let cells: UnsafeMutablePointer<Unmanaged<LightProc>?>
    init(_ count: Int) {
        cells = .allocate(capacity: count)
        for index in 0..<count { (cells + index).initialize(to: nil) }
    }
    func keep(_ index: Int, _ proc: LightProc) { cells[index] = .passRetained(proc) }
}

private final class Waiting: Sendable {
    private let number = Atomic<Int>(0)
    func add() { number.add(1, ordering: .relaxed) }
    var count: Int { number.load(ordering: .relaxed) }
}
