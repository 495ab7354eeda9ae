// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

/// The lines for a system's log that are still to be written, so that a program can wait for them before it ends.
package final class LogLines: Sendable {
    private let state = Locked((count: 0, isAwaited: false))
    /// Changes when the last one has been written, if somebody waits for that.
    private let bell = FutexWord()

    /// Calls `write` in a process of its own: describing an error, or the log's handler, may trap.
    func write(on executor: any ProcScheduler, _ write: @escaping @Sendable () -> Void) {
        add()
        LightProc.runOnce(on: executor, write) { [self] in remove() }
    }

    /// One more is to come.
    func add() { state.withLock { $0.count += 1 } }

    func remove() {
        let rings = state.withLock { state in
            state.count -= 1
            return state.count == 0 && state.isAwaited
        }
        guard rings else { return }
        bell.increment()
        bell.wake(.max)
    }

    /// Until all have been written.
    package func blockingWait() {
        while true {
            // Read before the look, so that no bell is slept through.
            let seen = bell.value
            let isOver = state.withLock { state in
                state.isAwaited = true
                return state.count == 0
            }
            if isOver { return }
            bell.blockingWait(while: seen)
        }
    }
}
