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

    /// The process in whose hands the message is, or in whose mailbox: the one that was asked, unless it handed it on.
    var holder: LightProc { proc }
    var asked: ProcID { holder.id }
    override var deadline: Duration? { latest }

    /// The ask was found to wait for itself: its error is to say so. Any thread.
    func isPartOf(_ cycle: AskCycle) {}

    /// Another process is about to be given the message. Before it can take it. Any thread.
    func hand(to next: LightProc) {}

    /// Settles it with an answer whose type is not known; one of another type than asked for is an error.
    func answer(dynamically value: any Sendable) {}

    /// Settles it with an error, if nobody has. Any thread.
    func fail(_ code: AskError.Code, reason: ExitReason? = nil) {}

    /// Calls `action` once when it has ended, on whatever thread ends it. Not for code of the user's.
    func whenOver(_ action: @escaping @Sendable () -> Void) {}

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

    override func hand(to next: LightProc) {
        let before = state.withLock { state in
            defer { state.holder = next }
            return state.holder
        }
        (before ?? proc).forget(self)
    }

    override func answer(dynamically value: any Sendable) {
        if let value = Envelope(message: value).message(as: Value.self) { return answer(value) }
        let types = (asked: Value.self as Any.Type, answered: type(of: value) as Any.Type)
        if !settle(.failure(AskError(.wrongAnswer, process: holder.id, types: types))) { countIfLate() }
    }

    /// Settles it with an answer; one that comes too late is counted.
    func answer(_ value: Value) {
        if !settle(.success(value)) { countIfLate() }
    }

    /// An answer has found it settled.
    private func countIfLate() {
        let isLate = state.withLock { state in
            if case .failure? = state.result { return true }
            return false
        }
        if isLate { BastionSystem.of(proc)?.countLateReply() }
    }

    override func fail(_ code: AskError.Code, reason: ExitReason? = nil) { end(code, reason) }

    override func whenOver(_ action: @escaping @Sendable () -> Void) { whenSettled { _ in action() } }

    override func isPartOf(_ cycle: AskCycle) { state.withLock { $0.cycle = cycle } }

    private func end(_ code: AskError.Code, _ reason: ExitReason? = nil) {
        let cycle = state.withLock(\.cycle)
        settle(.failure(AskError(code, process: holder.id, reason: reason, cycle: cycle)))
    }

    override var isSettled: Bool { state.withLock { $0.result != nil } }

    override func processEnded(_ reason: ExitReason) {
        end(.processEnded, reason)
    }

    override func unanswered() {
        end(.unanswered)
    }

    /// Settles it, if nobody has. Any thread.
    /// - Returns: Whether this call did.
    @discardableResult
    func settle(_ result: Result<Value, AskError>) -> Bool {
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
        guard let settled else { return false }
        settled.timer?.cancel()
        (settled.holder ?? proc).forget(self)
        for observer in settled.observers { observer(result) }
        return true
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
    let token: ReplyToken

    init(_ ask: Ask<Value>) { token = ReplyToken(ask) }

    /// Answers. Any thread; never blocks. An answer that comes when the ask is over is dropped and counted
    /// (``BastionSystem/lateReplies``).
    public func callAsFunction(_ value: Value) {
        // safety: `init` put it there.
        unsafeDowncast(token.ask, to: Ask<Value>.self).answer(value)
    }
}

/// What the copies of a reply share: the last one to go tells the asker, if nobody has answered.
final class ReplyToken: Sendable {
    let ask: AnyAsk
    init(_ ask: AnyAsk) { self.ask = ask }
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
