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
/// The legal states; all others are impossible, see ``isLegal``:
///
/// | state | phase | stop, kill | sealed | activations | incarnation |
/// |---|---|---|---|---|---|
/// | created | created | none | no | 0 | 0 |
/// | active | active | none, stop, or both | no | any | from 1 |
/// | draining | ending | none, stop, or both | no | from 1 | from 1 |
/// | sealed | ending | none, stop, or both | yes | any: what is left is not waited for | from 1 |
/// | ended | ended | none | no | 0 | from 1 |
/// | closed | closed | none | no | 0 | any: 0 if it never started |
///
/// What each transition answers where. *Impossible* pairs are a `preconditionFailure`: no order of legal calls leads there.
/// The other refusals are races that a caller loses lawfully, and handles. Whoever names an incarnation that is over is
/// answered as in the column "ended":
///
/// | transition | created | active | draining | sealed | ended | closed |
/// |---|---|---|---|---|---|---|
/// | ``start()`` | started | impossible | impossible | impossible | started | refused |
/// | ``admit(_:_:)`` | refused | admitted | admitted | refused | refused | refused |
/// | ``retire(_:_:)`` | nothing | nothing | nothing, sealed | nothing | nothing | nothing |
/// | ``requestStop(kill:)`` | nothing | requested, nothing | nothing | nothing | nothing | nothing |
/// | ``end(_:admitting:)`` | too late | draining, sealed | too late | too late | too late | too late |
/// | ``seal(_:)`` | impossible | impossible | sealed | too late | too late | too late |
/// | ``finish()`` | impossible | impossible | impossible | ended | impossible | impossible |
/// | ``close()`` | closed | refused | refused | refused | closed | refused |
///
/// Impossible is also to retire more than was admitted.
///
/// The original has one word for all of a process. What its bits mean is here: *scheduled* and *running*: the mailbox is busy
/// (``Mailbox``; of an async process there are activations, or orders); *completed*: ending and ended; *closed*: closed; *handle*
/// and the count of references: the object's, counted by the language; *awaiter* and *locked*: ``Awaiters``, behind the lock of the
/// side.
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

    package private(set) var rawValue: UInt

    /// - Precondition: The word is legal. Looked at in debug builds; the phases that are none are found in all.
    package init(rawValue: UInt) {
        self.rawValue = rawValue
        assert(isLegal, "impossible: no state of a process is \(rawValue)")
    }

    /// Created.
    package init() { rawValue = 0 }

    /// Whether a word is one of the states in the list above.
    package static func isLegal(_ rawValue: UInt) -> Bool { ProcState(unchecked: rawValue).isLegal }

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

    private var isLegal: Bool {
        guard let phase = Phase(rawValue: rawValue & 0b111), rawValue & Self.unusedBits == 0 else { return false }
        guard isStopRequested || !isKillRequested else { return false }
        let isPlain = !isStopRequested && !isSealed && activations == 0
        switch phase {
        case .created: return isPlain && incarnation == 0
        case .active: return !isSealed && incarnation > 0
        case .ending: return (isSealed || activations > 0) && incarnation > 0
        case .ended: return isPlain && incarnation > 0
        case .closed: return isPlain
        }
    }

    // MARK: Transitions

    package enum Start: Equatable, Sendable {
        case started(incarnation: UInt32)
        /// It was closed in the meantime; there is nothing to start.
        case refused
    }

    /// A new incarnation begins. Refused where somebody closed the process before; impossible while an incarnation lives.
    package mutating func start() -> Start {
        switch phase {
        case .created, .ended:
            let next = incarnation == .max ? 1 : incarnation + 1
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

    /// A job of an incarnation wants to be queued. After the end was decided it still may: the task is unwinding. Refused
    /// once the incarnation is sealed, in every phase: jobs come late, from threads that know nothing of it.
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
    /// never will. Nothing once the incarnation is sealed, in every phase: it does not wait for them. Impossible is to give
    /// back more than was admitted.
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

    /// Somebody asks the incarnation to end. A kill counts also after a stop. Nothing in every phase but active: who asks
    /// does not know how far the process is.
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

    /// The end of an incarnation is decided, once. Too late in every phase but active: its return, a kill and a trap race.
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
        /// It is sealed already, or over.
        case tooLate
    }

    /// The time for jobs to return is up: those that are left are not waited for and never run again. Too late where the last
    /// job returned first; impossible before the end was decided.
    package mutating func seal(_ incarnation: UInt32) -> Seal {
        guard incarnation == self.incarnation else { return .tooLate }
        switch phase {
        case .ending:
            if isSealed { return .tooLate }
            rawValue |= Self.sealBit
            return .sealed
        case .ended, .closed:
            return .tooLate
        case .created, .active:
            preconditionFailure("impossible: an incarnation is sealed after its end was decided")
        }
    }

    package enum Finish: Equatable, Sendable {
        /// The process is down: the caller, and nobody else, has it started again or closed.
        case ended
    }

    /// The hooks of a sealed incarnation have run. Impossible everywhere else: they run once, and one thread runs them.
    package mutating func finish() -> Finish {
        switch phase {
        case .ending where isSealed:
            self = ProcState(phase: .ended, activations: 0, incarnation: incarnation)
            return .ended
        case .created, .active, .ending, .ended, .closed:
            preconditionFailure("impossible: an incarnation is cleaned up once, after it was sealed")
        }
    }

    package enum Close: Equatable, Sendable {
        case closed
        /// It runs, or was closed before.
        case refused
    }

    /// No incarnation will follow. Refused while one lives, and the second time: owners and observers may both close.
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
    private static let unusedBits: UInt = 0b11 << 6

    private init(unchecked rawValue: UInt) { self.rawValue = rawValue }

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
