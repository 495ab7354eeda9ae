// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

public import LightProc

/// What was to start has not: everything that it had started has been stopped again, but for a member whose start hangs.
public struct StartError: Error, Sendable, CustomStringConvertible {
    /// What went wrong; compare with the static members, more of which may be added.
    public struct Code: Hashable, Sendable, CustomStringConvertible {
        /// The same in a few words, as they appear in the error's text.
        public let description: String

        /// A child ended before it had started; `reason` says how.
        public static let failed = Code(description: "ended before it had started")
        /// It had not started when the time was up.
        public static let timeout = Code(description: "had not started when the time was up")
        /// The supervisor was stopped, or gave up, before it had.
        public static let stopped = Code(description: "had not started when its supervisor stopped")
        /// Nobody waited for it any longer.
        static let cancelled = Code(description: "had not started when the start was cancelled")
    }

    /// What went wrong.
    public let code: Code
    /// Which child, as in `orders-3`; empty when it was none of them, but a callback of the supervisor.
    public let child: String
    /// Where that stands in the tree of supervisors, as in `/shop/orders-3`; where the supervisor does, when it was none of its children.
    public let path: String
    /// How it ended, if it did.
    public let reason: ExitReason?

    /// One line: which child, what went wrong, and how it ended if it did.
    public var description: String {
        let why = reason.map { ": \($0)" } ?? ""
        return "\(path.isEmpty ? "a child" : path) \(code)\(why)"
    }
}

/// A start that somebody waits for.
final class StartTicket: Sendable {
    let records: [ChildRecord]
    /// Whether the supervisor starts with it, and ends if it fails.
    let isWhole: Bool
    let time: Duration
    private let state: Locked<State>

    private struct State {
        /// How many have not started yet.
        var left: Int
        var timer: TimerToken?
        /// It is not to begin any more.
        var abandoned: StartError.Code?
        /// Why it fails, as soon as that is known.
        var failure: StartError?
        var done: (@Sendable (StartError?) -> Void)?

        mutating func takeEnd() -> (done: (@Sendable (StartError?) -> Void)?, timer: TimerToken?) {
            defer { (done, timer) = (nil, nil) }
            return (done, timer)
        }
    }

    /// - Parameter done: Called once, on any thread; must not block.
    init(
        _ records: [ChildRecord],
        isWhole: Bool,
        within time: Duration,
        done: @escaping @Sendable (StartError?) -> Void
    ) {
        self.records = records
        self.isWhole = isWhole
        self.time = time
        state = Locked(State(left: records.count, done: done))
    }

    /// Nobody is left who would settle it: the supervisor has ended.
    deinit { settle(error(.stopped, records.first)) }

    /// One of its children has started. True if that was the last.
    func started() -> Bool {
        state.withLock { state in
            state.left -= 1
            return state.left == 0
        }
    }

    /// It is not to begin, when it has not.
    func abandon(_ code: StartError.Code) { state.withLock { $0.abandoned = code } }
    var abandoned: StartError.Code? { state.withLock { $0.abandoned } }

    func setTimer(_ timer: TimerToken) { state.withLock { $0.timer = timer } }

    /// It fails, for this reason if there was none before; `settle` follows when what it had started has been stopped.
    func fail(_ error: StartError) {
        let timer = state.withLock { state in
            if state.failure == nil { state.failure = error }
            defer { state.timer = nil }
            return state.timer
        }
        timer?.cancel()
    }

    /// It has come about, unless it has failed before.
    func succeed() {
        let (done, timer) = state.withLock { state -> ((@Sendable (StartError?) -> Void)?, TimerToken?) in
            if state.failure != nil { return (nil, nil) }
            return state.takeEnd()
        }
        timer?.cancel()
        done?(nil)
    }

    /// It has failed, and all that it had started has been stopped; the first call counts, with the first reason.
    func settle(_ error: StartError) {
        let (end, failure) = state.withLock { ($0.takeEnd(), $0.failure) }
        end.timer?.cancel()
        end.done?(failure ?? error)
    }

    func error(_ code: StartError.Code, _ record: ChildRecord?, reason: ExitReason? = nil) -> StartError {
        StartError(
            code: code,
            child: record?.name ?? "",
            path: record.map { $0.path(of: $0.proc) ?? $0.name } ?? "",
            reason: reason
        )
    }
}

extension SupervisorCell {
    /// Starts children one after the other; returns when the last has started.
    ///
    /// When one fails, or the calling task is cancelled, those before it are stopped in reverse order first.
    func start(_ records: [ChildRecord], isWhole: Bool, within time: Duration) async throws {
        // The supervisor's: it settles it, or lets go of it.
        struct Weak { weak var ticket: StartTicket? }
        let ticket = Locked(Weak())
        let error = await withTaskCancellationHandler {
            await suspended { (continuation: UnsafeContinuation<StartError?, Never>) in
                let fresh = StartTicket(records, isWhole: isWhole, within: time) { continuation.resume(returning: $0) }
                ticket.withLock { $0.ticket = fresh }
                begin(fresh)
                // Cancelled before there was a ticket.
                if Task.isCancelled { send(.abandon(fresh, .cancelled)) }
            }
        } onCancel: {
            if let ticket = ticket.withLock({ $0.ticket }) { send(.abandon(ticket, .cancelled)) }
        }
        guard let error else { return }
        if error.code == .cancelled { throw CancellationError() }
        throw error
    }

    /// Starts what a ticket is for, after the callback if the supervisor starts with it.
    func begin(_ ticket: StartTicket) {
        if ticket.isWhole { watchItself() }
        send(.start(ticket))
        if ticket.isWhole { callBeforeStart() }
    }

    // MARK: In the supervisor's process

    func start(_ ticket: StartTicket, _ body: inout SupervisorBody) -> [SupervisorMachine.Action] {
        guard body.machine.isRunning else {
            discard(ticket.records)
            ticket.settle(ticket.error(.stopped, ticket.records.first))
            return []
        }
        if let code = ticket.abandoned {
            discard(ticket.records)
            let error = ticket.error(code, ticket.records.first)
            guard ticket.isWhole else {
                ticket.settle(error)
                return []
            }
            whenFinished { ticket.settle(error) }
            return body.machine.stop(at: system.executor.now)
        }
        body.undertakings.hasStarted = true
        for record in ticket.records { body.undertakings.starts[record.id] = ticket }
        ticket.setTimer(
            system.executor.wake(after: ticket.time) { [weak self, weak ticket] in
                if let self, let ticket { send(.abandon(ticket, .timeout)) }
            }
        )
        if ticket.records.isEmpty { done(ticket, &body) }
        return add(ticket.records, &body)
    }

    /// A child has started: perhaps it was the last that somebody waits for.
    func startGoesOn(_ id: SupervisorMachine.ChildID, _ body: inout SupervisorBody) {
        guard let ticket = body.undertakings.starts.removeValue(forKey: id), ticket.started() else { return }
        done(ticket, &body)
    }

    /// All children of a start have started. With that of the supervisor, its callbacks are to return first.
    func done(_ ticket: StartTicket, _ body: inout SupervisorBody) {
        // Of no children: those that are asked for later start when nothing holds them.
        guard ticket.isWhole else { return ticket.succeed() }
        let isHeld = body.machine.isHeld
        guard let callback = callbacks?.afterStart else {
            if !isHeld { return ticket.succeed() }
            body.undertakings.wholeStart = ticket
            return
        }
        body.undertakings.wholeStart = ticket
        if !isHeld { call(callback, reason: nil) { [self] in send(.allStarted) } }
    }

    /// The callback has returned that comes after the start of all.
    func allStarted(_ body: inout SupervisorBody) {
        let ticket = body.undertakings.wholeStart
        body.undertakings.wholeStart = nil
        ticket?.succeed()
    }

    /// The supervisor ends: its own start does not come about any more.
    func startIsOver(_ body: inout SupervisorBody) {
        guard let ticket = body.undertakings.wholeStart else { return }
        body.undertakings.wholeStart = nil
        whenFinished { [self] in ticket.settle(error(.stopped)) }
    }

    /// A child has ended. Nil if it had started before, or nobody waits for it.
    func startFailed(
        _ id: SupervisorMachine.ChildID,
        _ reason: ExitReason,
        _ body: inout SupervisorBody
    ) -> [SupervisorMachine.Action]? {
        guard body.machine.isRunning, let ticket = body.undertakings.starts[id] else { return nil }
        // It was stopped, to be started again with others.
        guard body.machine.isStarting(id) else { return nil }
        return undo(ticket, failed: id, ticket.error(.failed, body.children[id], reason: reason), &body)
    }

    /// The start of a child has failed, and it cannot end now: what somebody waits for is undone, otherwise the next comes.
    func startIsStuck(
        _ child: ChildRecord,
        _ reason: ExitReason?,
        _ body: inout SupervisorBody
    ) -> [SupervisorMachine.Action] {
        guard body.machine.isRunning, let ticket = body.undertakings.starts[child.id] else {
            return body.machine.startIsStuck(child.id, at: system.executor.now)
        }
        return undo(ticket, failed: nil, ticket.error(.failed, child, reason: reason), &body)
    }

    func abandon(
        _ ticket: StartTicket,
        _ code: StartError.Code,
        _ body: inout SupervisorBody
    ) -> [SupervisorMachine.Action] {
        let first = ticket.records.first { body.undertakings.starts[$0.id] === ticket }
        if first == nil, body.undertakings.wholeStart !== ticket {
            // It is over, or has not come here yet.
            ticket.abandon(code)
            return []
        }
        // It may wait for a callback of the supervisor itself.
        let isHeldUp = first == nil || ticket.isWhole && body.machine.isHeld
        return undo(ticket, failed: nil, isHeldUp ? error(code) : ticket.error(code, first), &body)
    }

    /// What is wrong is with the supervisor itself.
    private func error(_ code: StartError.Code) -> StartError {
        StartError(code: code, child: "", path: path, reason: nil)
    }

    /// A child that somebody waits for is over before it had started: the supervisor stops, or it was terminated.
    func startIsOver(_ child: ChildRecord, _ body: inout SupervisorBody) {
        guard let ticket = body.undertakings.starts[child.id] else { return }
        if body.machine.isRunning {
            // It is this one's fault, whoever else ends before that is dealt with.
            ticket.fail(ticket.error(.failed, child, reason: child.proc.lastExit))
            return send(.abandon(ticket, .failed))
        }
        for record in ticket.records { body.undertakings.starts[record.id] = nil }
        let error = ticket.error(.stopped, child, reason: child.proc.lastExit)
        whenFinished { ticket.settle(error) }
    }

    private func undo(
        _ ticket: StartTicket,
        failed: SupervisorMachine.ChildID?,
        _ error: StartError,
        _ body: inout SupervisorBody
    ) -> [SupervisorMachine.Action] {
        let now = system.executor.now
        ticket.fail(error)
        if body.undertakings.wholeStart === ticket { body.undertakings.wholeStart = nil }
        let ids = ticket.records.map(\.id)
        let stuck = body.stuck(among: ids.filter { $0 != failed && body.machine.isStarting($0) })
        for id in ids { body.undertakings.starts[id] = nil }
        // Who cannot be ended now is not waited for.
        let others = stuck.isEmpty ? ids : ids.filter { !stuck.contains($0) }
        if ticket.isWhole {
            if stuck.isEmpty {
                whenFinished { ticket.settle(error) }
            } else {
                whenGone(others, &body) { ticket.settle(error) }
            }
            return body.machine.undo(ids, failed: failed, last: stuck, at: now)
                + body.machine.stop(last: stuck, at: now)
        }
        let groups = ticket.records.map(\.group)
        let forget: @Sendable () -> Void = { [self] in
            for group in groups where group.isDeserted { forgetGroup(group) }
        }
        whenGone(others, &body) {
            forget()
            ticket.settle(error)
        }
        if !stuck.isEmpty { whenGone(Array(stuck), &body, forget) }
        return body.machine.undo(ids, failed: failed, last: stuck, at: now)
    }
}
