// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CFort
import Glibc

/// What a record says about a program, taken out of it: it may be unmapped then.
struct LifeRecord: Sendable {
    /// What the handler of the fatal signal has written.
    struct Death: Sendable, Equatable {
        var isComplete = true
        var signal: Int32
        var code: Int32
        var address: UInt64
        var time: WallTime
        var thread: Int32
        var threadName: String
        /// Path and number of the process that the thread ran; nil: none.
        var process: String?
        /// What the Swift runtime said.
        var message: String?
        /// Addresses within instructions, innermost first.
        var frames: [UInt64]
    }

    var program: String
    var pid: Int32
    var incarnation: Int
    var startTime: WallTime
    var stage: String
    var trapsContained: Int
    var bytesLeaked: Int
    var lastWords: String?
    var death: Death?
    var modules: [ProcessRecord.Module]
    var events: [FlightEvent]
}

extension LifeRecord {
    init(_ record: ProcessRecord) {
        let pointer = record.pointer
        // Of one that ended before it began, this program's own, which is the same.
        program = Self.some(fort_programOfRecord(pointer), 64) ?? ProcessRecord.programName
        pid = pointer.pointee.pid
        incarnation = Int(pointer.pointee.incarnation)
        startTime = WallTime(nanoseconds: pointer.pointee.startTime)
        stage = ProgramState.Stage(rawValue: fort_stageOfRecord(pointer)).map { "\($0)" } ?? "unknown"
        trapsContained = Int(clamping: fort_trapsOfRecord(pointer))
        bytesLeaked = Int(clamping: fort_leakedOfRecord(pointer))
        var words = [CChar](repeating: 0, count: Int(fort_lastWordsSize))
        fort_readLastWords(pointer, &words)
        lastWords = Self.some(words, words.count)
        let stageOfDeath = fort_stageOfDeath(pointer)
        death = stageOfDeath == 0 ? nil : Death(pointer, isComplete: stageOfDeath == 2)
        modules = record.modules
        events = record.events
    }

    /// Nil if it is empty.
    fileprivate static func some(_ field: UnsafePointer<CChar>?, _ size: Int) -> String? {
        let text = ProcessRecord.text(field, size)
        return text.isEmpty ? nil : text
    }
}

extension LifeRecord.Death {
    fileprivate init(_ pointer: UnsafeMutablePointer<fort_record>, isComplete: Bool) {
        self.isComplete = isComplete
        signal = pointer.pointee.death.signal
        code = pointer.pointee.death.code
        address = pointer.pointee.death.address
        time = WallTime(nanoseconds: pointer.pointee.death.time)
        thread = pointer.pointee.death.thread
        threadName = ProcessRecord.text(fort_threadOfDeath(pointer), 16)
        process = LifeRecord.some(fort_processOfDeath(pointer), 128)
        message = LifeRecord.some(fort_messageOfDeath(pointer), 512)
        let count = min(pointer.pointee.death.frameCount, UInt32(fort_frameLimit))
        // safety: the field has room for `fort_frameLimit`.
        let frames = fort_framesOfDeath(pointer).map { UnsafeBufferPointer(start: $0, count: Int(count)) }
        self.frames = frames.map(Array.init) ?? []
    }
}

/// The end of a program: its record, and what is known from outside.
struct DeathOfProgram: Sendable {
    var life: LifeRecord
    var cause: DeathCause
    /// As `waitpid` gave it; 0 if nobody waited and nothing is known.
    var status: Int32
    var time: WallTime

    /// - Parameter time: When it was found; the record may know better.
    init(_ life: LifeRecord, _ cause: DeathCause, status: Int32, found time: WallTime) {
        self.life = life
        self.cause = cause
        self.status = status
        self.time = life.death.map { min($0.time, time) } ?? time
        // What the handler saw and the program survived was not this.
        if cause == .exit || cause == .leakBudget { self.life.death = nil }
    }

    /// Of a record that was found, of whose program nobody knows how it ended.
    init(found life: LifeRecord) {
        let last = life.events.last?.time ?? life.startTime
        self.init(
            life,
            life.death == nil ? .unknown : .signal,
            status: life.death?.signal ?? 0,
            found: life.death?.time ?? last
        )
    }

    /// The signal that ended it; nil if none did, or nobody knows.
    var signal: Int32? { cause == .exit || status == 0 ? nil : WaitStatus.signal(status) }
    /// Its status, if it ended by itself, perhaps as it was told to a second time; else nil.
    var exitCode: Int32? { cause == .exit || cause == .forced ? WaitStatus.exitCode(status) : nil }
    var uptime: Duration { .nanoseconds(max(time.nanoseconds - life.startTime.nanoseconds, 0)) }

    /// What happened, as in `died of SIGSEGV at 0x10 in /shop/orders-3<0.7>`.
    var summary: String {
        var text: String
        switch cause {
        case .signal:
            let number = signal ?? life.death?.signal ?? 0
            text = (number == SIGKILL ? "was killed by " : "died of ") + SignalName.name(number)
            if let death = life.death, death.code > 0, number == SIGSEGV || number == SIGBUS {
                text += " at 0x" + String(death.address, radix: 16)
            }
        case .exit: text = "ended with status \(exitCode ?? 0)"
        case .hang: text = "hung and was killed"
        case .outOfMemory: text = "was killed for want of memory"
        case .leakBudget: text = "was replaced: its contained traps had leaked \(life.bytesLeaked) bytes"
        case .forced: text = exitCode == nil ? "did not stop in time and was killed" : "was forced to end"
        case .notReady: text = "was not ready in time and was killed"
        case .unknown: text = "ended without a word: killed, or the machine went down"
        }
        if let process = life.death?.process { text += " in \(process)" }
        if let words = life.death?.message ?? life.lastWords {
            text += ": \(words.split(whereSeparator: \.isNewline).first ?? "")"
        }
        return text
    }
}
