// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

/// The timers of a process, by key: they send it messages, and end with its incarnation.
///
/// - A message of a timer waits before those of the user lane and behind the control lane, in the order in which timers fire.
/// - **Exact.** After ``cancel(_:)``, after a start under the same key, and in the next incarnation, no message of the old timer is received,
///   even if it had fired and was waiting.
/// - A periodic timer keeps its rate, however late its messages are handled; while one of its messages waits, its ticks are skipped, so that
///   they never come in a bunch.
///
/// Any thread, but in the name of the process; never blocks. Costs a lock and a timer of the executor, O(1). Keys are text so that no
/// code of yours runs under the lock. Its messages have no sender.
public struct Timers<Message: Sendable>: Sendable {
    let proc: LightProc
    let incarnation: UInt32

    /// Sends this process a message once, not before the time has passed. Replaces the timer of that key, if there is one.
    ///
    /// Does nothing in an incarnation that is over.
    public func start(_ key: String, after time: Duration, _ message: Message) {
        start(key, message, isPeriodic: false) { [proc] fire in proc.scheduler.wake(after: time, fire) }
    }

    /// Sends this process a message at a fixed rate, the first time one period from now. Replaces the timer of that key, if there is
    /// one.
    ///
    /// Does nothing in an incarnation that is over.
    /// - Precondition: The period is positive.
    public func start(_ key: String, every period: Duration, _ message: Message) {
        start(key, message, isPeriodic: true) { [proc] fire in proc.scheduler.schedule(every: period) { _ in fire() } }
    }

    /// Ends a timer: nothing more of it is received. False if there was none.
    @discardableResult
    public func cancel(_ key: String) -> Bool {
        Companion.existing(of: proc)?.part(TimersPart.self)?.cancel(key, incarnation) ?? false
    }

    /// Ends all timers of this incarnation.
    public func cancelAll() { Companion.existing(of: proc)?.part(TimersPart.self)?.cancelAll(incarnation) }

    /// Whether there is a timer of this key that will still be heard of: one that has not fired, whose message waits, or a periodic one.
    public func isActive(_ key: String) -> Bool {
        Companion.existing(of: proc)?.part(TimersPart.self)?.isActive(key, incarnation) ?? false
    }

    private func start(
        _ key: String,
        _ message: Message,
        isPeriodic: Bool,
        _ arm: (@escaping @Sendable () -> Void) -> TimerToken
    ) {
        let part = Companion.of(proc).part(TimersPart.self, of: proc) { TimersPart(proc.scheduler) }
        guard proc.state.phase == .active, proc.incarnation == incarnation else { return }
        part.start(key, form(message), isPeriodic: isPeriodic, of: proc, incarnation, arm)
    }

    /// How the message gets to the handler.
    private func form(_ message: Message) -> TimerSource.Form {
        if !proc.isReactive { return .envelope(message) }
        guard let queue = proc.managedQueue else { return .node { MessageNode.make(message) } }
        let scheduler = proc.scheduler
        return .node {
            queue.putFirst(message, at: scheduler.now)
            return MessageNode.make(QueueToken())
        }
    }
}

extension Context {
    /// The timers of this incarnation: `context.timers.start("retry", after: .seconds(1), Retry())`.
    public var timers: Timers<any Sendable> { Timers(proc: proc, incarnation: incarnation) }
}

extension ReactiveContext {
    /// The timers of this incarnation: `context.timers.start("tick", every: .seconds(1), .tick)`.
    public var timers: Timers<Body.Message> { Timers(proc: proc, incarnation: proc.incarnation) }
}

/// The timers of one process.
final class TimersPart: CompanionPart {
    private struct Timer {
        let source: TimerSource
        let incarnation: UInt32
        let isPeriodic: Bool
        var token: TimerToken?
        /// It has fired, and the process has not come to it.
        var isWaiting = false
    }
    private struct State {
        var timers: [String: Timer] = [:]
        /// The last incarnation whose end is decided.
        var over: UInt32 = 0
    }
    private let state = Locked(State())
    /// Not retained: it outlives the process, and must not go with the last of these.
    private unowned let scheduler: any ProcScheduler

    init(_ scheduler: any ProcScheduler) { self.scheduler = scheduler }

    /// What is the user's is let go of outside the lock, by who calls this.
    func start(
        _ key: String,
        _ form: TimerSource.Form,
        isPeriodic: Bool,
        of proc: LightProc,
        _ incarnation: UInt32,
        _ arm: (@escaping @Sendable () -> Void) -> TimerToken
    ) {
        let source = TimerSource(self, key, form)
        let (isTaken, old) = state.withLock { state -> (Bool, Timer?) in
            guard state.over < incarnation else { return (false, nil) }
            let old = state.timers[key]
            state.timers[key] = Timer(source: source, incarnation: incarnation, isPeriodic: isPeriodic)
            return (true, old)
        }
        old?.token?.cancel()
        _ = old?.source.clear()
        guard isTaken else { return }
        let token = arm { [weak self, weak proc, weak source] in
            guard let self, let proc, let source else { return }
            fired(source, proc)
        }
        let isMeant = state.withLock { state in
            guard state.timers[key]?.source === source else { return false }
            state.timers[key]?.token = token
            return true
        }
        // Over already, or cancelled: a one-shot timer that has fired does not mind.
        if !isMeant { token.cancel() }
    }

    private func fired(_ source: TimerSource, _ proc: LightProc) {
        let isNews = state.withLock { state in
            guard let timer = state.timers[source.key], timer.source === source, !timer.isWaiting else { return false }
            state.timers[source.key]?.isWaiting = true
            return true
        }
        if isNews { proc.push(source) }
    }

    /// Whether a source that has its turn is still meant.
    func claim(_ source: TimerSource) -> Bool {
        state.withLock { state in
            guard let timer = state.timers[source.key], timer.source === source else { return false }
            if timer.isPeriodic {
                state.timers[source.key]?.isWaiting = false
            } else {
                state.timers[source.key] = nil
            }
            return true
        }
    }

    func isMeant(_ source: TimerSource) -> Bool { state.withLock { $0.timers[source.key]?.source === source } }

    func cancel(_ key: String, _ incarnation: UInt32) -> Bool {
        let timer = state.withLock { state -> Timer? in
            guard state.timers[key]?.incarnation == incarnation else { return nil }
            return state.timers.removeValue(forKey: key)
        }
        timer?.token?.cancel()
        _ = timer?.source.clear()
        return timer != nil
    }

    func cancelAll(_ incarnation: UInt32) {
        let keys = state.withLock { Array($0.timers.keys) }
        for key in keys { _ = cancel(key, incarnation) }
    }

    func isActive(_ key: String, _ incarnation: UInt32) -> Bool {
        state.withLock { $0.timers[key]?.incarnation == incarnation }
    }

    func endDecided(of proc: LightProc, incarnation: UInt32, reason: ExitReason) {
        let left = takeAll { $0.over = max($0.over, incarnation) }
        destroy(left)
    }

    func closed(_ proc: LightProc?, _ id: ProcID, reason: ExitReason) {
        destroy(takeAll { $0.over = .max })
    }

    private func takeAll(_ change: (inout State) -> Void) -> [Timer] {
        state.withLock { state in
            change(&state)
            defer { state.timers = [:] }
            return Array(state.timers.values)
        }
    }

    /// The messages are the user's: they die in a process of their own.
    private func destroy(_ timers: [Timer]) {
        if timers.isEmpty { return }
        for timer in timers { timer.token?.cancel() }
        let forms = timers.map { $0.source.clear() }
        LightProc.runOnce(on: scheduler) { _ = forms }
    }
}

/// The message of a timer, in the mailbox once the timer has fired.
final class TimerSource: MessageSource {
    /// How the message gets to the process.
    enum Form: Sendable {
        case envelope(any Sendable)
        case node(@Sendable () -> MessageNode)
    }
    let key: String
    private let part: TimersPart
    /// Nil when the timer is not meant any more.
    private let form: Locked<Form?>

    init(_ part: TimersPart, _ key: String, _ form: Form) {
        self.part = part
        self.key = key
        self.form = Locked(form)
    }

    func takeTurn() -> SourceTurn? {
        guard part.claim(self) else { return nil }
        switch form.withLock({ $0 }) {
        case .envelope(let message): return .message(MessageNode.make(Envelope(message: message)))
        case .node(let make): return .message(make())
        case nil: return nil
        }
    }

    var preview: Any? {
        guard part.isMeant(self), case .envelope(let message)? = form.withLock({ $0 }) else { return nil }
        return Envelope(message: message)
    }

    /// Lets go of the message; the caller destroys it.
    func clear() -> Form? {
        form.withLock { form in
            defer { form = nil }
            return form
        }
    }
}
