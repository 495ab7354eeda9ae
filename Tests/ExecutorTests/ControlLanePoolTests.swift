// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import TestSupport
import Testing

@testable import Executor
@testable import LightProc

/// Messages in both lanes, on a pool of two workers.
@Suite struct ControlLanePoolTests {
    /// Senders in both lanes at once: nothing is lost, and each sender's messages are in order within a lane.
    @Test func controlMessagesOfManySendersAreHandledOnceAndInOrder() async throws {
        let pool = try WorkerPool(workers: 2)
        let (senders, count) = (4, 2_000)
        for isReactive in [true, false] {
            let done = AsyncGate()
            let tally = LaneTally(total: senders * count * 2, done: done)
            let proc: LightProc =
                isReactive
                ? .reactive(LaneCounter(tally: tally), on: pool)
                : .async(on: pool) { proc in
                    while let node = await proc.receiveNode() {
                        tally.note(node.open(as: LaneCounter.Message.self).message)
                    }
                }
            if !isReactive {
                proc.declareMessages(of: LaneCounter.Message.self)
                proc.restart()
            }
            await withTaskGroup(of: Void.self) { group in
                for sender in 0..<senders {
                    for lane in [MessageLane.user, .control] {
                        group.addTask {
                            for number in 0..<count {
                                let message = LaneCounter.Message(sender: sender, lane: lane, number: number)
                                _ = proc.push(MessageNode.make(message), lane: lane)
                            }
                        }
                    }
                }
            }
            await done.wait()
            #expect(tally.isInOrder)
            proc.stop()
            _ = await exit(of: proc)
        }
        await pool.shutDownElsewhere()
    }

    @Test func aTrapInAControlMessageLosesThatMessageOnly() async throws {
        let pool = try WorkerPool(workers: 2)
        let handled = Numbers()
        let done = AsyncGate()
        let observer = RestartingObserver()
        let proc = LightProc.reactive(on: pool) { Doer() }
        proc.prepare(name: nil, stack: nil, observer: observer, shutdownTime: .seconds(1))
        func deed(_ number: Int) -> MessageNode {
            MessageNode.make(
                Doer.Deed { _ in
                    if number % 100 == 50 { Misdeed.index.commit() }
                    handled.add(number)
                    if number == 999 { done.open() }
                }
            )
        }
        #expect(proc.push(deed(999)))
        for number in 0..<300 { #expect(proc.push(deed(number), lane: .control)) }
        proc.restart()
        await done.wait()
        #expect(handled.numbers == (0..<300).filter { $0 % 100 != 50 } + [999])
        #expect(proc.restarts == 3)
        withExtendedLifetime(observer) {}
        await pool.shutDownElsewhere()
    }
}

/// Starts a process again whatever its end was.
private final class RestartingObserver: ProcObserver {
    func procEnded(_ proc: LightProc, reason: ExitReason) { proc.restart() }
    func procDiscarded(messageOf type: Any.Type, by proc: LightProc) {}
}

/// Counts messages of several senders in two lanes.
private final class LaneTally: Sendable {
    private struct State {
        var next: [String: Int] = [:]
        var missing: Int
        var isInOrder = true
    }
    private let state: Locked<State>
    private let done: AsyncGate

    init(total: Int, done: AsyncGate) {
        state = Locked(State(missing: total))
        self.done = done
    }

    var isInOrder: Bool { state.withLock { $0.isInOrder } }

    func note(_ message: LaneCounter.Message) {
        let isLast = state.withLock { state in
            let key = "\(message.sender) \(message.lane)"
            state.isInOrder = state.isInOrder && state.next[key, default: 0] == message.number
            state.next[key] = message.number + 1
            state.missing -= 1
            return state.missing == 0
        }
        if isLast { done.open() }
    }
}

private struct LaneCounter: ReactiveBody {
    struct Message: Sendable {
        let sender: Int
        let lane: MessageLane
        let number: Int
    }
    let tally: LaneTally
    mutating func receive(_ message: consuming Message, on proc: LightProc) { tally.note(message) }
}
