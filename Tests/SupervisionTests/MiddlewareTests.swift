// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import LightProc
import Testing

@testable import Supervision

/// What stands around handlers, and poisonous messages; in virtual time.
@Suite struct MiddlewareTests {
    private let sim = Simulation()

    private struct Handler: Reactive {
        let trace: Trace
        let fails: @Sendable (Int) -> Bool
        mutating func receive(_ n: consuming Int, in context: borrowing ReactiveContext<Self>) throws {
            trace("\(n)")
            if fails(n) { throw Failure(number: n) }
        }
    }

    /// A reactive and an async group of the same behaviour.
    private func tree(
        fails: @escaping @Sendable (Int) -> Bool = { _ in false },
        _ change: (Children) -> Children
    ) throws -> (reactive: ProcRef<Int>, async: ProcRef<Int>) {
        let trace = sim.trace
        let tree = try sim.system.supervise("shop", intensity: .unlimited) {
            change(Children("reactive", Handler(trace: trace, fails: fails)))
            change(
                Children("async", handling: Int.self) { n, _ in
                    trace("\(n)")
                    if fails(n) { throw Failure(number: n) }
                }
            )
        }
        return (try tree.group("reactive").members[0], try tree.group("async").members[0])
    }

    private func lines(_ ref: ProcRef<Int>, _ messages: [Int]) -> [String] {
        sim.drain()
        sim.trace.clear()
        for n in messages { ref.tell(n) }
        sim.advance(by: .seconds(100))
        return sim.trace.lines
    }

    private func noting(_ name: String) -> Middleware {
        let trace = sim.trace
        return Middleware(
            now: { _, next in
                trace("\(name)(")
                try next()
                trace(")\(name)")
            },
            later: { _, next in
                trace("\(name)(")
                try await next()
                trace(")\(name)")
            }
        )
    }

    @Test func theFirstIsOutermost() throws {
        let (a, b, c) = (noting("a"), noting("b"), noting("c"))
        let (reactive, async) = try tree { $0.middleware(a, b.then(c)) }
        for ref in [reactive, async] {
            #expect(lines(ref, [1]) == ["a(", "b(", "c(", "1", ")c", ")b", ")a"])
        }
    }

    @Test func itSeesWhatAMessageIs() throws {
        let seen = Trace()
        let (reactive, async) = try tree { group in
            group.middleware(
                .measuring { handling, time, outcome in
                    let isFailure = if case .failed = outcome { true } else { false }
                    seen("\(handling.processName) \(handling.path) \(handling.messageType) \(time) \(isFailure)")
                    seen("\(handling.remainingTime == nil) \(handling.queueDelay)")
                }
            )
        }
        for ref in [reactive, async] { _ = lines(ref, [1]) }
        #expect(
            seen.lines == [
                "reactive-0 /shop/reactive-0 Int 0.0 seconds false", "true 0.0 seconds",
                "async-0 /shop/async-0 Int 0.0 seconds false", "true 0.0 seconds",
            ]
        )
    }

    @Test func whatFailsIsTriedAgain() throws {
        let left = Locked([1: 2, 2: 9])
        let fails: @Sendable (Int) -> Bool = { n in
            left.withLock { left in
                left[n, default: 0] -= 1
                return left[n]! >= 0
            }
        }
        let (reactive, async) = try tree(fails: fails) { $0.middleware(.retry(2, backoff: .constant(.seconds(1)))) }
        #expect(lines(reactive, [1]) == ["1", "1", "1"])
        #expect(sim.system.restarts == 0)
        #expect(lines(reactive, [2]) == ["2", "2", "2"])
        #expect(sim.system.restarts == 1)
        left.withLock { $0 = [1: 2] }
        let began = sim.milliseconds
        sim.trace.clear()
        async.tell(1)
        sim.advance(by: .milliseconds(1_500))
        #expect(sim.trace.lines == ["1", "1"])
        sim.advance(by: .milliseconds(1_000))
        #expect(sim.trace.lines == ["1", "1", "1"])
        #expect(sim.milliseconds == began + 2_500 && sim.system.restarts == 1)
    }

    @Test func aRateIsKept() throws {
        let (reactive, async) = try tree { $0.middleware(.rateLimit(10, per: .seconds(1), burst: 2)) }
        // What a reactive process cannot handle in time it drops.
        #expect(lines(reactive, [1, 2, 3, 4]) == ["1", "2"])
        #expect(sim.system.deadLetters == 2)
        sim.trace.clear()
        for n in 1...5 { async.tell(n) }
        sim.drain()
        #expect(sim.trace.lines == ["1", "2"])
        sim.advance(by: .milliseconds(250))
        #expect(sim.trace.lines == ["1", "2", "3", "4"])
        sim.advance(by: .milliseconds(100))
        #expect(sim.trace.lines.count == 5 && sim.system.deadLetters == 2)
    }

    @Test func aHandlerHasSoMuchTime() throws {
        let trace = sim.trace
        let tree = try sim.system.supervise(intensity: .unlimited) {
            Children("slow", handling: Int.self) { n, context in
                try await context.sleep(for: .seconds(n))
                trace("\(n)")
            }.middleware(.deadline(.seconds(2)))
        }
        let ref: ProcRef<Int> = try tree.group("slow").members[0]
        ref.tell(1)
        ref.tell(5)
        ref.tell(1)
        sim.advance(by: .seconds(10))
        #expect(sim.trace.lines == ["1", "1"] && sim.system.restarts == 1)
    }

    @Test func aDroppedAskIsTold() throws {
        struct Answering: Reactive {
            mutating func receive(_ reply: consuming Reply<Int>, in context: borrowing ReactiveContext<Self>) {
                reply(1)
            }
        }
        let refuse = Middleware(
            now: { _, _ in throw DroppedMessage() },
            later: { _, _ in throw DroppedMessage() }
        )
        let outcomes = Trace()
        let tree = try sim.system.supervise {
            Children("reactive", Answering()).middleware(refuse)
            Children("async", handling: Reply<Int>.self) { reply, _ in reply(1) }.middleware(refuse)
        }
        for name in ["reactive", "async"] {
            let ref: ProcRef<Reply<Int>> = try tree.group(name).members[0]
            ref.request { $0 }.whenComplete { result in
                if case .failure(let error) = result { outcomes("\(error.code)") }
            }
        }
        sim.drain()
        #expect(outcomes.lines == Array(repeating: "\(AskError.Code.dropped)", count: 2))
        #expect(sim.system.deadLetters == 2 && sim.system.restarts == 0)
    }

    @Test func aSpanIsOpenedAndClosed() throws {
        let trace = sim.trace
        let tracing = Middleware.tracing { handling in
            trace("begin \(handling.messageType)")
            return { outcome in
                let isFailure = if case .failed = outcome { true } else { false }
                trace("end \(isFailure)")
            }
        }
        let fails: @Sendable (Int) -> Bool = { $0 < 0 }
        let (reactive, async) = try tree(fails: fails) { $0.middleware(tracing, .logging()) }
        for ref in [reactive, async] {
            #expect(lines(ref, [1, -1]) == ["begin Int", "1", "end false", "begin Int", "-1", "end true"])
        }
    }

    @Test func aBodyThatReceivesByItselfHasNone() {
        let error = #expect(throws: SupervisionError.self) {
            try sim.system.supervise { Children("own") { _ in }.middleware(.logging()) }
        }
        #expect(error?.code == .noHandler)
    }

    @Test func aBucketKeepsItsRate() {
        var bucket = TokenBucket(10, per: .seconds(1), burst: 3)
        let taken = (0..<5).map { _ in bucket.takeNow(at: .seconds(5)) }
        #expect(taken == [true, true, true, false, false])
        #expect(bucket.takeNow(at: .milliseconds(5_099)) == false)
        #expect(bucket.takeNow(at: .milliseconds(5_100)) == true)
        var waiting = TokenBucket(10, per: .seconds(1), burst: 1)
        let delays = (0..<3).map { _ in waiting.reserve(at: .seconds(1)) / .milliseconds(1) }
        #expect(delays == [0, 100, 200])
    }

    // MARK: Poison

    /// A body that fails on negative numbers; the key is the last digit.
    private func poisoned(
        _ verdict: PoisonPolicy.Verdict,
        isReactive: Bool,
        after failures: Int = 2
    ) throws -> (ProcRef<Int>, Trace, SupervisorRef) {
        let trace = sim.trace
        let asked = Trace()
        let decide: @Sendable (PoisonPolicy.Suspect) -> PoisonPolicy.Verdict = { suspect in
            asked("\(suspect.key) \(suspect.failures) \(suspect.messageType)")
            return verdict
        }
        let policy = PoisonPolicy.after(failures, key: { (n: Int) in "\(abs(n) % 10)" }, decide: decide)
        let tree = try sim.system.supervise(intensity: .unlimited) {
            if isReactive {
                Children("child", Handler(trace: trace, fails: { $0 < 0 }), restart: .transient).poison(policy)
            } else {
                Children("child", restart: .transient) { context in
                    for await n in context.messages(of: Int.self) {
                        trace("\(n)")
                        if n < 0 { throw Failure(number: n) }
                    }
                }.poison(policy)
            }
        }
        return (try tree.group("child").members[0], asked, tree)
    }

    @Test(arguments: [true, false])
    func aPoisonousMessageIsDropped(isReactive: Bool) throws {
        let (ref, asked, _) = try poisoned(.deadLetter, isReactive: isReactive)
        #expect(lines(ref, [-1, -12, -11, 2, -21, 1, -12]) == ["-1", "-12", "-11", "2", "-12"])
        #expect(asked.lines == ["1 2 Int", "1 2 Int"])
        #expect(sim.system.deadLetters == 2 && sim.system.restarts == 4)
    }

    @Test(arguments: [true, false])
    func aSuccessForgivesFailures(isReactive: Bool) throws {
        let (ref, asked, _) = try poisoned(.deadLetter, isReactive: isReactive)
        #expect(lines(ref, [-1, 1, -1, 1, -1]) == ["-1", "1", "-1", "1", "-1"])
        #expect(asked.lines.isEmpty)
    }

    @Test(arguments: [true, false])
    func aPoisonousMessageIsParked(isReactive: Bool) throws {
        let (ref, _, tree) = try poisoned(.park, isReactive: isReactive, after: 1)
        #expect(lines(ref, [-1, 11, 21, 2]) == ["-1", "2"])
        #expect(ref.mailboxCounters?.parked == 2)
        sim.trace.clear()
        ref.tell(3)
        #expect(ref.releaseParked() == 2)
        sim.drain()
        #expect(sim.trace.lines == ["11", "21", "3"])
        #expect(lines(ref, [-5, 5]) == ["-5"])
        #expect(sim.system.deadLetters == 0)
        #expect(sim.stops(tree))
        #expect(sim.system.deadLetters == 1)
    }

    @Test(arguments: [true, false])
    func aPoisonousMessageStopsTheProcess(isReactive: Bool) throws {
        let (ref, _, _) = try poisoned(.stop, isReactive: isReactive, after: 1)
        #expect(lines(ref, [-1, 1, 2]) == ["-1"])
        #expect(ref.proc.isClosed && sim.system.deadLetters == 2)
    }

    /// Sent through a reference of any type it is like those of its own.
    @Test func aMessageOfAnyTypeIsJudgedByWhatItCarries() throws {
        let (ref, asked, _) = try poisoned(.deadLetter, isReactive: false)
        for n in [-1, -11, -21, 2] { ref.dynamic.tell(n) }
        sim.drain()
        #expect(sim.trace.lines == ["-1", "-11", "2"])
        #expect(asked.lines == ["1 2 Int"])
    }

    /// Set aside is neither handled nor failed on.
    @Test func aStashedMessageForgivesNothing() throws {
        let trace = sim.trace
        let tree = try sim.system.supervise(intensity: .unlimited) {
            Children("child") { context in
                while true {
                    let n: Int = try await context.receive()
                    if n < 0, context.stashed == 0, !trace.lines.contains("stash \(n)") {
                        trace("stash \(n)")
                        try context.stash(n)
                    } else if n == 0 {
                        context.unstashAll()
                    } else {
                        trace("\(n)")
                        if n < 0 { throw Failure() }
                    }
                }
            }.poison(.after(2, key: { (n: Int) in "\(n % 10)" }))
        }
        let ref: ProcRef<Int> = try tree.group("child").members[0]
        for n in [-1, 0, -11, 0, -21, 2] { ref.tell(n) }
        sim.drain()
        #expect(trace.lines == ["stash -1", "-1", "stash -11", "-11", "2"])
        #expect(sim.system.deadLetters == 1)
    }

    @Test(arguments: RandomTest.seeds("a poison table is bounded and right", count: 20))
    func aPoisonTableIsBoundedAndRight(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        var table = PoisonTable()
        var model: [String: Int] = [:]
        for _ in 0..<5_000 {
            let name = "\(random.next(below: 700))"
            let key = PoisonTable.Key(type: ObjectIdentifier(Int.self), key: name)
            #expect(table.failures(of: key)?.failures == model[name])
            table.took(key)
            if random.next(below: 3) == 0 {
                table.failed(.killed)
                model[name, default: 0] += 1
            } else {
                table.took(nil)
                model[name] = nil
            }
        }
        for n in 0..<5_000 {
            table.took(PoisonTable.Key(type: ObjectIdentifier(String.self), key: "\(n)"))
            table.failed(.killed)
            #expect(table.count <= PoisonTable.capacity)
        }
        let last = PoisonTable.Key(type: ObjectIdentifier(String.self), key: "4999")
        #expect(table.failures(of: last)?.failures == 1)
    }
}
