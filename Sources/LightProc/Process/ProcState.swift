// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

/// The lifecycle of a process in one machine word: phase, activations, incarnation, and whether it was asked to stop.
///
/// | bits  | field | meaning |
/// |---|---|---|
/// | 0-2   | phase | see ``Phase`` |
/// | 3     | stop requested | this incarnation was asked to end |
/// | 4     | sealed | no job of this incarnation is admitted or run any more |
/// | 5     | kill requested | asked to end, and to be reported as killed |
/// | 8-31  | activations | what this incarnation waits for before it is sealed (async processes): jobs that are queued or running, child tasks that may still complete |
/// | 32-63 | incarnation | 0 before the first start, then counted up by every start |
///
/// A pure value: no clock, lock or atomic inside. The shell applies one transition at a time to an ``AtomicWord``.
/// The incarnation makes late events harmless: what belongs to an incarnation that is over is told so and does nothing.
/// It is 32 bits wide: a wrap needs four billion restarts of one process between a job's queueing and its run.
package struct ProcState: Equatable, Sendable {
    package enum Phase: UInt, Sendable, CaseIterable {
        /// Made, and nothing of it has run yet.
        case created = 0
        /// An incarnation lives: its jobs run, its messages are handled.
        case active = 1
        /// The incarnation's end is decided: until it is sealed its jobs may still run, then its hooks do.
        case ending = 2
        /// The incarnation is over, its hooks have run. The process may be started again, or closed.
        case ended = 3
        /// Over for good. The mailbox refuses messages.
        case closed = 4
    }

    package var rawValue: UInt
    package init(rawValue: UInt) { self.rawValue = rawValue }
    package init() { rawValue = 0 }

    // MARK: Queries

    package var phase: Phase {
        guard let phase = Phase(rawValue: rawValue & 0b111) else {
            preconditionFailure("impossible: no phase has the number \(rawValue & 0b111)")
        }
        return phase
    }
    package var isStopRequested: Bool { rawValue & Self.stopBit != 0 }
    package var isKillRequested: Bool { rawValue & Self.killBit != 0 }
    package var isSealed: Bool { rawValue & Self.sealBit != 0 }
    package var activations: Int { Int((rawValue >> 8) & 0xff_ffff) }
    package var incarnation: UInt32 { UInt32(truncatingIfNeeded: rawValue >> 32) }

    // MARK: Transitions

    package enum Start: Equatable, Sendable {
        case started(incarnation: UInt32)
        /// It was closed in the meantime; there is nothing to start.
        case refused
    }

    /// A new incarnation begins.
    package mutating func start() -> Start {
        switch phase {
        case .created, .ended:
            let next = incarnation &+ 1
            self = ProcState(phase: .active, activations: 0, incarnation: next)
            return .started(incarnation: next)
        case .closed:
            return .refused
        case .active, .ending:
            preconditionFailure("impossible: a process is started again only after its incarnation ended")
        }
    }

    package enum Admission: Equatable, Sendable {
        case admitted
        /// The incarnation is over; the job is dropped and what it holds leaks.
        case refused
    }

    /// A job of an incarnation wants to be queued. After the end was decided it still may: the task is unwinding.
    ///
    /// - Parameter count: 1, or 2 for the first job of a child task: one for the job, one for the task.
    package mutating func admit(_ incarnation: UInt32, _ count: UInt = 1) -> Admission {
        guard mayRun(incarnation) else { return .refused }
        precondition(UInt(activations) + count <= 0xff_ffff, "a process has more than 16 million jobs and child tasks")
        rawValue += count << 8
        return .admitted
    }

    /// Whether a job of an incarnation that was queued may run now.
    package func mayRun(_ incarnation: UInt32) -> Bool {
        incarnation == self.incarnation && !isSealed && (phase == .active || phase == .ending)
    }

    package enum Retirement: Equatable, Sendable {
        /// There is more to come, or the incarnation is over already.
        case nothing
        /// The end was decided and this was the last: the incarnation is sealed, the caller has it cleaned up.
        case sealed
    }

    /// Jobs of an incarnation have returned from their workers, or are lost with them; child tasks have completed, or
    /// never will.
    package mutating func retire(_ incarnation: UInt32, _ count: UInt = 1) -> Retirement {
        guard count > 0, mayRun(incarnation) else { return .nothing }
        precondition(UInt(activations) >= count, "impossible: a job returned that was never admitted")
        rawValue -= count << 8
        guard phase == .ending, activations == 0 else { return .nothing }
        rawValue |= Self.sealBit
        return .sealed
    }

    package enum StopRequest: Equatable, Sendable {
        case requested
        /// It was asked before, is ending, or has ended.
        case nothing
    }

    /// Somebody asks the incarnation to end. A kill counts also after a stop.
    package mutating func requestStop(kill: Bool = false) -> StopRequest {
        let bits = kill ? Self.stopBit | Self.killBit : Self.stopBit
        guard phase == .active, rawValue & bits != bits else { return .nothing }
        rawValue |= bits
        return .requested
    }

    package enum Ending: Equatable, Sendable {
        /// This caller decided the end. No job is left: the incarnation is sealed.
        case sealed
        /// This caller decided the end. Jobs are still queued or running.
        case draining
        /// Somebody decided it before.
        case tooLate
    }

    /// The end of an incarnation is decided, once.
    ///
    /// - Parameter admitting: Whether the caller has one more job to run for it: cancelling what is left.
    package mutating func end(_ incarnation: UInt32, admitting: Bool = false) -> Ending {
        guard incarnation == self.incarnation, phase == .active else { return .tooLate }
        setPhase(.ending)
        if admitting { rawValue += 1 << 8 }
        guard activations == 0 else { return .draining }
        rawValue |= Self.sealBit
        return .sealed
    }

    package enum Seal: Equatable, Sendable {
        case sealed
        /// It is sealed already, or another incarnation lives.
        case tooLate
    }

    /// The time for jobs to return is up: those that are left are not waited for and never run again.
    package mutating func seal(_ incarnation: UInt32) -> Seal {
        guard incarnation == self.incarnation, phase == .ending, !isSealed else { return .tooLate }
        rawValue |= Self.sealBit
        return .sealed
    }

    /// The hooks of a sealed incarnation have run.
    package mutating func finish() {
        precondition(phase == .ending && isSealed, "impossible: an incarnation is cleaned up after it was sealed")
        self = ProcState(phase: .ended, activations: 0, incarnation: incarnation)
    }

    package enum Close: Equatable, Sendable {
        case closed
        /// It runs, or was closed before.
        case refused
    }

    /// No incarnation will follow.
    package mutating func close() -> Close {
        switch phase {
        case .created, .ended:
            setPhase(.closed)
            return .closed
        case .active, .ending, .closed:
            return .refused
        }
    }

    // MARK: Representation

    private static let stopBit: UInt = 1 << 3
    private static let sealBit: UInt = 1 << 4
    private static let killBit: UInt = 1 << 5

    private init(phase: Phase, activations: Int, incarnation: UInt32) {
        rawValue = phase.rawValue | UInt(activations) << 8 | UInt(incarnation) << 32
    }

    private mutating func setPhase(_ phase: Phase) { rawValue = rawValue & ~0b111 | phase.rawValue }
}

extension ProcState: CustomStringConvertible {
    package var description: String {
        "\(phase), incarnation \(incarnation), \(activations) activations"
            + (isStopRequested ? ", stop requested" : "") + (isSealed ? ", sealed" : "")
    }
}
