// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// A point in time by which something is to be done, on the clock of an executor, which is virtual in tests.
///
/// A value: it may be handed on to other processes of the same executor.
public struct Deadline: Sendable, Hashable, Comparable, CustomStringConvertible {
    /// The time on ``ProcScheduler/now``.
    public let instant: Duration

    /// Creates a deadline from a time on ``ProcScheduler/now``.
    public init(instant: Duration) { self.instant = instant }

    /// Whether one comes before the other.
    public static func < (one: Deadline, other: Deadline) -> Bool { one.instant < other.instant }

    /// The time on the executor's clock.
    public var description: String { "\(instant) on the executor's clock" }
}

/// A body did not return within its time.
public struct DeadlineExceeded: Error, Sendable, CustomStringConvertible {
    /// The process in which it ran.
    public let process: ProcID
    /// How much time it had.
    public let timeout: Duration

    /// One line: which process, and how much time it had.
    public var description: String { "\(process): not done within \(timeout)" }
}

/// A stretch of a task that has a deadline; child tasks inherit it, other processes do not.
package final class DeadlineScope: Sendable {
    @TaskLocal package static var current: DeadlineScope?

    private let instant: Duration
    private let process: ProcID
    private let scheduler: any ProcScheduler
    private let parent: DeadlineScope?
    /// 1 when the stretch is over: a `Task { }` that was made in it and lives on has no part in its deadline.
    private let isOver = AtomicWord(0)

    /// Whether the first task of the process waits for the end of this stretch.
    private let holdsUpMainTask: Bool

    init(_ instant: Duration, of proc: LightProc, in parent: DeadlineScope?) {
        holdsUpMainTask = proc.isFirstTaskCalling
        self.instant = instant
        process = proc.id
        scheduler = proc.scheduler
        self.parent = parent
    }

    func end() {
        // ordering: relaxed: whoever reads it concurrently may be told either.
        isOver.store(1, ordering: .relaxed)
    }

    /// Whether the calling task runs in a stretch that the first task of a process waits for.
    static func holdsUpMainTask(of process: ProcID) -> Bool {
        guard let scope = current else { return false }
        // ordering: relaxed: as in `end`.
        return scope.process == process && scope.holdsUpMainTask && scope.isOver.load(ordering: .relaxed) == 0
    }

    /// What is left until the nearest deadline around the calling task, never negative; nil if there is none.
    ///
    /// - Parameter process: Counts deadlines of this process only; nil: whoever set them.
    package static func remaining(of process: ProcID? = nil) -> Duration? {
        var nearest: Duration?
        var scope = current
        while let each = scope {
            // ordering: relaxed: as in `end`.
            if each.isOver.load(ordering: .relaxed) == 0, process == nil || process == each.process {
                let left = max(.zero, each.instant - each.scheduler.now)
                nearest = nearest.map { min($0, left) } ?? left
            }
            scope = each.parent
        }
        return nearest
    }
}

extension LightProc {
    /// Runs `body` in a child task and cancels that when its time is up.
    ///
    /// The child task is the process's: it ends with it, and a trap in it is the process's. Code that does not suspend, or
    /// ignores cancellation, is not interrupted: this returns when `body` has. Of two deadlines, one in the other, the
    /// nearer counts. Asks in `body` wait no longer than the deadline. Costs a task and a timer. Called by an async process.
    ///
    /// - Parameter timeout: How long `body` may take, on the scheduler's clock.
    /// - Throws: ``DeadlineExceeded`` when the time was up before `body` had returned, whatever it returned or threw after that;
    ///   without running it if the time is not positive. Otherwise what `body` threw; also when an outer deadline was the
    ///   nearer one, which then throws its own error.
    public func withTimeout<Result: Sendable>(
        _ timeout: Duration,
        _ body: @escaping @Sendable () async throws -> Result
    ) async throws -> Result {
        try await withTimeout(timeout, keepingLateResult: false, body)
    }

    /// Runs `body` in a child task and cancels that when the deadline has come; see ``withTimeout(_:_:)``.
    public func withDeadline<Result: Sendable>(
        _ deadline: Deadline,
        _ body: @escaping @Sendable () async throws -> Result
    ) async throws -> Result {
        try await withTimeout(deadline.instant - scheduler.now, keepingLateResult: false, body)
    }

    /// What is left until the nearest deadline of the calling task in this process, of its incarnation, or of the ask in its
    /// hands; never negative.
    ///
    /// Nil if there is none.
    public var remainingTime: Duration? {
        let ends = [lifetimeEnd, deadlineInHand].compactMap { $0 }
        let left = ends.map { max(.zero, $0 - scheduler.now) } + [DeadlineScope.remaining(of: id)].compactMap { $0 }
        return left.min()
    }

    /// The nearest deadline of the calling task in this process, of its incarnation, or of the ask in its hands; nil if there
    /// is none.
    public var deadline: Deadline? { remainingTime.map { Deadline(instant: scheduler.now + $0) } }

    /// - Parameter keepingLateResult: Whether what `body` returned is returned also when the time was up by then.
    package func withTimeout<Result: Sendable>(
        _ timeout: Duration,
        keepingLateResult: Bool,
        _ body: @escaping @Sendable () async throws -> Result
    ) async throws -> Result {
        let exceeded = DeadlineExceeded(process: id, timeout: timeout)
        guard timeout > .zero else { throw exceeded }
        let end = scheduler.now + timeout
        let outer = DeadlineScope.remaining()
        let scope = DeadlineScope(end, of: self, in: DeadlineScope.current)
        defer { scope.end() }
        if let outer, outer <= timeout {
            // The one around this one comes first, and cancels the task that this is called in.
            return try await DeadlineScope.$current.withValue(scope) { try await body() }
        }
        let gate = DeadlineGate()
        let timer = scheduler.wake(after: timeout) { gate.open(.timeIsUp) }
        defer { timer.cancel() }
        do {
            return try await withThrowingTaskGroup(of: Result.self) { group in
                group.addTask {
                    defer { gate.open(.bodyIsDone) }
                    return try await DeadlineScope.$current.withValue(scope) { try await body() }
                }
                // Always opened: a body that is cancelled with us ends, too. Cancelled here, not by the timer: cancellation
                // handlers are code of the process.
                let isLate = await gate.wait() == .timeIsUp
                if isLate { group.cancelAll() }
                guard let result = try await group.next() else {
                    preconditionFailure("impossible: the group has a task")
                }
                if isLate, !keepingLateResult { throw exceeded }
                return result
            }
        } catch {
            // By the clock: an ask that was limited by the deadline fails in the same moment. Not what was cancelled for
            // another reason.
            if gate.isOpened(by: .timeIsUp) || (scheduler.now >= end && !Task.isCancelled) { throw exceeded }
            throw error
        }
    }
}

/// What the task that set a deadline waits for: whichever comes first.
private final class DeadlineGate: Sendable {
    enum Event: Sendable {
        case timeIsUp
        case bodyIsDone
    }
    private enum State {
        case closed
        case waiting(UnsafeContinuation<Event, Never>)
        case open(Event)
    }
    private let state = Locked(State.closed)

    func wait() async -> Event {
        await suspended { continuation in
            let event = state.withLock { state -> Event? in
                if case .open(let event) = state { return event }
                state = .waiting(continuation)
                return nil
            }
            if let event { continuation.resume(returning: event) }
        }
    }

    /// The first call counts.
    func open(_ event: Event) {
        let waiting = state.withLock { state -> UnsafeContinuation<Event, Never>? in
            switch state {
            case .open: return nil
            case .closed:
                state = .open(event)
                return nil
            case .waiting(let continuation):
                state = .open(event)
                return continuation
            }
        }
        waiting?.resume(returning: event)
    }

    func isOpened(by event: Event) -> Bool {
        state.withLock { if case .open(let first) = $0 { first == event } else { false } }
    }
}
