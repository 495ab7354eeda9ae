// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc
import Testing

@testable import Supervision

/// A start that was given up goes on beside the next one, and does not speak for it.
@Suite struct StrayStartTests {
    /// What a word is told, in a row; a number: by which incarnation.
    private enum Said: Equatable {
        case enters(UInt32)
        case leaves(UInt32)
        case starts(UInt32)
        case ready(UInt32)
        case ends
    }

    /// What each of them returned.
    private static func tell(_ word: inout StartWord, _ all: Said...) -> [Bool] {
        all.map { said in
            switch said {
            case .enters(let incarnation): return word.set(isInStart: true, incarnation)
            case .leaves(let incarnation): return word.set(isInStart: false, incarnation)
            case .starts(let incarnation): return word.start(incarnation)
            case .ready(let incarnation): return word.sayReady(incarnation)
            case .ends:
                word.end()
                return true
            }
        }
    }

    @Test(arguments: [0, 1, 7, .max - 1, .max] as [UInt32], [true, false])
    func aWordIsAboutOneIncarnation(last: UInt32, isAwaited: Bool) {
        var word = StartWord(after: last, isAwaited: isAwaited)
        let present = word.incarnation
        var state = ProcState(rawValue: UInt(last) << 32 | (last == 0 ? 0 : ProcState.Phase.ended.rawValue))
        let start = state.start()
        #expect(start == .started(incarnation: present))
        for other in [last, present &+ 1] {
            let before = word
            let said = Self.tell(&word, .enters(other), .leaves(other), .starts(other), .ready(other))
            #expect(said == [false, false, false, false] && word == before && !word.hasStarted(other))
        }
        #expect(Self.tell(&word, .enters(present)) == [true] && word.isInStart)
        #expect(Self.tell(&word, .leaves(present)) == [true] && !word.isInStart)
        #expect(Self.tell(&word, .ready(present), .ready(present)) == [true, false])
        #expect(Self.tell(&word, .enters(present)) == [true] && !word.hasStarted(present))
        #expect(Self.tell(&word, .starts(present)) == [isAwaited])
        #expect(!word.isInStart && word.hasStarted(present) && word.incarnation == present)
    }

    @Test(arguments: [true, false])
    func whatIsOverSaysNothingMore(hadStarted: Bool) {
        var word = StartWord(after: 4, isAwaited: true)
        _ = hadStarted ? Self.tell(&word, .enters(5), .starts(5), .ends) : Self.tell(&word, .enters(5), .ends)
        #expect(!word.isInStart && word.hasStarted(5) == hadStarted)
        #expect(Self.tell(&word, .enters(5), .ready(5), .starts(5)) == [false, false, false])
        #expect(!word.isInStart && word.hasStarted(5) == hadStarted)
    }

    /// A member in its second incarnation, which is not ready: the first one was killed.
    private struct Second {
        let sim = Simulation()
        let tree: SupervisorRef
        let record: ChildRecord
        let watch: StartWatch
        let first: Context

        init() throws {
            let contexts = Locked<[Context]>([])
            let trace = sim.trace
            let spec = Children("m") { context in
                contexts.withLock { $0.append(context) }
                await context.untilStopped()
            }
            .signalsReady()
            .startsWithin(.seconds(3))
            .callbacks(
                Callbacks(
                    beforeRestart: { trace("before \($0.restarts)") },
                    afterRestart: { trace("after \($0.restarts)") }
                )
            )
            watch = spec.features.startWatch
            tree = try sim.system.supervise("shop", intensity: .unlimited) { spec }
            sim.drain()
            record = try #require(tree.supervisor.roster.child("m-0"))
            first = try #require(contexts.withLock { $0.first })
            record.proc.kill()
            sim.drain()
            #expect(contexts.withLock { $0.count } == 2 && record.proc.incarnation == first.incarnation + 1)
        }

        var state: ChildInfo.State? {
            let seen = Locked<ChildInfo.State?>(nil)
            let isDone = sim.completes { [tree] in
                let children = await tree.whichChildren()
                seen.withLock { $0 = children.first?.state }
            }
            #expect(isDone)
            return seen.withLock { $0 }
        }

        /// It is ended when the time for its start is up, and not before.
        func isLimited() throws {
            let incarnation = record.proc.incarnation
            #expect(state == .starting)
            sim.advance(by: .milliseconds(2999))
            #expect(record.proc.incarnation == incarnation)
            sim.advance(by: .milliseconds(2))
            #expect(record.proc.incarnation == incarnation + 1)
            #expect(sim.stops(tree))
        }
    }

    @Test func whatIsLeftOfAStartDoesNotHappen() throws {
        let second = try Second()
        let (proc, incarnation, trace) = (second.record.proc, second.first.incarnation, second.sim.trace)
        #expect(trace.lines == ["before 1"])
        second.watch.begins(proc, incarnation)
        #expect(!second.record.isStuck)
        #expect(!second.watch.made(proc, incarnation, isAsync: true))
        #expect(!second.watch.began(proc, incarnation))
        second.first.ready()
        second.sim.drain()
        #expect(trace.lines == ["before 1"])
        try second.isLimited()
    }

    @Test func aStartThatGoesOnIsNotOverBecauseAnotherOneIs() throws {
        let second = try Second()
        #expect(second.record.set(isInStart: true, second.record.proc.incarnation) && second.record.isStuck)
        #expect(!second.watch.made(second.record.proc, second.first.incarnation, isAsync: true))
        #expect(second.record.isStuck)
        #expect(second.record.set(isInStart: false, second.record.proc.incarnation))
        try second.isLimited()
    }

    @Test func aReportThatComesLateStopsNoTimerAndReadiesNobody() throws {
        let second = try Second()
        let record = second.record
        let late = Incarnation(proc: record.proc.id, number: second.first.incarnation)
        second.tree.supervisor.send(.started(record.id, late))
        second.sim.drain()
        #expect(!record.hadStarted)
        try second.isLimited()
    }

    /// Also when it comes after an end, and before the next start.
    @Test func aReportThatComesAfterTheEndIsNone() throws {
        let sim = Simulation()
        let trace = sim.trace
        let tree = try sim.system.supervise(
            "shop",
            intensity: .unlimited,
            callbacks: Callbacks(afterStart: { _ in trace("all have started") })
        ) {
            Children("m", backoff: .constant(.seconds(9))) { context in
                if context.restarts == 0 { throw Failure() }
                context.ready()
                await context.untilStopped()
            }
            .signalsReady()
        }
        sim.drain()
        let record = try #require(tree.supervisor.roster.child("m-0"))
        tree.supervisor.send(.started(record.id, Incarnation(proc: record.proc.id, number: record.proc.incarnation)))
        sim.drain()
        #expect(trace.lines == [])
        sim.advance(by: .seconds(9))
        #expect(trace.lines == ["all have started"])
        #expect(sim.stops(tree))
    }
}
