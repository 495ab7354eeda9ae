// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc

/// What is known about a contained trap.
///
/// Cheap to copy. What the handler saw is there from the beginning; what has to be looked up (the kind of a trap in
/// optimised code, names, lines) is looked up by a thread made for that, which begins right after the trap. A property or
/// function that "may wait" stops the calling thread until that has been done, tens of milliseconds at the first trap of a
/// program, so that a worker runs nothing else meanwhile: in a task, `await` ``symbolicated()`` first. What was looked up
/// once costs no wait. In a storm of traps that is faster than that thread, reports are looked up only when somebody asks.
public struct TrapReport: Sendable {
    let content: TrapReportContent

    /// The signal's number, as in `SIGILL`.
    public var signal: Int32 { content.signal }
    /// The process that trapped.
    public var process: ProcID { content.process }
    /// Its name, if it has one.
    public var name: String? { content.name }
    /// Where the process stands in the tree of supervisors, as in `/shop/orders-3`; nil if nobody supervises it.
    public var path: String? { content.path }
    /// The type of the messages that the process takes; for one that takes several, as async ones do, and reactive ones of
    /// `any Sendable`, that of the message that its incarnation received last, nil if none.
    public var messageType: String? { content.messageType.map { "\($0)" } }
    /// When it happened, since the beginning of 1970 (UTC).
    public var time: Duration { content.time }
    /// Addresses within the instructions of the faulting stack, innermost first; at most 64. ``frames()`` names them.
    public var backtrace: [UInt] { content.backtrace }

    /// What went wrong, as far as the message, the debug information and the signal tell. May wait, see above.
    public var kind: TrapKind { content.findings.kind }
    /// What the Swift runtime printed about it, if it did. Two traps at the same instant may share their lines. May wait.
    public var message: String? { content.findings.message }

    /// One line for logs and error bodies. May wait.
    public var summary: String {
        let findings = content.findings
        guard let message = findings.message, !message.isEmpty else { return findings.kind.description }
        return "\(findings.kind) (\(message))"
    }

    /// Has everything looked up that has to be, and returns the report: nothing in it waits any more.
    ///
    /// The task is suspended meanwhile and its worker is free; not cancelled, as it takes milliseconds. The names of all
    /// frames are kept with the report from then on, some kilobytes.
    @discardableResult
    public func symbolicated() async -> TrapReport {
        if !content.isComplete {
            await suspended { continuation in
                ReportThread.shared.perform {
                    resolve(withFrames: true)
                    continuation.resume()
                }
            }
        }
        return self
    }

    /// Looks up what has to be looked up, if nobody has. By the report thread, or waits for it.
    package func resolve(withFrames: Bool = false) {
        // Before the findings: who waits for those asks for the others next.
        _ = content.place
        if withFrames { content.lookUpFrames() }
        _ = content.findings
    }

    /// The report is not looked up unless somebody asks.
    func leaveToDemand() { content.leaveToDemand() }

    /// Calls `action` once what has to be looked up is known: at once, or on the thread that looks it up. Where that is left to
    /// whoever asks, at once.
    package func whenResolved(_ action: @escaping @Sendable () -> Void) { content.whenResolved(action) }

    /// A report of which everything is known, as tests make them.
    package init(
        kind: TrapKind,
        message: String?,
        signal: Int32,
        process: ProcID,
        name: String?,
        path: String? = nil,
        messageType: Any.Type? = nil,
        time: Duration = .zero,
        backtrace: [UInt]
    ) {
        content = TrapReportContent(
            signal: signal,
            isStackOverflow: false,
            speaks: false,
            process: process,
            name: name,
            path: path,
            messageType: messageType,
            time: time,
            backtrace: backtrace,
            words: nil,
            findings: .init(kind: kind, message: message)
        )
    }

    init(_ content: TrapReportContent) { self.content = content }
}

/// What went wrong, in words.
public enum TrapKind: String, Sendable, Hashable, CaseIterable, CustomStringConvertible {
    /// A collection was asked for an element that it does not have.
    case indexOutOfRange = "index out of range"
    /// `!` on nil, or an implicitly unwrapped nil.
    case nilUnwrapped = "nil unwrapped"
    /// The result of a calculation or conversion does not fit its type.
    case arithmeticOverflow = "arithmetic overflow"
    /// A division or remainder by zero.
    case divisionByZero = "division by zero"
    /// `as!` to a type that the value is not of.
    case failedCast = "failed cast"
    /// `try!` on something that threw.
    case unexpectedError = "unexpected error"
    /// `precondition` or `assert` did not hold, or a failure of that kind was called for.
    case preconditionFailure = "precondition failure"
    /// `fatalError`, and what the runtime reports as a fatal error without saying more.
    case fatalError = "fatal error"
    /// Two overlapping accesses to one variable, of which one modifies it.
    case exclusivityViolation = "exclusivity violation"
    /// An `unowned` reference to an object that is gone.
    case danglingUnowned = "dangling unowned reference"
    /// A dictionary was made of pairs with equal keys.
    case duplicateKey = "duplicate dictionary key"
    /// The worker's stack is used up, as by a recursion without end.
    case stackOverflow = "stack overflow"
    /// `abort` was called, with no known words before it.
    case abort = "abort"
    /// A trap of which neither the runtime nor debug information says more.
    case trap = "trap"

    /// The same words as the raw value, as in `index out of range`.
    public var description: String { rawValue }

    /// Classifies what the Swift runtime printed, or what debug information says about an optimised trap.
    ///
    /// - Returns: Nil if the words say nothing that is known.
    package init?(words: String) {
        let kind = words.withCString { text in
            // safety: both end in a zero. `strstr`, as `contains` makes a table of each part, 1 µs and more, at every trap.
            Self.table.first { part, _ in
                strstr(text, UnsafeRawPointer(part.utf8Start).assumingMemoryBound(to: CChar.self)) != nil
            }
        }
        guard let kind else { return nil }
        self = kind.1
    }

    /// In the order in which they are looked for: the more specific first.
    private static let table: [(StaticString, TrapKind)] = [
        // What follows these words is the program's own.
        ("recondition failed", .preconditionFailure),
        ("ssertion failed", .preconditionFailure),
        ("ndex out of range", .indexOutOfRange),
        ("ndex is out of range", .indexOutOfRange),
        ("ndex is out of bounds", .indexOutOfRange),
        ("out of bounds", .indexOutOfRange),
        ("from an empty collection", .indexOutOfRange),
        ("nexpectedly found nil while", .nilUnwrapped),
        ("ivision by zero", .divisionByZero),
        ("'try!' expression unexpectedly raised", .unexpectedError),
        ("Could not cast value of type", .failedCast),
        ("Unconditional cast failed", .failedCast),
        ("access conflict detected", .exclusivityViolation),
        ("Simultaneous accesses to", .exclusivityViolation),
        ("verlapping accesses to", .exclusivityViolation),
        ("Attempted to read an unowned reference", .danglingUnowned),
        ("Duplicate values for key", .duplicateKey),
        ("uplicate keys", .duplicateKey),
        ("arithmetic overflow", .arithmeticOverflow),
        ("results in overflow", .arithmeticOverflow),
        ("results in an overflow", .arithmeticOverflow),
        ("Not enough bits to represent", .arithmeticOverflow),
        ("value cannot be converted to", .arithmeticOverflow),
        ("precondition failure", .preconditionFailure),
        ("requires lowerBound <= upperBound", .preconditionFailure),
        ("deallocated with non-zero retain count", .fatalError),
        ("atal error", .fatalError),
    ]
}
