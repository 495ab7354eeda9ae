// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

public import LightProc

/// An ask that was sent: its answer can be awaited, called back, or given up.
///
/// It ends as exactly one of: reply, the process ended (with the reason), refused, unanswered, timeout, cancelled.
public struct PendingReply<Value: Sendable>: Sendable {
    @usableFromInline let ask: Ask

    @inlinable
    init(ask: Ask) { self.ask = ask }

    /// Waits for the answer. Cancelling the calling task gives the ask up.
    ///
    /// An async process that waits here while the process that it asked waits, perhaps over others, for an answer of its own
    /// gets the error `cycle` after 50 ms; see ``AskCyclePolicy``.
    @inlinable
    public func value() async throws(AskError) -> Value { try Self.value(of: await ask.result()) }

    /// Gives the ask up: a later answer is dropped.
    public func cancel() { ask.cancel() }

    /// Calls `action` once with the answer, on a worker of the executor that runs the asked process.
    ///
    /// It runs as a process of its own: a trap in it is contained and ends nothing else.
    /// - Parameter action: Must not block.
    public func whenComplete(_ action: @escaping @Sendable (Result<Value, AskError>) -> Void) {
        let scheduler = ask.proc.scheduler
        whenSettled { result in
            LightProc.runOnce(on: scheduler) { action(result) }
        }
    }

    /// Calls `action` once when the ask has ended, on whatever thread ends it. Not for code of the user's.
    func whenSettled(_ action: @escaping @Sendable (Result<Value, AskError>) -> Void) {
        ask.whenSettled { result in
            do throws(AskError) {
                action(.success(try Self.value(of: result)))
            } catch {
                action(.failure(error))
            }
        }
    }

    @inlinable
    static func value(of result: Ask.Outcome) throws(AskError) -> Value {
        switch result {
        case .failure(let error): throw error
        case .success(let value):
            guard let value = Envelope(message: value).message(as: Value.self) else {
                preconditionFailure("impossible: an ask is settled with a value of its type")
            }
            return value
        }
    }
}

/// The asking side: settled once, by whoever comes first.
///
/// One type for all answers, which are in it as `any Sendable`: generic code of this module is not specialised, and looks for
/// metadata at every step.
@usableFromInline
final class Ask: MessageReceipt, WaitingAsk, @unchecked Sendable {
    // Sendable: `state` is locked, the rest is constant.
    @usableFromInline typealias Outcome = Result<any Sendable, AskError>
    typealias Observer = @Sendable (Outcome) -> Void

    private struct State {
        var result: Outcome?
        /// There is hardly ever more than one.
        var observer: Observer?
        var moreObservers: [Observer] = []
        var timer: TimerToken?
        /// Who has the message, unless it is the process that was asked.
        var holder: LightProc?
        /// Processes that wait for each other, this ask's among them.
        var cycle: AskCycle?
    }

    let proc: LightProc
    @usableFromInline let asker = LightProc.current?.id
    private let answerType: Any.Type
    private let latest: Duration
    private let state = Locked(State())

    /// - Parameters:
    ///   - answerType: What is to come.
    ///   - time: How long the answer may take; less, if a deadline of the calling task comes before.
    ///     While the asking process handles an ask itself, that one's deadline limits this one's.
    @usableFromInline
    init(_ proc: LightProc, for answerType: Any.Type, within time: Duration) {
        var time = DeadlineScope.remaining().map { min($0, time) } ?? time
        if let asker = LightProc.current, let end = asker.deadlineInHand {
            time = min(time, max(.zero, end - asker.scheduler.now))
        }
        self.proc = proc
        self.answerType = answerType
        latest = proc.scheduler.now + time
        super.init()
        startTimer(time)
    }

    /// The process in whose hands the message is, or in whose mailbox: the one that was asked, unless it handed it on.
    var holder: LightProc { state.withLock { $0.holder } ?? proc }
    @usableFromInline var asked: ProcID { holder.id }
    @usableFromInline override var deadline: Duration? { latest }

    /// Waits for the end. Cancelling the calling task is one.
    @usableFromInline
    func result() async -> Outcome {
        let waiting = AskWait(self)
        defer { waiting?.end() }
        return await withTaskCancellationHandler {
            await suspended { continuation in
                whenSettled { continuation.resume(returning: $0) }
            }
        } onCancel: {
            cancel()
        }
    }

    /// Another process is about to be given the message. Before it can take it. Any thread.
    func hand(to next: LightProc) {
        let before = state.withLock { state in
            defer { state.holder = next }
            return state.holder
        }
        (before ?? proc).forget(self)
    }

    /// Settles it with an answer whose type is not known; one of another type than asked for is an error.
    func answer(dynamically value: any Sendable) {
        func isOfType<Answer>(_ type: Answer.Type) -> Bool { value is Answer }
        let types = (asked: answerType, answered: type(of: value) as Any.Type)
        if types.asked == types.answered || _openExistential(answerType, do: isOfType) { return answer(value) }
        if !settle(.failure(AskError(.wrongAnswer, process: holder.id, types: types))) { countIfLate() }
    }

    /// Settles it with an answer of its type; one that comes too late is counted.
    @usableFromInline
    func answer(_ value: any Sendable) {
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

    /// The ask was found to wait for itself: its error is to say so. Any thread.
    func isPartOf(_ cycle: AskCycle) { state.withLock { $0.cycle = cycle } }

    /// Settles it with an error, if nobody has. Any thread.
    func fail(_ code: AskError.Code, reason: ExitReason? = nil) {
        let (cycle, holder) = state.withLock { ($0.cycle, $0.holder) }
        settle(.failure(AskError(code, process: (holder ?? proc).id, reason: reason, cycle: cycle)))
    }

    func cancel() { settle(.failure(AskError(.cancelled, process: proc.id))) }

    @usableFromInline override var isSettled: Bool { state.withLock { $0.result != nil } }

    @usableFromInline override func processEnded(_ reason: ExitReason) { fail(.processEnded, reason: reason) }

    @usableFromInline override func unanswered() { fail(.unanswered) }

    @usableFromInline override func refused(_ reason: ExitReason?) { fail(.refused, reason: reason) }

    /// Settles it, if nobody has. Any thread.
    /// - Returns: Whether this call did.
    @discardableResult
    func settle(_ result: Outcome) -> Bool {
        // Who waits is told after it is settled.
        LightProc.reserveStack()
        let settled = state.withLock { state -> State? in
            guard state.result == nil else { return nil }
            let before = state
            state.result = result
            state.observer = nil
            state.moreObservers = []
            state.timer = nil
            return before
        }
        guard let settled else { return false }
        settled.timer?.cancel()
        (settled.holder ?? proc).forget(self)
        settled.observer?(result)
        for observer in settled.moreObservers { observer(result) }
        return true
    }

    /// Calls `action` once when it has ended, on whatever thread ends it. Not for code of the user's.
    func whenSettled(_ action: @escaping Observer) {
        let known = state.withLock { state -> Outcome? in
            if state.result == nil {
                if state.observer == nil { state.observer = action } else { state.moreObservers.append(action) }
            }
            return state.result
        }
        if let known { action(known) }
    }

    private func startTimer(_ time: Duration) {
        let token = proc.scheduler.wake(after: time) { [weak self] in self?.fail(.timeout) }
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
    @usableFromInline let token: ReplyToken

    @inlinable
    init(_ ask: Ask) { token = ReplyToken(ask) }

    /// Answers. Any thread; never blocks. An answer that comes when the ask is over is dropped and counted
    /// (``BastionSystem/lateReplies``).
    @inlinable
    public func callAsFunction(_ value: Value) { token.ask.answer(value) }
}

/// What the copies of a reply share: the last one to go tells the asker, if nobody has answered.
@usableFromInline
final class ReplyToken: Sendable {
    @usableFromInline let ask: Ask

    @usableFromInline
    init(_ ask: Ask) { self.ask = ask }

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
