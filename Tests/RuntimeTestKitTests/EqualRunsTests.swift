// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc
import RuntimeTestKit
import Supervision
import Testing

/// Equal seeds give equal runs; different ones give different runs of the same program.
@Suite struct EqualRunsTests {
    private enum Program: String, CaseIterable, CustomTestStringConvertible {
        case reactive, async, timers, supervisors, asks, actors, blocking, priorities, intervals, mailboxes
        var testDescription: String { rawValue }

        /// What it tells the probe, in order.
        func run(_ simulation: Simulation) throws -> [String] {
            let probe = simulation.probe(of: String.self)
            switch self {
            case .reactive: try reactive(simulation, probe)
            case .async: try async(simulation, probe)
            case .timers: try timers(simulation, probe)
            case .supervisors: try supervisors(simulation, probe)
            case .asks: try asks(simulation, probe)
            case .actors: try actors(simulation, probe)
            case .blocking: try blocking(simulation, probe)
            case .priorities: try priorities(simulation, probe)
            case .intervals: try intervals(simulation, probe)
            case .mailboxes: try mailboxes(simulation, probe)
            }
            // What was told last may be under way.
            try simulation.runUntilIdle()
            return probe.messages
        }

        private func reactive(_ simulation: Simulation, _ probe: Probe<String>) throws {
            let rings = (0..<5).map { simulation.system.spawn(Ring(name: "ring \($0)")) }
            for (index, ring) in rings.enumerated() {
                ring.tell(.init(left: 7 + index, others: rings.filter { $0.id != ring.id }, end: probe.ref))
            }
            try simulation.runUntilIdle()
        }

        private func async(_ simulation: Simulation, _ probe: Probe<String>) throws {
            let end = probe.ref
            let tree = try simulation.system.supervise {
                Children("async", redundancy: 3) { context in
                    for await number in context.messages(of: Int.self) {
                        async let first: Void = Task.yield()
                        async let second: Void = Task.yield()
                        _ = await (first, second)
                        end.tell("\(context.name) \(number)")
                    }
                }
            }
            let group = try tree.group("async", of: Int.self)
            for number in 0..<4 { group.broadcast(number) }
            try simulation.runUntilIdle()
            try simulation.stop()
        }

        private func timers(_ simulation: Simulation, _ probe: Probe<String>) throws {
            let (end, clock) = (probe.ref, simulation.clock)
            try simulation.run {
                await withTaskGroup(of: Void.self) { group in
                    for number in 0..<6 {
                        group.addTask {
                            for round in 1...3 {
                                try? await clock.sleep(for: .milliseconds(10 * (number % 3) + round))
                                end.tell("\(number) at \(clock.now.offset)")
                            }
                        }
                    }
                }
            }
        }

        private func supervisors(_ simulation: Simulation, _ probe: Probe<String>) throws {
            let end = probe.ref
            let tree = try simulation.system.supervise(intensity: .unlimited) {
                Children(
                    "reactive",
                    Counter(),
                    redundancy: 3,
                    backoff: .exponential(.milliseconds(1), cap: .seconds(1))
                )
                Children("async", redundancy: 3) { context in
                    end.tell("\(context.name) starts, \(context.restarts) restarts")
                    context.onExit { _ in end.tell("\(context.name) ends") }
                    try await counter(context)
                }
            }
            for name in ["reactive", "async"] {
                let group = try tree.group(name, of: Counter.Message.self)
                for round in 0..<9 { group.tell(round % 3 == 2 ? .add(1) : .fail) }
            }
            try simulation.advance(by: .seconds(10))
            try simulation.stop()
        }

        private func asks(_ simulation: Simulation, _ probe: Probe<String>) throws {
            let end = probe.ref
            let tree = try simulation.system.supervise(intensity: .unlimited) {
                Children("reactive", Counter(), redundancy: 2)
            }
            let group = try tree.group("reactive", of: Counter.Message.self)
            try simulation.run {
                await withTaskGroup(of: Void.self) { tasks in
                    for number in 0..<8 {
                        let member = group.next
                        tasks.addTask {
                            do {
                                let total = try await member.ask(within: .milliseconds(50 + number)) {
                                    number % 3 == 0 ? .keep($0) : .total($0)
                                }
                                end.tell("\(number): \(total)")
                            } catch let error as AskError { end.tell("\(number): \(error.code)") } catch {}
                            member.tell(number == 4 ? .fail : .add(1))
                        }
                    }
                }
            }
        }

        /// Several processes in one actor of ours, and in one of Swift's.
        private func actors(_ simulation: Simulation, _ probe: Probe<String>) throws {
            let (shared, plain) = (SharedLog(on: simulation.executor, probe.ref), PlainLog(probe.ref))
            let tree = try simulation.system.supervise {
                Children("caller", redundancy: 4, restart: .temporary) { context in
                    for round in 0..<3 {
                        await shared.add("\(context.name) \(round)")
                        await plain.add("\(context.name) \(round)")
                    }
                }
            }
            try simulation.runUntilIdle()
            withExtendedLifetime(tree) {}
        }

        private func blocking(_ simulation: Simulation, _ probe: Probe<String>) throws {
            let end = probe.ref
            let tree = try simulation.system.supervise {
                Children("blocked", redundancy: 4, restart: .temporary) { context in
                    for round in 0..<3 {
                        let text = try await context.blocking { "\(context.name) \(round)" }
                        end.tell(text)
                    }
                }
            }
            try simulation.runUntilIdle()
            withExtendedLifetime(tree) {}
        }

        private func priorities(_ simulation: Simulation, _ probe: Probe<String>) throws {
            let end = probe.ref
            let tree = try simulation.system.supervise {
                for priority in ProcPriority.allCases {
                    Children("\(priority)", redundancy: 2, priority: priority) { context in
                        for await number in context.messages(of: Int.self) {
                            await Task.yield()
                            end.tell("\(context.name) \(number)")
                        }
                    }
                }
            }
            for number in 0..<5 {
                for priority in ProcPriority.allCases {
                    try tree.group("\(priority)", of: Int.self).broadcast(number)
                }
            }
            try simulation.runUntilIdle()
            try simulation.stop()
        }

        /// Bounded ones that several senders fill.
        private func mailboxes(_ simulation: Simulation, _ probe: Probe<String>) throws {
            let end = probe.ref
            let tree = try simulation.system.supervise(intensity: .unlimited) {
                Children("reactive", Teller(end: end)).mailbox(.bounded(2, .dropOldest))
                Children("async") { context in
                    for await line in context.messages(of: String.self) {
                        await Task.yield()
                        end.tell("async: \(line)")
                    }
                }.mailbox(.bounded(2, .suspend))
            }
            let (reactive, async) = (
                try tree.group("reactive", of: String.self).next, try tree.group("async", of: String.self).next
            )
            try simulation.run {
                await withTaskGroup(of: Void.self) { group in
                    for number in 0..<5 {
                        group.addTask {
                            for round in 0..<3 {
                                reactive.tell("\(number).\(round)")
                                try? await async.send("\(number).\(round)")
                            }
                        }
                    }
                }
            }
        }

        private func intervals(_ simulation: Simulation, _ probe: Probe<String>) throws {
            let end = probe.ref
            // Children of one supervisor start in order.
            let trees = try (0..<4).map { number in
                try simulation.system.supervise("\(number)") {
                    Children("ticker\(number)", restart: .temporary) { context in
                        var left = 4
                        for await tick in context.ticks(every: .milliseconds(10)) {
                            end.tell("\(context.name) at \(tick.instant.nanoseconds), missed \(tick.missed)")
                            left -= 1
                            if left == 0 { break }
                            // Longer than a period for some.
                            try await context.sleep(for: .milliseconds(left == 2 ? 25 : 1))
                        }
                    }
                }
            }
            let token = simulation.executor.schedule(every: .milliseconds(7)) { missed in
                end.tell("every 7 ms, \(missed)")
            }
            try simulation.advance(by: .milliseconds(200))
            token.cancel()
            withExtendedLifetime(trees) {}
        }
    }

    @Test(arguments: Program.allCases) private func equalSeedsGiveEqualRuns(_ program: Program) throws {
        for seed in Seeds.list(count: 20) {
            let (first, second) = (Simulation(seed: seed), Simulation(seed: seed))
            let told = try program.run(first)
            #expect(!told.isEmpty)
            #expect(try program.run(second) == told, "\(first)")
            #expect(first.trace == second.trace, "\(first): \(first.trace.firstDifference(from: second.trace) ?? "")")
            #expect(first.trace.events == second.trace.events)
            #expect(first.trace.count > 10)
            #expect(first.now == second.now)
        }
    }

    @Test(arguments: Program.allCases) private func differentSeedsGiveDifferentRuns(_ program: Program) throws {
        var traces: Set<SimulationTrace> = []
        var told: Set<[String]> = []
        for seed in 1...20 as ClosedRange<UInt64> {
            let simulation = Simulation(seed: seed)
            told.insert(try program.run(simulation))
            traces.insert(simulation.trace)
        }
        #expect(traces.count >= 2)
        #expect(told.count >= 2, "the order that the program can see is the same for each seed")
        // What happens is the same.
        let mayDiffer: Set<Program> = [.asks, .supervisors, .mailboxes]
        #expect(mayDiffer.contains(program) || Set(told.map { $0.sorted() }).count == 1)
    }

    @Test func oneWorkerIsOneOrder() throws {
        let traces = try (1...5 as ClosedRange<UInt64>).map { seed in
            let simulation = Simulation(seed: seed, workers: 1)
            return try Program.timers.run(simulation)
        }
        #expect(Set(traces).count == 1)
    }

    @Test func whatDependsOnTheOutsideIsFound() {
        let outside = Shared()
        let error = #expect(throws: SimulationError.self) {
            try Simulation.checkEqualRuns(seed: 3) { simulation in
                outside.value += 1
                let round = outside.value
                try simulation.run { for _ in 0..<round { await Task.yield() } }
            }
        }
        #expect(error?.kind == .unequalRuns)
        #expect(error?.description.contains("two runs with this seed differ: ") == true)
        #expect(throws: Never.self) { try Simulation.checkEqualRuns(seed: 3) { try $0.run { await Task.yield() } } }
    }
}

/// Tells a probe what it gets.
private struct Teller: Reactive {
    let end: ProcRef<String>
    mutating func receive(_ message: consuming String, in context: borrowing ReactiveContext<Self>) {
        end.tell("reactive: \(message)")
    }
}

/// Tells a probe in which order its callers came in.
private actor SharedLog {
    private let executor: ProcSerialExecutor
    nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }
    private let end: ProcRef<String>

    init(on scheduler: any ProcScheduler, _ end: ProcRef<String>) {
        executor = ProcSerialExecutor(on: scheduler)
        self.end = end
    }

    func add(_ line: String) { end.tell("shared: \(line)") }
}

/// The same as an actor of Swift's.
private actor PlainLog {
    private let end: ProcRef<String>
    init(_ end: ProcRef<String>) { self.end = end }
    func add(_ line: String) { end.tell("plain: \(line)") }
}
