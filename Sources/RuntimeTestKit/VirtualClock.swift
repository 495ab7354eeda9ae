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
        try Task.checkCancellation()
        let left = deadline.offset - executor.now
        guard left > .zero else { return }
        let gate = SleepGate()
        let timer = executor.schedule(after: left) { gate.open() }
        await withTaskCancellationHandler {
            await gate.wait()
        } onCancel: {
            timer.cancel()
            gate.open()
        }
        try Task.checkCancellation()
    }
}

/// Something one task waits for, and whoever comes first opens.
final class SleepGate: Sendable {
    private enum State {
        case closed
        case waiting(UnsafeContinuation<Void, Never>)
        case open
    }
    private let state = Locked(State.closed)

    func wait() async {
        await withUnsafeContinuation { continuation in
            let isOpen = state.withLock { state in
                if case .open = state { return true }
                state = .waiting(continuation)
                return false
            }
            if isOpen { continuation.resume() }
        }
    }

    func open() {
        let waiting = state.withLock { state -> UnsafeContinuation<Void, Never>? in
            defer { state = .open }
            guard case .waiting(let continuation) = state else { return nil }
            return continuation
        }
        waiting?.resume()
    }
}
