// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import LightProc

/// What a supervisor decides: a pure value. Time comes in as an argument, what is to be done comes out as actions.
///
/// The semantics are those of Erlang/OTP's `supervisor`, but for one thing: nothing here waits. What takes time (a start, a stop, a
/// backoff) goes on as a sequence of events, between which others are taken. An event costs the same however many children there
/// are, but for those that are stopped or started because of it.
struct SupervisorMachine: Sendable {
    typealias ChildID = UInt64

    /// What a supervisor goes by with a child. Members of a group share it.
    final class Settings: Sendable {
        let restart: RestartType
        let backoff: Backoff
        let isSignificant: Bool
        /// Under a dynamic supervisor its first start, too, counts as over at once: nobody waits for it.
        let startsUnseen: Bool
        /// How long a start may take; nil: as long as it likes.
        let startDeadline: Duration?
        /// How many times it is restarted at most; nil: as its supervisor's intensity allows.
        let restartLimit: Int?
        /// What is said when the child is over takes time: `retire` comes before `lay` or `forget`.
        let hasFarewell: Bool

        init(
            restart: RestartType,
            backoff: Backoff,
            isSignificant: Bool = false,
            startsUnseen: Bool = false,
            startDeadline: Duration? = nil,
            restartLimit: Int? = nil,
            hasFarewell: Bool = false
        ) {
            self.restart = restart
            self.backoff = backoff
            self.isSignificant = isSignificant
            self.startsUnseen = startsUnseen
            self.startDeadline = startDeadline
            self.restartLimit = restartLimit
            self.hasFarewell = hasFarewell
        }
    }

    enum Action: Equatable, Sendable {
        case start(ChildID)
        /// Tell `startTimedOut` with this generation after the time.
        case limitStart(ChildID, generation: UInt32, Duration)
        /// Tell `backoffElapsed` with this generation after the delay.
        case wait(ChildID, generation: UInt32, Duration)
        /// Ask the child to stop; `childEnded` follows.
        case stop(ChildID)
        /// End the child, whose time to start is up; `childEnded` follows.
        case kill(ChildID)
        /// The child is over: say farewell, then tell `childRetired`; `lay` or `forget` follows.
        case retire(ChildID)
        /// The child is over, and stays specified: it may be started again.
        case lay(ChildID)
        /// The child is over, and gone.
        case forget(ChildID)
        /// Those that are left do not end although their time is up: whoever waits for the end of this supervisor in its turn does not any more.
        case linger
        /// The supervisor is done: all children have ended.
        case finish(Outcome)
    }

    enum Outcome: Equatable, Sendable {
        case stopped
        /// Significant children have ended.
        case shutDown
        /// More restarts than the intensity allows; the child was the last straw.
        case gaveUp(ChildID)
        /// The failure of the child was not this supervisor's to deal with.
        case escalated(ChildID)

        /// Whether the supervisor could not do what it is there for.
        var isFailure: Bool {
            switch self {
            case .stopped, .shutDown: false
            case .gaveUp, .escalated: true
            }
        }
    }

    /// What is done about a failure, where that was decided for this one.
    enum Decision: Equatable, Sendable {
        case restart
        case stop
        case escalate
    }

    /// Why a child cannot be started again, or taken out.
    enum Refusal: Equatable, Sendable {
        case unknown
        case running
        case restarting
        case stopping
    }

    enum Phase: Equatable, Sendable {
        case running
        /// Children are being stopped; nothing is started.
        case stopping(Outcome)
        case finished
    }

    /// Children that start one after the other.
    struct Sequence: Sendable {
        var ids: [ChildID]
        var next = 0
    }

    /// Children that are stopped, the last of the list first.
    struct Chain: Sendable {
        enum Purpose: Equatable, Sendable {
            /// The children leave.
            case leave
            /// They are started again when all have ended.
            case sweep
            /// The supervisor ends.
            case end
        }
        var left: [ChildID]
        /// How many are being stopped at this moment.
        var pending = 0
        /// Children that are waited for at the end only, as their time is up.
        var late: Set<ChildID> = []
        /// All at the same time.
        var isParallel: Bool
        let purpose: Purpose
    }

    /// A failure for which several children are stopped and started again.
    struct Sweep: Sendable {
        enum Phase: Equatable, Sendable {
            case stopping(chain: Int)
            /// It waits for the backoff of the cause.
            case waiting
            case starting
        }
        let cause: ChildID
        let delay: Duration
        /// The first that may have to be started; nil if there is none any more.
        var first: ChildID?
        var phase: Phase
    }

    var children = ChildList()
    var phase = Phase.running
    /// What it ends, or has ended, with.
    var outcome: Outcome?
    var window: RestartWindow
    private(set) var strategy: RestartStrategy
    private(set) var autoShutdown: AutoShutdown
    /// Nothing is started yet: what is added waits for `release`.
    private(set) var isHeld = false
    var sequences: [Int: Sequence] = [:]
    /// Of children that start in a sequence: which one goes on then.
    var turns: [ChildID: Int] = [:]
    var chains: [Int: Chain] = [:]
    /// The chains that go on when a child has ended.
    var chainsOf: [ChildID: [Int]] = [:]
    var sweep: Sweep?
    /// How long the child waits that was the last to.
    var lastDelay = Duration.zero
    /// For jitter.
    var draws: SplitMix64
    /// Numbers for chains and sequences.
    private var lastNumber = 0

    init(
        strategy: RestartStrategy = .oneForOne,
        intensity: RestartIntensity,
        autoShutdown: AutoShutdown = .never,
        seed: UInt64 = 0
    ) {
        draws = SplitMix64(seed: seed)
        self.strategy = strategy
        self.autoShutdown = autoShutdown
        window = RestartWindow(intensity)
    }

    var childCount: Int { children.count }
    var isRunning: Bool { phase == .running }

    /// Whether a child goes through a start, and is not to be stopped.
    func isStarting(_ id: ChildID) -> Bool {
        guard let index = children.index(of: id) else { return false }
        return children[index].state == .starting && children[index].fate == nil
    }

    /// What comes of a child that has ended just now.
    enum Prospect: Equatable, Sendable, CustomStringConvertible {
        /// It starts again after this time, by itself or with others.
        case restarted(in: Duration)
        case isOver
        /// For this end the supervisor gives up.
        case supervisorEnds
        /// The supervisor was stopping anyway, or the child was to stop.
        case stops

        var description: String {
            switch self {
            case .restarted(in: .zero): "restarted"
            case .restarted(let delay): "restarted in \(delay)"
            case .isOver, .supervisorEnds: "not restarted"
            case .stops: "it was to stop"
            }
        }
    }

    func prospect(of id: ChildID) -> Prospect {
        switch outcome {
        case .gaveUp(id), .escalated(id): return .supervisorEnds
        case .stopped, .shutDown, .gaveUp, .escalated: return .stops
        case nil: break
        }
        guard let index = children.index(of: id) else { return .isOver }
        switch children[index].state {
        case .starting, .up: return .restarted(in: .zero)
        case .waiting: return .restarted(in: lastDelay)
        case .queued: return sweep?.cause == id ? .restarted(in: sweep?.delay ?? .zero) : .stops
        case .stopping: return .stops
        case .down, .retiring: return .isOver
        }
    }

    /// Whether its start has failed, as far as is known, and it has not ended with all below.
    func hasFailedToStart(_ id: ChildID) -> Bool {
        guard let index = children.index(of: id) else { return false }
        return children[index].state == .starting && children[index].hasFailedToStart
    }

    func isUp(_ id: ChildID) -> Bool {
        guard let index = children.index(of: id) else { return false }
        if case .up = children[index].state { return true }
        return false
    }

    /// Whether it was started, and its end has not been told.
    func lives(_ id: ChildID) -> Bool {
        guard let index = children.index(of: id) else { return false }
        switch children[index].state {
        case .starting, .up, .stopping: return true
        case .down, .queued, .waiting, .retiring: return false
        }
    }

    /// Whether it depends on how the child ended what becomes of it.
    func isWanted(_ id: ChildID) -> Bool { children.index(of: id).map { children[$0].fate == nil } ?? false }

    func isDown(_ id: ChildID) -> Bool { children.index(of: id).map { children[$0].state == .down } ?? true }

    mutating func number() -> Int {
        lastNumber += 1
        return lastNumber
    }

    /// Children whose start somebody waits for, and that are not to be stopped. O(children).
    var starting: [ChildID] {
        var result: [ChildID] = []
        var next = children.first
        while let index = next {
            if children[index].state == .starting, children[index].fate == nil { result.append(children[index].id) }
            next = children.after(index)
        }
        return result
    }

    /// Children that were told to stop, and have time left for it. O(children).
    var stopping: [ChildID] {
        children.indices(from: children.first)
            .filter { children[$0].state == .stopping && !children[$0].isLate }
            .map { children[$0].id }
    }

    // MARK: Events

    /// From now on nothing is started until `release`; all else is as ever.
    mutating func hold() { isHeld = true }

    /// What was added meanwhile starts, in order.
    mutating func release(at now: Duration) -> [Action] {
        guard isHeld else { return [] }
        isHeld = false
        guard phase == .running else { return [] }
        let queued = children.indices(from: children.first)
            .filter { children[$0].state == .queued && children[$0].fate == nil }
            .map { children[$0].id }
        // By the strategy of now, not by that under which they were added.
        switch strategy {
        case .dynamic:
            sequences = [:]
            return queued.flatMap { start($0, at: now) }
        case .oneForOne:
            return sequences.keys.sorted().flatMap { advance(sequence: $0, at: now) }
        case .oneForAll, .restForOne:
            sequences = [0: Sequence(ids: queued)]
            return advance(sequence: 0, at: now)
        }
    }

    /// A child is added behind all others. It is refused when the supervisor is stopping.
    mutating func add(_ id: ChildID, _ settings: Settings, at now: Duration) -> [Action] {
        add([(id, settings)], at: now)
    }

    /// Children are added behind all others: they start one after the other.
    mutating func add(_ new: [(id: ChildID, settings: Settings)], at now: Duration) -> [Action] {
        guard phase == .running else { return new.map { .forget($0.id) } }
        let ids = new.filter { children.append($0.id, $0.settings) }.map(\.id)
        if sweep != nil, sweep?.first == nil { sweep?.first = ids.first }
        switch strategy {
        case .dynamic where !isHeld:
            return ids.flatMap { start($0, at: now) }
        case .oneForOne, .dynamic:
            let number = number()
            sequences[number] = Sequence(ids: ids)
            return advance(sequence: number, at: now)
        case .oneForAll, .restForOne:
            // Whoever comes later may depend on those that come before.
            let isIdle = sequences[0] == nil
            sequences[0, default: Sequence(ids: [])].ids += ids
            return isIdle ? advance(sequence: 0, at: now) : []
        }
    }

    /// A start of several failed: they leave, those that run in reverse order, whatever their type.
    ///
    /// - Parameters:
    ///   - failed: Which of them has ended; nil if they are not waited for any longer.
    ///   - last: Those whose stop the others do not wait for: they come last.
    mutating func undo(
        _ ids: [ChildID],
        failed: ChildID?,
        last: Set<ChildID> = [],
        at now: Duration
    ) -> [Action] {
        guard phase == .running else { return failed.map { childEnded($0, .killed, at: now) } ?? [] }
        // First, so that none of them is started any more.
        let indices = ids.compactMap { children.index(of: $0) }.sorted {
            children[$0].ordinal < children[$1].ordinal
        }
        for index in indices { children[index].fate = .gone }
        let left = indices.map { children[$0].id }
        var actions: [Action] = []
        if let failed, let index = children.index(of: failed) { actions = settle(index, at: now) }
        let number = number()
        chains[number] = Chain(
            left: left.filter(last.contains) + left.filter { !last.contains($0) },
            isParallel: strategy == .dynamic,
            purpose: .leave
        )
        return actions + advance(chain: number, at: now)
    }

    /// A child that reports its start has started.
    mutating func childStarted(_ id: ChildID, at now: Duration) -> [Action] {
        guard let index = children.index(of: id), children[index].state == .starting else { return [] }
        hasStarted(index, at: now)
        return goOn(afterStartOf: id, at: now)
    }

    /// The time for a start is up.
    mutating func startTimedOut(_ id: ChildID, generation: UInt32) -> [Action] {
        guard phase == .running, let index = children.index(of: id), children[index].state == .starting,
            children[index].starts == generation
        else { return [] }
        children[index].hasFailedToStart = true
        return [.kill(id)]
    }

    /// A child's incarnation is over.
    ///
    /// - Parameters:
    ///   - hadStarted: Whether its start was over, if it counts as started.
    ///   - decision: What is done about it, if that was decided for this failure; nil: what its restart type says.
    mutating func childEnded(
        _ id: ChildID,
        _ reason: ExitReason,
        hadStarted: Bool = true,
        decision: Decision? = nil,
        at now: Duration
    ) -> [Action] {
        // Of a child that was forgotten: nothing is to be done.
        guard let index = children.index(of: id) else { return [] }
        let child = children[index]
        switch child.state {
        case .down, .queued, .waiting, .retiring:
            return []
        case .stopping:
            return settle(index, at: now)
        case .starting, .up:
            // It was to be stopped in its turn, and did that by itself.
            if child.fate != nil { return settle(index, at: now) }
            if child.state == .starting || !hadStarted {
                children.set(.starting, at: index)
                return startFailed(index, reason, decision, at: now)
            }
            return ended(index, reason, decision, at: now)
        }
    }

    /// The farewell of a child was said. Also told late, or again: then nothing is to be done.
    mutating func childRetired(_ id: ChildID, at now: Duration) -> [Action] {
        guard let index = children.index(of: id), children[index].state == .retiring else { return [] }
        let isGone = children[index].fate == .gone || strategy == .dynamic
        if isGone { drop(index) } else { layDown(index) }
        return [isGone ? .forget(id) : .lay(id)] + goOn(afterEndOf: id, at: now)
    }

    /// The time that `wait` asked for is up.
    mutating func backoffElapsed(_ id: ChildID, generation: UInt32, at now: Duration) -> [Action] {
        // Late: the child was forgotten, or is not to start any more.
        guard phase == .running, let index = children.index(of: id), children[index].state == .waiting,
            children[index].generation == generation, children[index].fate == nil
        else { return [] }
        if sweep?.cause == id, sweep?.phase == .waiting {
            children.set(.queued, at: index)
            return startAgain(at: now)
        }
        return start(id, at: now)
    }

    /// The supervisor is asked to stop.
    ///
    /// - Parameter last: Children whose stop the others do not wait for: they come last.
    mutating func stop(last: Set<ChildID> = [], at now: Duration) -> [Action] {
        guard phase == .running else { return lingers ? [.linger] : [] }
        return end(.stopped, last: last, at: now)
    }

    /// The supervisor is to end without waiting for one child after the other, also if it is stopping already. All that run are told
    /// to stop; those that had been told before are told again.
    mutating func stopAtOnce(at now: Duration) -> [Action] {
        switch phase {
        case .running:
            return end(.stopped, atOnce: true, at: now)
        case .stopping:
            let again = children.indices(from: children.first).filter { children[$0].state == .stopping }
                .map { Action.stop(children[$0].id) }
            // The chain of the end waits for one of those.
            for number in chains.keys { chains[number]?.isParallel = true }
            return again + chains.keys.sorted().flatMap { advance(chain: $0, at: now) }
        case .finished:
            return []
        }
    }

    // MARK: Changes

    /// From now on. What goes on goes on as it began.
    ///
    /// A dynamic supervisor has no children that are down: those that are, or come to be, are gone.
    mutating func change(
        strategy: RestartStrategy? = nil,
        intensity: RestartIntensity? = nil,
        autoShutdown: AutoShutdown? = nil
    ) -> [Action] {
        if let strategy { self.strategy = strategy }
        if let intensity { window.intensity = intensity }
        if let autoShutdown { self.autoShutdown = autoShutdown }
        guard strategy == .dynamic else { return [] }
        // Those that are about to leave do so in their turn.
        let down = children.indices(from: children.first)
            .filter { children[$0].state == .down && children[$0].fate == nil }
        return down.map { index in
            let id = children[index].id
            drop(index)
            return .forget(id)
        }
    }

    /// From the child's next end on.
    mutating func change(_ id: ChildID, _ settings: Settings) {
        if let index = children.index(of: id) { children.change(settings, at: index) }
    }
}
