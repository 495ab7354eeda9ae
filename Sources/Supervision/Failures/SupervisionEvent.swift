// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

public import LightProc

/// Something that happened under a supervisor: for logs, metrics and tests. See ``BastionSystem/events(buffering:)``.
public struct SupervisionEvent: Sendable, CustomStringConvertible {
    /// What happened.
    public enum Kind: Sendable {
        /// An incarnation of the child was started: the first, or another one.
        case started
        /// It has started: a reactive child was made, an async one's body begins, or it has called ``Context/ready()``. Told only where its supervisor
        /// waits for that; not of children of a `dynamic` one that report nothing.
        case ready
        /// An incarnation failed.
        case failed(ChildFailure)
        /// An incarnation ended without failing.
        case ended(ExitReason)
        /// It failed, and goes on with the state that it has.
        case resumed(ChildFailure)
        /// It is started again after this time: by itself, or with those that share its fate.
        case restarting(in: Duration)
        /// The child is over: it is not started again, unless somebody asks for it.
        case stopped(ExitReason?)
        /// The supervisor itself gives up, for the failure of a child: more restarts than its intensity allows, or one that is not its to deal with.
        case escalated(ExitReason)
        /// The supervisor itself has ended, after all its children.
        case supervisorStopped
    }

    /// The time of the executor's clock; virtual in tests.
    public let time: Duration
    /// Where it happened, as in `/shop/orders-3`, or `/shop` for the supervisor itself.
    public let path: String
    /// The child, or the supervisor.
    public let process: ProcID
    /// How many times the child was restarted before.
    public let restarts: Int
    /// What happened.
    public let kind: Kind

    /// One line, as in `/shop/orders-3 restarting in 0.05 seconds`.
    public var description: String {
        switch kind {
        case .started: "\(path) started"
        case .ready: "\(path) ready"
        case .failed(let failure): "\(failure)"
        case .ended(let reason): "\(path) ended: \(reason)"
        case .resumed(let failure): "\(failure), and goes on"
        case .restarting(let delay): "\(path) restarting in \(delay)"
        case .stopped(let reason): "\(path) stopped\(reason.map { ": \($0)" } ?? "")"
        case .escalated(let reason): "\(path) escalates: \(reason)"
        case .supervisorStopped: "\(path) stopped, with all below"
        }
    }
}

/// What happens under the supervisors of a system, as it happens; ends when the task that waits is cancelled.
public struct SupervisionEvents: AsyncSequence, Sendable {
    /// One thing that happened.
    public typealias Element = SupervisionEvent
    private let stream: AsyncStream<SupervisionEvent>
    private let lost: LostCount

    fileprivate init(_ stream: AsyncStream<SupervisionEvent>, _ lost: LostCount) {
        self.stream = stream
        self.lost = lost
    }

    /// Events that this stream has lost, as nobody took them in time.
    public var lostEvents: Int { lost.value }

    /// Takes events in the order in which they happened.
    public struct AsyncIterator: AsyncIteratorProtocol {
        fileprivate var base: AsyncStream<SupervisionEvent>.AsyncIterator

        /// Waits for the next event.
        public mutating func next() async -> SupervisionEvent? { await base.next() }

        /// The same, on the caller's actor.
        public mutating func next(isolation actor: isolated (any Actor)?) async -> SupervisionEvent? {
            await base.next(isolation: actor)
        }
    }

    /// Begins with what has happened since the stream was made.
    public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(base: stream.makeAsyncIterator()) }
}

/// How many events a stream has lost.
final class LostCount: Sendable {
    private let word = AtomicWord(0)
    // ordering: relaxed: a count.
    func increment() { _ = word.wrappingAdd(1, ordering: .relaxed) }
    var value: Int { Int(word.load(ordering: .relaxed)) }
}

/// Who listens to what happens under the supervisors of a system.
final class EventHub: Sendable {
    private let listeners = Locked<[Int: @Sendable (SupervisionEvent) -> Void]>([:])
    private let count = AtomicWord(0)
    private let numbers = AtomicWord(0)

    /// Whether it is worth to make an event.
    // ordering: relaxed: who began to listen just now may miss what happens just now.
    var hasListeners: Bool { count.load(ordering: .relaxed) > 0 }

    func add(_ listener: @escaping @Sendable (SupervisionEvent) -> Void) -> Int {
        // ordering: relaxed: the lock orders what is in the table.
        let number = Int(numbers.wrappingAdd(1, ordering: .relaxed).oldValue)
        listeners.withLock { $0[number] = listener }
        _ = count.wrappingAdd(1, ordering: .relaxed)
        return number
    }

    func remove(_ number: Int) {
        let listener = listeners.withLock { $0.removeValue(forKey: number) }
        // ordering: relaxed: as above.
        if listener != nil { _ = count.wrappingSubtract(1, ordering: .relaxed) }
    }

    func tell(_ event: SupervisionEvent) {
        for listener in listeners.withLock({ Array($0.values) }) { listener(event) }
    }
}

extension BastionSystem {
    /// What happens under the supervisors of this system from now on.
    ///
    /// Events of one supervisor come in the order in which they happened; those of different ones as well if one caused the other. Costs nothing where
    /// nobody listens, and a copy for each stream where somebody does. No code of the listener's runs in a supervisor.
    ///
    /// - Parameter limit: How many events wait at most for who is slow: then the oldest are lost, and counted (``SupervisionEvents/lostEvents``).
    public func events(buffering limit: Int = 10_000) -> SupervisionEvents {
        precondition(limit > 0, "at least one event must be able to wait, got \(limit)")
        let (stream, continuation) = AsyncStream.makeStream(
            of: SupervisionEvent.self,
            bufferingPolicy: .bufferingNewest(limit)
        )
        let lost = LostCount()
        let number = eventHub.add { event in
            if case .dropped = continuation.yield(event) { lost.increment() }
        }
        continuation.onTermination = { [weak self] _ in self?.eventHub.remove(number) }
        return SupervisionEvents(stream, lost)
    }
}

extension SupervisorCell {
    /// Tells who listens of something that happened to a child.
    func tell(_ kind: @autoclosure () -> SupervisionEvent.Kind, of child: ChildRecord) {
        guard system.eventHub.hasListeners else { return }
        system.eventHub.tell(
            SupervisionEvent(
                time: system.executor.now,
                path: "\(path)/\(child.name)",
                process: child.proc.id,
                restarts: child.proc.restarts,
                kind: kind()
            )
        )
    }

    /// Tells who listens of something that happened to the supervisor itself.
    func tell(_ kind: @autoclosure () -> SupervisionEvent.Kind) {
        guard system.eventHub.hasListeners else { return }
        system.eventHub.tell(
            SupervisionEvent(time: system.executor.now, path: path, process: proc.id, restarts: 0, kind: kind())
        )
    }
}
