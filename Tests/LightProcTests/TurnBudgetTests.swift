// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CLightProc
import Testing

@testable import LightProc

/// What one turn on a worker may spend: messages received and sent both count, in processes of every kind.
@Suite struct TurnBudgetTests {
    private let scheduler = HandScheduler()
    private let record = Record<Int>()
    private static let limit = Int(LightProc.reductions)

    /// Calls `body` with the calling thread a worker.
    private func asWorker(_ body: () -> Void) {
        let nodes = UnsafeMutablePointer<crt_nodePool>.allocate(capacity: 1)
        nodes.initialize(to: crt_nodePool())
        crt_setNodes(nodes)
        defer {
            crt_setNodes(nil)
            NodePool.disposeAll(nodes.pointee.free)
            nodes.deallocate()
        }
        body()
    }

    /// How many were handled after each turn; what is sent to is nobody's turn.
    private func turns(_ count: Int) -> [Int] {
        (0..<count).map { _ in
            scheduler.step()
            return record.events.count
        }
    }

    /// A process that takes numbers and is never run: what is sent there stays.
    private func sink() -> LightProc {
        let proc = LightProc.async(on: HandScheduler()) { _ in }
        proc.declareMessages(of: Int.self)
        return proc
    }

    @Test func aReactiveProcessSpendsWhatItReceives() {
        let proc = LightProc.reactive(Script(), on: scheduler)
        for number in 0..<600 { proc.tell { [record] _ in record.note(number) } }
        asWorker { #expect(turns(3) == [Self.limit, 2 * Self.limit, 600]) }
    }

    @Test func aReactiveProcessSpendsWhatItSends() {
        let proc = LightProc.reactive(Script(), on: scheduler)
        let sink = sink()
        for number in 0..<200 {
            proc.tell { [record] _ in
                record.note(number)
                sink.send(number)
            }
        }
        asWorker { #expect(turns(2) == [Self.limit / 2, 200]) }
    }

    /// An async process that takes messages, and does something with each, with so many in its mailbox.
    private func flooded(
        with count: Int,
        lane: MessageLane = .user,
        _ body: @escaping @Sendable (Int) -> Void = { _ in }
    ) -> LightProc {
        let proc = LightProc.async(on: scheduler) { [record] proc in
            while let number = await proc.receiveNode()?.open(as: Int.self).message {
                record.note(number)
                body(number)
            }
        }
        proc.declareMessages(of: Int.self)
        proc.restart()
        scheduler.drain()
        for number in 0..<count { _ = proc.push(MessageNode.make(number), lane: lane) }
        return proc
    }

    @Test(arguments: [MessageLane.user, .control]) func anAsyncProcessSpendsWhatItReceives(_ lane: MessageLane) {
        let proc = flooded(with: 600, lane: lane)
        asWorker {
            // The first was handed to it while it waited, before the turn began. A yield is a turn, too.
            #expect(turns(5) == [Self.limit + 1, Self.limit + 1, 2 * Self.limit + 1, 2 * Self.limit + 1, 600])
            #expect(record.events == Array(0..<600))
            proc.stop()
            scheduler.drain()
        }
    }

    @Test func anAsyncProcessSpendsWhatItSends() {
        let sink = sink()
        let proc = flooded(with: 200) { sink.send($0) }
        asWorker {
            #expect(turns(3) == [Self.limit / 2 + 1, Self.limit / 2 + 1, 200])
            proc.stop()
            scheduler.drain()
        }
    }

    /// An actor that processes share, on an executor of ours.
    private actor Shared {
        let executor: ProcSerialExecutor
        nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }
        init(on scheduler: any ProcScheduler) { executor = ProcSerialExecutor(on: scheduler) }

        func perform(_ body: @Sendable () -> Void) { body() }
    }

    /// Has so many processes call an actor, which then is the next that is ready.
    private func crowd(_ count: Int, _ body: @escaping @Sendable () -> Void) -> [LightProc] {
        let actor = Shared(on: scheduler)
        let procs = (0..<count).map { number in
            LightProc.async(on: scheduler) { [record] _ in
                await actor.perform {
                    record.note(number)
                    body()
                }
            }
        }
        for proc in procs { proc.restart() }
        // Each is started, then its task has its first turn.
        for _ in 0..<(2 * count) { scheduler.step() }
        #expect(record.events.isEmpty)
        return procs
    }

    @Test func anActorSpendsTheCallsThatItTakes() {
        asWorker {
            withExtendedLifetime(crowd(400) {}) { #expect(turns(1) == [Self.limit]) }
            scheduler.drain()
            #expect(record.events.count == 400)
        }
    }

    @Test func anActorSpendsWhatIsSentInIt() {
        let sink = sink()
        asWorker {
            let procs = crowd(10) { for number in 0..<200 { sink.send(number) } }
            withExtendedLifetime(procs) { #expect(turns(1) == [2]) }
            scheduler.drain()
            #expect(record.events.count == 10)
        }
    }
}
