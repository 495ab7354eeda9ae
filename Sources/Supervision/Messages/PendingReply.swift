// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import LightProc

/// An ask that was sent: its answer can be awaited, called back, or given up.
///
/// It ends as exactly one of: reply, the process ended (with the reason), refused, unanswered, timeout, cancelled.
public struct PendingReply<Value: Sendable>: Sendable {
    let ask: Ask<Value>

    /// Waits for the answer. Cancelling the calling task gives the ask up.
    ///
    /// An async process that waits here while the process that it asked waits, perhaps over others, for an answer of its own
    /// gets the error `cycle` after 50 ms; see ``AskCyclePolicy``.
    public func value() async throws(AskError) -> Value {
        let waiting = AskWait(ask)
        defer { waiting?.end() }
        let result = await withTaskCancellationHandler {
            await withUnsafeContinuation { continuation in
                ask.whenSettled { continuation.resume(returning: $0) }
            }
        } onCancel: {
            ask.settle(.failure(AskError(.cancelled, process: ask.proc.id)))
        }
        return try result.get()
    }

    /// Gives the ask up: a later answer is dropped.
    public func cancel() { ask.settle(.failure(AskError(.cancelled, process: ask.proc.id))) }

    /// Calls `action` once with the answer, on a worker of the executor that runs the asked process.
    ///
    /// It runs as a process of its own: a trap in it is contained and ends nothing else.
    /// - Parameter action: Must not block.
    public func whenComplete(_ action: @escaping @Sendable (Result<Value, AskError>) -> Void) {
        let scheduler = ask.proc.scheduler
        ask.whenSettled { result in
            LightProc.runOnce(on: scheduler) { action(result) }
        }
    }
}

/// The asking side, whatever the type of the answer.
class AnyAsk: MessageReceipt, WaitingAsk, @unchecked Sendable {
    // Sendable: constant; subclasses answer for theirs.
    let proc: LightProc
    let asker = LightProc.current?.id
    private let latest: Duration

    init(_ proc: LightProc, latest: Duration) {
        self.proc = proc
        self.latest = latest
    }

    var asked: ProcID { proc.id }
    override var deadline: Duration? { latest }

    /// The process in whose hands the message is.
    var holder: LightProc { proc }

    /// The ask was found to wait for itself: its error is to say so. Any thread.
    func isPartOf(_ cycle: AskCycle) {}

    /// Settles it with an error, if nobody has. Any thread.
    func fail(_ code: AskError.Code, reason: ExitReason? = nil) {}

    override final func refused(_ reason: ExitReason?) { fail(.refused, reason: reason) }
}

/// The asking side: settled once, by whoever comes first.
final class Ask<Value: Sendable>: AnyAsk, @unchecked Sendable {
    // Sendable: `state` is locked, the rest is constant.
    private struct State {
        var result: Result<Value, AskError>?
        var observers: [@Sendable (Result<Value, AskError>) -> Void] = []
        var timer: TimerToken?
        /// Who has the message, unless it is the process that was asked.
        var holder: LightProc?
        /// Processes that wait for each other, this ask's among them.
        var cycle: AskCycle?
    }
    private let state = Locked(State())

    /// - Parameter time: How long the answer may take; less, if a deadline of the calling task comes before.
    ///   While the asking process handles an ask itself, that one's deadline limits this one's.
    init(_ proc: LightProc, within time: Duration) {
        var time = DeadlineScope.remaining().map { min($0, time) } ?? time
        if let asker = LightProc.current, let end = asker.deadlineInHand {
            time = min(time, max(.zero, end - asker.scheduler.now))
        }
        super.init(proc, latest: proc.scheduler.now + time)
        startTimer(time)
    }

    override var holder: LightProc { state.withLock { $0.holder } ?? proc }

    override func fail(_ code: AskError.Code, reason: ExitReason? = nil) { end(code, reason) }

    override func isPartOf(_ cycle: AskCycle) { state.withLock { $0.cycle = cycle } }

    private func end(_ code: AskError.Code, _ reason: ExitReason? = nil) {
        let cycle = state.withLock(\.cycle)
        settle(.failure(AskError(code, process: proc.id, reason: reason, cycle: cycle)))
    }

    override var isSettled: Bool { state.withLock { $0.result != nil } }

    override func processEnded(_ reason: ExitReason) {
        end(.processEnded, reason)
    }

    override func unanswered() {
        end(.unanswered)
    }

    /// Settles it, if nobody has. Any thread.
    func settle(_ result: Result<Value, AskError>) {
        let settled = state.withLock {
            state -> (observers: [@Sendable (Result<Value, AskError>) -> Void], timer: TimerToken?, holder: LightProc?)?
            in
            guard state.result == nil else { return nil }
            state.result = result
            defer {
                state.observers = []
                state.timer = nil
            }
            return (state.observers, state.timer, state.holder)
        }
        guard let settled else { return }
        settled.timer?.cancel()
        (settled.holder ?? proc).forget(self)
        for observer in settled.observers { observer(result) }
    }

    func whenSettled(_ action: @escaping @Sendable (Result<Value, AskError>) -> Void) {
        let known = state.withLock { state -> Result<Value, AskError>? in
            if state.result == nil { state.observers.append(action) }
            return state.result
        }
        if let known { action(known) }
    }

    private func startTimer(_ time: Duration) {
        let token = proc.scheduler.wake(after: time) { [weak self] in
            guard let self else { return }
            self.end(.timeout)
        }
        let isSettled = state.withLock { state -> Bool in
            if state.result == nil { state.timer = token }
            return state.result != nil
        }
        if isSettled { token.cancel() }
    }
}

/// The answering side: put into a message by who asks, called once by who answers.
///
/// A reply that is dropped without an answer tells the asker so at once. A second answer is ignored.
public struct Reply<Value: Sendable>: Sendable {
    private let token: Token

    private final class Token: Sendable {
        let ask: Ask<Value>
        init(_ ask: Ask<Value>) { self.ask = ask }
        deinit {
            if ask.isSettled { return }
            // Dropped by the process itself: perhaps because its handler is failing. It will say.
            if let current = LightProc.current, current === ask.holder {
                current.settleDropped(ask)
            } else {
                ask.unanswered()
            }
        }
    }

    init(_ ask: Ask<Value>) { token = Token(ask) }

    /// Answers. Any thread; never blocks.
    public func callAsFunction(_ value: Value) { token.ask.settle(.success(value)) }
}
