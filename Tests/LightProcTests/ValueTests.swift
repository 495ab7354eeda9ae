// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import Synchronization
import Testing

@testable import LightProc

/// Exit reasons: what counts as a failure, and how they read.
@Suite struct ExitReasonTests {
    private static let report = TrapReport(
        kind: .nilUnwrapped,
        message: "found nil",
        signal: 4,
        process: ProcID(rawValue: 3),
        name: "cart",
        backtrace: []
    )

    private static let table: [(reason: ExitReason, isFailure: Bool, description: String)] = [
        (.normal, false, "normal"),
        (.shutdown, false, "shutdown"),
        (.error(Mishap()), true, "error: mishap"),
        (.trap(report), true, "trap: nil unwrapped (found nil)"),
        (.killed, true, "killed"),
        (.deadlineExceeded(.seconds(2)), true, "not over after its deadline of 2.0 seconds"),
        (.unresponsive(.seconds(2)), true, "no sign of life for 2.0 seconds"),
        (.linked(ProcID(rawValue: 9), .killed), true, "linked process <0.9> ended: killed"),
        (.linked(ProcID(rawValue: 9), .normal), true, "linked process <0.9> ended: normal"),
        (
            .linked(ProcID(rawValue: 9), .linked(ProcID(rawValue: 8), .error(Mishap()))), true,
            "linked process <0.9> ended: linked process <0.8> ended: error: mishap"
        ),
    ]

    @Test(arguments: 0..<Self.table.count)
    func everyReasonSaysWhatItIs(row: Int) {
        let (reason, isFailure, description) = Self.table[row]
        #expect(reason.isFailure == isFailure)
        #expect(reason.description == description)
    }

    @Test func theReportIsFoundThroughLinks() {
        let reason = ExitReason.linked(ProcID(rawValue: 1), .linked(ProcID(rawValue: 2), .trap(Self.report)))
        #expect(reason.trapReport?.name == "cart")
        #expect(ExitReason.killed.trapReport == nil)
        #expect(ExitReason.linked(ProcID(rawValue: 1), .killed).trapReport == nil)
    }

    @Test(arguments: [String?.none, ""])
    func aReportWithoutWordsIsSummedUpByItsKind(message: String?) {
        let report = TrapReport(
            kind: .stackOverflow,
            message: message,
            signal: 11,
            process: ProcID(rawValue: 1),
            name: nil,
            backtrace: []
        )
        #expect(report.summary == "stack overflow")
    }
}

/// Process ids: never the same twice.
@Suite struct ProcIDTests {
    @Test func anIdPrintsAsNodeAndNumber() {
        #expect(ProcID(rawValue: 184).description == "<0.184>")
        #expect("\(ProcID(rawValue: 1))" == "<0.1>")
    }

    @Test func laterIdsAreGreater() {
        let (first, second) = (ProcID.next(), ProcID.next())
        #expect(first < second)
        #expect(first != second)
    }

    @Test func idsAreUniqueOverThreads() {
        let each = 5_000
        let seen = Locked<Set<ProcID>>([])
        onThreads(8) { _ in
            let mine = (0..<each).map { _ in ProcID.next() }
            #expect(mine == mine.sorted())
            seen.withLock { $0.formUnion(mine) }
        }
        #expect(seen.withLock { $0.count } == 8 * each)
    }
}

/// The lock of this package.
@Suite struct LockedTests {
    @Test func onlyOneThreadAtATimeIsInside() {
        let each = 20_000
        let counter = Locked(0)
        let inside = Atomic<Int>(0)
        let overlaps = Atomic<Int>(0)
        onThreads(6) { _ in
            for _ in 0..<each {
                counter.withLock { value in
                    // ordering: relaxed: the lock orders; an overlap would show in the number alone.
                    if inside.add(1, ordering: .relaxed).oldValue != 0 { overlaps.add(1, ordering: .relaxed) }
                    value += 1
                    inside.subtract(1, ordering: .relaxed)
                }
            }
        }
        #expect(counter.withLock { $0 } == 6 * each)
        #expect(overlaps.load(ordering: .relaxed) == 0)
    }

    @Test func theResultAndTheErrorComeOut() {
        let locked = Locked([1])
        #expect(
            locked.withLock {
                $0.append(2)
                return $0.count
            } == 2
        )
        #expect(throws: Mishap.self) { try locked.withLock { (_: inout [Int]) throws in throw Mishap() } }
        #expect(locked.withLock { $0 } == [1, 2], "an error leaves the lock open")
    }

    @Test func theValueIsDestroyedWithTheLock() {
        let tally = Tracked.Tally()
        do {
            let locked = Locked(Tracked(in: tally))
            locked.withLock { $0 = Tracked(in: tally) }
            #expect(tally.live == 1)
        }
        #expect(tally.live == 0)
    }
}
