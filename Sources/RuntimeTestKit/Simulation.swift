// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

public import Executor
import Glibc
import LightProc
public import Logging
public import Supervision

/// A system on one thread, in virtual time, whose run is drawn from a seed: for tests of supervised processes.
///
/// It runs what a system on a ``WorkerPool`` runs, by the same rules, on workers that it makes up (``SeededExecutor``).
/// Equal seeds and equal code give equal runs, as long as no other thread, no real time and no randomness from elsewhere
/// takes part; ``trace`` says what happened. Nothing happens by itself: the thread that calls one of the methods below runs
/// the processes until that returns. One thread at a time.
///
/// ```swift
/// let simulation = Simulation(seed: 7)
/// let tree = try simulation.system.supervise { Children("counter", Counter()) }
/// let counter = try tree.group("counter", of: Counter.Message.self).next
/// let total = try simulation.run { try await counter.ask { .total($0) } }
/// ```
public final class Simulation: Sendable {
    /// What the run is drawn from.
    public let seed: UInt64
    /// Where the processes under test live.
    public let system: BastionSystem
    /// What runs them.
    public let executor: SeededExecutor
    /// Steps that one call of a method below may take before it fails: a run that needs more does not come to rest.
    public let stepLimit: Int
    let director: Director

    /// Creates a simulation at time zero, in which nothing runs yet.
    ///
    /// - Parameters:
    ///   - seed: By default the one that `BASTION_SEED` in the environment says, or 1.
    ///   - workers: How many workers are made up; with one there is next to nothing to draw.
    ///   - faults: What is to go wrong.
    ///   - containsTraps: Whether real traps of processes are contained, as in a program. Everything then runs on a thread made
    ///     for that, while the caller waits. Without, a trap ends the program, and a debugger stops at it.
    ///   - stepLimit: Steps that one call may take before it fails.
    ///   - log: Where the system logs; by default nowhere.
    public init(
        seed: UInt64? = nil,
        workers: Int = 4,
        faults: FaultPlan = [],
        containsTraps: Bool = true,
        stepLimit: Int = 1_000_000,
        log: Logger? = nil
    ) {
        let seed = seed ?? Seeds.fromEnvironment ?? 1
        self.seed = seed
        self.stepLimit = stepLimit
        director = Director(seed: seed, plan: faults)
        executor = SeededExecutor(seed: seed, workers: workers, containsTraps: containsTraps, observer: director)
        system = BastionSystem(
            name: "simulation",
            executor: executor,
            containment: .contain,
            log: log ?? Logger(label: "simulation", factory: { _ in SwiftLogNoOpLogHandler() }),
            hooks: director
        )
        director.attach(executor)
    }

    /// Virtual time since the simulation was made.
    public var now: Duration { executor.now }

    /// A clock of the simulation's time, for code that takes a clock.
    public var clock: VirtualClock { VirtualClock(executor) }

    /// What happened so far.
    public var trace: SimulationTrace { director.trace }

    /// Plans one more fault; messages and starts are counted for it from now on.
    public func inject(_ fault: Fault) { director.inject(fault) }

    /// Whether the calling code runs in the simulation, and so must not drive it.
    public var isInside: Bool { LightProc.current.map { $0.scheduler === executor } ?? false }

    // MARK: Driving

    /// Runs an async closure as a process of the simulation until it has ended. Time passes as needed.
    ///
    /// - Parameter limit: Virtual time that it may take.
    /// - Throws: What the closure throws; ``SimulationError`` if it does not end.
    public func run<Output: Sendable>(
        within limit: Duration = .seconds(86_400),
        _ body: nonisolated(nonsending) @escaping @Sendable () async throws -> Output
    ) throws -> Output {
        let (proc, handle) = LightProc.recoverable(on: executor, stack: ProcStack(name: "test"), body)
        director.made(proc)
        proc.restart()
        try drive(until: { proc.isClosed }, within: limit, waitingFor: "the closure that is run has not ended")
        switch handle.knownOutcome {
        case .finished(let output): return output
        case .failed(.error(let error)): throw error
        case .failed(let reason): throw failure(.ended, "the closure that is run ended: \(reason)")
        }
    }

    /// Runs what is ready, and what that makes ready, until nothing is. Time stands still.
    ///
    /// - Throws: ``SimulationError`` at the step limit.
    public func runUntilIdle() throws { try rest(nil) }

    /// Lets time pass: timers fire in order, and what each makes ready runs before the next.
    ///
    /// - Throws: ``SimulationError`` at the step limit.
    public func advance(by duration: Duration) throws {
        precondition(duration >= .zero, "time does not run backwards, got \(duration)")
        let end = now + duration
        try rest(end)
        executor.passTime(to: end)
    }

    private func rest(_ end: Duration?) throws {
        precondition(!isInside, "the simulation is driven from outside; await what you need here instead")
        let (executor, limit) = (self.executor, stepLimit)
        let result = DriveResult()
        executor.drive {
            if executor.stepHere() { return result.spend(limit) }
            return end.map { executor.fireTimer(by: $0) } ?? false
        }
        if result.steps > limit { throw stepFailure }
    }

    /// Runs, and lets time pass when nothing is ready, until a condition holds; it is looked at after each step.
    ///
    /// - Parameter condition: Called where the processes run, between two steps.
    /// - Parameter limit: Virtual time that it may take.
    /// - Throws: ``SimulationError`` when the time is over, or nothing can run any more; it says who waits for what.
    public func run(until condition: @escaping @Sendable () -> Bool, within limit: Duration = .seconds(3600)) throws {
        try drive(until: condition, within: limit, waitingFor: "the condition does not hold")
    }

    /// Stops all children of the system, in reverse order, and lets that happen. Time passes as needed.
    ///
    /// - Throws: ``SimulationError`` if they do not end.
    public func stop() throws {
        let system = self.system
        try run { await system.stop() }
    }

    func drive(until condition: @escaping @Sendable () -> Bool, within limit: Duration, waitingFor what: String) throws
    {
        precondition(!isInside, "the simulation is driven from outside; await what you need here instead")
        let end = now + limit
        let (executor, stepLimit) = (self.executor, stepLimit)
        let result = DriveResult()
        executor.drive {
            result.holds = condition()
            if result.holds { return false }
            if executor.stepHere() { return result.spend(stepLimit) }
            return executor.fireTimer(by: end)
        }
        if result.holds { return }
        if result.steps > stepLimit { throw stepFailure }
        guard executor.nextTimer != nil else { throw failure(.deadlock, "nothing can run any more, and \(what)") }
        executor.passTime(to: end)
        throw failure(.timeLimit, "\(limit) have passed, and \(what)")
    }

    private var stepFailure: SimulationError { failure(.stepLimit, "still not at rest after \(stepLimit) steps") }

    func failure(_ kind: SimulationError.Kind, _ what: String) -> SimulationError {
        SimulationError(kind: kind, seed: seed, time: now, what: what, waiting: waiting)
    }
}

/// What comes of driving.
private final class DriveResult: @unchecked Sendable {
    // Sendable: used by one thread at a time; who drives waits.
    var holds = false
    var steps = 0

    /// False when there were too many.
    func spend(_ limit: Int) -> Bool {
        steps += 1
        return steps <= limit
    }
}

extension Simulation: CustomStringConvertible {
    /// The seed and the time: for the comment of an expectation, so that its failure names the seed.
    public var description: String { "seed \(seed) at \(now) (repeat with BASTION_SEED=\(seed))" }
}

/// Why a simulation did not get where it should.
public struct SimulationError: Error, Sendable, CustomStringConvertible {
    /// The kinds of failure; compare with the static members, more of which may be added.
    public struct Kind: Hashable, Sendable {
        private let name: String
        /// Nothing can run any more: everybody waits for somebody else.
        public static let deadlock = Kind(name: "deadlock")
        /// The virtual time that was allowed has passed.
        public static let timeLimit = Kind(name: "timeLimit")
        /// More steps than were allowed: something runs for ever without letting time pass.
        public static let stepLimit = Kind(name: "stepLimit")
        /// What was run ended without a value, by a trap or a kill.
        public static let ended = Kind(name: "ended")
        /// A probe did not get what it expected.
        public static let unexpected = Kind(name: "unexpected")
        /// Two runs with the same seed differ.
        public static let unequalRuns = Kind(name: "unequalRuns")
    }
    /// What kind of failure it is.
    public let kind: Kind
    /// What the run was drawn from.
    public let seed: UInt64
    /// When, in virtual time.
    public let time: Duration
    /// What happened, without the seed.
    public let what: String
    /// Who waits for what: one line per process that has not ended.
    public let waiting: [String]

    /// Seed and time, what happened, who waits for what, and how to have the run again.
    public var description: String {
        (["seed \(seed) at \(time): \(what)"] + waiting.map { "  \($0)" } + ["repeat it with BASTION_SEED=\(seed)"])
            .joined(separator: "\n")
    }
}

extension Simulation {
    /// Who waits for what at this moment: one line per process that has not ended.
    public var waiting: [String] {
        let living = director.living
        let looks = living.compactMap { known in known.proc.map { (known, $0.look) } }
        var asked: [ProcID: [ProcID]] = [:]
        for (_, look) in looks {
            for case let ask as any WaitingAsk in look.receipts where !ask.isSettled {
                if let asker = ask.asker { asked[asker, default: []].append(ask.asked) }
            }
        }
        return looks.map { known, look in
            var parts: [String] = []
            if let proc = known.proc, let targets = asked[proc.id] {
                parts += targets.map { "waits for an answer from \(director.label(of: $0))" }
            }
            if look.isReceiving { parts.append("waits for a message") }
            let open = look.receipts.count { !$0.isSettled }
            if open > 0 { parts.append("owes \(open) answer\(open == 1 ? "" : "s")") }
            if look.hasMessages { parts.append("has messages in its mailbox") }
            switch look.phase {
            case .created: parts.append("was not started")
            case .ended: parts.append("is down, and waits to be restarted or closed")
            case .ending: parts.append("is ending")
            case .active, .closed:
                if parts.isEmpty {
                    parts.append(known.proc?.isReactive == true ? "is idle" : "is suspended, and not in receive")
                }
            }
            return "\(known.label) \(parts.joined(separator: ", "))"
        }
    }
}
