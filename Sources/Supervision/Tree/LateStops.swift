// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import LightProc

/// Stops that take longer than they may: nothing interrupts a handler that does not return, and others are not to wait for it.
///
/// One timer for each supervisor: it looks at all that are being stopped when the first of them may be late.
extension SupervisorCell {
    /// How long after its time a child counts as late. Who is killed then has ended long before, if anything can end it.
    static let grace = Duration.seconds(1)

    /// A child was told to stop.
    func watchStop(of child: ChildRecord, _ body: inout SupervisorBody) {
        guard let limit = child.stopLimit else { return }
        let due = limit + Self.grace
        if let present = body.undertakings.lateLook, present.due <= due { return }
        let timer = system.executor.wake(after: max(.zero, due - system.executor.now)) { [weak self] in
            self?.send(.lookForLate)
        }
        body.undertakings.lateLook?.timer.cancel()
        body.undertakings.lateLook = (due, timer)
    }

    /// One of those that are being stopped may be late.
    func lookForLate(_ body: inout SupervisorBody) -> [SupervisorMachine.Action] {
        body.undertakings.lateLook = nil
        let now = system.executor.now
        var actions: [SupervisorMachine.Action] = []
        for id in body.machine.stopping {
            guard let child = body.children[id], let limit = child.stopLimit else { continue }
            if limit + Self.grace <= now {
                actions += body.machine.stopIsLate(id, at: now)
            } else {
                watchStop(of: child, &body)
            }
        }
        return actions
    }

    /// A child that is being stopped, or has failed to start, has not ended in time. Who waits for its start does not wait for that.
    func stopIsLate(_ id: SupervisorMachine.ChildID, _ body: inout SupervisorBody) -> [SupervisorMachine.Action] {
        guard let child = body.children[id] else { return [] }
        let hasEnded = child.proc.isOver(child.proc.incarnation)
        var actions: [SupervisorMachine.Action] = []
        if body.machine.hasFailedToStart(id) || hasEnded && body.machine.isStarting(id) {
            let reason = hasEnded ? child.proc.lastExit : .error(StartError(timeoutOf: child))
            actions = startIsStuck(child, reason, &body)
        }
        return actions + body.machine.stopIsLate(id, hasEnded: hasEnded, at: system.executor.now)
    }

    /// Nobody is being stopped any more: nobody is looked for.
    func lookForNobody(_ body: inout SupervisorBody) {
        guard let look = body.undertakings.lateLook, body.machine.children.stopping == 0 else { return }
        body.undertakings.lateLook = nil
        look.timer.cancel()
    }

    /// Nobody above waits for this one any more before it stops others.
    func linger() {
        // Not looked at under the lock: it could be the last reference.
        if let owner = owner?.record { owner.supervisor.send(.stopIsLate(owner.id)) }
    }
}
