// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Testing

@testable import LightProc

/// Start, messages, end, restart and close of a reactive process, one step after the other.
@Suite struct ReactiveLifecycleTests {
    private let scheduler = HandScheduler()
    private let record = Record<String>()

    private func living() -> LightProc { LightProc.reactive(Script(), on: scheduler) }

    private func restartable(observer: NotingObserver? = nil, stack: ProcStack? = nil) -> LightProc {
        let proc = LightProc.reactive(on: scheduler) { Script() }
        proc.prepare(name: nil, stack: stack, observer: observer, shutdownTime: .seconds(1))
        return proc
    }

    // MARK: Messages

    @Test func aProcessMadeFromAValueLivesAtOnce() {
        let proc = living()
        #expect(proc.state.phase == .active)
        #expect(scheduler.readyCount == 0)
        proc.sendNote("a", to: record)
        scheduler.drain()
        #expect(record.events == ["a"])
    }

    @Test func anIdleProcessIsScheduledOnceForManyMessages() {
        let proc = living()
        for note in ["a", "b", "c"] { proc.sendNote(note, to: record) }
        #expect(scheduler.readyCount == 1)
        scheduler.step()
        #expect(record.events == ["a", "b", "c"])
        #expect(scheduler.readyCount == 0)
        proc.sendNote("d", to: record)
        #expect(scheduler.readyCount == 1)
        scheduler.drain()
        #expect(record.events.last == "d")
    }

    @Test func aRunHandlesABudgetOfMessagesAndGoesBehindTheOthers() {
        let (greedy, modest) = (living(), living())
        for _ in 0..<Int(LightProc.reductions) + 1 { greedy.sendNote("greedy", to: record) }
        modest.sendNote("modest", to: record)
        scheduler.step()
        #expect(record.events.count == Int(LightProc.reductions))
        scheduler.step()
        #expect(record.events.last == "modest")
        scheduler.step()
        #expect(record.events.last == "greedy")
        #expect(scheduler.readyCount == 0)
    }

    @Test func messagesSentWhileAMessageIsHandledComeLater() {
        let proc = living()
        proc.tell { [record] proc in
            proc.sendNote("inner", to: record)
            record.note("outer")
        }
        scheduler.drain()
        #expect(record.events == ["outer", "inner"])
    }

    @Test func theHandlersProcessIsItsOwn() {
        let proc = living()
        let id = proc.id
        proc.tell { [record] in record.note("\($0.id == id)") }
        scheduler.drain()
        #expect(record.events == ["true"])
    }

    // MARK: Ends

    @Test func aStopEndsTheProcessAfterTheMessageInHand() {
        let proc = living()
        proc.tell { [record] proc in
            proc.stop()
            record.note("in hand")
        }
        proc.sendNote("later", to: record)
        scheduler.drain()
        #expect(record.events == ["in hand"])
        #expect(proc.lastExit?.description == "shutdown")
        #expect(proc.isClosed)
        #expect(!proc.tell { _ in })
    }

    @Test func aStopWakesAnIdleProcess() {
        let proc = living()
        proc.stop()
        #expect(scheduler.readyCount == 1)
        proc.stop()
        #expect(scheduler.readyCount == 1)
        scheduler.drain()
        #expect(proc.lastExit?.description == "shutdown")
    }

    @Test func aKillEndsWithKilled() {
        let proc = living()
        proc.sendNote("left", to: record)
        proc.kill()
        scheduler.drain()
        #expect(proc.lastExit?.description == "killed")
        #expect(record.events == [])
    }

    @Test func aKillWinsOverAStopThatWasNotObeyedYet() {
        let proc = living()
        proc.stop()
        proc.kill()
        scheduler.drain()
        #expect(proc.lastExit?.description == "killed")
    }

    @Test func finishEndsNormally() {
        let proc = living()
        proc.tell { $0.finish() }
        scheduler.drain()
        #expect(proc.lastExit?.description == "normal")
    }

    @Test func aHandlerThatThrowsEndsTheProcessWithItsError() {
        let proc = living()
        proc.tell { _ in throw Mishap() }
        proc.sendNote("later", to: record)
        scheduler.drain()
        #expect(proc.lastExit?.description == "error: mishap")
        #expect(record.events == [])
    }

    @Test func aHandlerThatAsksForAStopAndThrowsEndsWithTheError() {
        let proc = living()
        proc.tell {
            $0.stop()
            throw Mishap()
        }
        scheduler.drain()
        #expect(proc.lastExit?.description == "error: mishap")
    }

    @Test func aFactoryThatThrowsEndsTheProcessWithItsError() {
        let stack = ProcStack(
            state: 0,
            beforeStart: { [record] _ in record.note("before") },
            afterPanic: { [record] in record.note("panic \($0) \($1)") }
        )
        let proc = LightProc.reactive(on: scheduler) { () throws -> Script in throw Mishap() }
        proc.prepare(name: nil, stack: stack, observer: nil, shutdownTime: .seconds(1))
        proc.onExit { [record] in record.note("hook \($0)") }
        proc.sendNote("message", to: record)
        proc.restart()
        scheduler.drain()
        #expect(record.events == ["before", "hook error: mishap", "panic 0 error: mishap"])
        #expect(proc.isClosed)
    }

    @Test func theBodyIsDestroyedAtTheEnd() {
        let tally = Tracked.Tally()
        let proc = LightProc.reactive(on: scheduler) { Script(property: Tracked(in: tally)) }
        proc.restart()
        scheduler.drain()
        #expect(tally.live == 1)
        proc.stop()
        scheduler.drain()
        #expect(tally.live == 0)
    }

    @Test func aTrapLeavesTheBodyUntouchedAndTheRestAsWithAnyEnd() {
        let tally = Tracked.Tally()
        let observer = NotingObserver(record) { proc, _ in proc.restart() }
        let proc = LightProc.reactive(on: scheduler) { Script(property: Tracked(in: tally)) }
        proc.prepare(name: nil, stack: nil, observer: observer, shutdownTime: .seconds(1))
        proc.onExit { [record] in record.note("hook \($0)") }
        proc.restart()
        scheduler.drain()
        proc.sendNote("in hand", to: record)
        proc.sendNote("next", to: record)
        // As a worker that takes the process and traps in its first message: the process stays busy.
        #expect(scheduler.readyCount == 1)
        scheduler.takeWithoutRunning()
        _ = proc.takeNode()?.open(as: Script.Line.self)
        proc.trapped(trapReport(of: proc), in: nil, isOwnJob: false)
        scheduler.drain()
        let reason = "trap: index out of range"
        #expect(record.events == ["hook \(reason)", "observer: \(reason)", "next"])
        #expect(proc.restarts == 1)
        #expect(tally.live == 2, "the trapped body leaks, the new one lives")
    }

    // MARK: Restart

    @Test func aRestartKeepsTheMailboxAndItsOrder() {
        let observer = NotingObserver(record) { proc, _ in proc.restart() }
        let proc = restartable(observer: observer)
        proc.sendNote("before the first start", to: record)
        proc.restart()
        scheduler.drain()
        proc.sendNote("1", to: record)
        proc.tell { _ in throw Mishap() }
        proc.sendNote("2", to: record)
        proc.sendNote("3", to: record)
        scheduler.step()
        proc.sendNote("4", to: record)
        scheduler.drain()
        #expect(record.events == ["before the first start", "1", "observer: error: mishap", "2", "3", "4"])
        #expect(proc.restarts == 1)
        #expect(proc.lastExit?.description == "error: mishap")
    }

    @Test func messagesWaitWhileTheProcessIsDown() {
        let observer = NotingObserver(record)
        let proc = restartable(observer: observer)
        proc.restart()
        proc.tell { _ in throw Mishap() }
        scheduler.drain()
        #expect(proc.state.phase == .ended)
        proc.sendNote("a", to: record)
        #expect(scheduler.readyCount == 0, "nobody runs what is down")
        proc.stop()
        proc.kill()
        #expect(scheduler.readyCount == 0)
        proc.restart()
        scheduler.drain()
        #expect(record.events == ["observer: error: mishap", "a"])
        #expect(proc.state.phase == .active, "what was asked of a process that was down is forgotten")
    }

    @Test func aStopBeforeTheStartRanEndsTheProcess() {
        let observer = NotingObserver(record)
        let proc = restartable(observer: observer)
        proc.stop()
        #expect(scheduler.readyCount == 0, "not started: nothing to stop")
        proc.restart()
        proc.stop()
        proc.sendNote("message", to: record)
        scheduler.drain()
        #expect(record.events == ["observer: shutdown"])
    }

    @Test func theBodyIsMadeAnewAtEveryStart() {
        let tally = Tracked.Tally()
        let observer = NotingObserver(record) { proc, _ in if proc.restarts < 3 { proc.restart() } else { proc.close() }
        }
        let proc = LightProc.reactive(on: scheduler) { Script(property: Tracked(in: tally)) }
        proc.prepare(name: nil, stack: nil, observer: observer, shutdownTime: .seconds(1))
        for _ in 0..<4 { proc.tell { _ in throw Mishap() } }
        proc.restart()
        scheduler.drain()
        #expect(tally.made.load(ordering: .relaxed) == 4)
        #expect(tally.live == 0)
        #expect(record.events == [String](repeating: "observer: error: mishap", count: 4))
        #expect(proc.isClosed)
    }

    @Test func aClosedProcessIsNotRestarted() {
        let proc = restartable()
        proc.close()
        proc.restart()
        scheduler.drain()
        #expect(proc.isClosed)
        #expect(proc.state.incarnation == 0)
        #expect(proc.lastExit == nil)
    }

    // MARK: Close

    @Test func closeDestroysWhatIsLeftAndTellsAskers() {
        let observer = NotingObserver(record)
        let proc = restartable(observer: observer)
        let tally = Tracked.Tally()
        let property = Tracked(in: tally)
        proc.restart()
        proc.tell { _ in throw Mishap() }
        scheduler.drain()
        for _ in 0..<2 {
            proc.send(Script.Line { _ in _ = property.value }, receipt: NotingReceipt(record))
        }
        proc.sendNote("not run", to: record)
        proc.close()
        #expect(record.events == ["observer: error: mishap", "ended: error: mishap", "ended: error: mishap"])
        scheduler.drain()
        #expect(record.events.suffix(3) == ["discarded Line", "discarded Line", "discarded Line"])
        #expect(!proc.tell { _ in })
        proc.close()
        scheduler.drain()
        #expect(record.events.count == 6)
    }

    @Test func closeDoesNothingWhileTheProcessRuns() {
        let proc = living()
        proc.close()
        #expect(!proc.isClosed)
        proc.sendNote("a", to: record)
        scheduler.drain()
        #expect(record.events == ["a"])
    }

    @Test func leftMessagesAreDestroyedOnce() {
        let tally = Tracked.Tally()
        do {
            let proc = living()
            for _ in 0..<10 {
                let tracked = Tracked(in: tally)
                proc.tell {
                    _ = tracked.value
                    $0.kill()
                }
            }
            scheduler.drain()
            #expect(proc.isClosed)
        }
        #expect(tally.live == 0)
    }

    // MARK: Who is told

    @Test func hooksRunInReverseOrderOnce() {
        let observer = NotingObserver(record) { proc, _ in
            if proc.restarts == 0 { proc.restart() } else { proc.close() }
        }
        let proc = restartable(observer: observer)
        proc.restart()
        proc.tell { [record] proc in
            for number in 1...3 { proc.onExit { record.note("hook \(number): \($0)") } }
        }
        proc.tell { $0.finish() }
        proc.tell { [record] proc in
            proc.onExit { record.note("second life: \($0)") }
            throw Mishap()
        }
        scheduler.drain()
        #expect(
            record.events == [
                "hook 3: normal", "hook 2: normal", "hook 1: normal", "observer: normal",
                "second life: error: mishap", "observer: error: mishap",
            ]
        )
    }

    @Test func aHookMayRegisterAnother() {
        let proc = living()
        proc.onExit { [record] _ in
            record.note("outer")
            proc.onExit { _ in record.note("inner") }
        }
        proc.stop()
        scheduler.drain()
        #expect(record.events == ["outer", "inner"])
    }

    @Test func theObserverIsToldOncePerEndHoweverManyAskForIt() {
        let observer = NotingObserver(record)
        let proc = restartable(observer: observer)
        proc.restart()
        proc.tell {
            $0.stop()
            $0.kill()
            $0.finish()
            throw Mishap()
        }
        scheduler.drain()
        proc.stop()
        proc.kill()
        scheduler.drain()
        #expect(record.events == ["observer: error: mishap"])
        #expect(scheduler.readyCount == 0)
    }

    @Test func whoAwaitsAProcessWithoutAnObserverLearnsOnce() {
        let proc = living()
        for number in 1...2 { proc.whenEnded { [record] in record.note("awaiter \(number): \($0)") } }
        proc.kill()
        #expect(record.events == [])
        scheduler.drain()
        #expect(record.events.sorted() == ["awaiter 1: killed", "awaiter 2: killed"])
    }

    @Test func whenEndedCallsAtOnceWhenTheProcessHasEnded() {
        let proc = living()
        proc.stop()
        scheduler.drain()
        proc.whenEnded { [record] in record.note("\($0)") }
        #expect(record.events == ["shutdown"])
        let unborn = restartable()
        unborn.close()
        unborn.whenEnded { [record] in record.note("unborn: \($0)") }
        #expect(record.events == ["shutdown", "unborn: shutdown"])
    }

    @Test func whoAwaitsASupervisedProcessLearnsWhenItIsClosed() {
        let observer = NotingObserver(record) { proc, _ in
            if proc.restarts == 0 { proc.restart() } else { proc.close() }
        }
        let proc = restartable(observer: observer)
        proc.restart()
        proc.whenEnded { [record] in record.note("awaiter: \($0)") }
        proc.tell { _ in throw Mishap() }
        scheduler.drain()
        #expect(record.events == ["observer: error: mishap"])
        proc.stop()
        scheduler.drain()
        #expect(record.events == ["observer: error: mishap", "observer: shutdown", "awaiter: shutdown"])
    }

    @Test func anAskInHandLearnsOfTheEndAndAnAnsweredOneDoesNot() {
        let proc = living()
        let answered = NotingReceipt(record)
        proc.send(Script.Line { $0.forget(answered) }, receipt: answered)
        proc.send(Script.Line { _ in }, receipt: NotingReceipt(record))
        scheduler.drain()
        #expect(record.events == [])
        proc.tell { _ in throw Mishap() }
        scheduler.drain()
        #expect(record.events == ["ended: error: mishap"])
    }

    @Test func aProcessThatNobodyRefersToIsGoneWithItsBody() {
        let tally = Tracked.Tally()
        weak var watched: LightProc?
        do {
            let proc = LightProc.reactive(Script(property: Tracked(in: tally)), on: scheduler)
            watched = proc
            proc.sendNote("a", to: record)
            scheduler.drain()
            #expect(tally.live == 1)
        }
        #expect(watched == nil)
        // What the body owned is not destroyed by whoever lets go, but by a process of its own.
        #expect(tally.live == 1)
        scheduler.drain()
        #expect(tally.live == 0)
    }

    @Test func namesAndDescriptions() {
        let proc = living()
        #expect(proc.description == proc.id.description)
        proc.prepare(name: "cart", stack: nil, observer: nil, shutdownTime: .seconds(1))
        #expect(proc.description == "cart\(proc.id)")
        let other = restartable(stack: ProcStack(name: "from its stack"))
        #expect(other.name == "from its stack")
    }
}
