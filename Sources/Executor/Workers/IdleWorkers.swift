// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

#if !MODEL_CHECKING
import LightProc
import Synchronization
#endif

/// Who sleeps, and how many look for work: the protocol by which no item is left lying while a worker sleeps.
///
/// After Go's scheduler ("worker thread parking/unparking") and Tokio's `Idle`. Two counters, both sequentially
/// consistent:
///
/// - A **submitter** first puts the item into a queue, then reads the counters, and wakes a sleeper if there is one and
///   nobody searches. The store of the item and these loads must not change places: hence the sequentially consistent
///   stores in `RunRing.push` and `InjectionQueue.push`.
/// - A **worker** that finds nothing first counts itself as a sleeper, then looks at every queue once more, and takes
///   itself off again if something is there (or leaves that to those who still search). It is then a searcher, as one that
///   was woken: the submitters of what is there may have relied on searchers.
///
/// Whatever the interleaving, one of the two sees the other (Dekker).
/// - A woken worker starts as a searcher (counted by its waker), so that a burst of submissions wakes one worker, not
///   all. The last searcher that finds something wakes the next: the chain goes on as long as there is work.
/// - For what a worker pushes to its own ring it looks at the counters only when that will take it long (`RunQueues.Sharing`), and
///   others look into that ring under the same condition: the owner is awake, and comes to it itself. If it does not, because
///   its turn takes longer than expected, the `StallWatch` wakes somebody.
/// - At most half of the workers, rounded up, search at a time without having been woken. One that was woken searches in any
///   case, and counts for the others.
/// - A woken worker may end its search before its waker has counted it: for that moment the number of searchers is too
///   small, and may be negative. Then somebody is woken for nothing, which is harmless.
struct IdleWorkers: ~Copyable {
    private let sleepers = Atomic<Int>(0)
    private let searchers = Atomic<Int>(0)

    init() {}

    // ordering: sequentiallyConsistent everywhere in this file: see above.

    /// Whether a submitter should wake somebody.
    @inline(__always)
    var needsWaking: Bool {
        sleepers.load(ordering: .sequentiallyConsistent) > 0
            && searchers.load(ordering: .sequentiallyConsistent) <= 0
    }

    var hasSearchers: Bool { searchers.load(ordering: .sequentiallyConsistent) > 0 }
    var sleeperCount: Int { sleepers.load(ordering: .sequentiallyConsistent) }

    /// A worker wants to search. False if enough do; then those will see whatever is there.
    func beginSearch(of workers: Int) -> Bool {
        guard searchers.load(ordering: .sequentiallyConsistent) * 2 < workers else { return false }
        searchers.add(1, ordering: .sequentiallyConsistent)
        return true
    }

    /// A worker stops searching. True if it was the last.
    func endSearch() -> Bool {
        searchers.subtract(1, ordering: .sequentiallyConsistent).newValue <= 0
    }

    func beginSleep() { sleepers.add(1, ordering: .sequentiallyConsistent) }

    /// The worker is off the list: it was taken for waking (then it searches from now on), or took itself off.
    func endSleep(toSearch: Bool) {
        sleepers.subtract(1, ordering: .sequentiallyConsistent)
        if toSearch { searchers.add(1, ordering: .sequentiallyConsistent) }
    }
}
