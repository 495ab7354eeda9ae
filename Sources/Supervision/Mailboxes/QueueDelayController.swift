// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// Decides which messages to drop so that a queue that stands still becomes short again. A pure value; O(1).
///
/// CoDel (Nichols & Jacobson, "Controlling Queue Delay", 2012; RFC 8289): a queue is allowed to be long for a while, as a burst
/// makes it; what is bad is a delay that has not been below the target for a whole interval. Then one message is dropped, and
/// the next after interval / sqrt(n), until the delay is below the target.
struct QueueDelayController: Sendable {
    let target: Duration
    let interval: Duration
    /// When the delay will have been above the target for a whole interval; nil while it is not above.
    private var firstAbove: Duration?
    private var isDropping = false
    private var nextDrop: Duration = .zero
    private var drops = 0
    private var dropsBefore = 0

    init(target: Duration, interval: Duration) {
        self.target = target
        self.interval = interval
    }

    /// Whether to drop a message that is about to be handed out. Times never go backwards.
    ///
    /// - Parameters:
    ///   - delay: How long it has waited.
    ///   - isLast: Whether nothing waits behind it; then it is never dropped.
    mutating func drops(after delay: Duration, isLast: Bool, at now: Duration) -> Bool {
        guard isAbove(delay, isLast: isLast, at: now) else {
            isDropping = false
            return false
        }
        if isDropping {
            guard now >= nextDrop else { return false }
            drops += 1
            nextDrop += step(drops)
            return true
        }
        isDropping = true
        // Soon after the last time: it goes on with the rate that it had.
        let sinceLast = now - nextDrop
        let drops = self.drops - dropsBefore
        self.drops = drops > 1 && sinceLast < interval * 16 ? drops : 1
        dropsBefore = self.drops
        nextDrop = now + step(self.drops)
        return true
    }

    private mutating func isAbove(_ delay: Duration, isLast: Bool, at now: Duration) -> Bool {
        if delay < target || isLast {
            firstAbove = nil
            return false
        }
        guard let firstAbove else {
            self.firstAbove = now + interval
            return false
        }
        return now >= firstAbove
    }

    private func step(_ drops: Int) -> Duration { interval / Double(drops).squareRoot() }
}
