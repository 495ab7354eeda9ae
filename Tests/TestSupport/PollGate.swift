// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import Synchronization

/// What a worker is stuck in until it is opened: a call that ThreadSanitizer lets signals interrupt, which it otherwise holds back, so that
/// nobody could take what such a worker would run next.
///
/// It is opened by a byte, not by closing: programs that other tests start may have inherited its ends.
package final class PollGate: Sendable {
    private let ends: (read: Int32, write: Int32)

    package init() {
        var ends: [Int32] = [0, 0]
        let status = pipe(&ends)
        precondition(status == 0, "pipe failed with errno \(errno)")
        self.ends = (ends[0], ends[1])
    }

    deinit {
        close(ends.read)
        close(ends.write)
    }

    package func open() { _ = write(ends.write, "x", 1) }

    package func blockingWait() {
        var waited = pollfd(fd: ends.read, events: Int16(POLLIN), revents: 0)
        // Ends: open for good once it was opened; a signal only makes it begin anew.
        while poll(&waited, 1, -1) != 1 {}
    }
}

/// A gate that opens when so many have arrived, for whoever waits on a worker.
package final class PollRendezvous: Sendable {
    package let everybody = PollGate()
    private let missing: Atomic<Int>

    package init(_ count: Int) { missing = Atomic(count) }

    package func arrive() {
        // ordering: sequentiallyConsistent: tests are not in a hurry.
        if missing.subtract(1, ordering: .sequentiallyConsistent).newValue == 0 { everybody.open() }
    }
}
