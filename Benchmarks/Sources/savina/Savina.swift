// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import Logging
import Runtime

/// The benchmarks that other runtimes have too (after the Savina suite), one a run: see `Benchmarks/Peers`.
///
///     savina --kind reactive|async [--workers N] [--crash trap|throw] --bench NAME SIZES...
///
/// Warms up with a tenth of the last size, runs once, and prints one line. Regressions that it guards: what a message, a
/// spawn, a yield and a restart cost beside other runtimes on the same machine in the same minute.
@main
struct Savina {
    var kind = "reactive"
    var workers = 2
    var crash = "throw"
    var bench = ""
    var sizes: [Int] = []

    static func main() {
        var savina = Savina()
        if let wrong = savina.parse(CommandLine.arguments.dropFirst()) {
            Machine.complain("savina: \(wrong)")
            Machine.complain(
                "usage: savina --kind reactive|async [--workers N] [--crash trap|throw] --bench NAME SIZES..."
            )
            exit(64)
        }
        savina.run()
        // Not torn down: what is measured is over, and a million processes would be destroyed one by one.
        exit(0)
    }

    /// Returns what is wrong.
    private mutating func parse(_ arguments: ArraySlice<String>) -> String? {
        var left = Array(arguments)
        while !left.isEmpty {
            let word = left.removeFirst()
            switch word {
            case "--kind", "--workers", "--crash", "--bench":
                guard !left.isEmpty else { return "\(word) wants a value" }
                let value = left.removeFirst()
                switch word {
                case "--kind": kind = value
                case "--crash": crash = value
                case "--bench": bench = value
                default:
                    guard let count = Int(value), count > 0 else { return "--workers wants a positive number" }
                    workers = count
                }
            default:
                guard let size = Int(word), size > 0 else { return "a size is a positive number, not \(word)" }
                sizes.append(size)
            }
        }
        guard ["reactive", "async"].contains(kind) else { return "there is no kind \(kind)" }
        guard ["trap", "throw"].contains(crash) else { return "there is no way to crash called \(crash)" }
        guard let count = Self.sizes[bench] else {
            return "there is no bench \(bench); there are: \(Self.sizes.keys.sorted().joined(separator: " "))"
        }
        return sizes.count == count ? nil : "\(bench) wants \(count) sizes"
    }

    /// How many sizes each wants.
    private static let sizes = [
        "ping_pong": 1, "thread_ring": 2, "counting": 1, "fan_in": 2, "fork_join_create": 1,
        "fork_join_throughput": 2, "big": 2, "spawn_join": 1, "yield": 2, "idle_memory": 1, "restart": 1,
    ]

    private func run() {
        let pool: WorkerPool
        do {
            pool = try WorkerPool(
                placement: Placement(Topology.current(), options: .init(workerCount: workers, oversubscribes: true))
            )
        } catch {
            Machine.complain("savina: cannot start \(workers) workers: \(error)")
            exit(71)
        }
        var log = Logger(label: "savina")
        // Traps of `restart` are many, and all are meant; of the others none is.
        log.logLevel = bench == "restart" ? .critical : .error
        let system = BastionSystem(name: "savina", executor: pool, log: log)
        let scenarios: any Scenarios =
            kind == "reactive" ? ReactiveScenarios(system: system) : AsyncScenarios(system: system)
        switch bench {
        case "idle_memory":
            let before = Machine.status("VmRSS")
            let start = Machine.clock
            let keep = scenarios.idle(sizes[0])
            let time = Machine.clock - start
            usleep(200_000)
            let bytes = (Machine.status("VmRSS") - before) * 1024 / sizes[0]
            emit(sizes[0], time, " bytes_per_actor=\(bytes)")
            withExtendedLifetime(keep) {}
        case "restart":
            let restarts = Restarts(system: system, isAsync: kind == "async", traps: crash == "trap")
            _ = restarts.run(max(1, sizes[0] / 10))
            let start = Machine.clock
            let latencies = restarts.run(sizes[0]).sorted()
            let time = Machine.clock - start
            func percentile(_ part: Double) -> Double {
                Double(latencies[Int(Double(latencies.count - 1) * part)]) / 1000
            }
            emit(
                sizes[0],
                time,
                " p50_us=\(Machine.decimal(percentile(0.5), 2)) p99_us=\(Machine.decimal(percentile(0.99), 2))"
            )
        default:
            var small = sizes
            small[small.count - 1] = max(1, small[small.count - 1] / 10)
            run(scenarios, small)
            let start = Machine.clock
            run(scenarios, sizes)
            let time = Machine.clock - start
            emit(bench == "thread_ring" ? sizes[1] : sizes.reduce(1, *), time, "")
        }
    }

    private func run(_ scenarios: any Scenarios, _ sizes: [Int]) {
        switch bench {
        case "ping_pong": scenarios.pingPong(sizes[0])
        case "thread_ring": scenarios.threadRing(sizes[0], sizes[1])
        case "counting": scenarios.counting(sizes[0])
        case "fan_in": scenarios.fanIn(sizes[0], sizes[1])
        case "fork_join_create": scenarios.forkJoinCreate(sizes[0])
        case "fork_join_throughput": scenarios.forkJoinThroughput(sizes[0], sizes[1])
        case "big": scenarios.big(sizes[0], sizes[1])
        case "spawn_join": scenarios.spawnJoin(sizes[0])
        case "yield": scenarios.yield(sizes[0], sizes[1])
        default: preconditionFailure("impossible: the names were checked")
        }
    }

    private func emit(_ count: Int, _ time: (wall: Double, cpu: Double), _ extra: String) {
        print(
            "peer=bastion-swift-\(kind) bench=\(bench) n=\(count) seconds=\(Machine.decimal(time.wall, 6)) "
                + "ops_per_s=\(Int(Double(count) / time.wall)) cpu_s=\(Machine.decimal(time.cpu, 3)) "
                + "hwm_kb=\(Machine.status("VmHWM"))\(extra)"
        )
    }
}

/// One kind of process in each of the benchmarks. Each call returns when the work is done.
protocol Scenarios: Sendable {
    /// Two processes send a number to and fro.
    func pingPong(_ rounds: Int)
    /// A token goes round a ring.
    func threadRing(_ size: Int, _ hops: Int)
    /// One process sends to another, and asks for the sum in the end.
    func counting(_ messages: Int)
    /// Many send to one.
    func fanIn(_ senders: Int, _ messages: Int)
    /// Many processes are started, each of which does one thing.
    func forkJoinCreate(_ count: Int)
    /// One sends to many, by turns.
    func forkJoinThroughput(_ count: Int, _ messages: Int)
    /// Each pings a random other one, and waits for the answer.
    func big(_ count: Int, _ pings: Int)
    /// A process is started and its value awaited, again and again.
    func spawnJoin(_ count: Int)
    /// Processes that give up their turn all the time.
    func yield(_ count: Int, _ turns: Int)
    /// Processes that wait for a message. Returns what keeps them alive.
    func idle(_ count: Int) -> any Sendable
}
