// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc
import Testing

@testable import Supervision

/// Processes that wait for each other's answers, and deadlines that travel with asks; in virtual time.
@Suite struct AskCycleTests {
    /// What an asker is to do: ask the next one of a list, and answer with its sum.
    private struct Relay: Sendable {
        let route: [Int]
        let reply: Reply<Int>
    }

    private let sim = Simulation()

    /// `count` async children; each hands what it is asked on along the route, and answers with one more than it got.
    private func ring(
        _ count: Int,
        system: BastionSystem? = nil,
        timeout: Duration = .seconds(10),
        within limit: Duration? = nil
    ) throws -> [ProcRef<Relay>] {
        let refs = Locked<[ProcRef<Relay>]>([])
        let trace = sim.trace
        let tree = try (system ?? sim.system).supervise {
            Children("node", redundancy: count) { context in
                for await relay in context.messages(of: Relay.self) {
                    guard let next = relay.route.first else {
                        relay.reply(1)
                        continue
                    }
                    let target = refs.withLock { $0[next] }
                    let rest = Array(relay.route.dropFirst())
                    @Sendable func ask() async throws -> Int {
                        try await target.ask(within: timeout) { Relay(route: rest, reply: $0) }
                    }
                    do {
                        let answer = if let limit { try await context.withTimeout(limit, ask) } else { try await ask() }
                        relay.reply(answer + 1)
                    } catch {
                        if let error = error as? AskError {
                            trace("\(context.name): \(error.code) \(error.cycle.map { $0.names.count } ?? 0)")
                        }
                        relay.reply(-1_000)
                    }
                }
            }
        }
        let members: [ProcRef<Relay>] = try tree.group("node").members
        refs.withLock { $0 = members }
        return members
    }

    @Test(arguments: [1, 2, 3, 7])
    func aCircleIsFoundAndNamed(length: Int) throws {
        let refs = try ring(length)
        let answer = Locked<Int?>(nil)
        refs[0].request(within: .seconds(60)) { Relay(route: Array(1..<length) + [0], reply: $0) }
            .whenComplete { result in answer.withLock { $0 = try? result.get() } }
        // Long before the time is up.
        sim.advance(by: .milliseconds(60))
        #expect(sim.trace.lines == ["node-\(length - 1): \(AskError.Code.cycle) \(length)"])
        #expect(answer.withLock { $0 } == -1_000 + length - 1)
    }

    @Test func theTextNamesTheCircle() throws {
        let refs = try ring(2)
        let cycle = AskCycle(refs.map(\.proc))
        let error = AskError(.cycle, process: refs[1].id, cycle: cycle)
        let (a, b) = (refs[0].proc, refs[1].proc)
        #expect(
            "\(error)"
                == "\(b.id) was asked: it waits for the asking process in its turn (\(a) asks \(b) asks \(a))"
        )
    }

    @Test func aCircleWithinATimeoutIsFound() throws {
        let refs = try ring(2, within: .seconds(5))
        refs[0].request(within: .seconds(60)) { Relay(route: [1, 0], reply: $0) }.whenComplete { _ in }
        sim.advance(by: .milliseconds(60))
        #expect(sim.trace.lines == ["node-1: \(AskError.Code.cycle) 2"])
    }

    @Test func aChainIsNoCircle() throws {
        let refs = try ring(5)
        let answer = Locked<Int?>(nil)
        refs[0].request(within: .seconds(60)) { Relay(route: [1, 2, 3, 4], reply: $0) }
            .whenComplete { result in answer.withLock { $0 = try? result.get() } }
        sim.drain()
        #expect(answer.withLock { $0 } == 5 && sim.trace.lines.isEmpty)
    }

    @Test func whereItIsOnlyReportedTheErrorsNameIt() throws {
        let system = BastionSystem(name: "reporting", executor: sim.executor, askCycles: .report, log: .silent)
        let refs = try ring(2, system: system, timeout: .seconds(3))
        refs[0].request(within: .seconds(60)) { Relay(route: [1, 0], reply: $0) }.whenComplete { _ in }
        sim.advance(by: .seconds(2))
        #expect(sim.trace.lines.isEmpty)
        sim.advance(by: .seconds(2))
        // The other one then gets its answer.
        #expect(sim.trace.lines == ["node-0: \(AskError.Code.timeout) 2"])
    }

    @Test func whereNobodyLooksTheTimeDecides() throws {
        let system = BastionSystem(name: "blind", executor: sim.executor, askCycles: .ignore, log: .silent)
        let refs = try ring(2, system: system, timeout: .seconds(3))
        refs[0].request(within: .seconds(60)) { Relay(route: [1, 0], reply: $0) }.whenComplete { _ in }
        sim.advance(by: .seconds(4))
        #expect(sim.trace.lines == ["node-0: \(AskError.Code.timeout) 0"])
    }

    /// It would answer: another of its tasks receives.
    @Test func aProcessThatStillReceivesIsNotStuck() throws {
        let trace = sim.trace
        let refs = Locked<[ProcRef<Relay>]>([])
        let tree = try sim.system.supervise {
            Children("both") { context in
                try await withThrowingTaskGroup(of: Void.self) { group in
                    group.addTask {
                        for await relay in context.messages(of: Relay.self) {
                            // Long enough for the circle to be looked at again.
                            try await context.sleep(for: .milliseconds(200))
                            relay.reply(7)
                        }
                    }
                    // Its own task asks, by way of the other one, itself.
                    let other = refs.withLock { $0[1] }
                    trace("\(try await other.ask { Relay(route: [0], reply: $0) })")
                    try await group.waitForAll()
                }
            }
            Children("other") { context in
                for await relay in context.messages(of: Relay.self) {
                    let first = refs.withLock { $0[0] }
                    relay.reply(try await first.ask { Relay(route: [], reply: $0) } + 1)
                }
            }
        }
        let members: [ProcRef<Relay>] = [try tree.group("both").members[0], try tree.group("other").members[0]]
        refs.withLock { $0 = members }
        sim.advance(by: .seconds(1))
        #expect(sim.trace.lines == ["8"])
    }

    // MARK: Deadlines

    @Test(arguments: [true, false])
    func theDeadlineOfAnAskLimitsThoseThatItsReceiverMakes(isReactive: Bool) throws {
        struct Gateway: Reactive {
            let trace: Trace
            let target: @Sendable () -> ProcRef<Reply<Int>>
            let now: @Sendable () -> Int
            mutating func receive(_ reply: consuming Reply<Int>, in context: borrowing ReactiveContext<Self>) {
                let (trace, now) = (trace, now)
                let reply = reply
                target().request(within: .seconds(50)) { $0 }.whenComplete { result in
                    if case .failure(let error) = result { trace("\(error.code) at \(now())") }
                    withExtendedLifetime(reply) {}
                }
            }
        }
        let (trace, executor) = (sim.trace, sim.executor)
        let deaf = Locked<ProcRef<Reply<Int>>?>(nil)
        let now: @Sendable () -> Int = { Int(executor.now / .milliseconds(1)) }
        let tree = try sim.system.supervise {
            Children("deaf") { context in await context.untilStopped() }
            if isReactive {
                Children("gateway", Gateway(trace: trace, target: { deaf.withLock { $0! } }, now: now))
            } else {
                Children("gateway") { context in
                    for await reply in context.messages(of: Reply<Int>.self) {
                        trace("left: \(context.remainingTime.map { Int($0 / .milliseconds(1)) } ?? -1)")
                        let target = deaf.withLock { $0! }
                        do { reply(try await target.ask(within: .seconds(50)) { $0 }) } catch {
                            trace("\((error as? AskError)?.code.description ?? "") at \(now())")
                        }
                        // The next message is no ask: nothing limits what it asks.
                    }
                }
            }
        }
        deaf.withLock { $0 = try? tree.group("deaf").members[0] }
        let gateway: ProcRef<Reply<Int>> = try tree.group("gateway").members[0]
        gateway.request(within: .seconds(2)) { $0 }.whenComplete { _ in }
        sim.advance(by: .seconds(60))
        #expect(sim.trace.lines == (isReactive ? [] : ["left: 2000"]) + ["\(AskError.Code.timeout) at 2000"])
    }

    @Test func whatIsNoAskHasNoDeadline() throws {
        let trace = sim.trace
        let tree = try sim.system.supervise {
            Children("child") { context in
                for _ in 0..<2 {
                    let message = try await context.receive((any Sendable).self)
                    trace("\(context.deadline == nil)")
                    (message as? Reply<Int>)?(1)
                    trace("\(context.deadline == nil)")
                }
            }
        }
        let asks: ProcRef<Reply<Int>> = try tree.group("child").members[0]
        let tells: ProcRef<Int> = try tree.group("child").members[0]
        asks.request { $0 }.whenComplete { _ in }
        tells.tell(1)
        sim.drain()
        #expect(sim.trace.lines == ["false", "true", "true", "true"])
    }
}
