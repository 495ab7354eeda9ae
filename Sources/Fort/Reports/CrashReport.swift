// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import LightProc

/// A report that is ready to be written: for people and for machines.
struct CrashReport: Sendable {
    let name: ReportName
    let text: String
    let json: String

    /// Words of a program are cut there: they may be as long as it likes.
    static let wordLimit = 8192

    private init(_ name: ReportName, text: String, members: [(String, JSON)]) {
        self.name = name
        self.text = text
        json = JSON.object(members).text + "\n"
    }

    private static func words(_ text: String?) -> String? { text.map { String($0.prefix(wordLimit)) } }

    /// Thousandths of a second.
    private static func seconds(_ duration: Duration) -> JSON { .thousandths(duration.inNanoseconds / 1_000_000) }
    private static func secondsText(_ duration: Duration) -> String { "\(seconds(duration).text) s" }

    private static func signal(_ number: Int32?, code: Int32? = nil, address: UInt64? = nil) -> JSON {
        guard let number else { return .null }
        return .object([
            ("number", .int(Int64(number))), ("name", .string(SignalName.name(number))),
            ("meaning", .optional(SignalName.meaning(number))), ("code", .optional(code.map(Int.init))),
            ("address", address.map { .address($0) } ?? .null),
        ])
    }

    private static func program(_ life: LifeRecord, _ kind: ReportName.Kind, at time: WallTime) -> [(String, JSON)] {
        [
            ("kind", .string(kind.rawValue)), ("program", .string(life.program)), ("pid", .int(Int64(life.pid))),
            ("incarnation", .int(Int64(life.incarnation))), ("time", .string(time.text)),
            ("started", .string(life.startTime.text)),
            ("uptime", seconds(.nanoseconds(max(time.nanoseconds - life.startTime.nanoseconds, 0)))),
            ("stage", .string(life.stage)),
        ]
    }

    private static func rest(_ life: LifeRecord, _ frames: [NamedFrame]) -> [(String, JSON)] {
        [
            ("trapsContained", .int(Int64(life.trapsContained))), ("bytesLeaked", .int(Int64(life.bytesLeaked))),
            ("frames", .array(frames.map(\.json))),
            (
                "events",
                .array(
                    life.events.map {
                        .object([
                            ("number", .int(Int64(clamping: $0.number))), ("time", .string($0.time.text)),
                            ("text", .string($0.text)),
                        ])
                    }
                )
            ),
        ]
    }

    private static func restText(_ life: LifeRecord, _ frames: [NamedFrame]) -> String {
        var text =
            "\n  traps contained \(life.trapsContained), bytes leaked by them (an estimate) \(life.bytesLeaked)\n"
        if !frames.isEmpty { text += "\nBacktrace:\n" }
        for (number, frame) in frames.enumerated() { text += "  \(number) \(frame.text)\n" }
        if !life.events.isEmpty { text += "\nLast events:\n" }
        for event in life.events { text += "  \(event.time.text) \(event.text)\n" }
        return text
    }
}

extension CrashReport {
    /// Of a contained trap. Costs as `TrapReport.frames()`.
    ///
    /// - Parameters:
    ///   - untold: Traps before it that no report was written of.
    ///   - time: Of the file's name, which differs from the trap's where several happen at once.
    init(_ report: TrapReport, restarts: Int, untold: Int, life: LifeRecord, at time: WallTime) {
        let frames = FrameNames.frames(of: report, life.modules)
        let process = "\(report.path ?? report.name ?? "")\(report.process)"
        let trapTime = WallTime(report.time)
        let members: [(String, JSON)] = [
            ("trap", .string(report.kind.rawValue)), ("signal", Self.signal(report.signal)),
            ("message", .optional(Self.words(report.message))), ("process", .string("\(report.process)")),
            ("name", .optional(report.name)), ("path", .optional(report.path)),
            ("messageType", .optional(report.messageType)), ("restarts", .int(Int64(restarts))),
            ("unreported", .int(Int64(untold))),
        ]
        var text = "\(life.program) (\(life.pid)): \(process) trapped: \(Self.words(report.summary) ?? "")"
        if let type = report.messageType { text += ", handling \(type)" }
        let up = Duration.nanoseconds(max(trapTime.nanoseconds - life.startTime.nanoseconds, 0))
        text += "\n  at \(trapTime.text), \(Self.secondsText(up)) after the start of incarnation \(life.incarnation)"
        text += "\n  \(SignalName.name(report.signal)); the process had been restarted \(restarts) times"
        if untold > 0 { text += "\n  \(untold) traps before it are not reported, as there were too many at a time" }
        self.init(
            ReportName(time, life.program, life.pid, .trap),
            text: text + Self.restText(life, frames),
            members: Self.program(life, .trap, at: trapTime) + members + Self.rest(life, frames)
        )
    }

    /// Of a death. Reads files; see ``FrameNames``.
    ///
    /// - Parameter restarts: How often it had been started again before; nil if nobody counts.
    init(_ death: DeathOfProgram, restarts: Int?) {
        let life = death.life
        var names = FrameNames(life)
        let frames = names.frames(at: life.death?.frames ?? [])
        let seen = life.death
        let members: [(String, JSON)] = [
            ("cause", .string(death.cause.rawValue)),
            ("signal", Self.signal(death.signal ?? seen?.signal, code: seen?.code, address: seen?.address)),
            ("exitCode", .optional(death.exitCode.map(Int.init))), ("restarts", .optional(restarts)),
            ("process", .optional(seen?.process)),
            (
                "thread",
                seen.map { .object([("number", .int(Int64($0.thread))), ("name", .string($0.threadName))]) } ?? .null
            ),
            ("message", .optional(seen?.message)), ("lastWords", .optional(life.lastWords)),
            ("complete", .bool(seen?.isComplete ?? true)),
        ]
        var text = "\(life.program) (\(life.pid)) \(death.summary)"
        text += "\n  at \(death.time.text), \(Self.secondsText(death.uptime)) after the start of incarnation "
        text += "\(life.incarnation), which was \(life.stage)"
        if let seen {
            text += "\n  thread \(seen.thread) \"\(seen.threadName)\""
            text += seen.process.map { ", running \($0)" } ?? ", running no process"
            if let message = seen.message { text += "\n  \(message)" }
        }
        if let words = life.lastWords { text += "\n  last words: \(words)" }
        self.init(
            ReportName(death.time, life.program, life.pid, .death),
            text: text + Self.restText(life, frames),
            members: Self.program(life, .death, at: death.time) + members + Self.rest(life, frames)
        )
    }
}
