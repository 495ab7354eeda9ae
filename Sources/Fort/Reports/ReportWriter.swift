// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import LightProc

/// Writes reports, on a thread of its own: what asks for one never waits for the disk.
///
/// Where it cannot write it says so once, goes on, and says when it can again.
final class ReportWriter: Sendable {
    private struct State {
        var rate = ReportRate(limit: ReportWriter.rate)
        var waiting: [@Sendable () -> Void] = []
        var isBusy = false
        /// Whether the last attempt failed.
        var isFailing = false
        /// Of the last report's name: no two of a program have the same.
        var lastMilliseconds: Int64 = 0
    }
    private let state = Locked(State())
    private let bell = FutexWord()
    /// Changes when there is nothing more to write.
    private let rest = FutexWord()
    private let directory: ReportDirectory
    private let record: ProcessRecord

    /// So many reports of traps a second.
    static let rate = 10
    /// So many wait at most for a disk that is slow.
    static let capacity = 64

    init(_ directory: ReportDirectory, _ record: ProcessRecord) {
        self.directory = directory
        self.record = record
        // The thread is the program's, as this object is: it never ends.
        PlainThread(name: "bastion-writer") { [self] in loop() }.detach()
    }

    /// A trap was contained. Returns at once; any thread.
    func add(_ report: TrapReport, restarts: Int) {
        let isAdded = state.withLock { state -> Bool in
            guard let untold = state.rate.admit(at: .now) else { return false }
            guard state.waiting.count < Self.capacity else {
                state.rate.giveBack(untold)
                return false
            }
            state.waiting.append { [self] in write(report, restarts: restarts, untold: untold) }
            return true
        }
        if isAdded { ring() }
    }

    /// A program was found dead. Its record is removed when the report is written.
    func add(_ found: RecordFile.Found) {
        state.withLock { state in
            state.waiting.append { [self] in
                let report = CrashReport(DeathOfProgram(found: found.life), restarts: found.life.incarnation - 1)
                if let path = write(report) {
                    found.remove()
                    Fort.tell(
                        "\(found.life.program) (\(found.life.pid)) \(DeathOfProgram(found: found.life).summary); report: \(path)"
                    )
                } else {
                    found.leave()
                }
            }
        }
        ring()
    }

    /// Waits until everything is written that was asked for, but no longer than that, and lets go of what has not been begun a second before. Not on
    /// the writer's thread.
    func blockingWait(atMost time: Duration) {
        let deadline = ContinuousClock.now + time
        if blockingWait(until: deadline - .seconds(1)) { return }
        // The program ends: rather than to leave a report half written, others are left out.
        state.withLock { $0.waiting = [] }
        _ = blockingWait(until: deadline)
    }

    /// False if the time was up first.
    private func blockingWait(until deadline: ContinuousClock.Instant) -> Bool {
        // Ends: the writer comes to rest, or the time is up.
        while true {
            let seen = rest.value
            if state.withLock({ !$0.isBusy && $0.waiting.isEmpty }) { return true }
            let left = deadline - .now
            if left <= .zero { return false }
            rest.blockingWait(while: seen, timeout: left)
        }
    }

    private func ring() {
        bell.increment()
        bell.wake()
    }

    private func loop() {
        while true {
            let seen = bell.value
            let work = state.withLock { state -> (@Sendable () -> Void)? in
                let work = state.waiting.isEmpty ? nil : state.waiting.removeFirst()
                state.isBusy = work != nil
                return work
            }
            if let work {
                work()
            } else {
                rest.increment()
                rest.wake(.max)
                bell.blockingWait(while: seen)
            }
        }
    }

    private func write(_ report: TrapReport, restarts: Int, untold: Int) {
        report.resolve(withFrames: true)
        record.refreshModules(for: report.backtrace)
        let time = state.withLock { state in
            state.lastMilliseconds = max(state.lastMilliseconds + 1, WallTime(report.time).milliseconds)
            return WallTime(nanoseconds: state.lastMilliseconds * 1_000_000)
        }
        let made = CrashReport(report, restarts: restarts, untold: untold, life: LifeRecord(record), at: time)
        if write(made) == nil {
            state.withLock { $0.rate.giveBack(untold) }
        } else {
            record.note("reported: \(report.kind) in \(report.path ?? report.name ?? "")\(report.process)")
        }
    }

    /// The path of the JSON; nil if it could not be written.
    private func write(_ report: CrashReport) -> String? {
        do {
            let path = try directory.write(report)
            if fails(false) { Fort.tell("\(Fort.programName): crash reports are written again, to \(directory.path)") }
            return path
        } catch {
            if fails(true) { Fort.tell("\(Fort.programName): cannot write crash reports: \(error)") }
            return nil
        }
    }

    /// Whether that is new.
    private func fails(_ now: Bool) -> Bool {
        state.withLock { state in
            defer { state.isFailing = now }
            return state.isFailing != now
        }
    }
}
