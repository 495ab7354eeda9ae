// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import LightProc

/// The end of a program, as the main thread waits for it: begun once, by whoever comes first.
final class Ending: Sendable {
    private enum Stage: UInt32 {
        case running = 0
        /// The bodies are being stopped.
        case begun
        /// They have ended.
        case bodiesEnded
        /// So has all else on the shared system.
        case allEnded
    }
    private struct State {
        var code: ExitCode?
        var beganAt: ContinuousClock.Instant?
    }
    private let state = Locked(State())
    /// A `Stage`.
    private let word = FutexWord(Stage.running.rawValue)

    /// False if it had begun before.
    ///
    /// - Parameter code: What it ends with, whatever comes; nil: what it is finished with.
    func begin(for code: ExitCode? = nil) -> Bool {
        let isFirst = state.withLock { state in
            if state.beganAt != nil { return false }
            state.beganAt = .now
            state.code = code
            return true
        }
        if isFirst { raise(to: .begun) }
        return isFirst
    }

    var hasBegun: Bool { word.value > Stage.running.rawValue }

    /// The bodies have ended: the end has begun at the latest now.
    func bodiesEnded(_ code: ExitCode) {
        state.withLock { state in
            state.code = state.code ?? code
            state.beganAt = state.beganAt ?? .now
        }
        raise(to: .bodiesEnded)
    }

    func allEnded() { raise(to: .allEnded) }

    var code: ExitCode { state.withLock { $0.code } ?? .success }

    func blockingWaitForBegin() { _ = blockingWait(past: .running, until: nil) }

    /// False if the time was over first.
    func blockingWaitForBodies(within time: Duration) -> Bool { blockingWait(past: .begun, within: time) }
    /// As above; the time counts from the begin here, too.
    func blockingWaitForAll(within time: Duration) -> Bool { blockingWait(past: .bodiesEnded, within: time) }

    private func blockingWait(past stage: Stage, within time: Duration) -> Bool {
        blockingWait(past: stage, until: beganAt + time)
    }

    /// What is left of a time that counts from the begin. Negative when it is over.
    func timeLeft(of time: Duration) -> Duration { beganAt + time - .now }

    private var beganAt: ContinuousClock.Instant { state.withLock { $0.beganAt } ?? .now }

    private func blockingWait(past stage: Stage, until deadline: ContinuousClock.Instant?) -> Bool {
        // Ends: with the time, or when it comes so far, which wakes.
        while true {
            let seen = word.value
            if seen > stage.rawValue { return true }
            let left = deadline.map { $0 - .now }
            if let left, left <= .zero { return false }
            word.blockingWait(while: seen, timeout: left)
        }
    }

    private func raise(to stage: Stage) {
        // Ends: another one has changed the word, which only grows.
        while true {
            let seen = word.value
            if seen >= stage.rawValue { return }
            if word.compareExchange(seen, stage.rawValue) { break }
        }
        word.wake(.max)
    }
}
