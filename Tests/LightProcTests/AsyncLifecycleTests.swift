// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Testing

@testable import LightProc

/// Something that tasks wait for until the test opens it. Cancellation is no reason to go on.
final class Latch: Sendable {
    private struct State {
        var isOpen = false
        var waiting: [UnsafeContinuation<Void, Never>] = []
    }
    private let state = Locked(State())

    func wait() async {
        await suspended { continuation in
            let isOpen = state.withLock { state in
                if !state.isOpen { state.waiting.append(continuation) }
                return state.isOpen
            }
            if isOpen { continuation.resume() }
        }
    }

    func open() {
        let waiting = state.withLock { state in
            state.isOpen = true
            defer { state.waiting = [] }
            return state.waiting
        }
        for continuation in waiting { continuation.resume() }
    }
}

/// Start, end, restart and close of an async process, one job after the other.
@Suite struct AsyncLifecycleTests {
    private let scheduler = HandScheduler()
    private let record = Record<String>()

    private func process(
        observer: NotingObserver? = nil,
        stack: ProcStack? = nil,
        _ main: @escaping @Sendable (LightProc) async throws -> Void
    ) -> LightProc {
        let proc = LightProc.async(on: scheduler, main)
        proc.prepare(name: nil, stack: stack, observer: observer, shutdownTime: .seconds(1))
        return proc
    }

    /// Waits for cancellation, as a well-behaved process does.
    private static func untilCancelled(_ proc: LightProc) async { _ = await proc.receiveNode() }

    // MARK: Start and end

    @Test func nothingRunsBeforeTheStart() {
        let proc = process { [record] _ in record.note("main") }
        scheduler.drain()
        #expect(record.events == [])
        #expect(proc.state.phase == .created)
        proc.restart()
        scheduler.drain()
        #expect(record.events == ["main"])
    }

    @Test func returningEndsTheProcessNormally() {
        let proc = process { _ in }
        proc.whenEnded { [record] in record.note("\($0)") }
        proc.restart()
        scheduler.drain()
        #expect(record.events == ["normal"])
        #expect(proc.isClosed)
    }

    @Test func throwingEndsTheProcessWithTheError() {
        let proc = process { _ in throw Mishap() }
        proc.restart()
        scheduler.drain()
        #expect(proc.lastExit?.description == "error: mishap")
    }

    @Test func aCancellationErrorThatNobodyAskedForIsAnError() {
        let proc = process { _ in throw CancellationError() }
        proc.restart()
        scheduler.drain()
        #expect(proc.lastExit?.isFailure == true)
    }

    @Test(arguments: [false, true])
    func aStopCancelsTheTaskAndTheProcessEndsWithShutdown(throwing: Bool) {
        let proc = process { proc in
            await Self.untilCancelled(proc)
            if throwing { try Task.checkCancellation() }
        }
        proc.restart()
        scheduler.drain()
        #expect(proc.state.phase == .active)
        proc.stop()
        scheduler.drain()
        #expect(proc.lastExit?.description == "shutdown")
        #expect(scheduler.timerCount == 0, "the deadline was called off")
        #expect(proc.isClosed)
    }

    @Test func anErrorAfterAStopIsAnError() {
        let proc = process { proc in
            await Self.untilCancelled(proc)
            throw Mishap()
        }
        proc.restart()
        scheduler.drain()
        proc.stop()
        scheduler.drain()
        #expect(proc.lastExit?.description == "error: mishap")
    }

    @Test func aProcessThatIgnoresAStopIsKilledAfterTheShutdownTime() {
        let latch = Latch()
        let proc = process { [record] _ in
            await latch.wait()
            record.note("never")
        }
        proc.whenEnded { [record] in record.note("\($0)") }
        proc.restart()
        scheduler.drain()
        proc.stop()
        scheduler.drain()
        scheduler.advance(by: .milliseconds(999))
        scheduler.drain()
        #expect(record.events == [])
        scheduler.advance(by: .milliseconds(1))
        scheduler.drain()
        #expect(record.events == ["killed"])
        #expect(proc.isClosed)
        latch.open()
        scheduler.drain()
        #expect(record.events == ["killed"], "a sealed incarnation runs nothing")
    }

    @Test func aStopBeforeTheTaskRanCancelsIt() {
        let proc = process { [record] _ in record.note("cancelled: \(Task.isCancelled)") }
        proc.restart()
        proc.stop()
        scheduler.drain()
        #expect(record.events == ["cancelled: true"])
        #expect(proc.lastExit?.description == "shutdown")
    }

    @Test func aKillIsKnownAtOnceAndTheTaskMayStillReturn() {
        let proc = process { [record] proc in
            await Self.untilCancelled(proc)
            record.note("returning")
        }
        proc.onExit { [record] in record.note("hook: \($0)") }
        proc.whenEnded { [record] in record.note("awaiter: \($0)") }
        proc.restart()
        scheduler.drain()
        proc.kill()
        #expect(record.events == ["awaiter: killed"])
        scheduler.drain()
        #expect(record.events == ["awaiter: killed", "returning", "hook: killed"])
        #expect(proc.isClosed)
    }

    @Test func whatDoesNotReturnAfterAKillIsSealedAfterTheShutdownTime() {
        let latch = Latch()
        let observer = NotingObserver(record)
        let proc = process(observer: observer) { [record] _ in
            await latch.wait()
            record.note("never")
        }
        proc.restart()
        scheduler.drain()
        proc.kill()
        scheduler.drain()
        // Suspended, not queued: nothing is left that the process waits for.
        #expect(record.events == ["observer: killed"])
        latch.open()
        scheduler.drain()
        #expect(record.events == ["observer: killed"])
    }

    @Test func theHooksWaitForTheJobsThatAreLeft() {
        let latch = Latch()
        let proc = process { [record] _ in
            await withTaskGroup(of: Void.self) { group in
                for _ in 0..<3 {
                    group.addTask {
                        await latch.wait()
                        record.note("job")
                    }
                }
            }
        }
        proc.onExit { [record] _ in record.note("hook") }
        proc.restart()
        scheduler.drain()
        latch.open()
        proc.kill()
        scheduler.drain()
        #expect(record.events.filter { $0 == "job" }.count == 3)
        #expect(record.events.last == "hook")
    }

    @Test func anEndForAReasonFromOutsideIsReportedAsSuch() {
        let proc = process { await Self.untilCancelled($0) }
        proc.restart()
        scheduler.drain()
        proc.end(1, for: .linked(ProcID(rawValue: 7), .killed))
        scheduler.drain()
        #expect(proc.lastExit?.description == "linked process <0.7> ended: killed")
    }

    @Test func childTasksBelongToTheProcess() {
        let proc = process { [record, scheduler] proc in
            async let child: Void = record.note("child")
            await child
            record.note("\(scheduler.readyCount >= 0) \(proc.state.activations)")
        }
        proc.restart()
        // Start, then the body, then the child and the body again: all through this scheduler.
        var steps = 0
        while scheduler.step() { steps += 1 }
        #expect(steps >= 3)
        #expect(record.events.first == "child")
        #expect(proc.isClosed)
    }

    @Test func aTrapOfAChildEndsTheProcessAndItsSiblingsMayReturn() {
        let observer = NotingObserver(record)
        let proc = process(observer: observer) { [record] proc in
            await withTaskGroup(of: Void.self) { group in
                group.addTask {
                    await Self.untilCancelled(proc)
                    record.note("sibling \(Task.isCancelled)")
                }
            }
        }
        proc.restart()
        scheduler.drain()
        guard let executor = proc.side.content.withLock({ $0.executor }) else {
            Issue.record("no executor")
            return
        }
        // As the reaper: the job in which it trapped was admitted and is lost with its thread.
        #expect(proc.transition { $0.admit(1) } == .admitted)
        proc.trapped(trapReport(of: proc), in: executor, isOwnJob: true)
        scheduler.drain()
        #expect(record.events == ["sibling true", "observer: trap: index out of range"])
    }

    // MARK: Restart

    @Test func aRestartRunsTheBodyAnewAndKeepsTheMailbox() {
        let observer = NotingObserver(record) { proc, _ in proc.restart() }
        let proc = process(observer: observer) { [record] proc in
            while let node = await proc.receiveNode() {
                let number = node.open(as: Int.self).message
                if number == 0 { throw Mishap() }
                record.note("\(number)")
            }
        }
        for number in [1, 0, 2, 3] { proc.send(number) }
        proc.restart()
        scheduler.drain()
        #expect(record.events == ["1", "observer: error: mishap", "2", "3"])
        #expect(proc.restarts == 1)
        proc.send(4)
        scheduler.drain()
        #expect(record.events.last == "4")
    }

    @Test func theObserverIsToldOncePerIncarnation() {
        let observer = NotingObserver(record) { proc, _ in if proc.restarts < 2 { proc.restart() } else { proc.close() }
        }
        let proc = process(observer: observer) { _ in throw Mishap() }
        proc.restart()
        scheduler.drain()
        #expect(record.events == [String](repeating: "observer: error: mishap", count: 3))
        #expect(proc.isClosed)
    }

    @Test func aWaiterOfAnEndedIncarnationGetsNoMessageOfTheNext() {
        let observer = NotingObserver(record) { proc, _ in proc.restart() }
        let latch = Latch()
        let proc = process(observer: observer) { [record] proc in
            let life = proc.state.incarnation
            guard let node = await proc.receiveNode() else {
                record.note("life \(life) was cancelled")
                return
            }
            record.note("life \(life) got \(node.open(as: Int.self).message)")
            await latch.wait()
        }
        proc.restart()
        scheduler.drain()
        proc.kill()
        scheduler.drain()
        proc.send(1)
        scheduler.drain()
        #expect(record.events == ["life 1 was cancelled", "observer: killed", "life 2 got 1"])
    }

    @Test func onExitHooksBelongToOneIncarnation() {
        let observer = NotingObserver(record) { proc, _ in if proc.restarts < 1 { proc.restart() } else { proc.close() }
        }
        let proc = process(observer: observer) { [record] proc in
            let life = proc.state.incarnation
            proc.onExit { record.note("hook of life \(life): \($0)") }
            if life == 1 { throw Mishap() }
        }
        proc.restart()
        scheduler.drain()
        #expect(
            record.events == [
                "hook of life 1: error: mishap", "observer: error: mishap", "hook of life 2: normal",
                "observer: normal",
            ]
        )
    }

    // MARK: Close

    @Test func leftMessagesOfADeclaredTypeAreDestroyed() {
        let tally = Tracked.Tally()
        let observer = NotingObserver(record) { proc, _ in proc.close() }
        let proc = process(observer: observer) { _ in }
        proc.declareMessages(of: Tracked.self)
        for number in 0..<3 { proc.send(Tracked(number, in: tally), receipt: NotingReceipt(record)) }
        proc.restart()
        scheduler.drain()
        #expect(tally.live == 0)
        #expect(
            record.events == ["observer: normal"] + [String](repeating: "ended: normal", count: 3)
                + [String](repeating: "discarded Tracked", count: 3)
        )
    }

    @Test func anAskTakenByTheProcessLearnsOfItsEndAtOnce() {
        let latch = Latch()
        let proc = process { proc in
            _ = await proc.receiveNode()?.open(as: Int.self)
            await latch.wait()
        }
        proc.restart()
        scheduler.drain()
        proc.send(1, receipt: NotingReceipt(record))
        scheduler.drain()
        #expect(record.events == [])
        proc.kill()
        #expect(record.events == ["ended: killed"])
        scheduler.drain()
        #expect(record.events == ["ended: killed"])
    }

    // MARK: Handles

    @Test func aRecoverableHandleHasTheValue() async throws {
        let (proc, handle) = LightProc.recoverable(on: scheduler) { 42 }
        proc.restart()
        scheduler.drain()
        #expect(try await handle.outcome().get() == 42)
        #expect(try handle.knownOutcome.get() == 42)
        #expect(handle.id == proc.id)
    }

    @Test func aRecoverableHandleHasTheReasonWhereThereIsNoValue() async {
        let (proc, handle) = LightProc.recoverable(on: scheduler) { () throws -> Int in throw Mishap() }
        proc.restart()
        scheduler.drain()
        do {
            _ = try await handle.outcome().get()
            Issue.record("a value from nowhere")
        } catch {
            #expect(error.description == "the process ended without a value: error: mishap")
        }
    }

    @Test func cancellingAHandleStopsTheProcess() async {
        let (proc, handle) = LightProc.recoverable(on: scheduler) { try await Task.sleep(for: .seconds(3600)) }
        proc.restart()
        handle.cancel()
        scheduler.drain()
        #expect(await handle.handle.exit().description == "shutdown")
    }

    @Test func aBlockingProcessComputesAValueOnce() async throws {
        let (proc, handle) = LightProc.recoverableBlocking(on: scheduler) { "done" }
        proc.restart()
        scheduler.drain()
        #expect(try await handle.outcome().get() == "done")
        #expect(proc.isClosed)
    }
}
