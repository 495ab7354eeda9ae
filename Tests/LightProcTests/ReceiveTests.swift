// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Testing

@testable import LightProc

/// How an async process takes its messages.
@Suite struct ReceiveTests {
    private let scheduler = HandScheduler()
    private let record = Record<String>()

    private func started(_ main: @escaping @Sendable (LightProc) async throws -> Void) -> LightProc {
        let proc = LightProc.async(on: scheduler, main)
        proc.declareMessages(of: Int.self)
        proc.restart()
        scheduler.drain()
        return proc
    }

    private static func receive(_ proc: LightProc) async -> Int? {
        await proc.receiveNode()?.open(as: Int.self).message
    }

    private static func text(_ number: Int?) -> String { number.map(String.init) ?? "nil" }

    @Test func aMessageMayComeBeforeTheReceiver() {
        let latch = Latch()
        let proc = started { [record] proc in
            await latch.wait()
            record.note(Self.text(await Self.receive(proc)))
        }
        proc.send(1)
        scheduler.drain()
        latch.open()
        scheduler.drain()
        #expect(record.events == ["1"])
    }

    @Test func aMessageMayComeAfterTheReceiver() {
        let proc = started { [record] in record.note(Self.text(await Self.receive($0))) }
        #expect(record.events == [])
        proc.send(1)
        scheduler.drain()
        #expect(record.events == ["1"])
    }

    @Test func messagesComeInTheOrderTheyWereSent() {
        let proc = started { [record] proc in
            while let number = await Self.receive(proc) { record.note("\(number)") }
        }
        for number in 0..<5 { proc.send(number) }
        scheduler.drain()
        for number in 5..<10 {
            proc.send(number)
            scheduler.drain()
        }
        #expect(record.events == (0..<10).map(String.init))
    }

    @Test func severalReceiversAreServedInTheOrderTheyCame() {
        let proc = started { [record] proc in
            await withTaskGroup(of: Void.self) { group in
                for name in ["a", "b", "c"] {
                    group.addTask { record.note("\(name)\(Self.text(await Self.receive(proc)))") }
                }
            }
        }
        for number in 1...3 {
            proc.send(number)
            scheduler.drain()
        }
        #expect(record.events == ["a1", "b2", "c3"])
        #expect(proc.isClosed)
    }

    @Test func manyMessagesAtOnceServeAllWhoWait() {
        let proc = started { [record] proc in
            await withTaskGroup(of: Void.self) { group in
                for _ in 0..<3 { group.addTask { record.note(Self.text(await Self.receive(proc))) } }
            }
        }
        for number in 1...3 { proc.send(number) }
        scheduler.drain()
        #expect(record.events.sorted() == ["1", "2", "3"])
    }

    @Test func aCancelledReceiverGetsNilAndNoMessage() {
        let proc = started { [record] proc in
            await withTaskGroup(of: Void.self) { group in
                group.addTask { record.note("first \(Self.text(await Self.receive(proc)))") }
                group.cancelAll()
            }
            record.note("then \(Self.text(await Self.receive(proc)))")
        }
        #expect(record.events == ["first nil"])
        proc.send(1)
        scheduler.drain()
        #expect(record.events == ["first nil", "then 1"])
    }

    @Test func cancellingOneOfSeveralLeavesTheOthersTheirTurn() {
        let proc = started { [record] proc in
            await withTaskGroup(of: Void.self) { outer in
                outer.addTask { record.note("a\(Self.text(await Self.receive(proc)))") }
                outer.addTask {
                    await withTaskGroup(of: Void.self) { inner in
                        inner.addTask { record.note("b\(Self.text(await Self.receive(proc)))") }
                        // A second job, so that b is waiting by now.
                        await Task.yield()
                        inner.cancelAll()
                    }
                }
                outer.addTask {
                    await Task.yield()
                    record.note("c\(Self.text(await Self.receive(proc)))")
                }
            }
        }
        #expect(record.events == ["bnil"])
        proc.send(1)
        proc.send(2)
        scheduler.drain()
        #expect(Set(record.events) == ["bnil", "a1", "c2"])
    }

    @Test func aCancelledTaskGetsNoMessageEvenIfOneIsThere() {
        let latch = Latch()
        let proc = started { [record] proc in
            await latch.wait()
            record.note("\(Task.isCancelled) \(Self.text(await Self.receive(proc)))")
        }
        proc.send(1)
        proc.stop()
        scheduler.drain()
        latch.open()
        scheduler.drain()
        #expect(record.events == ["true nil"])
    }

    @Test func takingWithoutWaitingFindsWhatIsThere() {
        let latch = Latch()
        let proc = started { [record] proc in
            record.note(Self.text(proc.takeNode()?.open(as: Int.self).message))
            await latch.wait()
            record.note(Self.text(proc.takeNode()?.open(as: Int.self).message))
        }
        proc.send(1)
        latch.open()
        scheduler.drain()
        #expect(record.events == ["nil", "1"])
    }

    /// The sender found the mailbox idle, but before it wakes the one who waits another takes the message.
    @Test func whoWaitsIsNotForgottenWhenAnotherTookTheMessage() {
        let proc = started { [record] proc in
            while let number = await Self.receive(proc) { record.note("\(number)") }
        }
        // The two halves of a push.
        let push = proc.mailbox.push(MessageNode.make(1))
        #expect(push == .schedule)
        #expect(proc.takeNode()?.open(as: Int.self).message == 1)
        proc.wakeReceiver()
        proc.send(2)
        scheduler.drain()
        #expect(record.events == ["2"])
    }

    @Test func nothingIsKeptOfReceiversThatWereServedOrCancelled() {
        let proc = started { proc in
            while await Self.receive(proc) != nil {}
        }
        for number in 0..<100 { proc.send(number) }
        scheduler.drain()
        proc.stop()
        scheduler.drain()
        proc.side.content.withLock {
            #expect($0.waiters.isEmpty)
            #expect($0.cancelledWaiters.isEmpty)
            #expect($0.receipts.isEmpty)
        }
    }
}
