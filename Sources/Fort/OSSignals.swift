// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import Glibc
import LightProc

/// SIGTERM and SIGINT, taken by a thread that waits for nothing else.
enum OSSignals {
    private static var stopSignals: sigset_t {
        var set = sigset_t()
        sigemptyset(&set)
        sigaddset(&set, SIGTERM)
        sigaddset(&set, SIGINT)
        return set
    }

    /// Keeps the calling thread, and every thread it makes, from being interrupted by them.
    static func block() {
        var set = stopSignals
        pthread_sigmask(SIG_BLOCK, &set, nil)
    }

    /// Calls `action` with the number of each signal that arrives. On a thread of its own, which never ends.
    static func listen(_ action: @escaping @Sendable (Int32) -> Void) {
        _ = PlainThread(name: "bastion-signals") {
            var set = stopSignals
            while true {
                var signal: Int32 = 0
                // Fails only with EINVAL for an invalid set; ours is not.
                if sigwait(&set, &signal) == 0 { action(signal) }
            }
        }
    }
}
