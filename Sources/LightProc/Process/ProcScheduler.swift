// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// What a process needs of whoever runs it: a place in a run queue, and time.
///
/// The executor conforms; so does the seeded single-threaded one of the test kit.
public protocol ProcScheduler: AnyObject, Sendable {
    /// Queues a process that became runnable. Called at most once until it runs. Any thread, never blocks.
    func schedule(_ proc: LightProc)

    /// Queues a job of an async process. Any thread, never blocks.
    func schedule(_ job: UnownedJob, of executor: ProcTaskExecutor)

    /// Calls `action` once, not before the duration has passed. It runs on a thread of the scheduler and must not block.
    @discardableResult
    func schedule(after duration: Duration, _ action: @escaping @Sendable () -> Void) -> TimerToken

    /// Calls a short `action` of the runtime's own once, not before the duration has passed. On whatever thread of the
    /// scheduler is at hand, a worker between two turns among them; user code must not be called in it.
    ///
    /// By default as `schedule(after:_:)`.
    @discardableResult
    func wake(after duration: Duration, _ action: @escaping @Sendable () -> Void) -> TimerToken

    /// Time since an arbitrary beginning; virtual under the seeded executor.
    var now: Duration { get }

    /// Looks at a set of processors, for processes that are to be pinned to it, and returns the number by which it knows the set from
    /// now on, from 0; nil if it runs them anywhere. Any thread.
    ///
    /// By default there is none to choose.
    /// - Throws: ``PinningError`` if there are no such workers.
    func pinNumber(of cores: CoreSet) throws(PinningError) -> Int?

    /// Where work goes that blocks its thread; by default here.
    var blockingScheduler: any ProcScheduler { get }

    /// A process was made that this scheduler must outlive, until `letGo`. Any thread. By default retains the scheduler.
    func hold()

    /// A process is gone. Any thread. By default releases the scheduler.
    func letGo()
}

extension ProcScheduler {
    /// Like any other timer.
    @discardableResult
    public func wake(after duration: Duration, _ action: @escaping @Sendable () -> Void) -> TimerToken {
        schedule(after: duration, action)
    }

    /// Refuses: there are no processors to choose from.
    public func pinNumber(of cores: CoreSet) throws(PinningError) -> Int? {
        throw PinningError(
            .unsupported,
            "cannot pin to \(cores): this scheduler has no workers on processors of their own"
        )
    }

    /// This scheduler itself.
    public var blockingScheduler: any ProcScheduler { self }

    /// Retains the scheduler.
    public func hold() { _ = Unmanaged.passRetained(self) }

    /// Releases the scheduler.
    public func letGo() { Unmanaged.passUnretained(self).release() }
}

/// A timer that can be cancelled.
public struct TimerToken: Sendable {
    private enum Way: Sendable {
        case call(@Sendable () -> Void)
        case timer(any TimerHost, UInt64)
    }
    private let way: Way

    /// Creates a token around what takes the timer back; that may be called from any thread, and more than once.
    public init(cancel: @escaping @Sendable () -> Void) { way = .call(cancel) }

    /// Creates a token for a timer of a host; allocates nothing.
    package init(_ host: any TimerHost, _ handle: UInt64) { way = .timer(host, handle) }

    /// Keeps the action from being called, unless that has begun. Any thread; harmless when repeated.
    ///
    /// When it returns, and the action was not called, what the action held is released.
    public func cancel() {
        switch way {
        case .call(let cancel): cancel()
        case .timer(let host, let handle): host.cancelTimer(handle)
        }
    }
}

/// Who keeps timers and knows them by a number.
package protocol TimerHost: AnyObject, Sendable {
    /// Does nothing if the timer has fired, or was cancelled.
    func cancelTimer(_ handle: UInt64)
}

/// Who decides what happens after a process ended: a supervisor.
public protocol ProcObserver: AnyObject, Sendable {
    /// An incarnation is over, its hooks have run; the process may now be started again or closed.
    ///
    /// Called on a worker or on the reaper's thread; must not block and must not trap.
    func procEnded(_ proc: LightProc, reason: ExitReason)

    /// Where the process stands among others, as in `/shop/orders-3`; nil if nowhere. Any thread; must not block.
    func path(of proc: LightProc) -> String?

    /// A message was left in the mailbox of a process that is closed. Called on a worker, in the process's name.
    func procDiscarded(messageOf type: Any.Type, by proc: LightProc)
}

extension ProcObserver {
    /// Nowhere.
    public func path(of proc: LightProc) -> String? { nil }
}
