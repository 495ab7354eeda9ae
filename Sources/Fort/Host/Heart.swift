// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import LightProc
import Supervision

/// Signs of life that only an executor gives that gets on.
///
/// At each time a process is made ready for the workers of each NUMA node, of normal priority, as if it came from outside; when all of them have run,
/// that is a beat. While the workers of a node are stuck, and those that stand in for them too, there is none, whatever other threads do.
///
/// Costs one timer and one short process a node for each beat; nothing is allocated in between.
final class Heart: Sendable {
    private let executor: any ProcExecutor
    /// Where each probe runs; nil: anywhere.
    private let places: [CoreSet?]
    private let interval: Duration
    private let beat: @Sendable () -> Void
    private let rhythm: Locked<HeartRhythm>
    private let missed = AtomicWord(0)

    /// - Parameter beat: Called for each beat, on a worker. Must not block.
    init(_ executor: any ProcExecutor, every interval: Duration, _ beat: @escaping @Sendable () -> Void) {
        self.executor = executor
        self.interval = interval
        self.beat = beat
        places = Self.places(of: executor)
        rhythm = Locked(HeartRhythm(sets: places.count))
    }

    /// How often it was time for a beat while the one before had not come.
    // ordering: relaxed: a count.
    var missedTimes: UInt { missed.load(ordering: .relaxed) }

    /// Begins, for as long as the program runs.
    func start() { timeIsUp() }

    private static func places(of executor: any ProcExecutor) -> [CoreSet?] {
        guard let pool = executor as? WorkerPool, pool.placement.pinsWorkers else { return [nil] }
        let nodes = Dictionary(grouping: pool.placement.seats) { $0.node }
        if nodes.count < 2 { return [nil] }
        return nodes.values.map { .cores($0.map(\.osPU)) }
    }

    private func timeIsUp() {
        if let round = rhythm.withLock({ $0.timeIsUp() }) {
            for set in places.indices { probe(set, round) }
        } else {
            // ordering: relaxed: a count.
            _ = missed.wrappingAdd(1, ordering: .relaxed)
        }
        executor.schedule(after: interval) { [self] in timeIsUp() }
    }

    private func probe(_ set: Int, _ round: UInt) {
        let answer: @Sendable () -> Void = { [self] in
            if rhythm.withLock({ $0.probeRan(on: set, round: round) }) { beat() }
        }
        guard let place = places[set] else { return LightProc.runOnce(on: executor, answer) }
        do throws(PinningError) {
            try executor.spawn(pinnedTo: place) { answer() }
        } catch {
            // There are workers on these processors by the plan, so that only too many sets of the program's own can be the reason.
            LightProc.runOnce(on: executor, answer)
        }
    }
}
