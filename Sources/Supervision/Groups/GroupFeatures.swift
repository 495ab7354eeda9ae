// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

/// What a group has besides what ``Children`` says to each of its members.
struct GroupFeatures: Sendable {
    var callbacks: Callbacks?
    var heartbeat: Heartbeat?
    var resizer: Resizer?
    /// What the members are pinned to.
    var cores: CoreSet?
    /// An async member has started when it says so.
    var signalsReady = false
    /// Its end by itself, without a restart, may end the supervisor.
    var isSignificant = false
    /// How long a start may take; nil: as long as it likes.
    var startDeadline: Duration?
    /// How many times a member is restarted at most.
    var restartLimit: Int?
    /// What is done about failures; nil: what the restart type says.
    var failurePolicy: FailurePolicy?
    /// Somebody waits for the first start of a member, also under a dynamic supervisor.
    var isStartAwaited = false

    /// What the starts of a member do besides starting it. Also where nobody waits for them: the strategy may be changed.
    var startWatch: StartWatch { StartWatch(callbacks: callbacks, signalsReady: signalsReady) }

    /// Under a dynamic supervisor nothing depends on when its first start is over.
    var startsUnseen: Bool {
        !isStartAwaited && !signalsReady && startDeadline == nil && callbacks?.hasStartCallbacks != true
    }

    func validate(group: String, redundancy: Int) throws(SupervisionError) {
        if let flaw = heartbeat?.flaw {
            throw SupervisionError(.badHeartbeat, "group \(group): \(flaw)")
        }
        if let flaw = resizer?.flaw(redundancy: redundancy) {
            throw SupervisionError(.badResizer, "group \(group): \(flaw)")
        }
    }
}

/// What happens around each start of a member. In its name.
///
/// A start that was given up may go on beside the next one: what is left of it is for nobody, and does not happen.
struct StartWatch: Sendable {
    let callbacks: Callbacks?
    let signalsReady: Bool

    /// Before anything of the incarnation is there.
    func begins(_ proc: LightProc, _ incarnation: UInt32) {
        guard proc.record?.set(isInStart: true, incarnation) != false else { return }
        if proc.restarts == 0 {
            callbacks?.beforeStart?(Callbacks.Occasion(proc, reason: nil))
        } else {
            callbacks?.beforeRestart?(Callbacks.Occasion(proc, reason: proc.lastExit))
        }
    }

    /// A reactive member was made, or an async one's body comes next. False if the incarnation is over.
    func made(_ proc: LightProc, _ incarnation: UInt32, isAsync: Bool) -> Bool {
        if isAsync, signalsReady { return proc.record?.set(isInStart: false, incarnation) != false }
        return began(proc, incarnation)
    }

    /// It has started. False if the incarnation is over.
    @discardableResult
    func began(_ proc: LightProc, _ incarnation: UInt32) -> Bool {
        guard proc.record?.set(isInStart: true, incarnation) != false else { return false }
        if proc.restarts == 0 {
            callbacks?.afterStart?(Callbacks.Occasion(proc, reason: nil))
        } else {
            callbacks?.afterRestart?(Callbacks.Occasion(proc, reason: proc.lastExit))
        }
        proc.record?.started(incarnation)
        return true
    }

    /// Makes the body of a reactive member.
    func make<Body>(_ behavior: () throws -> Body) throws -> Body {
        guard let proc = LightProc.current else { preconditionFailure("impossible: bodies are made by their process") }
        let incarnation = proc.incarnation
        begins(proc, incarnation)
        let body = try behavior()
        // Nothing runs beside it: it is not over.
        _ = made(proc, incarnation, isAsync: false)
        return body
    }
}

extension Context {
    /// Says that this member has started, in a group whose async members say so (``Children/signalsReady()``).
    ///
    /// Calls `afterStart` or `afterRestart` of the group, here and now, and lets who waits for the start go on. The first call of
    /// an incarnation counts; in other groups it has no effect. Any task of the process.
    public func ready() {
        guard let record = proc.record, record.isReady(incarnation) else { return }
        StartWatch(callbacks: record.features.callbacks, signalsReady: true).began(proc, incarnation)
    }
}
