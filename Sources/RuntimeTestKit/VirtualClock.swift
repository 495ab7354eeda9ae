// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import LightProc

/// The time of a simulation, as a clock: it stands still unless the simulation lets it pass.
public struct VirtualClock: Clock {
    /// A moment: so long after the simulation was made.
    public struct Instant: InstantProtocol, Sendable {
        /// Time since the simulation was made.
        public let offset: Duration

        /// Creates the moment that lies so long after the beginning.
        public init(offset: Duration) { self.offset = offset }

        /// The moment that is so much later.
        public func advanced(by duration: Duration) -> Instant { Instant(offset: offset + duration) }

        /// How long it is from this moment to another.
        public func duration(to other: Instant) -> Duration { other.offset - offset }

        /// Whether one moment is before another.
        public static func < (left: Instant, right: Instant) -> Bool { left.offset < right.offset }
    }

    private let executor: SeededExecutor

    init(_ executor: SeededExecutor) { self.executor = executor }

    /// The present moment.
    public var now: Instant { Instant(offset: executor.now) }

    /// Virtual time is exact.
    public var minimumResolution: Duration { .nanoseconds(1) }

    /// Waits until the simulation has let time pass up to the deadline; the tolerance is not used.
    ///
    /// - Throws: `CancellationError` when the task is cancelled meanwhile.
    public func sleep(until deadline: Instant, tolerance: Duration? = nil) async throws {
        try await executor.sleep(for: deadline.offset - executor.now)
    }
}
