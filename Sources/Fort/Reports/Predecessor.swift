// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import LightProc

/// Why the program before this one died, which this one was started in place of.
public struct Predecessor: Sendable {
    /// What a program can die of.
    public enum Cause: Sendable, Hashable {
        /// A signal that nobody meant, by number: a crash that could not be contained, or somebody's `kill`.
        case signal(Int32)
        /// It ended by itself, with a status: more restarts than it allows itself, or `exit` from within.
        case exit(Int32)
        /// It gave no sign of life for ``FortProgram/hangTime``, and was killed.
        case hang
        /// The system killed it, for want of memory.
        case outOfMemory
        /// Its contained traps had leaked as much as ``FortProgram/leakBudget`` allows; it was replaced.
        case leakBudget
        /// It did not stop in ``FortProgram/stopDeadline``, and was killed; or was forced to end by a second request.
        case forced
        /// It was not ready in ``FortProgram/startDeadline``, and was killed.
        case notReady
        /// It left no word: it was killed, or the machine went down.
        case unknown
    }

    /// An entry of its flight recorder.
    public struct Event: Sendable, Hashable {
        /// When it happened, since 1970 (UTC).
        public let time: Duration
        /// What happened, at most 111 bytes.
        public let text: String
    }

    /// What it died of.
    public let cause: Cause
    /// Its number.
    public let pid: Int32
    /// Which one of all it was, counted from 1.
    public let incarnation: Int
    /// When it died, since 1970 (UTC); if nobody saw it, of its last event.
    public let time: Duration
    /// How long it had lived.
    public let lifetime: Duration
    /// What it said for a reason, if it ended by itself.
    public let lastWords: String?
    /// The process that its failing thread ran, as in `/shop/orders-3<0.7>`; nil if it ran none.
    public let process: String?
    /// What the Swift runtime said at the end.
    public let message: String?
    /// Traps that it had contained.
    public let trapsContained: Int
    /// The last entries of its flight recorder, oldest first; at most 256.
    public let events: [Event]
    /// One line for logs: `died of SIGSEGV at 0x10 in /shop/orders-3<0.7>`.
    public let summary: String
    private let life: LifeRecord

    /// Names where its failing thread stood, innermost first; empty if nothing was recorded.
    ///
    /// Reads symbol tables and debug information, milliseconds for each: not for a worker, see ``Blocking``.
    public func frames() -> [String] {
        var names = FrameNames(life)
        return names.frames(at: life.death?.frames ?? []).map(\.text)
    }

    init(_ death: DeathOfProgram) {
        let life = death.life
        switch death.cause {
        case .signal: cause = .signal(death.signal ?? life.death?.signal ?? 0)
        case .exit: cause = .exit(death.exitCode ?? 0)
        case .hang: cause = .hang
        case .outOfMemory: cause = .outOfMemory
        case .leakBudget: cause = .leakBudget
        case .forced: cause = .forced
        case .notReady: cause = .notReady
        case .unknown: cause = .unknown
        }
        pid = life.pid
        incarnation = life.incarnation
        time = death.time.sinceEpoch
        lifetime = death.uptime
        lastWords = life.lastWords
        process = life.death?.process
        message = life.death?.message
        trapsContained = life.trapsContained
        events = life.events.map { Event(time: $0.time.sinceEpoch, text: $0.text) }
        summary = death.summary
        self.life = life
    }

    /// Of a program that has just been found dead.
    ///
    /// - Parameters:
    ///   - status: As `waitpid` gave it.
    ///   - cause: What whoever waited knows of it.
    init(record: ProcessRecord, status: Int32, cause: DeathCause) {
        self.init(DeathOfProgram(LifeRecord(record), cause, status: status, found: .now))
    }
}

extension Fort {
    private static let found = Locked<Predecessor?>(nil)

    /// Why the program before this one died; nil if this is the first, or nothing is known of it.
    ///
    /// With a guard, the one that was started again as this one, or that this one replaces as its leak budget is exhausted; nil after a handover that
    /// somebody asked for: the one before has not died. Without, the last program of the same name whose record was
    /// found in the report directory; without a directory there is none. Any thread; does not change while the program runs.
    public static var predecessor: Predecessor? { found.withLock { $0 } }

    /// Before the program's own code runs.
    static func setPredecessor(_ predecessor: Predecessor) { found.withLock { $0 = predecessor } }
}
