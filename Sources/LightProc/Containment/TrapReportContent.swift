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
        /// What of them is this report's own, once they were read.
        var own: String?
        var findings: Findings?
        /// Nil: not looked up yet. Of what was looked up, the answer, which may be nil.
        var place: String??
        var frames: [TrapReport.Frame]?
        /// Whether nobody looks it up unless somebody asks.
        var isLeftToDemand = false
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

    deinit {
        if let words = takeWords() { ReportResolver.shared.discard(words) }
    }

    /// What has to be looked up; waits for it if nobody has looked.
    var findings: Findings {
        if let known { return known }
        return ReportThread.shared.blockingWait { ReportResolver.shared.resolve(self) }
    }

    /// Likewise, ``TrapReport/place``.
    var place: String? {
        if let known = state.withLock({ $0.place }) { return known }
        return ReportThread.shared.blockingWait { [self] in
            let place = TrapReport.place(in: backtrace)
            state.withLock { $0.place = .some(place) }
            return place
        }
    }

    /// Likewise, kept only after ``lookUpFrames()``: they are large.
    var frames: [TrapReport.Frame] { state.withLock { $0.frames } ?? TrapReport.frames(of: backtrace) }

    func lookUpFrames() {
        guard state.withLock({ $0.frames == nil }) else { return }
        let frames = TrapReport.frames(of: backtrace)
        state.withLock { $0.frames = frames }
    }

    /// Whether nothing has to be looked up any more.
    var isComplete: Bool { state.withLock { $0.findings != nil && $0.place != nil && $0.frames != nil } }

    /// Before anybody else knows the report.
    func leaveToDemand() { state.withLock { $0.isLeftToDemand = true } }

    var known: Findings? { state.withLock { $0.findings } }

    func whenResolved(_ action: @escaping @Sendable () -> Void) {
        let isNow = state.withLock { state in
            let isNow = state.findings != nil || state.isLeftToDemand
            if !isNow { state.waiting.append(action) }
            return isNow
        }
        if isNow { action() }
    }

    func takeWords() -> UnsafeMutablePointer<CChar>? {
        let bits = state.withLock { state in
            defer { state.words = nil }
            return UInt(bitPattern: state.words)
        }
        return UnsafeMutablePointer(bitPattern: bits)
    }

    func keep(_ own: String) { state.withLock { $0.own = own } }

    var hasOwn: Bool { state.withLock { $0.own != nil } }

    func takeOwn() -> String? {
        state.withLock { state in
            defer { state.own = nil }
            return state.own
        }
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
    /// As many as wait to be looked up in the worst case; the oldest of more are left to who asks.
    private static let capacity = ContainmentLedger.capacity

    mutating func add(_ report: TrapReportContent) {
        reports.append(report)
        if reports.count - head > Self.capacity { head += 1 }
    }

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
///
/// On the ``ReportThread``, but what was looked up before is there for every thread.
final class ReportResolver: Sendable {
    static let shared = ReportResolver()

    private struct State {
        let symbolizer = Symbolizer()
        var messages = RuntimeMessages()

        /// Sorts out the words of a report: the first that it has are its own.
        mutating func read(_ report: TrapReportContent) {
            guard let words = report.takeWords() else { return }
            let reports = messages.read(words)
            guard let first = reports.first else { return }
            report.keep(first)
            messages.leave(reports.dropFirst())
        }

        /// - Parameter failure: What debug information says of the instruction: optimised traps say nothing themselves.
        mutating func findings(
            of report: TrapReportContent,
            failure: String?
        ) -> TrapReportContent.Findings {
            let own = report.takeOwn()
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
    /// Held while files are read, by the report thread; by others only where there can be no such thread.
    private let state = Locked(State())
    /// By address. Held for moments only.
    private let answers = Locked<[UInt: Symbolizer.Symbol]>([:])
    /// Above this many answers they are forgotten, so that a program of endless variety stays small.
    private static let capacity = 4096
    /// Words that nobody has read; see ``RuntimeMessages``. Addresses of them.
    private let unread = Locked<[UInt]>([])
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
                return report.hasOwn || state.messages.hasSome
            }
            if isDecided || !crt_hasTrapsUnderWay() { return }
            usleep(1000)
        }
    }

    /// What is known about instructions. The calling thread waits for the report thread if one of them was not looked up yet.
    func symbols(at addresses: [UInt]) -> [Symbolizer.Symbol] {
        let known = answers.withLock { answers in addresses.compactMap { answers[$0] } }
        if known.count == addresses.count { return known }
        return ReportThread.shared.blockingWait { [self] in
            state.withLock { state in addresses.map { symbol(at: $0, &state) } }
        }
    }

    private func symbol(at address: UInt, _ state: inout State) -> Symbolizer.Symbol {
        if let known = answers.withLock({ $0[address] }) { return known }
        assert(ReportThread.shared.mayLookUp, "symbols are looked up on the report thread")
        let symbol = state.symbolizer.symbol(at: address)
        answers.withLock { answers in
            if answers.count >= Self.capacity { answers.removeAll(keepingCapacity: true) }
            answers[address] = symbol
        }
        return symbol
    }

    /// The words of a report that nobody asked for. Another thread that was reporting at the same instant may still be copying
    /// from them, so they rest while 64 others come.
    func discard(_ words: UnsafeMutablePointer<CChar>) {
        let added = UInt(bitPattern: words)
        let oldest = unread.withLock { unread in
            unread.append(added)
            return unread.count > 64 ? unread.removeFirst() : 0
        }
        free(UnsafeMutablePointer<CChar>(bitPattern: oldest))
    }

    /// By the report thread; by others only where there can be no such thread.
    func resolve(_ report: TrapReportContent) -> TrapReportContent.Findings {
        if report.speaks { awaitWords(of: report) }
        let (findings, waiting) = state.withLock { state -> (TrapReportContent.Findings, [@Sendable () -> Void]) in
            if let known = report.known { return (known, []) }
            state.read(report)
            // What its handler did not find, that of a trap at the same instant may have taken.
            if !report.hasOwn {
                for other in unresolved.withLock({ $0.first }) { state.read(other) }
            }
            let pc = report.isStackOverflow ? nil : report.backtrace.first
            let failure = pc.flatMap { symbol(at: $0, &state).runtimeFailure }
            let findings = state.findings(of: report, failure: failure)
            return (findings, report.settle(findings))
        }
        unresolved.withLock { $0.forgetResolved() }
        for action in waiting { action() }
        return findings
    }
}
