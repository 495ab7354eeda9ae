// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CFort
import Executor
import Glibc
import LightProc
import Supervision

/// Keeps the record of the program, and writes reports of contained traps, and of the death of the predecessor where no guard does.
final class CrashReporting: Sendable {
    private let record: ProcessRecord?
    private let writer: ReportWriter?

    private init(_ record: ProcessRecord?, _ writer: ReportWriter?) {
        self.record = record
        self.writer = writer
    }

    /// Ends the program with a line if reports cannot be written where they should: tries it. But what passes, as a disk that is full,
    /// keeps no program from running, nor does anything keep one that takes the place of a dead one: then the line is all.
    static func checkOrExit(_ options: FortOptions, isAgain: Bool = false) {
        guard let path = options.reportDirectory else { return }
        do throws(ReportDirectory.Failure) {
            try ReportDirectory(path: path, limits: options.reportLimits).check()
        } catch {
            if isAgain || error.mayPass {
                Fort.tell("\(Fort.programName): cannot write crash reports for now: \(error)")
            } else {
                Fort.fail("cannot write crash reports: \(error)", .cannotCreate)
            }
        }
    }

    /// Begins the record, and has deaths written down from now on. Before the shared system is made: what that contains is no death.
    /// Ends the program with a line if reports cannot be written where they should.
    static func startOrExit(_ options: FortOptions, _ state: ProgramState) -> CrashReporting {
        // Without a guard it was done before.
        if let link = state.link { checkOrExit(options, isAgain: link.isAgain) }
        guard let record = state.record else { return CrashReporting(nil, nil) }
        // One of its own has begun already; the guard's has not, whatever the guard has put into it.
        if !record.hasBegun { record.begin() }
        let status = record.watchForDeath()
        if status != 0 {
            Fort.tell("\(Fort.programName): deaths will not be recorded: \(String(cString: strerror(status)))")
        }
        record.note("incarnation \(record.pointer.pointee.incarnation) starts")
        guard let path = options.reportDirectory else { return CrashReporting(record, nil) }
        let writer = ReportWriter(ReportDirectory(path: path, limits: options.reportLimits), record)
        for found in OwnRecord.takeDead() { writer.add(found) }
        AtExit.perform {
            writer.blockingWait(atMost: .seconds(5))
            OwnRecord.remove()
        }
        return CrashReporting(record, writer)
    }

    /// Notes and reports what happens in a system from now on.
    func watch(_ system: BastionSystem) {
        guard let record else { return }
        ContainmentLedger.shared.setWitness { [writer] news in
            record.count(traps: news.contained, leaked: news.leaked.bytes)
            if let trap = news.trap {
                record.note(FlightNotes.text(of: trap, restarts: news.restarts))
                writer?.add(trap, restarts: news.restarts)
            }
            if let text = news.event.flatMap(FlightNotes.text(of:)) { record.note(text) }
        }
        system.witnessEvents { event in
            if case .started = event.kind {
                var path = event.path
                path.withUTF8 { bytes in
                    bytes.withMemoryRebound(to: CChar.self) {
                        fort_rememberProcess(event.process.rawValue, $0.baseAddress, $0.count)
                    }
                }
            }
            if let text = FlightNotes.text(of: event) { record.note(text) }
        }
        _ = (system.executor as? WorkerPool)?.observeStalls { record.note($0.summary) }
    }
}

/// The record of a program that no guard looks after, and those of its predecessors.
enum OwnRecord {
    private struct State {
        var directory: String?
        var dead: [RecordFile.Found] = []
    }
    private static let state = Locked(State())

    /// Takes possession of the records of predecessors, and makes one for this program: a file if there is a directory for
    /// reports. Ends the program with a line if that cannot be written.
    static func make(_ options: FortOptions) -> ProcessRecord? {
        guard let directory = options.reportDirectory else { return begun() }
        CrashReporting.checkOrExit(options)
        let program = ProcessRecord.programName
        let dead = RecordFile.findDead(in: directory, program: program)
        if let last = dead.last { Fort.setPredecessor(Predecessor(DeathOfProgram(found: last.life))) }
        state.withLock { state in
            state.dead = dead
            state.directory = directory
        }
        do {
            let incarnation = (dead.last?.life.incarnation ?? 0) + 1
            return try RecordFile.make(in: directory, program: program, incarnation: incarnation)
        } catch {
            // A disk that is full keeps no program from running.
            Fort.tell("\(Fort.programName): if this program dies no report will say why: \(error)")
            return begun()
        }
    }

    private static func begun() -> ProcessRecord? {
        let record = ProcessRecord.unshared()
        record?.begin()
        return record
    }

    /// The predecessors that are to be reported.
    static func takeDead() -> [RecordFile.Found] {
        state.withLock { state in
            defer { state.dead = [] }
            return state.dead
        }
    }

    /// The program ends in order.
    static func remove() {
        if let directory = state.withLock({ $0.directory }) {
            RecordFile.removeOwn(in: directory, program: ProcessRecord.programName)
        }
    }
}

/// What is done when the program ends by `exit`, or by returning from `main`.
enum AtExit {
    private static let action = Locked<(process: pid_t, call: @Sendable () -> Void)?>(nil)

    /// Once for the program. A copy that `fork` made does nothing.
    static func perform(_ call: @escaping @Sendable () -> Void) {
        action.withLock { $0 = (getpid(), call) }
        // Fails for want of memory only: then the record stays, and the next start reports a death that was none.
        atexit {
            guard let (process, call) = AtExit.action.withLock({ $0 }), process == getpid() else { return }
            call()
        }
    }
}
