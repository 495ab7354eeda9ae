// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

public import LightProc

/// Sees to it that a reactive process with a ``Reactive/receiveTimeout`` hears when it gets no message.
final class ReceiveTimeoutPart: CompanionPart, MessageSource {
    private struct State {
        var incarnation: UInt32 = 0
        /// When the last message was handled, or the incarnation began.
        var last: Duration = .zero
        var timer: TimerToken?
        var isOver = true
    }
    private let timeout: Duration
    private let state = Locked(State())
    private let proc: Weak

    private struct Weak: Sendable { weak let proc: LightProc? }

    init(_ timeout: Duration, of proc: LightProc) {
        self.timeout = timeout
        self.proc = Weak(proc: proc)
    }

    /// An incarnation begins.
    func begin(_ proc: LightProc) {
        state.withLock { state in
            state.incarnation = proc.incarnation
            state.last = proc.scheduler.now
            state.isOver = false
        }
        arm(timeout)
    }

    /// A message was handled. By the process.
    func note(at now: Duration) { state.withLock { $0.last = now } }

    private func arm(_ time: Duration) {
        guard let proc = proc.proc else { return }
        let incarnation = state.withLock { $0.incarnation }
        let timer = proc.scheduler.wake(after: time) { [weak self] in self?.fired(incarnation) }
        let isMeant = state.withLock { state in
            if state.isOver || state.incarnation != incarnation { return false }
            state.timer = timer
            return true
        }
        if !isMeant { timer.cancel() }
    }

    private func fired(_ incarnation: UInt32) {
        guard let proc = proc.proc, let left = left(at: proc.scheduler.now, incarnation) else { return }
        if left > .zero { arm(left) } else { proc.push(self) }
    }

    /// What is left of the time; nil in another incarnation.
    private func left(at now: Duration, _ incarnation: UInt32? = nil) -> Duration? {
        state.withLock { state in
            if state.isOver || incarnation.map({ $0 != state.incarnation }) == true { return nil }
            return state.last + timeout - now
        }
    }

    /// The process has come to it: by now there may have been messages, or some wait.
    func takeTurn() -> SourceTurn? {
        guard let proc = proc.proc else { return nil }
        let now = proc.scheduler.now
        guard let left = left(at: now) else { return nil }
        if left > .zero {
            arm(left)
            return nil
        }
        let isIdle = !proc.hasWaitingMessages
        note(at: now)
        arm(timeout)
        return isIdle ? .signal(0) : nil
    }

    var preview: Any? { nil }

    func endDecided(of proc: LightProc, incarnation: UInt32, reason: ExitReason) {
        let timer = state.withLock { state -> TimerToken? in
            guard state.incarnation == incarnation else { return nil }
            state.isOver = true
            defer { state.timer = nil }
            return state.timer
        }
        timer?.cancel()
    }
}

extension LightProc {
    /// A message was handled by a process with a receive timeout.
    @usableFromInline
    func noteReceived() {
        Companion.existing(of: self)?.part(ReceiveTimeoutPart.self)?.note(at: scheduler.now)
    }

    /// An incarnation with a receive timeout begins.
    @usableFromInline
    func beginReceiveTimeout(_ timeout: Duration) {
        Companion.of(self).part(ReceiveTimeoutPart.self, of: self) { ReceiveTimeoutPart(timeout, of: self) }.begin(self)
    }
}
