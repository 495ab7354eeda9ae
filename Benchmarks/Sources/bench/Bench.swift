// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CAllocationCount
import Glibc
import Logging
import Runtime

/// Runs scenarios several times and prints the median, the fastest and the slowest, in nanoseconds an operation.
///
/// `bench [--workers N] [--runs N] [--scale N] [--operations N] [--counts | --memory | --timers | --mailboxes | --siblings | --storm
/// [--seconds N]] [NAME ...]`. With `--counts` it
/// prints allocations an operation instead: the difference between a run and one of twice the size, so that what is made
/// once does not count. With `--memory` it prints what a million idle processes occupy, with `--timers` what as many timers
/// cost and how late they are, with `--mailboxes` what the program occupies while a mailbox is flooded, for each policy,
/// with `--siblings` what children cost beside up to a million others, with `--storm` whether a million children get over
/// one in a hundred failing every second. `--operations` replaces the
/// number of operations of each run, for tools that slow the program down. CPU time of the whole process stands beside
/// wall time: on a shared machine it is the steadier of the two.
@main
struct Bench {
    /// Not async: that would end the main thread, which valgrind does not survive.
    static func main() {
        let command = BenchCommand(arguments: Array(CommandLine.arguments.dropFirst()))
        Task.detached {
            await command.run()
            exit(0)
        }
        while true { pause() }
    }
}

/// One thing to measure.
struct Scenario: Sendable {
    let name: String
    /// What one operation is.
    let unit: String
    let operations: Int
    /// The scenario that does the same without a runtime around it; timings are printed as ratios to it.
    var floor: String?
    let body: @Sendable (BastionSystem, Int) async throws -> Void

    init(
        name: String,
        unit: String,
        operations: Int,
        floor: String? = nil,
        body: @escaping @Sendable (BastionSystem, Int) async throws -> Void
    ) {
        self.name = name
        self.unit = unit
        self.operations = operations
        self.floor = floor
        self.body = body
    }
}

struct BenchCommand {
    private var workers = 2
    private var runs = 7
    private var scale = 1
    private var operations: Int?
    private var countsAllocations = false
    private var measuresMemory = false
    private var measuresTimers = false
    private var measuresMailboxes = false
    private var measuresSiblings = false
    private var storms = false
    private var seconds = 60
    private var names: [String] = []

    init(arguments: [String]) {
        var rest = arguments[...]
        while let argument = rest.popFirst() {
            switch argument {
            case "--workers": workers = Self.number(argument, rest.popFirst())
            case "--runs": runs = Self.number(argument, rest.popFirst())
            case "--scale": scale = Self.number(argument, rest.popFirst())
            case "--operations": operations = Self.number(argument, rest.popFirst())
            case "--counts": countsAllocations = true
            case "--memory": measuresMemory = true
            case "--timers": measuresTimers = true
            case "--mailboxes": measuresMailboxes = true
            case "--siblings": measuresSiblings = true
            case "--storm": storms = true
            case "--seconds": seconds = Self.number(argument, rest.popFirst())
            case _ where argument.hasPrefix("-"): Self.fail("unknown option \(argument)")
            default: names.append(argument)
            }
        }
        let known = Scenario.all.map(\.name) + SampledScenario.all.map(\.name)
        for name in names where !known.contains(name) {
            Self.fail("no scenario \(name); there is: \(known.joined(separator: " "))")
        }
    }

    private static func number(_ option: String, _ text: String?) -> Int {
        guard let text, let number = Int(text), number > 0 else { fail("\(option) takes a positive number") }
        return number
    }

    private static func fail(_ message: String) -> Never {
        _ = "bench: \(message)\n".withCString { write(STDERR_FILENO, $0, strlen($0)) }
        exit(64)
    }

    func run() async {
        let pool: WorkerPool
        do {
            pool = try WorkerPool(workers: workers)
        } catch {
            Self.fail("\(error)")
        }
        var log = Logger(label: "bench")
        log.logLevel = .error
        let system = BastionSystem(executor: pool, log: log)
        if measuresMailboxes { return await MailboxMemory.print(system, operations ?? 10_000_000) }
        if measuresSiblings { return await Siblings.print(system, upTo: operations ?? 1_000_000) }
        if storms { return await RestartStorm(children: operations ?? 1_000_000, seconds: seconds).run(system) }
        if measuresTimers { return await TimerFigures.print(system, pool, operations ?? 1_000_000) }
        if countsAllocations || measuresMemory {
            if countsAllocations {
                await printAllocations(system)
            } else {
                await IdleMemory.print(system, operations ?? 1_000_000)
            }
            if measuresMemory { return }
            await system.stop()
            pool.shutdown()
            return
        }
        var medians: [String: Double] = [:]
        print("workers \(pool.workerCount), runs \(runs); ns an operation")
        print(Self.row(["scenario", "operation", "median", "fastest", "slowest", "CPU median", "CPU/floor"]))
        for scenario in Scenario.all where names.isEmpty || names.contains(scenario.name) {
            let count = operations ?? scenario.operations * scale
            var wall: [Double] = []
            var cpu: [Double] = []
            for run in 0...runs {
                let (wallStart, cpuStart) = (Self.time(CLOCK_MONOTONIC), Self.time(CLOCK_PROCESS_CPUTIME_ID))
                do {
                    try await scenario.body(system, count)
                } catch {
                    Self.fail("\(scenario.name): \(error)")
                }
                // The first run warms up and does not count.
                if run == 0 { continue }
                wall.append((Self.time(CLOCK_MONOTONIC) - wallStart) / Double(count))
                cpu.append((Self.time(CLOCK_PROCESS_CPUTIME_ID) - cpuStart) / Double(count))
            }
            wall.sort()
            cpu.sort()
            medians[scenario.name] = cpu[cpu.count / 2]
            let ratio = scenario.floor.flatMap { medians[$0] }.map { Self.figure(cpu[cpu.count / 2] / $0 * 100) + " %" }
            print(
                Self.row(
                    [scenario.name, scenario.unit]
                        + [wall[wall.count / 2], wall[0], wall[wall.count - 1], cpu[cpu.count / 2]].map(Self.figure)
                        + [ratio ?? ""]
                )
            )
        }
        await printPercentiles(system)
        await system.stop()
        pool.shutdown()
    }

    private func printPercentiles(_ system: BastionSystem) async {
        let chosen = SampledScenario.all.filter { names.isEmpty || names.contains($0.name) }
        if chosen.isEmpty { return }
        print(Self.row(["scenario", "operation", "p50", "p90", "p99", "fastest", "slowest"]))
        for scenario in chosen {
            var samples: [UInt64] = []
            do {
                _ = try await scenario.body(system, scenario.samples / 10)
                for _ in 0..<runs { samples += try await scenario.body(system, scenario.samples * scale) }
            } catch {
                Self.fail("\(scenario.name): \(error)")
            }
            samples.sort()
            let at = [50, 90, 99].map { Double(samples[samples.count * $0 / 100]) }
            print(
                Self.row(
                    [scenario.name, scenario.unit]
                        + (at + [Double(samples[0]), Double(samples[samples.count - 1])]).map(Self.figure)
                )
            )
        }
    }

    private func printAllocations(_ system: BastionSystem) async {
        print(Self.row(["scenario", "operation", "allocations"]))
        for scenario in Scenario.all where names.isEmpty || names.contains(scenario.name) {
            let count = operations ?? scenario.operations / 4 * scale
            var blocks: [Int64] = []
            // The first fills the node pools and the caches of the Swift runtime.
            for size in [2 * count, count, 2 * count] {
                let before = alc_count()
                alc_setCounting(1)
                do {
                    try await scenario.body(system, size)
                } catch {
                    Self.fail("\(scenario.name): \(error)")
                }
                alc_setCounting(0)
                blocks.append(alc_count() - before)
            }
            let each = Double(blocks[2] - blocks[1]) / Double(count)
            print(Self.row([scenario.name, scenario.unit, "\((each * 1000).rounded() / 1000)"]))
        }
    }

    private static func row(_ cells: [String]) -> String {
        zip(cells, [26, 28, 12, 12, 12, 12, 12]).enumerated().map { index, cell in
            let pad = String(repeating: " ", count: max(cell.1 - cell.0.count, 1))
            return index < 2 ? cell.0 + pad : pad + cell.0
        }.joined()
    }

    private static func figure(_ value: Double) -> String {
        value < 100 ? "\((value * 10).rounded() / 10)" : "\(Int(value.rounded()))"
    }

    private static func time(_ clock: clockid_t) -> Double {
        var time = timespec()
        clock_gettime(clock, &time)
        return Double(time.tv_sec) * 1e9 + Double(time.tv_nsec)
    }
}
