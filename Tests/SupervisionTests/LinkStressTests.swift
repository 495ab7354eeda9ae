// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import LightProc
import Testing

@testable import Supervision

/// Two processes that link, unlink, watch and end at the same time, on threads. Run under ThreadSanitizer, too.
///
/// Bounded by rounds, and by what they wait for: answers and ends, never time.
@Suite struct LinkStressTests {
    private static func withThreads(_ body: (BastionSystem, Int) async throws -> Void) async throws {
        let pool = try WorkerPool(workers: 2)
        let system = BastionSystem(executor: pool, log: .silent)
        try await body(system, RandomTest.seeds("links on threads", count: 400).count)
        await system.stop()
        await pool.shutDownElsewhere()
    }

    /// Its answer, asked again as long as it ends meanwhile.
    private static func answer(of ref: ProcRef<Pull>) async throws -> Int {
        // Ends: there are no more than so many ends on their way.
        while true {
            do {
                return try await ref.ask(within: .seconds(300)) { .ping($0) }
            } catch {
                if error.code != .processEnded { throw error }
            }
        }
    }

    @Test(arguments: Stage.Kind.withManaged)
    func twoThatLinkAndEndAtTheSameTimeLeaveNothingBehind(kind: Stage.Kind) async throws {
        try await Self.withThreads { system, rounds in
            let stage = Stage()
            for _ in 0..<2 { try stage.supervise(kind, restart: .permanent, in: system) }
            for round in 0..<rounds {
                await withTaskGroup(of: Void.self) { group in
                    for number in 0..<2 {
                        group.addTask {
                            var random = SplitMix64(seed: UInt64(round * 2 + number))
                            for _ in 0..<12 {
                                let other = 1 - number
                                switch Int.random(in: 0..<10, using: &random) {
                                case 0..<3: stage[number].tell(.link(other))
                                case 3: stage[number].tell(.unlink(other))
                                case 4: stage[number].tell(.monitor(other))
                                case 5: stage[number].tell(.demonitor(other, flush: .random(using: &random)))
                                case 6: stage[number].tell(.trapExits(.random(using: &random)))
                                case 7: stage[number].tell(.send(other, End.allCases.randomElement(using: &random)!))
                                case 8: stage.end(number, .killed)
                                default: stage.end(number, .error)
                                }
                            }
                        }
                    }
                }
            }
            // They live, and take messages; what the other was told to do may still end one that has the question in hand.
            for number in 0..<2 { #expect(try await Self.answer(of: stage[number]) == number) }
            await system.stop()
            for number in 0..<2 {
                #expect(stage[number].proc.isClosed)
                #expect(Bonds.of(stage[number].proc).isEmpty)
            }
        }
    }

    /// After `demonitor` with flush nothing of that monitor comes, however near the end is; without it exactly one message does.
    @Test(arguments: [true, false])
    func nothingComesAfterAFlush(isReactive: Bool) async throws {
        try await Self.withThreads { system, rounds in
            let log = Box()
            for round in 0..<rounds {
                let target = system.spawn(Echo("target", Trace()))
                let watcher = Watcher(target: target, flushes: round % 2 == 0, log: log)
                let ref: ProcRef<Watcher.Message> =
                    isReactive
                    ? system.spawn(watcher)
                    : system.spawn(of: Watcher.Message.self) { context in
                        var flushed: MonitorRef?
                        for await message in context.messages(of: Watcher.Message.self) {
                            switch message {
                            case .go(let reply):
                                let monitor = context.monitor(target) { Watcher.Message.down($0) }
                                target.tell(.fail)
                                if watcher.flushes {
                                    context.demonitor(monitor, flush: true)
                                    flushed = monitor
                                    reply(())
                                } else {
                                    watcher.kept.reply.withLock { $0 = reply }
                                }
                            case .down(let down):
                                #expect(down.monitor != flushed)
                                watcher.count(down)
                            case .last(let reply): reply(())
                            }
                        }
                    }
                // Answered at once, or when the message has come.
                let _: Void = try await ref.ask(within: .seconds(60)) { .go($0) }
                _ = await ProcHandle(target.proc).exit()
                // What was on its way when the other ended is handled before this.
                let _: Void = try await ref.ask(within: .seconds(60)) { .last($0) }
                ref.proc.stop()
            }
            let counts = log.counts.withLock { $0 }
            #expect(counts.count == rounds / 2 && counts.values.allSatisfy { $0 == 1 })
        }
    }

    private struct Watcher: Reactive {
        enum Message: Sendable {
            case go(Reply<Void>)
            case down(Down)
            case last(Reply<Void>)
        }
        let target: ProcRef<Echo.Message>
        let flushes: Bool
        let log: Box
        let kept = Kept()

        init(target: ProcRef<Echo.Message>, flushes: Bool, log: Box) {
            (self.target, self.flushes, self.log) = (target, flushes, log)
        }

        func count(_ down: Down) {
            log.counts.withLock { $0[down.monitor, default: 0] += 1 }
            kept.reply.withLock { $0.take() }?(())
        }

        mutating func receive(_ message: consuming Message, in context: borrowing ReactiveContext<Self>) {
            switch message {
            case .go(let reply):
                let monitor = context.monitor(target) { .down($0) }
                target.tell(.fail)
                if flushes {
                    context.demonitor(monitor, flush: true)
                    reply(())
                } else {
                    kept.reply.withLock { $0 = reply }
                }
            case .down(let down): count(down)
            case .last(let reply): reply(())
            }
        }
    }

    /// How often a message came, by monitor.
    private final class Box: Sendable {
        let counts = Locked<[MonitorRef: Int]>([:])
    }
    private final class Kept: Sendable {
        let reply = Locked<Reply<Void>?>(nil)
    }

    /// Links are dissolved while the other end is ending: who is told that it was dissolved is not ended by it.
    @Test func anUnlinkThatWasInTimeHasNoEffectAfterwards() async throws {
        try await Self.withThreads { system, rounds in
            for round in 0..<rounds {
                let isReactive = round % 2 == 0
                let target =
                    isReactive
                    ? system.spawn(Echo("target", Trace())).proc
                    : system.spawn { context in await context.untilStopped() }.proc
                let other = ProcRef<Int>(target)
                let outcome = Locked<Bool?>(nil)
                let survivor = system.spawn { context in
                    context.link(other)
                    let killer = Task.detached { target.kill() }
                    context.unlink(other)
                    // Ended by then, or never by this link.
                    let wasEnded = !context.isLiving
                    outcome.withLock { $0 = wasEnded }
                    await killer.value
                    _ = await ProcHandle(target).exit()
                }
                switch await ProcHandle(survivor.proc).exit() {
                case .normal: #expect(outcome.withLock { $0 } == false)
                case .linked(let id, .killed): #expect(id == target.id && outcome.withLock { $0 } != false)
                case let reason: Issue.record("it ended with \(reason)")
                }
            }
        }
    }
}

extension Context {
    /// Whether the end of this incarnation has not been decided yet.
    fileprivate var isLiving: Bool { LightProc.current?.isLiving(incarnation) ?? false }
}
