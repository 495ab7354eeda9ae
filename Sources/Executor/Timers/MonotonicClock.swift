// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc

/// The machine's monotonic time.
package enum MonotonicClock {
    /// Time since some fixed moment before the program started.
    package static var now: Duration { .nanoseconds(Int64(nanoseconds)) }

    /// The same in nanoseconds.
    static var nanoseconds: UInt64 {
        var time = timespec()
        // Fails only for an unknown clock or a bad address; neither can occur.
        clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
    }
}
