// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Testing

@testable import LightProc

extension LightProc {
    @discardableResult
    func sendControl<Message: Sendable>(_ message: Message, receipt: MessageReceipt? = nil) -> Bool {
        let node = MessageNode.make(message, receipt: receipt)
        if push(node, lane: .control) { return true }
        node.refuse(as: Message.self)
        return false
    }

    @discardableResult
    func control(_ act: @escaping @Sendable (LightProc) throws -> Void) -> Bool { sendControl(Script.Line(act)) }
    func control(_ note: String, to record: Record<String>) { control { _ in record.note(note) } }
}

/// Messages that overtake others, one step after the other.
@Suite struct ControlLaneTests {
    private let scheduler = HandScheduler()
    private let record = Record<String>()

    // MARK: The queue

    @Test func aLaneIsAQueue() {
        // Random sequences against an array.
        var random = SeededGenerator(state: RandomCases.seed)
        for _ in 0..<200 {
            var lane = ControlLane()
            var model: [Int] = []
            for number in 0..<Int(random.next() % 20) {
                if random.next() % 3 == 0 {
                    #expect(lane.takeFirst()?.open(as: Int.self).message == (model.isEmpty ? nil : model.removeFirst()))
                } else {
                    lane.append(MessageNode.make(number))
                    model.append(number)
                }
                #expect(lane.isEmpty == model.isEmpty)
            }
            let rest = MessageNode.make(-1)
            rest.next = 0
            var next = MessageNode(bits: lane.takeAll(before: rest.bits))
            #expect(lane.isEmpty)
            var left: [Int] = []
            while let node = next {
                next = MessageNode(bits: node.next)
                left.append(node.open(as: Int.self).message)
            }
            #expect(left == model + [-1])
        }
    }

    // MARK: Reactive

    private func living() -> LightProc { LightProc.reactive(Script(), on: scheduler) }

    private func restartable(
        _ decide: @escaping @Sendable (LightProc, ExitReason) -> Void
    ) -> (LightProc, NotingObserver) {
        let observer = NotingObserver(record, decide)
        let proc = LightProc.reactive(on: scheduler) { Script() }
        proc.prepare(name: nil, stack: nil, observer: observer, shutdownTime: .seconds(1))
        return (proc, observer)
    }

    @Test func aControlMessageWakesAnIdleProcess() {
        let proc = living()
        proc.control("control", to: record)
        #expect(scheduler.readyCount == 1)
        scheduler.drain()
        #expect(record.events == ["control"])
        let isIdle = proc.mailbox.isIdle
        #expect(isIdle)
    }

    @Test func controlMessagesOvertakeWhatWaitsAndKeepTheirOrder() {
        let proc = living()
        for n in 0..<3 { proc.sendNote("user \(n)", to: record) }
        for n in 0..<3 { proc.control("control \(n)", to: record) }
        scheduler.drain()
        #expect(record.events == (0..<3).map { "control \($0)" } + (0..<3).map { "user \($0)" })
    }

    @Test func aControlMessageIsHandledAfterTheMessageInHandOfAFlood() {
        let proc = living()
        proc.tell { [record] proc in
            proc.control("control", to: record)
            record.note("in hand")
        }
        for _ in 0..<1_000_000 { proc.sendNote("user", to: record) }
        // The run in which it came ends after the message in hand; the next begins with it.
        scheduler.step()
        scheduler.step()
        #expect(record.events == ["in hand", "control"])
    }

    @Test func aFloodOfControlMessagesLeavesOthersTheirTurn() {
        let (greedy, modest) = (living(), living())
        let budget = Int(LightProc.reductions)
        for _ in 0..<budget + 1 { greedy.control("control", to: record) }
        greedy.sendNote("user", to: record)
        modest.sendNote("modest", to: record)
        scheduler.step()
        #expect(record.events.count == budget)
        scheduler.step()
        #expect(record.events.last == "modest")
        scheduler.step()
        #expect(record.events.last == "control", "the user message waits for a run of its own")
        scheduler.step()
        #expect(record.events.last == "user")
        scheduler.drain()
        let isIdle = greedy.mailbox.isIdle
        #expect(isIdle)
    }

    @Test func ordersOvertakeControlMessages() {
        let proc = living()
        let receipt = NotingReceipt(record)
        proc.sendControl(Script.Line { [record] _ in record.note("never") }, receipt: receipt)
        proc.stop()
        scheduler.drain()
        #expect(record.events == ["ended: shutdown"])
        #expect(!proc.control { _ in })
    }

    @Test func aStopBetweenControlMessagesTakesEffectAtOnce() {
        let proc = living()
        proc.control { $0.finish() }
        proc.control("never", to: record)
        scheduler.drain()
        #expect(record.events == [])
        #expect(proc.lastExit?.description == "normal")
    }

    @Test func anErrorInAControlMessageEndsTheProcess() {
        let (proc, observer) = restartable { proc, _ in proc.restart() }
        proc.restart()
        proc.control { _ in throw Mishap() }
        proc.sendNote("user", to: record)
        proc.control("control", to: record)
        scheduler.drain()
        #expect(record.events == ["observer: error: mishap", "control", "user"])
        _ = observer
    }

    @Test func aTrapInAControlMessageLosesThatMessageOnly() {
        let (proc, observer) = restartable { proc, _ in proc.restart() }
        proc.restart()
        scheduler.drain()
        // As the reaper: the message was taken, and the thread that handled it trapped.
        proc.control("lost", to: record)
        proc.control("second", to: record)
        proc.sendNote("third", to: record)
        scheduler.takeWithoutRunning()
        let taken = proc.side.content.withLock { $0.control.takeFirst() }
        #expect(taken != nil)
        proc.trapped(trapReport(of: proc), in: nil, isOwnJob: false)
        scheduler.drain()
        #expect(record.events == ["observer: trap: index out of range", "second", "third"])
        _ = taken?.open(as: Script.Line.self)
        _ = observer
    }

    @Test func whatWaitsInTheLaneSurvivesWhileTheProcessIsDown() {
        let (proc, observer) = restartable { _, _ in }
        proc.sendNote("user", to: record)
        proc.control("before the start", to: record)
        #expect(scheduler.readyCount == 0, "nobody runs a process that is down")
        proc.restart()
        scheduler.drain()
        proc.tell { _ in throw Mishap() }
        scheduler.drain()
        proc.control("down", to: record)
        scheduler.drain()
        #expect(record.events == ["before the start", "user", "observer: error: mishap"])
        proc.restart()
        scheduler.drain()
        #expect(record.events.last == "down")
        _ = observer
    }

    @Test func atCloseTheLaneIsLeftFirst() {
        let (proc, observer) = restartable { proc, _ in proc.close() }
        proc.send(Script.Line { _ in }, receipt: NotingReceipt(Record<String>()))
        let (user, control) = (NumberedReceipt("user", record), NumberedReceipt("control", record))
        proc.send(Script.Line { _ in }, receipt: user)
        proc.sendControl(Script.Line { _ in }, receipt: control)
        proc.close()
        scheduler.drain()
        #expect(record.events == ["control", "user"] + [String](repeating: "discarded Line", count: 3))
        _ = observer
    }

    @Test func messagesOfTheLaneAreDestroyedWithAProcessThatIsDroppedWhileDown() {
        let tally = Tracked.Tally()
        do {
            let (proc, observer) = restartable { _, _ in }
            let tracked = Tracked(in: tally)
            proc.control { _ in withExtendedLifetime(tracked) {} }
            _ = observer
        }
        // In a process of its own.
        scheduler.drain()
        #expect(tally.live == 0)
    }

    // MARK: Async

    private func async(_ main: @escaping @Sendable (LightProc) async throws -> Void) -> LightProc {
        let proc = LightProc.async(on: scheduler, main)
        proc.declareMessages(of: String.self)
        return proc
    }

    private static func noting(_ record: Record<String>) -> @Sendable (LightProc) async throws -> Void {
        { proc in
            while let node = await proc.receiveNode() { record.note(node.open(as: String.self).message) }
        }
    }

    @Test func anAsyncProcessReceivesControlMessagesFirst() {
        let proc = async(Self.noting(record))
        for n in 0..<2 { proc.send("user \(n)") }
        for n in 0..<2 { proc.sendControl("control \(n)") }
        proc.restart()
        scheduler.drain()
        #expect(record.events == ["control 0", "control 1", "user 0", "user 1"])
        proc.stop()
        scheduler.drain()
    }

    @Test func aControlMessageWakesAReceiver() {
        let proc = async(Self.noting(record))
        proc.restart()
        scheduler.drain()
        proc.sendControl("control")
        scheduler.drain()
        #expect(record.events == ["control"])
        proc.send("user")
        scheduler.drain()
        proc.send("more")
        scheduler.drain()
        #expect(record.events == ["control", "user", "more"])
        proc.stop()
        scheduler.drain()
        #expect(!proc.sendControl("late"))
    }

    @Test func whatIsLeftInTheLaneOfAnAsyncProcessIsToldAndDiscarded() {
        let observer = NotingObserver(record) { proc, _ in proc.close() }
        let proc = async { _ in }
        proc.prepare(name: nil, stack: nil, observer: observer, shutdownTime: .seconds(1))
        proc.sendControl("left", receipt: NotingReceipt(record))
        proc.restart()
        scheduler.drain()
        #expect(record.events == ["observer: normal", "ended: normal", "discarded String"])
    }
}

/// A receipt that notes its name when the process ends.
private final class NumberedReceipt: MessageReceipt, @unchecked Sendable {
    // Sendable: both are constants.
    private let name: String
    private let record: Record<String>
    init(_ name: String, _ record: Record<String>) {
        self.name = name
        self.record = record
    }
    override func processEnded(_ reason: ExitReason) { record.note(name) }
}
