// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import LightProc
import Testing

@testable import Supervision

/// Timers of a process, delayed sends, receive timeouts, in virtual time.
@Suite struct TimersTests {
    private let sim = Simulation()

    /// A process that does what it is told: "start k 100", "every k 100", "cancel k", "fail".
    private func worker(_ receiver: Receiver, restart: RestartType = .permanent) throws -> AnyRef {
        let sim = self.sim
        let tree = try sim.system.supervise(intensity: .unlimited) {
            receiver.children("worker", restart: restart) { message, context in
                try message.onTell(String.self) { text, _ in
                    let words = text.split(separator: " ").map(String.init)
                    switch words[0] {
                    case "start": context.start(words[1], after: .milliseconds(Int(words[2])!), Fired(words[1]))
                    case "every": context.start(words[1], every: .milliseconds(Int(words[2])!), Fired(words[1]))
                    case "cancel": sim.note("cancelled \(context.cancel(words[1])), \(context.isActive(words[1]))")
                    case "active": sim.note("active \(context.isActive(words[1]))")
                    case "fail": throw Failure()
                    default: sim.note(text)
                    }
                }
                .onTell(Fired.self) { fired, sender in sim.note("fired \(fired.key)\(sender.isIdentified ? "?" : "")") }
            }
        }
        return try tree.refs("worker")[0]
    }

    private struct Fired: Sendable {
        let key: String
        init(_ key: String) { self.key = key }
    }

    @Test(arguments: Receiver.allCases)
    func timersFireOnceOrAtARate(receiver: Receiver) throws {
        let worker = try worker(receiver)
        worker.tell("start once 250")
        worker.tell("every tick 100")
        sim.drain()
        worker.tell("active once")
        sim.advance(by: .milliseconds(320))
        worker.tell("active once")
        worker.tell("cancel tick")
        worker.tell("cancel tick")
        sim.advance(by: .seconds(1))
        #expect(
            sim.trace.lines == [
                "0: active true", "100: fired tick", "200: fired tick", "250: fired once", "300: fired tick",
                "320: active false", "320: cancelled true, false", "320: cancelled false, false",
            ]
        )
    }

    @Test(arguments: Receiver.allCases)
    func nothingOfACancelledOrReplacedTimerIsReceived(receiver: Receiver) throws {
        let worker = try worker(receiver)
        worker.tell("start a 10")
        worker.tell("start b 10")
        sim.drain()
        // Both have fired, and wait: one is cancelled then, the other replaced.
        worker.tell("cancel a", lane: .control)
        worker.tell("start b 50", lane: .control)
        sim.executor.pass(.milliseconds(20))
        sim.drain()
        sim.advance(by: .milliseconds(100))
        #expect(sim.trace.lines.filter { $0.contains("fired") } == ["70: fired b"])
        #expect(sim.trace.lines.filter { $0.contains("cancelled") } == ["20: cancelled true, false"])
    }

    @Test(arguments: Receiver.allCases)
    func skippedTicksDoNotComeInABunch(receiver: Receiver) throws {
        let worker = try worker(receiver)
        worker.tell("every tick 100")
        sim.drain()
        // Several periods pass while it has another message in hand.
        worker.tell("other", lane: .control)
        sim.executor.pass(.milliseconds(350))
        sim.drain()
        sim.advance(by: .milliseconds(100))
        #expect(sim.trace.lines == ["350: other", "350: fired tick", "400: fired tick"])
    }

    @Test(arguments: Receiver.allCases)
    func timersEndWithTheIncarnation(receiver: Receiver) throws {
        let worker = try worker(receiver)
        worker.tell("start waiting 10")
        worker.tell("start pending 500")
        worker.tell("every tick 100")
        sim.drain()
        // One has fired and waits when the process fails.
        worker.tell("fail", lane: .control)
        sim.executor.pass(.milliseconds(20))
        sim.drain()
        worker.tell("active pending")
        worker.tell("active waiting")
        sim.advance(by: .seconds(2))
        #expect(sim.system.restarts == 1)
        #expect(sim.trace.lines == ["20: active false", "20: active false"])
        #expect(sim.system.deadLetters == 0)
    }

    @Test(arguments: Receiver.allCases)
    func timersGoBeforeTheUserLaneAndBehindTheControlLane(receiver: Receiver) throws {
        let worker = try worker(receiver)
        worker.tell("start timer 10")
        sim.drain()
        worker.tell("first")
        worker.tell("user")
        sim.executor.pass(.milliseconds(20))
        worker.tell("control", lane: .control)
        sim.drain()
        // An async process that waits has been handed the first one by then; of a managed mailbox, the right to one.
        let order =
            switch receiver {
            case .reactive, .managedReactive: ["control", "fired timer", "first", "user"]
            case .async: ["first", "control", "fired timer", "user"]
            case .managedAsync: ["control", "first", "fired timer", "user"]
            }
        #expect(sim.trace.lines == order.map { "20: \($0)" })
    }

    @Test(arguments: Receiver.allCases)
    func delayedAndPeriodicTells(receiver: Receiver) throws {
        let worker = try worker(receiver, restart: .temporary)
        worker.tell("late", after: .milliseconds(100))
        worker.tell("never", after: .milliseconds(200)).cancel()
        let ticks = worker.tell("tick", every: .milliseconds(40))
        sim.advance(by: .milliseconds(90))
        ticks.cancel()
        sim.advance(by: .seconds(1))
        #expect(sim.trace.lines == ["40: tick", "80: tick", "100: late"])
        // A periodic one ends with its receiver.
        worker.tell("tick", every: .milliseconds(40))
        worker.tell("fail")
        sim.advance(by: .seconds(1))
        #expect(worker.proc.isClosed && sim.executor.nextTimer == nil)
        #expect(sim.trace.lines.count == 3)
        #expect(sim.system.deadLetters == 0)
    }

    private struct Impatient: Reactive {
        let sim: Simulation
        static var receiveTimeout: Duration? { .milliseconds(100) }
        mutating func receive(_ n: consuming Int, in context: borrowing ReactiveContext<Self>) throws {
            if n < 0 { throw Failure() }
            sim.note("\(n)")
        }
        mutating func receiveTimedOut(in context: borrowing ReactiveContext<Self>) throws { sim.note("timeout") }
    }

    @Test(arguments: ["bare", "managed", "spawned"])
    func aReactiveProcessHearsThatNothingComes(kind: String) throws {
        let sim = self.sim
        let ref: ProcRef<Int>
        if kind == "spawned" {
            ref = sim.system.spawn(Impatient(sim: sim))
        } else {
            let tree = try sim.system.supervise(intensity: .unlimited) {
                let children = Children("worker", Impatient(sim: sim))
                if kind == "managed" { children.mailbox(.unbounded) } else { children }
            }
            ref = try tree.group("worker").members[0]
        }
        sim.drain()
        sim.advance(by: .milliseconds(60))
        ref.tell(1)
        sim.advance(by: .milliseconds(250))
        ref.tell(2)
        sim.advance(by: .milliseconds(50))
        #expect(sim.trace.lines == ["60: 1", "160: timeout", "260: timeout", "310: 2"])
    }

    @Test(arguments: [false, true])
    func aReceiveTimeoutStartsAnewWithEachIncarnation(isManaged: Bool) throws {
        let sim = self.sim
        let tree = try sim.system.supervise(intensity: .unlimited) {
            let children = Children("worker", Impatient(sim: sim))
            if isManaged { children.mailbox(.unbounded) } else { children }
        }
        let ref = try tree.group("worker", of: Int.self).members[0]
        sim.advance(by: .milliseconds(60))
        ref.tell(1)
        sim.advance(by: .milliseconds(60))
        ref.tell(-1)
        sim.advance(by: .milliseconds(150))
        #expect(sim.trace.lines == ["60: 1", "220: timeout"])
        #expect(sim.stops(tree))
        sim.advance(by: .seconds(1))
        #expect(sim.trace.lines.count == 2)
    }
}

extension SeededExecutor {
    /// Lets time pass and timers fire, but nothing run.
    func pass(_ time: Duration) {
        let end = now + time
        // Ends: each round fires one timer, and those that are set anew lie later.
        while fireTimer(by: end) {}
        passTime(to: end)
    }
}
