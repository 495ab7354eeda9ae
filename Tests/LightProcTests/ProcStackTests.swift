// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Testing

@testable import LightProc

/// Typed state and the callbacks over a process's lifecycle.
@Suite struct ProcStackTests {
    private let scheduler = HandScheduler()
    private let record = Record<String>()

    @Test func theStateIsHandedOutByItsTypeOnly() {
        let stack = ProcStack(state: 5)
        #expect(stack.state(as: Int.self) == 5)
        #expect(stack.state(as: String.self) == nil)
        #expect(stack.state(as: UInt.self) == nil)
        #expect(stack.state(as: Int?.self) == Int??.none)
        let inferred: Int? = stack.state()
        #expect(inferred == 5)
        #expect(ProcStack().state(as: Int.self) == nil)
    }

    @Test func callbacksChangeTheState() {
        let stack = ProcStack(
            name: "cart",
            state: [String](),
            beforeStart: { $0.append("before") },
            afterComplete: { $0.append("complete") },
            afterPanic: { $0.append("panic \($1)") }
        )
        stack.beforeStart?()
        stack.afterComplete?()
        stack.afterPanic?(.killed)
        #expect(stack.state(as: [String].self) == ["before", "complete", "panic killed"])
        let copy = stack
        copy.beforeStart?()
        #expect(stack.state(as: [String].self)?.count == 4, "copies share the state")
    }

    @Test func aStackWithoutCallbacksHasNone() {
        #expect(!ProcStack().hasCallbacks)
        #expect(!ProcStack(state: 1).hasCallbacks)
        #expect(ProcStack(state: 1, afterComplete: { _ in }).hasCallbacks)
    }

    @Test(arguments: [false, true])
    func theProcessIsKnownOnceAStackIsGivenToOne(isReactive: Bool) {
        let stack = ProcStack(name: "cart")
        #expect(stack.pid == nil)
        let proc =
            isReactive ? LightProc.reactive(on: scheduler) { Script() } : LightProc.async(on: scheduler) { _ in }
        proc.prepare(name: nil, stack: stack, observer: NotingObserver(Record()), shutdownTime: .seconds(1))
        #expect(proc.stack?.pid == proc.id)
        #expect(ProcHandle(proc).stack?.pid == proc.id)
        #expect(stack.pid == nil, "the caller's own value is a copy")
        for _ in 0..<2 {
            proc.restart()
            scheduler.drain()
            proc.kill()
            scheduler.drain()
            #expect(proc.stack?.pid == proc.id, "the same over restarts")
        }
        // Given to another process, the copy says so; the first one's does not change.
        let other = LightProc.async(on: scheduler) { _ in }
        other.prepare(name: nil, stack: proc.stack, observer: nil, shutdownTime: .seconds(1))
        #expect(other.stack?.pid == other.id)
        #expect(proc.stack?.pid == proc.id)
    }

    enum Ending: CaseIterable, Sendable {
        case normal
        case shutdown
        case error
        case killed
    }

    private func stack() -> ProcStack {
        var stack = ProcStack()
        stack.beforeStart = { [record] in record.note("before") }
        stack.afterComplete = { [record] in record.note("complete") }
        stack.afterPanic = { [record] in record.note("panic: \($0)") }
        return stack
    }

    private func expected(_ ending: Ending) -> String {
        switch ending {
        case .normal, .shutdown: "complete"
        case .error: "panic: error: mishap"
        case .killed: "panic: killed"
        }
    }

    @Test(arguments: Ending.allCases)
    func ofAReactiveProcessEveryIncarnationGetsItsCallbacksOnce(ending: Ending) {
        let observer = NotingObserver(Record()) { proc, _ in
            if proc.restarts == 0 { proc.restart() } else { proc.close() }
        }
        let proc = LightProc.reactive(on: scheduler) { Script() }
        proc.prepare(name: nil, stack: stack(), observer: observer, shutdownTime: .seconds(1))
        proc.restart()
        for _ in 0..<2 {
            proc.tell { [record] proc in
                record.note("message")
                switch ending {
                case .normal: proc.finish()
                case .shutdown: proc.stop()
                case .error: throw Mishap()
                case .killed: proc.kill()
                }
            }
        }
        scheduler.drain()
        let life = ["before", "message", expected(ending)]
        #expect(record.events == life + life)
    }

    @Test(arguments: Ending.allCases)
    func ofAnAsyncProcessEveryIncarnationGetsItsCallbacksOnce(ending: Ending) {
        let observer = NotingObserver(Record()) { proc, _ in
            if proc.restarts == 0 { proc.restart() } else { proc.close() }
        }
        let proc = LightProc.async(on: scheduler) { [record] proc in
            record.note("body")
            switch ending {
            case .normal: break
            case .shutdown: proc.stop()
            case .error: throw Mishap()
            case .killed: proc.kill()
            }
        }
        proc.prepare(name: nil, stack: stack(), observer: observer, shutdownTime: .seconds(1))
        proc.restart()
        scheduler.drain()
        let life = ["before", "body", expected(ending)]
        #expect(record.events == life + life)
    }

    @Test func aTrapIsAPanic() {
        let observer = NotingObserver(Record())
        let proc = LightProc.reactive(on: scheduler) { Script() }
        proc.prepare(name: nil, stack: stack(), observer: observer, shutdownTime: .seconds(1))
        proc.restart()
        scheduler.drain()
        proc.tell { _ in }
        scheduler.takeWithoutRunning()
        proc.trapped(trapReport(of: proc), in: nil, isOwnJob: false)
        scheduler.drain()
        #expect(record.events == ["before", "panic: trap: index out of range"])
    }

    @Test func callbacksRunAfterTheHooks() {
        let proc = LightProc.reactive(on: scheduler) { Script() }
        proc.prepare(name: nil, stack: stack(), observer: nil, shutdownTime: .seconds(1))
        proc.onExit { [record] _ in record.note("hook") }
        proc.restart()
        proc.stop()
        scheduler.drain()
        #expect(record.events == ["before", "hook", "complete"])
    }
}
