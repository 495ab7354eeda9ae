// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import Runtime
import Synchronization

/// What starting, restarting and stopping a child costs beside so many siblings, and what an idle child occupies.
///
/// Guards that none of it depends on the number of siblings. Each column is processor time of the whole program in ns, divided by
/// the number of operations; the number of those is the same for all sizes but in the first and the last column.
enum Siblings {
    private static let some = 1000
    private static let few = 100

    static func print(_ system: BastionSystem, upTo largest: Int) async {
        var sizes: [Int] = []
        var size = 1000
        while size < largest {
            sizes.append(size)
            size *= 10
        }
        sizes.append(largest)
        let columns = ["start", "bytes", "start beside", "grow by 1", "restart", "stop group", "stop 1", "stop all"]
        Swift.print(row(["strategy", "siblings"] + columns))
        do {
            // The first makes what there is one of.
            _ = try await measure(system, .oneForOne, some)
            for (name, strategy) in [("oneForOne", RestartStrategy.oneForOne), ("dynamic", .dynamic)] {
                for size in sizes {
                    let figures = try await measure(system, strategy, size)
                    Swift.print(row([name, "\(size)"] + figures.map(String.init)))
                    // Large sizes take their time, also where nobody sees a terminal.
                    fflush(nil)
                }
            }
        } catch {
            Swift.print("siblings: \(error)")
            exit(1)
        }
    }

    private static func measure(
        _ system: BastionSystem,
        _ strategy: RestartStrategy,
        _ count: Int
    ) async throws -> [Int] {
        let board = Board()
        releaseFreeMemory()
        let before = IdleMemory.residentBytes()
        var watch = Stopwatch()
        let tree = try await system.supervise(
            "siblings",
            startingWithin: .seconds(3600),
            strategy: strategy,
            intensity: .unlimited
        ) { Children("child", Sibling(board), redundancy: count) }
        var figures = [watch.lap(count)]
        figures.append((IdleMemory.residentBytes() - before) / count)

        _ = watch.lap()
        try await tree.children(startingWithin: .seconds(60)) { Children("more", Sibling(board), redundancy: some) }
        figures.append(watch.lap(some))

        var gate = board.expect(few)
        for number in 1...few { try tree.resize(group: "child", to: count + number) }
        await gate.wait()
        figures.append(watch.lap(few))

        gate = board.expect(some)
        let instigator = Instigator(
            left: some,
            members: try tree.group("child", of: Sibling.Message.self).members,
            board: board
        )
        _ = watch.lap()
        system.spawn(instigator).tell(1)
        await gate.wait()
        figures.append(watch.lap(some))

        try await tree.terminate(group: "more")
        figures.append(watch.lap(some))

        // All at once: who asks from outside is woken for each answer, which costs more than the stop.
        try await withThrowingTaskGroup { group in
            for number in 0..<few {
                group.addTask { try await tree.terminate(child: "child-\(number * (count / few))") }
            }
            try await group.waitForAll()
        }
        figures.append(watch.lap(few))

        await tree.stop()
        figures.append(watch.lap(count))
        return figures
    }

    /// What the allocator keeps of the run before does not hide what this one takes.
    private static func releaseFreeMemory() {
        // Not in the module map.
        guard let symbol = dlsym(nil, "malloc_trim") else { return }
        _ = unsafeBitCast(symbol, to: (@convention(c) (Int) -> CInt).self)(0)
    }

    private static func row(_ cells: [String]) -> String {
        cells.map { String(repeating: " ", count: max(14 - $0.count, 1)) + $0 }.joined()
    }

    /// Counts starts.
    private final class Board: Sendable {
        private let left = Atomic(0)
        private let gate = Mutex<Gate?>(nil)

        func expect(_ count: Int) -> Gate {
            let fresh = Gate()
            gate.withLock { $0 = fresh }
            left.store(count, ordering: .sequentiallyConsistent)
            return fresh
        }

        func started() {
            if left.subtract(1, ordering: .sequentiallyConsistent).newValue == 0 { gate.withLock { $0 }?.openLater() }
        }
    }

    private struct Failure: Error {}

    private struct Sibling: Reactive {
        typealias Message = Int
        let board: Board
        init(_ board: Board) {
            self.board = board
            board.started()
        }
        mutating func receive(_ message: consuming Int, in context: borrowing ReactiveContext<Self>) throws {
            throw Failure()
        }
    }

    /// Has members fail, in portions, each another one.
    private struct Instigator: Reactive {
        var left: Int
        /// Let go of at the end: of a list that somebody holds the next change makes a copy.
        var members: [ProcRef<Int>]
        let board: Board
        mutating func receive(_ message: consuming Int, in context: borrowing ReactiveContext<Self>) {
            for _ in 0..<min(left, 64) {
                left -= 1
                // Far from each other, so that caches are no help.
                members[left * (members.count / 1000)].tell(1)
            }
            if left > 0 { context.me.tell(1) } else { members = [] }
        }
    }
}

/// Processor time of the program between laps.
struct Stopwatch {
    private var last = Self.now

    /// Nanoseconds an operation since the last lap.
    mutating func lap(_ operations: Int = 1) -> Int {
        let now = Self.now
        defer { last = now }
        return (now - last) / operations
    }

    private static var now: Int {
        var time = timespec()
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
        return time.tv_sec * 1_000_000_000 + time.tv_nsec
    }
}
