// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

/// The lines for a system's log that are still to be written, so that a program can wait for them before it ends.
package final class LogLines: Sendable {
    private let count = Locked(0)
    /// Changes when the last one has been written.
    private let bell = FutexWord()

    /// Calls `write` in a process of its own: describing an error, or the log's handler, may trap.
    func write(on executor: any ProcScheduler, _ write: @escaping @Sendable () -> Void) {
        add()
        LightProc.runOnce(on: executor, write) { [self] in remove() }
    }

    /// One more is to come.
    func add() { count.withLock { $0 += 1 } }

    func remove() {
        let isLast = count.withLock { count in
            count -= 1
            return count == 0
        }
        guard isLast else { return }
        bell.increment()
        bell.wake(.max)
    }

    /// Until all have been written.
    package func blockingWait() {
        while true {
            // Read before the look, so that no bell is slept through.
            let seen = bell.value
            if count.withLock({ $0 }) == 0 { return }
            bell.blockingWait(while: seen)
        }
    }
}
