// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// Tells workers that are stuck in one turn from those that get on, by looking at how many turns they took.
///
/// Looked at every half threshold, so a stall is found between one and one and a half thresholds after it began.
struct StallDetector {
    /// What is seen of one worker.
    struct Look: Equatable {
        let turns: UInt
        /// Whether it is running something.
        let isBusy: Bool
    }
    enum Finding: Equatable {
        /// A worker is in the same turn since so long.
        case stalled(worker: Int, nanoseconds: UInt64)
        /// A worker of which that was said is in the same turn still.
        case stillStalled(worker: Int, nanoseconds: UInt64)
        /// A worker of which that was said got on; the turn took about so long.
        case recovered(worker: Int, nanoseconds: UInt64)
    }
    private struct Seen {
        var turns: UInt
        var since: UInt64
        var isStalled = false
    }

    private let threshold: UInt64
    /// By worker; nil for one that was not busy.
    private var seen: [Seen?]

    init(workers: Int, threshold: UInt64) {
        self.threshold = threshold
        seen = Array(repeating: nil, count: workers)
    }

    /// Whether a worker is known to be stuck.
    var hasStalled: Bool { seen.contains { $0?.isStalled ?? false } }

    /// - Parameters:
    ///   - looks: By worker.
    ///   - now: Nanoseconds of a clock that does not go back.
    mutating func look(at looks: [Look], now: UInt64) -> [Finding] {
        var findings: [Finding] = []
        for (worker, look) in looks.enumerated() {
            if let before = seen[worker], look.isBusy, look.turns == before.turns {
                let time = now - before.since
                if before.isStalled {
                    findings.append(.stillStalled(worker: worker, nanoseconds: time))
                } else if time >= threshold {
                    seen[worker]?.isStalled = true
                    findings.append(.stalled(worker: worker, nanoseconds: time))
                }
                continue
            }
            if let before = seen[worker], before.isStalled {
                findings.append(.recovered(worker: worker, nanoseconds: now - before.since))
            }
            seen[worker] = look.isBusy ? Seen(turns: look.turns, since: now) : nil
        }
        return findings
    }
}
