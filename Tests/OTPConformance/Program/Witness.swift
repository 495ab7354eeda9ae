// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc
import Supervision

/// What the children of one scenario share: what they did, who of them lives, whose start is to fail.
final class Witness: Sendable {
    private struct State {
        var log: [LogLine] = []
        var told: [(child: String, incarnation: Int, what: String)] = []
        var refusals: [String: Int] = [:]
        var living: [String: Living] = [:]
        var names: [ProcID: String] = [:]
        var incarnations = 0
        /// Dynamic children, and their supervisors.
        var dynamic: [String: String] = [:]
        var rootReason: ExitReason?
    }
    private struct Living {
        let incarnation: Int
        let ref: ProcRef<Order>
    }
    private let state = Locked(State())
    private let now: @Sendable () -> Duration

    init(now: @escaping @Sendable () -> Duration) { self.now = now }

    // MARK: Children

    func note(_ text: String) { note(text, stoppedBy: nil) }

    func noteStop(of child: String) {
        note("stop \(child) shutdown", stoppedBy: state.withLock { $0.dynamic[child] })
    }

    private func note(_ text: String, stoppedBy: String?) {
        let line = LogLine(time: now(), text: text, stoppedBy: stoppedBy)
        state.withLock { $0.log.append(line) }
    }

    /// Whether a start of the child is to fail; that is one less then.
    func refuses(_ child: String) -> Bool {
        state.withLock { state in
            guard let left = state.refusals[child], left > 0 else { return false }
            state.refusals[child] = left - 1
            return true
        }
    }

    /// A child has started. Returns the number of its incarnation.
    func arrived(_ child: String, _ ref: ProcRef<Order>) -> Int {
        note("start \(child)")
        return state.withLock { state in
            state.incarnations += 1
            state.living[child] = Living(incarnation: state.incarnations, ref: ref)
            state.names[ref.id] = child
            return state.incarnations
        }
    }

    func left(_ child: String, _ incarnation: Int) {
        state.withLock { if $0.living[child]?.incarnation == incarnation { $0.living[child] = nil } }
    }

    func told(_ child: String, _ incarnation: Int, _ what: String, of process: ProcID, _ reason: ExitReason) {
        state.withLock { state in
            let text = "\(what) \(state.names[process] ?? "nobody") \(reason.otpWord)"
            state.told.append((child: child, incarnation: incarnation, what: text))
        }
    }

    // MARK: Who looks on

    /// The child, if it lives.
    func living(_ child: String) -> ProcRef<Order>? { state.withLock { $0.living[child]?.ref } }

    func refuse(_ child: String, times: Int) { state.withLock { $0.refusals[child] = times } }

    func isDynamic(_ child: String, of supervisor: String) { state.withLock { $0.dynamic[child] = supervisor } }

    func takeLog() -> [LogLine] {
        state.withLock { state in
            defer { state.log = [] }
            return state.log
        }
    }

    func takeTold() -> [String] {
        state.withLock { state in
            defer { state.told = [] }
            return state.told
                .filter { state.living[$0.child]?.incarnation == $0.incarnation }
                .map { "\($0.child) \($0.what)" }
        }
    }

    func rootEnded(_ reason: ExitReason) { state.withLock { $0.rootReason = reason } }

    var rootReason: ExitReason? { state.withLock { $0.rootReason } }
}

extension ExitReason {
    /// As the trace has it.
    var otpWord: String {
        switch self {
        case .normal: "normal"
        case .shutdown: "shutdown"
        case .error(let error): error is Crash ? "crash" : "\(error)"
        case .trap: "trap"
        case .killed: "killed"
        case .deadlineExceeded, .unresponsive: "killed"
        case .linked(_, let reason): reason.otpWord
        case .noProcess: "noproc"
        }
    }
}
