// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CLightProc
import Glibc

/// What is behind a ``TrapReport``: what the handler saw, and what was found out about it since.
final class TrapReportContent: Sendable {
    struct Findings: Sendable {
        let kind: TrapKind
        let message: String?
    }
    private struct State: @unchecked Sendable {
        // Sendable: the words belong to the report until the resolver takes them.
        var words: UnsafeMutablePointer<CChar>?
        var findings: Findings?
        var waiting: [@Sendable () -> Void] = []
    }

    let signal: Int32
    let isStackOverflow: Bool
    /// Whether the Swift runtime has most probably said what is wrong.
    let speaks: Bool
    let process: ProcID
    let name: String?
    let path: String?
    let messageType: Any.Type?
    let time: Duration
    let backtrace: [UInt]
    private let state: Locked<State>

    /// - Parameter words: What the handler took of the runtime's words, malloc'ed; belongs to the report from now on.
    init(
        signal: Int32,
        isStackOverflow: Bool,
        speaks: Bool,
        process: ProcID,
        name: String?,
        path: String?,
        messageType: Any.Type?,
        time: Duration,
        backtrace: [UInt],
        words: UnsafeMutablePointer<CChar>?,
        findings: Findings? = nil
    ) {
        self.signal = signal
        self.isStackOverflow = isStackOverflow
        self.speaks = speaks
        self.process = process
        self.name = name
        self.path = path
        self.messageType = messageType
        self.time = time
        self.backtrace = backtrace
        state = Locked(State(words: words, findings: findings))
    }

    /// What has to be looked up; waits for it if nobody has looked.
    var findings: Findings {
        if let known { return known }
        return ReportResolver.shared.resolve(self)
    }

    var known: Findings? { state.withLock { $0.findings } }

    func whenResolved(_ action: @escaping @Sendable () -> Void) {
        let isKnown = state.withLock { state in
            if state.findings == nil { state.waiting.append(action) }
            return state.findings != nil
        }
        if isKnown { action() }
    }

    func takeWords() -> UnsafeMutablePointer<CChar>? {
        let bits = state.withLock { state in
            defer { state.words = nil }
            return UInt(bitPattern: state.words)
        }
        return UnsafeMutablePointer(bitPattern: bits)
    }

    /// By the resolver, once. Returns who waits for it, to be called outside of locks.
    func settle(_ findings: Findings) -> [@Sendable () -> Void] {
        state.withLock { state in
            state.findings = findings
            defer { state.waiting = [] }
            return state.waiting
        }
    }
}

/// Reports in the order of their traps, of which the first is not looked up yet.
private struct UnresolvedReports {
    private var reports: [TrapReportContent] = []
    private var head = 0

    mutating func add(_ report: TrapReportContent) { reports.append(report) }

    /// Those that trapped at about the same time as the one that is looked up next.
    var first: [TrapReportContent] { Array(reports[head...].prefix(16)) }

    mutating func forgetResolved() {
        while head < reports.count, reports[head].known != nil { head += 1 }
        // Half of it at a time, so that each is moved once on average.
        if head > 64, head * 2 > reports.count {
            reports.removeFirst(head)
            head = 0
        }
    }
}

/// Finds out what a report does not know by itself. One for the program: symbols are read and kept once.
final class ReportResolver: Sendable {
    static let shared = ReportResolver()

    private struct State {
        let symbolizer = Symbolizer()
        var messages = RuntimeMessages()
        /// Words of reports that were read, but not looked up yet.
        var own: [ObjectIdentifier: String] = [:]

        func hasWords(of report: TrapReportContent) -> Bool { own[ObjectIdentifier(report)] != nil }

        /// Sorts out the words of a report: the first that it has are its own.
        mutating func read(_ report: TrapReportContent) {
            guard let words = report.takeWords() else { return }
            let reports = messages.read(words)
            guard let first = reports.first else { return }
            own[ObjectIdentifier(report)] = first
            messages.leave(reports.dropFirst())
        }

        mutating func findings(of report: TrapReportContent) -> TrapReportContent.Findings {
            // Optimised traps say nothing; their words are in the debug information.
            let failure =
                report.isStackOverflow ? nil : report.backtrace.first.flatMap { symbolizer.runtimeFailure(at: $0) }
            let own = self.own.removeValue(forKey: ObjectIdentifier(report))
            let speaks = failure == nil && !report.isStackOverflow
            let message = messages.claim(own: own.map { [$0] } ?? [], speaks: speaks) ?? failure
            if report.isStackOverflow { return .init(kind: .stackOverflow, message: message) }
            let kind =
                message.flatMap(TrapKind.init(words:))
                ?? {
                    switch report.signal {
                    case SIGFPE: .divisionByZero
                    case SIGABRT: .abort
                    default: .trap
                    }
                }()
            return .init(kind: kind, message: message)
        }
    }
    /// Held while files are read. Who asks meanwhile waits.
    private let state = Locked(State())
    /// Reports that are not looked up yet; a lock of its own, so that adding never waits.
    private let unresolved = Locked(UnresolvedReports())

    /// A report was made; its words may be wanted by another.
    func add(_ report: TrapReportContent) { unresolved.withLock { $0.add(report) } }

    /// Gives the report of a trap at the same instant, whose handler took the words of this one, the time to be made.
    private func awaitWords(of report: TrapReportContent) {
        // Ends: after some milliseconds the report does without.
        for _ in 0..<10 {
            let isDecided = state.withLock { state in
                if report.known != nil { return true }
                state.read(report)
                return state.hasWords(of: report) || state.messages.hasSome
            }
            if isDecided || !crt_hasTrapsUnderWay() { return }
            usleep(1000)
        }
    }

    func symbol(at address: UInt) -> Symbolizer.Symbol { state.withLock { $0.symbolizer.symbol(at: address) } }

    func resolve(_ report: TrapReportContent) -> TrapReportContent.Findings {
        if report.speaks { awaitWords(of: report) }
        let (findings, waiting) = state.withLock { state -> (TrapReportContent.Findings, [@Sendable () -> Void]) in
            if let known = report.known { return (known, []) }
            state.read(report)
            // What its handler did not find, that of a trap at the same instant may have taken.
            if !state.hasWords(of: report) {
                for other in unresolved.withLock({ $0.first }) { state.read(other) }
            }
            let findings = state.findings(of: report)
            return (findings, report.settle(findings))
        }
        unresolved.withLock { $0.forgetResolved() }
        for action in waiting { action() }
        return findings
    }
}
