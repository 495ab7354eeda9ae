// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Testing

@testable import LightProc

/// Deadlines of incarnations, one step after the other.
@Suite struct LifetimeTests {
    private let scheduler = HandScheduler()
    private let record = Record<String>()

    private func reactive(
        observer: NotingObserver? = nil,
        deadline: Duration = .seconds(3)
    ) -> LightProc {
        let proc = LightProc.reactive(on: scheduler) { Script() }
        proc.prepare(
            name: nil,
            stack: ProcStack(deadline: deadline),
            observer: observer,
            shutdownTime: .seconds(1)
        )
        return proc
    }

    private func passes(_ time: Duration) {
        scheduler.advance(by: time)
        scheduler.drain()
    }

    @Test func aReactiveIncarnationIsEndedAtItsDeadline() {
        let proc = reactive()
        proc.onExit { [record] in record.note("\($0)") }
        proc.restart()
        scheduler.drain()
        #expect(proc.remainingTime == .seconds(3))
        passes(.milliseconds(2_999))
        #expect(record.events == [])
        #expect(proc.remainingTime == .milliseconds(1))
        #expect(proc.deadline == Deadline(instant: .seconds(3)))
        passes(.milliseconds(1))
        #expect(record.events == ["not over after its deadline of 3.0 seconds"])
        #expect(proc.isClosed)
    }

    @Test func aLivingProcessGetsItsDeadlineFromThenOn() {
        let proc = LightProc.reactive(Script(), on: scheduler)
        passes(.seconds(5))
        proc.limitLifetime(to: .seconds(1))
        passes(.milliseconds(999))
        #expect(!proc.isClosed)
        passes(.milliseconds(1))
        #expect(proc.isClosed)
    }

    @Test func theTimerEndsWithTheIncarnation() {
        let proc = reactive()
        proc.restart()
        scheduler.drain()
        #expect(scheduler.timerCount == 1)
        proc.stop()
        scheduler.drain()
        #expect(scheduler.timerCount == 0)
        #expect(proc.remainingTime == nil)
    }

    @Test func everyIncarnationHasItsOwnTime() {
        let observer = NotingObserver(record) { proc, _ in proc.restart() }
        let proc = reactive(observer: observer)
        proc.restart()
        scheduler.drain()
        passes(.seconds(2))
        proc.tell { _ in throw Mishap() }
        scheduler.drain()
        passes(.seconds(2))
        #expect(record.events == ["observer: error: mishap"])
        passes(.seconds(1))
        #expect(record.events.last == "observer: not over after its deadline of 3.0 seconds")
        #expect(proc.restarts == 2)
        _ = observer
    }

    @Test func aKillBeforeTheDeadlineStaysAKill() {
        let proc = reactive()
        proc.restart()
        scheduler.drain()
        proc.kill()
        // The time is up before the kill was obeyed.
        scheduler.advance(by: .seconds(3))
        scheduler.drain()
        #expect(proc.lastExit?.description == "killed")
    }

    @Test func theDeadlineWinsOverAStopThatWasNotObeyedYet() {
        let proc = reactive()
        proc.restart()
        scheduler.drain()
        proc.stop()
        scheduler.advance(by: .seconds(3))
        scheduler.drain()
        #expect(proc.lastExit?.description == "not over after its deadline of 3.0 seconds")
    }

    @Test func aReasonOfAnEarlierIncarnationIsForgotten() {
        let observer = NotingObserver(record) { proc, _ in proc.restart() }
        let proc = reactive(observer: observer)
        proc.restart()
        scheduler.drain()
        passes(.seconds(3))
        proc.kill()
        scheduler.drain()
        #expect(
            record.events == ["observer: not over after its deadline of 3.0 seconds", "observer: killed"]
        )
        _ = observer
    }

    @Test func aReactiveProcessIsEndedForAReasonFromOutside() {
        let proc = LightProc.reactive(Script(), on: scheduler)
        proc.end(7, for: .linked(ProcID(rawValue: 7), .killed))
        scheduler.drain()
        #expect(!proc.isClosed, "meant for another incarnation")
        proc.end(1, for: .linked(ProcID(rawValue: 7), .killed))
        scheduler.drain()
        #expect(proc.lastExit?.description == "linked process <0.7> ended: killed")
    }

    @Test(arguments: [false, true])
    func anAsyncIncarnationIsEndedAtItsDeadlineAndItsTaskCancelled(ignoring: Bool) {
        let latch = Latch()
        let proc = LightProc.async(on: scheduler) { [record] proc in
            if ignoring { await latch.wait() } else { _ = await proc.receiveNode() }
            record.note("cancelled: \(Task.isCancelled)")
        }
        proc.prepare(
            name: nil,
            stack: ProcStack(deadline: .seconds(3)),
            observer: nil,
            shutdownTime: .seconds(1)
        )
        proc.whenEnded { [record] in record.note("\($0)") }
        proc.restart()
        scheduler.drain()
        passes(.seconds(3))
        let told = ["not over after its deadline of 3.0 seconds"]
        #expect(record.events == (ignoring ? told : told + ["cancelled: true"]))
        #expect(proc.isClosed)
        latch.open()
        scheduler.drain()
    }
}

/// Deadlines of parts of an async process, one step after the other.
@Suite struct DeadlineTests {
    private let scheduler = HandScheduler()
    private let record = Record<String>()

    /// Runs an async process until nothing is ready.
    @discardableResult
    private func run(_ main: @escaping @Sendable (LightProc) async throws -> Void) -> LightProc {
        let proc = LightProc.async(on: scheduler, main)
        proc.prepare(name: nil, stack: nil, observer: nil, shutdownTime: .seconds(1))
        proc.restart()
        scheduler.drain()
        return proc
    }

    private func passes(_ time: Duration) {
        scheduler.advance(by: time)
        scheduler.drain()
    }

    private static func untilCancelled(_ proc: LightProc) async throws {
        _ = await proc.receiveNode()
        try Task.checkCancellation()
    }

    @Test func aBodyThatReturnsInTimeLeavesNothingBehind() {
        let proc = run { [record] proc in
            let value = try await proc.withTimeout(.seconds(1)) { 7 }
            record.note("\(value)")
        }
        #expect(record.events == ["7"])
        #expect(scheduler.timerCount == 0)
        #expect(proc.lastExit?.description == "normal")
    }

    @Test func aBodyIsCancelledWhenItsTimeIsUp() {
        let proc = run { [record] proc in
            do {
                try await proc.withTimeout(.seconds(2)) { try await Self.untilCancelled(proc) }
            } catch let error as DeadlineExceeded {
                record.note("\(error.process == proc.id) \(error.timeout)")
            }
            record.note("cancelled: \(Task.isCancelled)")
        }
        passes(.milliseconds(1_999))
        #expect(record.events == [])
        passes(.milliseconds(1))
        #expect(record.events == ["true 2.0 seconds", "cancelled: false"])
        #expect(proc.lastExit?.description == "normal")
    }

    @Test func theErrorThatNobodyCatchesEndsTheProcess() {
        let proc = run { proc in try await proc.withTimeout(.seconds(2)) { try await Self.untilCancelled(proc) } }
        passes(.seconds(2))
        #expect(proc.lastExit?.description == "error: \(proc.id): not done within 2.0 seconds")
    }

    @Test func whatABodyReturnsTooLateIsDropped() {
        let latch = Latch()
        run { [record] proc in
            do {
                let value = try await proc.withTimeout(.seconds(2)) {
                    await latch.wait()
                    return 7
                }
                record.note("\(value)")
            } catch {
                record.note("\(type(of: error))")
            }
        }
        passes(.seconds(2))
        #expect(record.events == [], "it is not left behind")
        latch.open()
        scheduler.drain()
        #expect(record.events == ["DeadlineExceeded"])
    }

    @Test func aResultThatMustNotGetLostIsKept() {
        let latch = Latch()
        run { [record] proc in
            let value = try await proc.withTimeout(.seconds(2), keepingLateResult: true) {
                await latch.wait()
                return 7
            }
            record.note("\(value)")
        }
        passes(.seconds(2))
        latch.open()
        scheduler.drain()
        #expect(record.events == ["7"])
    }

    @Test func anErrorInTimeIsTheBodys() {
        let proc = run { proc in try await proc.withTimeout(.seconds(2)) { throw Mishap() } }
        #expect(proc.lastExit?.description == "error: mishap")
        #expect(scheduler.timerCount == 0)
    }

    /// As of an ask that the deadline limits: its timer may be faster than the deadline's.
    @Test func anErrorOnceTheTimeIsUpIsTheDeadlines() {
        let latch = Latch()
        let proc = run { proc in
            try await proc.withTimeout(.seconds(2)) {
                await latch.wait()
                throw Mishap()
            }
        }
        scheduler.schedule(after: .seconds(1)) { [scheduler] in
            latch.open()
            scheduler.drain()
        }
        // Both timers are due, the body's is called first.
        passes(.seconds(2))
        #expect(proc.lastExit?.description == "error: \(proc.id): not done within 2.0 seconds")
    }

    @Test func withoutTimeTheBodyDoesNotRun() {
        let proc = run { [record] proc in
            try await proc.withTimeout(.zero) { record.note("never") }
        }
        #expect(record.events == [])
        guard case .error(let error) = proc.lastExit else { return #expect(Bool(false), "no error") }
        #expect(error is DeadlineExceeded)
    }

    @Test func aStopWithinADeadlineIsAStop() {
        let proc = run { proc in try await proc.withTimeout(.seconds(2)) { try await Self.untilCancelled(proc) } }
        proc.stop()
        scheduler.drain()
        #expect(proc.lastExit?.description == "shutdown")
        #expect(scheduler.timerCount == 0)
    }

    @Test(arguments: [(inner: 5, outer: 2), (inner: 2, outer: 5), (inner: 2, outer: 2)])
    func ofTwoDeadlinesTheNearerCounts(times: (inner: Int, outer: Int)) {
        run { [record] proc in
            do {
                try await proc.withTimeout(.seconds(times.outer)) {
                    do {
                        try await proc.withTimeout(.seconds(times.inner)) {
                            record.note("\(proc.remainingTime.map { "\($0)" } ?? "none")")
                            try await Self.untilCancelled(proc)
                        }
                    } catch {
                        record.note("inner: \(type(of: error))")
                        throw error
                    }
                }
            } catch let error as DeadlineExceeded {
                record.note("outer: \(error.timeout)")
            }
        }
        passes(.seconds(2))
        passes(.seconds(3))
        let innerError = times.inner < times.outer ? "DeadlineExceeded" : "CancellationError"
        #expect(record.events == ["2.0 seconds", "inner: \(innerError)", "outer: 2.0 seconds"])
    }

    @Test func theRemainingTimeIsThatOfTheTask() {
        run { [record, scheduler] proc in
            @Sendable func note(_ what: String) {
                record.note("\(what): \(proc.remainingTime.map { "\($0)" } ?? "none")")
            }
            note("before")
            try await proc.withTimeout(.seconds(3)) {
                async let child: Void = note("child")
                await child
                scheduler.advance(by: .seconds(1))
                note("later")
                let deadline = Deadline(instant: scheduler.now + .seconds(1))
                try await proc.withDeadline(deadline) { note("nearer") }
                note("outside")
            }
            note("after")
        }
        #expect(
            record.events == [
                "before: none", "child: 3.0 seconds", "later: 2.0 seconds", "nearer: 1.0 seconds",
                "outside: 2.0 seconds", "after: none",
            ]
        )
    }

    @Test func theRemainingTimeCountsTheIncarnationsDeadlineToo() {
        let proc = LightProc.async(on: scheduler) { [record] proc in
            record.note("\(proc.remainingTime.map { "\($0)" } ?? "none")")
            try await proc.withTimeout(.seconds(5)) { record.note("\(proc.remainingTime.map { "\($0)" } ?? "none")") }
            try await proc.withTimeout(.seconds(1)) { record.note("\(proc.remainingTime.map { "\($0)" } ?? "none")") }
        }
        proc.prepare(name: nil, stack: ProcStack(deadline: .seconds(3)), observer: nil, shutdownTime: .seconds(1))
        proc.restart()
        scheduler.drain()
        #expect(record.events == ["3.0 seconds", "3.0 seconds", "1.0 seconds"])
    }

    @Test func aKillWithinADeadlineLeavesATimerThatDoesNothing() {
        let latch = Latch()
        let proc = run { [record] proc in
            try await proc.withTimeout(.seconds(2)) { await latch.wait() }
            record.note("never")
        }
        proc.kill()
        scheduler.drain()
        // The child task that waits has the shutdown time.
        #expect(!proc.isClosed)
        passes(.seconds(1))
        #expect(proc.isClosed)
        passes(.seconds(1))
        latch.open()
        scheduler.drain()
        #expect(record.events == [])
    }

    // MARK: What stays inside a process

    enum Locals {
        @TaskLocal static var word = "none"
    }

    @Test func taskLocalsAndDeadlinesDoNotReachAnotherProcess() {
        run { [record, scheduler] proc in
            try await Locals.$word.withValue("inside") {
                try await proc.withTimeout(.seconds(9)) {
                    async let child: Void = record.note("child: \(Locals.word)")
                    await child
                    let other = LightProc.async(on: scheduler) { other in
                        let left = other.remainingTime == nil && DeadlineScope.remaining() == nil
                        record.note("other: \(Locals.word), no deadline: \(left), cancelled: \(Task.isCancelled)")
                    }
                    other.restart()
                    // Asked from here, too: the deadline of this task is not the other process's.
                    record.note("of the other: \(other.remainingTime == nil)")
                    let reactive = LightProc.reactive(Script(), on: scheduler)
                    reactive.tell { _ in
                        record.note("reactive: \(Locals.word), no deadline: \(DeadlineScope.remaining() == nil)")
                    }
                    _ = await ProcHandle(other).exit()
                    withExtendedLifetime(reactive) {}
                }
            }
        }
        #expect(record.events.first == "child: inside")
        #expect(record.events.contains("of the other: true"))
        #expect(record.events.contains("other: none, no deadline: true, cancelled: false"))
        #expect(record.events.contains("reactive: none, no deadline: true"))
    }

    @Test func cancellationStaysInsideTheProcess() {
        let latch = Latch()
        let outer = run { [record, scheduler] proc in
            let other = LightProc.async(on: scheduler) { _ in
                await latch.wait()
                record.note("other cancelled: \(Task.isCancelled)")
            }
            other.restart()
            try await Self.untilCancelled(proc)
        }
        outer.stop()
        scheduler.drain()
        #expect(outer.isClosed)
        latch.open()
        scheduler.drain()
        #expect(record.events == ["other cancelled: false"])
    }

    /// A task that outlives the stretch in which it was made has no part in its deadline any more.
    @Test func aDeadlineEndsWithItsStretch() async {
        let seen = await suspended { continuation in
            run { proc in
                let latch = Latch()
                try await proc.withTimeout(.seconds(1)) {
                    _ = Task {
                        await latch.wait()
                        continuation.resume(returning: DeadlineScope.remaining())
                    }
                }
                latch.open()
            }
        }
        #expect(seen == nil)
    }
}
