// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// How long incarnations of a process may live, and why the present one is ended from outside. Under the process's lock.
final class Lifetime {
    /// How long an incarnation may live; nil: as long as it likes.
    let limit: Duration?
    /// When the present one's time is up, on the clock of the scheduler.
    private(set) var end: Duration?
    private var timer: TimerToken?
    /// What a reactive process that is asked to end at once reports instead of a kill.
    var outsideReason: ExitReason?

    init(limit: Duration?) { self.limit = limit }

    func began(until end: Duration, timer: TimerToken) {
        self.end = end
        self.timer = timer
    }

    /// Forgets what was for the incarnation that is over. Returns the user's part of it, to die outside the lock.
    func incarnationEnded() -> ExitReason? {
        timer?.cancel()
        timer = nil
        end = nil
        defer { outsideReason = nil }
        return outsideReason
    }
}

extension LightProc {
    /// An incarnation begins: its time runs. By the consumer, before anything of it runs.
    func startLifetime(_ incarnation: UInt32, _ limit: Duration) {
        let end = scheduler.now + limit
        let timer = scheduler.wake(after: limit) { [weak self] in
            self?.end(incarnation, for: .deadlineExceeded(limit))
        }
        withSide { $0.lifetime?.began(until: end, timer: timer) }
    }

    /// Limits how long each incarnation may live; see ``ProcStack/deadline``. Of one that lives already: from now on.
    package func limitLifetime(to limit: Duration) {
        withSide { $0.lifetime = Lifetime(limit: limit) }
        let state = self.state
        if state.phase == .active { startLifetime(state.incarnation, limit) }
    }

    /// When the present incarnation's time is up, on the clock of the scheduler; nil if it has no limit.
    var lifetimeEnd: Duration? { existingSide?.content.withLock { $0.lifetime?.end } }
}
