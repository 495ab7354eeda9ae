// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

public import LightProc

/// What was to start has not: everything that it had started has been stopped again.
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
    /// Which child, as in `orders-3`; empty when it was none of them.
    public let child: String
    /// Where that stands in the tree of supervisors, as in `/shop/orders-3`.
    public let path: String
    /// How it ended, if it did.
    public let reason: ExitReason?

    /// One line: which child, what went wrong, and how it ended if it did.
    public var description: String {
        let why = reason.map { ": \($0)" } ?? ""
        return "\(path.isEmpty ? "a child" : path) \(code)\(why)"
    }
}

/// Children that start one after the other, each when the one before has started: pure.
struct StartSequence: Sendable {
    enum Step: Equatable {
        /// Start this one.
        case start(Int)
        /// All have started.
        case done
        /// What was started is to be stopped again; this one is the last of it.
        case undo(Int)
        /// It was said of another child, or comes late.
        case nothing
    }

    let count: Int
    /// The child that is starting; as many have started.
    private(set) var position = 0
    private(set) var isOver = false

    init(count: Int) { self.count = count }

    mutating func begin() -> Step { goOn() }

    mutating func started(_ index: Int) -> Step {
        guard !isOver, index == position else { return .nothing }
        position += 1
        return goOn()
    }

    /// A child has ended. One that had started before is its supervisor's business.
    mutating func ended(_ index: Int) -> Step { index == position ? abandon() : .nothing }

    mutating func abandon() -> Step {
        if isOver { return .nothing }
        isOver = true
        return .undo(position)
    }

    private mutating func goOn() -> Step {
        if position < count { return .start(position) }
        isOver = true
        return .done
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
        var sequence: StartSequence
        var timer: TimerToken?
        var done: (@Sendable (StartError?) -> Void)?
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
        state = Locked(State(sequence: StartSequence(count: records.count), done: done))
    }

    /// Nobody is left who would settle it: the supervisor has ended.
    deinit { settle(error(.stopped)) }

    func step(_ event: (inout StartSequence) -> StartSequence.Step) -> StartSequence.Step {
        state.withLock { event(&$0.sequence) }
    }

    var position: Int { state.withLock { $0.sequence.position } }

    func setTimer(_ timer: TimerToken) { state.withLock { $0.timer = timer } }

    /// Says how it ended; the first call counts.
    func settle(_ error: StartError?) {
        let (done, timer) = state.withLock { state in
            defer {
                state.done = nil
                state.timer = nil
            }
            return (state.done, state.timer)
        }
        timer?.cancel()
        done?(error)
    }

    func error(_ code: StartError.Code, reason: ExitReason? = nil) -> StartError {
        let position = position
        guard records.indices.contains(position) else {
            return StartError(code: code, child: "", path: "", reason: reason)
        }
        let record = records[position]
        return StartError(
            code: code,
            child: record.name,
            path: record.path(of: record.proc) ?? record.name,
            reason: reason
        )
    }
}

extension Supervisor {
    /// Starts children one after the other; returns when the last has started.
    ///
    /// When one fails, or the calling task is cancelled, those before it are stopped in reverse order first.
    func start(_ records: [ChildRecord], isWhole: Bool, within time: Duration) async throws {
        // The supervisor's: it settles it, or lets go of it.
        struct Weak { weak var ticket: StartTicket? }
        let ticket = Locked(Weak())
        let error = await withTaskCancellationHandler {
            await withUnsafeContinuation { (continuation: UnsafeContinuation<StartError?, Never>) in
                let fresh = StartTicket(records, isWhole: isWhole, within: time) { continuation.resume(returning: $0) }
                ticket.withLock { $0.ticket = fresh }
                if isWhole, let callback = callbacks?.beforeStart {
                    call(callback, reason: nil) { [self] in send(.begin(.start(fresh))) }
                } else {
                    send(.start(fresh))
                }
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

    // MARK: In the supervisor's process

    func start(_ ticket: StartTicket, _ body: inout SupervisorBody) -> [SupervisorMachine.Action] {
        guard body.machine.isRunning else {
            discard(ticket.records)
            ticket.settle(ticket.error(.stopped))
            return []
        }
        body.undertakings.starts.append(ticket)
        body.undertakings.hasStarted = true
        ticket.setTimer(
            system.executor.wake(after: ticket.time) { [weak self, weak ticket] in
                if let self, let ticket { send(.abandon(ticket, .timeout)) }
            }
        )
        return goOn(ticket, ticket.step { $0.begin() }, ticket.error(.stopped), &body)
    }

    /// A child has started: perhaps another one is next.
    func startGoesOn(_ id: SupervisorMachine.ChildID, _ body: inout SupervisorBody) -> [SupervisorMachine.Action] {
        body.undertakings.starts.flatMap { ticket -> [SupervisorMachine.Action] in
            guard let index = ticket.records.firstIndex(where: { $0.id == id }) else { return [] }
            return goOn(ticket, ticket.step { $0.started(index) }, ticket.error(.stopped), &body)
        }
    }

    /// A child has ended: perhaps it was about to start.
    func startFailed(
        _ id: SupervisorMachine.ChildID,
        _ reason: ExitReason,
        _ body: inout SupervisorBody
    ) -> [SupervisorMachine.Action] {
        body.undertakings.starts.flatMap { ticket -> [SupervisorMachine.Action] in
            guard let index = ticket.records.firstIndex(where: { $0.id == id }) else { return [] }
            let code: StartError.Code = body.machine.isRunning ? .failed : .stopped
            return goOn(ticket, ticket.step { $0.ended(index) }, ticket.error(code, reason: reason), &body)
        }
    }

    func abandon(
        _ ticket: StartTicket,
        _ code: StartError.Code,
        _ body: inout SupervisorBody
    ) -> [SupervisorMachine.Action] {
        // Before its turn came: it is not to begin any more.
        body.undertakings.early?.removeAll { if case .start(let early) = $0 { early === ticket } else { false } }
        return goOn(ticket, ticket.step { $0.abandon() }, ticket.error(code), &body)
    }

    private func goOn(
        _ ticket: StartTicket,
        _ step: StartSequence.Step,
        _ error: StartError,
        _ body: inout SupervisorBody
    ) -> [SupervisorMachine.Action] {
        switch step {
        case .nothing:
            return []
        case .start(let index):
            guard body.machine.isRunning else { return goOn(ticket, ticket.step { $0.abandon() }, error, &body) }
            return add([ticket.records[index]], &body)
        case .done:
            body.undertakings.starts.removeAll { $0 === ticket }
            if ticket.isWhole {
                call(callbacks?.afterStart, reason: nil) { ticket.settle(nil) }
            } else {
                ticket.settle(nil)
            }
            return []
        case .undo(let last):
            body.undertakings.starts.removeAll { $0 === ticket }
            discard(Array(ticket.records.dropFirst(last + 1)))
            if ticket.isWhole {
                whenFinished { ticket.settle(error) }
                return body.machine.stop()
            }
            let groups = ticket.records.map(\.group)
            return remove(
                ticket.records.prefix(last + 1).map(\.id),
                then: { [self] in
                    for group in groups { forgetGroup(group) }
                    ticket.settle(error)
                },
                &body
            )
        }
    }
}
