// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import TestSupport
import Testing

@testable import Executor
@testable import LightProc

/// The thread that looks up symbols. That no other does is asserted by the code itself, in all tests.
///
/// Each in a program of its own: there is one such thread in a program.
@Suite(.timeLimit(.minutes(15))) struct ReportThreadTests {
    private static let name = "bastion-reports"

    /// Keeps the thread busy until the gate opens; returns when it is.
    private static func occupy(until gate: BlockingGate) {
        let isBusy = BlockingGate()
        ReportThread.shared.perform {
            isBusy.open()
            gate.blockingWait()
        }
        isBusy.blockingWait()
    }

    @Test func itIsThereFromTheFirstTrapToTheEndOfTheLastPool() async {
        await #expect(processExitsWith: .success) {
            let pool = try WorkerPool(workers: 1)
            #expect(try await pool.spawn { 1 }.outcome().get() == 1)
            #expect(!OurThreads.names().contains(Self.name))
            for _ in 0..<2 {
                let report = try #require(await pool.spawn { Misdeed.index.commit() }.handle.exit().trapReport)
                await report.symbolicated()
                #expect(OurThreads.names().contains(Self.name))
                await pool.shutDownElsewhere()
                #expect(!OurThreads.names().contains(Self.name))
                pool.start()
            }
            await pool.shutDownElsewhere()
        }
    }

    /// Made by a worker that is pinned, it would share that worker's processor.
    @Test func itRunsEverywhereAndTakesNoSignals() async {
        await #expect(processExitsWith: .success) {
            let pool = try WorkerPool(workers: 1)
            let (processors, mask) = try await pool.spawn {
                ReportThread.shared.blockingWait {
                    (OurThreads.status(of: Self.name, "Cpus_allowed"), OurThreads.status(of: Self.name, "SigBlk"))
                }
            }.outcome().get()
            let program = try #require(OurThreads.status(ofThread: "\(getpid())", "Cpus_allowed"))
            #expect(processors == program)
            let blocked = try #require(mask.flatMap { UInt64($0, radix: 16) })
            for signal in [SIGTERM, SIGINT, SIGHUP, SIGCHLD, SIGURG] {
                #expect(blocked >> UInt64(signal - 1) & 1 == 1, "\(signal)")
            }
            for fault in [SIGILL, SIGTRAP, SIGFPE, SIGABRT, SIGSEGV, SIGBUS] {
                #expect(blocked >> UInt64(fault - 1) & 1 == 0, "\(fault)")
            }
            await pool.shutDownElsewhere()
        }
    }

    @Test func whoAwaitsTheWordsLeavesTheWorkerToOthers() async {
        await #expect(processExitsWith: .success) {
            let pool = try WorkerPool(
                placement: Placement(Topology(synthetic: "core:1 pu:1"), options: .init(pinning: .never)),
                stallThreshold: nil
            )
            let goOn = BlockingGate()
            Self.occupy(until: goOn)
            let report = try #require(await pool.spawn { Misdeed.index.commit() }.handle.exit().trapReport)
            let isAboutToAsk = AsyncGate()
            let asker = pool.spawn {
                isAboutToAsk.open()
                return await report.symbolicated().text()
            }
            await isAboutToAsk.wait()
            // On the only worker, while the words cannot come.
            #expect(try await pool.spawn { 1 }.outcome().get() == 1)
            goOn.open()
            let text = try await asker.outcome().get()
            #expect(text.contains("Misdeed"), "\(text)")
            // Then all of them are there, for everybody, whatever the thread does.
            let further = BlockingGate()
            Self.occupy(until: further)
            #expect(report.text() == text)
            #expect(report.json().contains(Self.function(report)))
            #expect(text.contains(report.summary))
            _ = report.place
            await report.symbolicated()
            further.open()
            await pool.shutDownElsewhere()
        }
    }

    private static func function(_ report: TrapReport) -> String {
        TrapReport.json(report.frames().compactMap(\.function).first)
    }

    /// Observers are told of a report whose words are known, so that the worker that tells them waits for nothing.
    @Test func whoIsToldWaitsForNothing() async {
        await #expect(processExitsWith: .success) {
            let pool = try WorkerPool(workers: 1)
            let told = Rendezvous(2)
            let domain = ContainmentDomain(
                .containAndReport,
                report: { report in
                    #expect(report.content.isComplete)
                    told.arrive()
                },
                untold: { _ in }
            )
            Containment.observe(on: pool) { event in
                guard case .trapped(let report) = event else { return }
                #expect(report.content.isComplete)
                told.arrive()
            }
            let proc = LightProc.reactive(Doer(), on: pool)
            proc.join(domain.number)
            proc.tell { _ in Misdeed.index.commit() }
            told.everybody.blockingWait()
            await pool.shutDownElsewhere()
        }
    }

    @Test func aStormFasterThanTheThreadFillsNoMemory() async {
        await #expect(processExitsWith: .success) {
            let goOn = BlockingGate()
            Self.occupy(until: goOn)
            let told = Locked(0)
            let untold = Locked<[Int]>([])
            let domain = ContainmentDomain(
                .containAndReport,
                report: { _ in told.withLock { $0 += 1 } },
                untold: { count in untold.withLock { $0.append(count) } }
            )
            let reports = (0..<ContainmentLedger.capacity + 10).map { _ in Self.report() }
            for report in reports { ContainmentLedger.shared.add(report, domain: domain.number, leaking: 0) }
            // What found no place is not waited for: its words are looked up when they are asked for.
            let late = Locked(0)
            for report in reports { report.whenResolved { late.withLock { $0 += 1 } } }
            #expect(late.withLock { $0 } == 10)
            goOn.open()
            #expect(reports.last?.summary == "fatal error (Fatal error: nobody's)")
            ReportThread.shared.wake()
            ReportThread.shared.blockingWaitForEnd()
            #expect(told.withLock { $0 } == ContainmentLedger.capacity)
            #expect(untold.withLock { $0 } == [10])
            #expect(late.withLock { $0 } == ContainmentLedger.capacity + 10)
            #expect(Containment.contained == ContainmentLedger.capacity + 10)
        }
    }

    private static func report() -> TrapReport {
        let content = TrapReportContent(
            signal: SIGFPE,
            isStackOverflow: false,
            speaks: false,
            process: ProcID(rawValue: 7),
            name: nil,
            path: nil,
            messageType: nil,
            time: .zero,
            backtrace: [0x10],
            words: strdup("Fatal error: nobody's")
        )
        ReportResolver.shared.add(content)
        return TrapReport(content)
    }

    /// Reports may be read when no pool is left, by a thread that is made for it.
    @Test func wordsAreThereWithoutAPool() async {
        await #expect(processExitsWith: .success) {
            let report = Self.report()
            #expect(report.summary == "fatal error (Fatal error: nobody's)")
            #expect(report.frames().count == 1)
            #expect(OurThreads.names() == [Self.name])
            #expect(await report.symbolicated().place == nil)
            ReportThread.shared.blockingWaitForEnd()
            #expect(OurThreads.blockingWaitForNone(), "\(OurThreads.names())")
        }
    }
}
