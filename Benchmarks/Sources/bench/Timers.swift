// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import Runtime
import Synchronization

/// What a timer of the wheels holds: as the executor's.
private struct Action {
    let call: @Sendable () -> Void
}

extension Scenario {
    static let all = processes + restarting + timers + distributors

    /// A number of timers in flight: the wheel alone (its source is compiled into this tool), and through the executor, set
    /// by a process on a worker. Of two scenarios the second does what the first does, and more: the difference is that.
    static let timers: [Scenario] = [
        Scenario(name: "wheel_set", unit: "timer set", operations: 1_000_000) { _, count in
            var run = WheelRun(count)
            run.set()
        },
        Scenario(name: "wheel_set_cancel", unit: "timer set, cancelled", operations: 1_000_000) { _, count in
            var run = WheelRun(count)
            run.set()
            run.cancel()
        },
        Scenario(name: "wheel_set_fire", unit: "timer set, fired", operations: 1_000_000) { _, count in
            var run = WheelRun(count)
            run.set()
            run.fire()
        },
        Scenario(name: "timer_set_cancel", unit: "on a worker: set, cancelled", operations: 1_000_000) {
            system,
            count in
            let gate = Gate()
            system.spawn(TimerSetter(executor: system.executor, gate: gate)).tell(count)
            await gate.wait()
        },
        Scenario(name: "timer_set_fire", unit: "on a worker: set, fired", operations: 200_000) { system, count in
            let tally = FireTally(count)
            system.spawn(TimerFirer(executor: system.executor, tally: tally)).tell(count)
            await tally.gate.wait()
        },
        Scenario(name: "timer_sleep", unit: "process slept 1 ms", operations: 2_000) { system, count in
            let handle = system.executor.spawn { [executor = system.executor] in
                for _ in 0..<count { try await executor.clock.sleep(for: .milliseconds(1)) }
            }
            _ = await handle.outcome()
        },
    ]
}

/// The wheel alone, in virtual time; deadlines are spread over a minute.
struct WheelRun: ~Copyable {
    private var wheel = TimerWheel<Action>()
    private var handles: [TimerHandle] = []
    private let deadlines: [UInt64]
    private let fired = FireTally(.max)

    init(_ count: Int) {
        var random = SplitMix64(seed: 1)
        deadlines = (0..<count).map { _ in 1_000_000 + random.next() % 60_000_000_000 }
        handles.reserveCapacity(count)
    }

    mutating func set() {
        for deadline in deadlines {
            handles.append(wheel.insert(Action { [fired] in fired.note() }, at: deadline))
        }
    }

    /// In another order than they were set.
    mutating func cancel() {
        let step = 7_919
        var place = 0
        for _ in 0..<handles.count {
            place = (place + step) % handles.count
            _ = wheel.cancel(handles[place])
        }
    }

    /// Milliseconds go by.
    mutating func fire() {
        var now: UInt64 = 0
        while wheel.count > 0 {
            now += 1_000_000
            while let due = wheel.popDue(at: now) { due.payload.call() }
        }
    }
}

/// Counts actions, and opens a gate when all were called.
final class FireTally: Sendable {
    private let left: Atomic<Int>
    let gate = Gate()
    init(_ count: Int) { left = Atomic(count) }
    func note() {
        if left.subtract(1, ordering: .relaxed).newValue == 0 { Task { await gate.open() } }
    }
}

/// Sets as many timers as the message says, an hour ahead, and cancels them.
private struct TimerSetter: Reactive {
    let executor: any ProcExecutor
    let gate: Gate

    mutating func receive(_ count: consuming Int, in context: borrowing ReactiveContext<Self>) {
        let tally = FireTally(.max)
        var tokens: [TimerToken] = []
        tokens.reserveCapacity(count)
        let times = (0..<64).map { Duration.seconds(3600) + .milliseconds(937 * $0) }
        for number in 0..<count { tokens.append(executor.wake(after: times[number & 63]) { tally.note() }) }
        for token in tokens { token.cancel() }
        let gate = self.gate
        Task { await gate.open() }
    }
}

/// Sets as many timers as the message says, that are due within 100 ms.
private struct TimerFirer: Reactive {
    let executor: any ProcExecutor
    let tally: FireTally

    mutating func receive(_ count: consuming Int, in context: borrowing ReactiveContext<Self>) {
        var random = SplitMix64(seed: 1)
        let tally = self.tally
        for _ in 0..<count {
            executor.wake(after: .nanoseconds(Int64(random.next() % 100_000_000))) { tally.note() }
        }
    }
}

/// What is printed for `--timers`.
enum TimerFigures {
    static func print(_ system: BastionSystem, _ pool: WorkerPool, _ count: Int) async {
        // What there is one of is made by the first.
        _ = wheel(1000)
        // Memory in the first only: later ones have what that gave back.
        let bytes = wheel(count).bytes
        let median = (0..<5).map { _ in wheel(count) }.sorted { $0.fire < $1.fire }[2]
        Swift.print("\(count) timers in flight, the wheel alone, ns of CPU time a timer (median run by firing)")
        Swift.print("set \(median.set), cancelled \(median.cancel), fired \(median.fire); \(bytes) bytes each")
        Swift.print("lateness in µs: p50, p90, p99, p99.9, largest; of the action, then of the process that slept")
        await lateness("idle", pool, sleepers: 1, sleeps: 2000)
        await lateness("idle, 200 sleepers", pool, sleepers: 200, sleeps: 50)
        let busy = (0..<4).map { _ in system.spawn(Busy(time: 0)) }
        for each in busy { each.tell(1) }
        await lateness("workers busy, short turns", pool, sleepers: 200, sleeps: 50)
        for each in busy { each.tell(0) }
        let long = (0..<4).map { _ in system.spawn(Busy(time: 10_000_000)) }
        for each in long { each.tell(1) }
        await lateness("workers busy, turns of 10 ms", pool, sleepers: 20, sleeps: 50)
        for each in long { each.tell(0) }
        await system.stop()
        pool.shutdown()
    }

    private static func wheel(_ count: Int) -> (set: Int, cancel: Int, fire: Int, bytes: Int) {
        var times: [Double] = []
        func timed(_ body: () -> Void) {
            let start = cpuTime()
            body()
            times.append((cpuTime() - start) / Double(count))
        }
        var run = WheelRun(count)
        let before = IdleMemory.residentBytes()
        timed { run.set() }
        let bytes = (IdleMemory.residentBytes() - before) / count
        timed { run.cancel() }
        var other = WheelRun(count)
        other.set()
        timed { other.fire() }
        return (Int(times[0].rounded()), Int(times[1].rounded()), Int(times[2].rounded()), bytes)
    }

    /// Sleeps of up to 20 ms, by so many processes at a time.
    private static func lateness(_ name: String, _ pool: WorkerPool, sleepers: Int, sleeps: Int) async {
        let before = pool.timerCounters
        let handles = (0..<sleepers).map { number in
            pool.spawn {
                var random = SplitMix64(seed: UInt64(number))
                var late: [Int64] = []
                for _ in 0..<sleeps {
                    let deadline = pool.clock.now.advanced(by: .microseconds(Int64(1 + random.next() % 20_000)))
                    try await pool.clock.sleep(until: deadline)
                    late.append(pool.clock.now.nanoseconds - deadline.nanoseconds)
                }
                return late
            }
        }
        var late: [Int64] = []
        for handle in handles {
            guard let some = try? await handle.outcome().get() else { continue }
            late += some
        }
        let after = pool.timerCounters
        var classes = Array(repeating: UInt(0), count: after[0].lateness.count)
        for counters in after {
            let earlier = before.first { $0.worker == counters.worker }
            for number in classes.indices {
                classes[number] += counters.lateness[number] - (earlier?.lateness[number] ?? 0)
            }
        }
        let rescued = after.reduce(0) { $0 + Int($1.rescued) } - before.reduce(0) { $0 + Int($1.rescued) }
        late.sort()
        let own = [500, 900, 990, 999, 1000].map { late[min(late.count * $0 / 1000, late.count - 1)] / 1000 }
        Swift.print(
            "\(name): \(classBounds(classes)); \(own.map { "\($0)" }.joined(separator: ", ")); fired by the keeper: \(rescued)"
        )
    }

    /// Upper bounds of the classes in which the percentiles lie.
    private static func classBounds(_ classes: [UInt]) -> String {
        let total = classes.reduce(0, +)
        return [500, 900, 990, 999, 1000].map { (share: UInt) in
            var seen: UInt = 0
            for (number, count) in classes.enumerated() {
                seen += count
                if seen * 1000 >= total * share { return "<\(1 << number)" }
            }
            return "?"
        }.joined(separator: ", ")
    }

    private static func cpuTime() -> Double {
        var time = timespec()
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
        return Double(time.tv_sec) * 1e9 + Double(time.tv_nsec)
    }
}

/// Keeps a worker busy, in turns of some length, until it gets the message 0.
private struct Busy: Reactive {
    /// Nanoseconds; 0: as short as a turn is.
    let time: UInt64

    mutating func receive(_ message: consuming Int, in context: borrowing ReactiveContext<Self>) {
        if message == 0 { return context.stop() }
        if time > 0 {
            let end = now() + time
            while now() < end {}
            context.yield()
        }
        context.me.tell(1)
    }

    private func now() -> UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }
}
