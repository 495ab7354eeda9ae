// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import LightProc
import Supervision

/// Tells the log something when the program is about to end.
enum FinalWords {
    private final class Gate: Sendable {
        let word = FutexWord()
    }

    /// Until what has happened is written: reports of traps, whose symbols are looked up, and lines of the system's log. No longer than half of the
    /// time that is left, but a second at least, and ten at most.
    static func blockingWait(forLogOf system: BastionSystem, timeLeft: Duration) {
        blockingWait(atMost: min(max(timeLeft / 2, .seconds(1)), .seconds(10))) {
            ReportThread.shared.blockingWaitForEnd()
            system.lines.blockingWait()
        }
    }

    /// Calls `tell` on a thread made for that, and writes out what the C library has buffered; waits for both, but no longer than that: a log's
    /// handler is the user's, and may hang.
    static func blockingWait(atMost time: Duration = .seconds(1), for tell: @escaping @Sendable () -> Void) {
        let gate = Gate()
        let thread = PlainThread(ifPossible: "bastion-log") {
            tell()
            fflush(nil)
            gate.word.set(1)
            gate.word.wake()
        }
        guard let thread else { return }
        thread.detach()
        let deadline = ContinuousClock.now + time
        // Ends: with the time.
        while gate.word.value == 0 {
            let left = deadline - .now
            if left <= .zero { return }
            gate.word.blockingWait(while: 0, timeout: left)
        }
    }
}
