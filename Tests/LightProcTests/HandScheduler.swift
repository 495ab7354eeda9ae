// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

@testable import LightProc

/// A scheduler that does nothing by itself: the test says when the next thing runs, and when time passes.
///
/// One thread, first come first served. Everything that a process does is thereby one step after the other.
final class HandScheduler: ProcScheduler {
    private enum Item {
        case proc(LightProc)
        case job(UnownedJob, ProcTaskExecutor)
    }
    private struct Timer {
        let id: Int
        let deadline: Duration
        let action: @Sendable () -> Void
    }
    private struct State {
        var items: [Item] = []
        var timers: [Timer] = []
        var now = Duration.zero
        var nextTimer = 0
    }
    private let state = Locked(State())

    var now: Duration { state.withLock { $0.now } }
    /// How many things are ready to run.
    var readyCount: Int { state.withLock { $0.items.count } }
    var timerCount: Int { state.withLock { $0.timers.count } }

    func schedule(_ proc: LightProc) { state.withLock { $0.items.append(.proc(proc)) } }

    func schedule(_ job: UnownedJob, of executor: ProcTaskExecutor) {
        state.withLock { $0.items.append(.job(job, executor)) }
    }

    @discardableResult
    func schedule(after duration: Duration, _ action: @escaping @Sendable () -> Void) -> TimerToken {
        let id = state.withLock { state in
            state.nextTimer += 1
            state.timers.append(Timer(id: state.nextTimer, deadline: state.now + duration, action: action))
            return state.nextTimer
        }
        return TimerToken { [weak self] in self?.state.withLock { $0.timers.removeAll { $0.id == id } } }
    }

    /// Runs what is ready longest. False if nothing is.
    @discardableResult
    func step() -> Bool {
        guard let item = state.withLock({ $0.items.isEmpty ? nil : $0.items.removeFirst() }) else { return false }
        switch item {
        case .proc(let proc):
            if proc.run() { schedule(proc) }
        case .job(let job, let executor):
            executor.run(job)
        }
        return true
    }

    /// Takes what is ready longest, as a worker does that then traps.
    func takeWithoutRunning() { state.withLock { _ = $0.items.removeFirst() } }

    /// Runs what is ready, and what that makes ready, until nothing is.
    func drain() {
        var steps = 0
        while step() {
            steps += 1
            precondition(steps < 100_000, "still not at rest after \(steps) steps")
        }
    }

    /// Lets time pass and calls what is due, in order.
    func advance(by duration: Duration) {
        let due = state.withLock { state in
            state.now += duration
            let due = state.timers.filter { $0.deadline <= state.now }.sorted { $0.deadline < $1.deadline }
            state.timers.removeAll { timer in due.contains { $0.id == timer.id } }
            return due
        }
        for timer in due { timer.action() }
    }
}

/// An observer that notes what it is told and does what the test says.
final class NotingObserver: ProcObserver {
    let record: Record<String>
    private let decide: @Sendable (LightProc, ExitReason) -> Void

    init(_ record: Record<String>, _ decide: @escaping @Sendable (LightProc, ExitReason) -> Void = { _, _ in }) {
        self.record = record
        self.decide = decide
    }

    func procEnded(_ proc: LightProc, reason: ExitReason) {
        record.note("observer: \(reason)")
        decide(proc, reason)
    }

    func procDiscarded(messageOf type: Any.Type, by proc: LightProc) { record.note("discarded \(type)") }
}

/// A reactive process that does what its messages say.
struct Script: ReactiveBody {
    struct Line: Sendable {
        let act: @Sendable (LightProc) throws -> Void
        init(_ act: @escaping @Sendable (LightProc) throws -> Void) { self.act = act }
    }
    /// Something the body owns.
    var property: Tracked?

    mutating func receive(_ message: consuming Line, on proc: LightProc) throws { try message.act(proc) }
}

struct Mishap: Error, CustomStringConvertible {
    var description: String { "mishap" }
}

extension LightProc {
    /// Sends a message. False if the process is closed; the message is destroyed then.
    @discardableResult
    func send<Message: Sendable>(_ message: Message, receipt: MessageReceipt? = nil) -> Bool {
        let node = MessageNode.make(message, receipt: receipt)
        if push(node) { return true }
        node.refuse(as: Message.self)
        return false
    }

    /// Sends a line to a ``Script``.
    @discardableResult
    func tell(_ act: @escaping @Sendable (LightProc) throws -> Void) -> Bool { send(Script.Line(act)) }

    func sendNote(_ note: String, to record: Record<String>) { tell { _ in record.note(note) } }
}

/// A report as the reaper would make it.
func trapReport(of proc: LightProc) -> TrapReport {
    TrapReport(kind: .indexOutOfRange, message: nil, signal: 4, process: proc.id, name: proc.name, backtrace: [])
}
