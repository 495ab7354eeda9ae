// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc

/// Something that happened to the program as a whole. See ``Fort/events(buffering:)``.
public enum FortEvent: Sendable, Hashable {
    /// The level of memory pressure is another one.
    case memoryPressure(MemoryPressure)
    /// Contained traps have leaked three quarters of what they may, by estimate, in bytes.
    case leakBudgetNear(leaked: Int, budget: Int)
    /// They have leaked all of it: the program is being replaced, or stopped where nobody replaces it.
    case leakBudgetReached(leaked: Int, budget: Int)
    /// The program reads its configuration anew.
    case reloading
    /// The program is being stopped, by this signal; nil: for another reason.
    case stopping(signal: Int32?)
    /// Another program has taken the place of this one, and serves: by a handover, or as the leak budget is exhausted. `stopping` comes next: this one
    /// is to finish what it has begun.
    case replaced
}

extension FortEvent {
    /// Whether it stays true, and whoever comes later wants to know.
    fileprivate var isOfStop: Bool {
        switch self {
        case .stopping, .replaced: true
        case .memoryPressure, .leakBudgetNear, .leakBudgetReached, .reloading: false
        }
    }
}

/// What happens to the program, as it happens; ends when the task that waits is cancelled.
public struct FortEvents: AsyncSequence, Sendable {
    /// One thing that happened.
    public typealias Element = FortEvent
    private let stream: AsyncStream<FortEvent>
    private let lost: FortEventHub.Lost

    fileprivate init(_ stream: AsyncStream<FortEvent>, _ lost: FortEventHub.Lost) {
        self.stream = stream
        self.lost = lost
    }

    /// Events that this stream has lost, as nobody took them in time.
    public var lostEvents: Int { lost.count }

    /// Takes events in the order in which they happened.
    public struct AsyncIterator: AsyncIteratorProtocol {
        fileprivate var base: AsyncStream<FortEvent>.AsyncIterator

        /// Waits for the next event.
        public mutating func next() async -> FortEvent? { await base.next() }

        /// The same, on the caller's actor.
        public mutating func next(isolation actor: isolated (any Actor)?) async -> FortEvent? {
            await base.next(isolation: actor)
        }
    }

    /// Begins with what has happened since the stream was made, or with a stop that had begun by then.
    public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(base: stream.makeAsyncIterator()) }
}

extension Fort {
    /// What happens to the program from now on: memory pressure, an exhausted leak budget, a reload, its stop.
    ///
    /// In order. Costs a copy for each stream; no code of the listener's runs where it happens. A stop that has begun before is told first, and
    /// ``FortEvent/replaced`` before it, if so: who waits for the stop does not wait in vain, whenever he asks.
    ///
    /// ```swift
    /// for await event in Fort.events() {
    ///     if case .memoryPressure(let pressure) = event, pressure.level > .none { cache.removeAll() }
    /// }
    /// ```
    /// - Parameter limit: How many events wait at most for who is slow: then the oldest are lost, and counted (``FortEvents/lostEvents``).
    public static func events(buffering limit: Int = 1000) -> FortEvents {
        precondition(limit > 0, "at least one event must be able to wait, got \(limit)")
        let (stream, continuation) = AsyncStream.makeStream(
            of: FortEvent.self,
            bufferingPolicy: .bufferingNewest(limit)
        )
        let lost = FortEventHub.Lost()
        let number = FortEventHub.shared.add { event in
            if case .dropped = continuation.yield(event) { lost.increment() }
        }
        continuation.onTermination = { _ in FortEventHub.shared.remove(number) }
        return FortEvents(stream, lost)
    }

    /// Something has happened to the program.
    static func tell(_ event: FortEvent) { FortEventHub.shared.tell(event) }
}

/// Who listens to what happens to the program.
final class FortEventHub: Sendable {
    static let shared = FortEventHub()

    private struct State {
        var last = 0
        var listeners: [(number: Int, action: @Sendable (FortEvent) -> Void)] = []
        /// What told the program to stop, first.
        var signal: Int32?
        /// What was told of its stop.
        var stop: [FortEvent] = []
    }
    private let state = Locked(State())
    /// So that those who tell at the same time tell everybody in the same order. Who waits for an event is resumed under it, by a queue.
    private let order = Locked(())

    /// How many events a stream has lost.
    final class Lost: Sendable {
        private let word = AtomicWord(0)
        // ordering: relaxed: a count.
        func increment() { _ = word.wrappingAdd(1, ordering: .relaxed) }
        var count: Int { Int(word.load(ordering: .relaxed)) }
    }

    /// - Parameter action: Of ours; short. It tells of nothing itself. A stop that has begun is told at once.
    func add(_ action: @escaping @Sendable (FortEvent) -> Void) -> Int {
        order.withLock { _ in
            let (number, stop) = state.withLock { state in
                state.last += 1
                state.listeners.append((state.last, action))
                return (state.last, state.stop)
            }
            for event in stop { action(event) }
            return number
        }
    }

    func remove(_ number: Int) {
        // What it holds is destroyed after the lock was given back.
        _ = state.withLock { state in
            state.listeners.firstIndex { $0.number == number }.map { state.listeners.remove(at: $0) }
        }
    }

    /// A signal has come that stops the program, if nothing else did: before it is told of the stop.
    func isToStop(for signal: Int32) { state.withLock { $0.signal = $0.signal ?? signal } }

    /// The program has come so far.
    func entered(_ stage: ProgramState.Stage) {
        switch stage {
        case .starting, .ready: return
        case .reloading: tell(.reloading)
        case .stopping: tell(.stopping(signal: state.withLock { $0.signal }))
        }
    }

    func tell(_ event: FortEvent) {
        order.withLock { _ in
            let listeners = state.withLock { state in
                if event.isOfStop { state.stop.append(event) }
                return state.listeners
            }
            for listener in listeners { listener.action(event) }
        }
    }
}
