// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

public import LightProc

extension ProcRef {
    /// Sends a message later, not before the time has passed. Any thread; never blocks.
    ///
    /// The timer belongs to nobody: it outlives who set it, and holds the process. See ``Timers`` for those that end with a process. It is
    /// sent by a process of its own, so that there is no order between it and what others send at that moment. If it is refused then, it is a
    /// dead letter. Costs a timer.
    /// - Returns: What takes it back, unless it was sent.
    @discardableResult
    public func tell(_ message: Message, after delay: Duration) -> TimerToken {
        later(on: proc.scheduler, delay) { self.tellUnclaimed(message) }
    }

    /// Sends a message at a fixed rate, the first time one period from now, until the token is cancelled or the process has ended for
    /// good. Otherwise as ``tell(_:after:)``.
    ///
    /// - Precondition: The period is positive.
    @discardableResult
    public func tell(_ message: Message, every period: Duration) -> TimerToken {
        repeatedly(to: proc, period) { self.tellUnclaimed(message) }
    }
}

extension AnyRef {
    /// Sends a value later, from whoever calls this; see ``ProcRef/tell(_:after:)``.
    @discardableResult
    public func tell(_ message: any Sendable, after delay: Duration) -> TimerToken {
        let message = AnyMessage(.init(.tell, message, from: .current))
        return later(on: proc.scheduler, delay) { tellUnclaimed(message) }
    }

    /// Sends a value at a fixed rate, from whoever calls this; see ``ProcRef/tell(_:every:)``.
    @discardableResult
    public func tell(_ message: any Sendable, every period: Duration) -> TimerToken {
        let message = AnyMessage(.init(.tell, message, from: .current))
        return repeatedly(to: proc, period) {
            tellUnclaimed(message)
        }
    }
}

/// A send may run code of the user's (the level of a message, the `deinit` of a refused one): not where timers fire.
private func later(
    on scheduler: any ProcScheduler,
    _ delay: Duration,
    _ send: @escaping @Sendable () -> Void
) -> TimerToken {
    scheduler.wake(after: delay) { [weak scheduler] in
        if let scheduler { LightProc.runOnce(on: scheduler, send) }
    }
}

private func repeatedly(
    to proc: LightProc,
    _ period: Duration,
    _ send: @escaping @Sendable () -> Void
) -> TimerToken {
    // The timer's own hold on itself: given up with it.
    let own = OwnTimer()
    let token = proc.scheduler.schedule(every: period) { _ in
        if proc.isClosed { return own.cancel() }
        LightProc.runOnce(on: proc.scheduler, send)
    }
    own.timer.withLock { $0 = token }
    return TimerToken { own.cancel() }
}

private final class OwnTimer: Sendable {
    let timer = Locked<TimerToken?>(nil)
    func cancel() {
        let token = timer.withLock { timer in
            defer { timer = nil }
            return timer
        }
        token?.cancel()
    }
}
