// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// Decides which messages to drop so that a queue that stands does not grow. A pure value; O(1).
///
/// A queue is allowed to be long for a while, as a burst makes it. One that has not been empty for a whole interval stands: while
/// it does, no message may have waited for longer than the target. (Maurer, "Fail at Scale", ACM Queue 2015, after CoDel, Nichols &
/// Jacobson 2012. CoDel's own law drops one message at a time, ever more often: enough for senders that slow down when they
/// lose something; others outrun it.)
struct QueueDelayController: Sendable {
    let target: Duration
    let interval: Duration
    /// When the queue was empty last.
    private var lastEmpty: Duration = .zero

    init(target: Duration, interval: Duration) {
        self.target = target
        self.interval = interval
    }

    /// A message comes to a queue that is empty.
    mutating func startsToFill(at now: Duration) { lastEmpty = now }

    /// Whether to drop a message that is about to be handed out. Times never go backwards.
    ///
    /// - Parameters:
    ///   - delay: How long it has waited.
    ///   - isLast: Whether nothing waits behind it; then it is never dropped.
    mutating func drops(after delay: Duration, isLast: Bool, at now: Duration) -> Bool {
        if isLast {
            lastEmpty = now
            return false
        }
        return now - lastEmpty > interval && delay > target
    }
}
