// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc
import Synchronization

/// The queue for what comes from threads that are no workers, and for what does not fit into a worker's ring.
struct InjectionQueue: ~Copyable {
    private let items = Locked(FIFO<RunItem>())
    /// How many there are; written under the lock, read without it.
    private let known = Atomic<Int>(0)

    init() {}

    var isEmpty: Bool {
        // ordering: sequentiallyConsistent: the last look before a worker sleeps; see `IdleWorkers`.
        known.load(ordering: .sequentiallyConsistent) == 0
    }

    /// Whether something may be in it; a hint.
    @inline(__always)
    var mayHaveSome: Bool {
        // ordering: relaxed: a hint; the last look before sleeping is `isEmpty`.
        known.load(ordering: .relaxed) > 0
    }

    var count: Int {
        // ordering: relaxed: a statistic.
        known.load(ordering: .relaxed)
    }

    func push(_ item: RunItem) {
        items.withLock { items in
            items.append(item)
            // ordering: sequentiallyConsistent: in the queue before the submitter looks whether somebody sleeps.
            known.store(items.count, ordering: .sequentiallyConsistent)
        }
    }

    func push(_ more: [RunItem]) {
        items.withLock { items in
            items.append(contentsOf: more)
            known.store(items.count, ordering: .sequentiallyConsistent)
        }
    }

    func pop() -> RunItem? {
        guard mayHaveSome else { return nil }
        return items.withLock { items in
            defer { known.store(items.count, ordering: .sequentiallyConsistent) }
            return items.popFirst()
        }
    }
}
