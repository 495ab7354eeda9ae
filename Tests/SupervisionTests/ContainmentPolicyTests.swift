// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import Glibc
import LightProc
import Logging
import Testing

@testable import Supervision

/// What becomes of a trap, by the system's policy and by the group's; the events of the whole program.
///
/// Each in an OS process of its own: the ledger of traps is the program's.
@Suite struct ContainmentPolicyTests {
    private enum PolicyGates {
        static let logged = BlockingGate()
        static let told = BlockingGate()
    }

    private static func system(_ policy: ContainmentPolicy, _ trace: Trace) throws -> BastionSystem {
        BastionSystem(
            name: "policy",
            executor: try WorkerPool(workers: 2, stallThreshold: nil),
            containment: policy,
            log: .keeping { event, _ in
                trace("\(event.level) \(event.message)")
                PolicyGates.logged.open()
            }
        )
    }

    private static func trap(_ system: BastionSystem) async {
        let trapper = system.spawn(Trapper())
        _ = try? await trapper.ask(within: .seconds(60)) { .trapWith($0) }
    }

    @Test func containIsTheDefaultAndLogsNoReportOfWhatNobodySupervises() async {
        await #expect(processExitsWith: .success) {
            let trace = Trace()
            let system = try Self.system(.contain, trace)
            await Self.trap(system)
            // A supervised one afterwards: its line is logged by the same thread, after what would have come before.
            let tree = try system.supervise(intensity: .unlimited) { Children("trapper", Trapper()) }
            let trapper = try tree.group("trapper", of: Trapper.Message.self).next
            _ = try? await trapper.ask(within: .seconds(60)) { .trapWith($0) }
            PolicyGates.logged.blockingWait()
            #expect(trace.lines.count == 1)
            #expect(
                trace.lines.first?.hasPrefix("warning child ended: trap: index out of range") == true,
                "\(trace.lines)"
            )
            #expect(Containment.contained == 2)
        }
    }

    @Test func containAndReportLogsTheWholeReportAndTellsObservers() async {
        await #expect(processExitsWith: .success) {
            let trace = Trace()
            let system = try Self.system(.containAndReport, trace)
            let told = Trace()
            Containment.observe(on: system.executor) { event in
                if case .trapped(let report) = event { told("\(report.kind)") }
                PolicyGates.told.open()
            }
            await Self.trap(system)
            PolicyGates.logged.blockingWait()
            PolicyGates.told.blockingWait()
            #expect(told.lines == ["index out of range"])
            let line = trace.lines.first ?? ""
            #expect(line.hasPrefix("error <0."), "\(line)")
            #expect(line.contains("Trapper.receive"), "\(line)")
        }
    }

    /// Of an async process the report names the message that the incarnation received last, if any.
    @Test func aReportNamesTheMessageThatAnAsyncProcessReceivedLast() async {
        await #expect(processExitsWith: .success) {
            let system = try Self.system(.containAndReport, Trace())
            let told = Trace()
            Containment.observe(on: system.executor) { event in
                guard case .trapped(let report) = event else { return }
                told(report.messageType ?? "none")
                if told.lines.count == 2 { PolicyGates.told.open() }
            }
            let tree = try system.supervise {
                Children("worker") { context in
                    if context.restarts > 0 { _ = opaque([1])[opaque(9)] }
                    _ = try await context.receive(String.self)
                    let work = try await context.receive(PoolTests.Work.self)
                    work.reply(opaque([1])[work.index])
                }
            }
            try tree.group("worker", of: String.self).next.tell("a string")
            try tree.group("worker", of: Int.self).next.tell(7)
            _ = try? await tree.group("worker", of: PoolTests.Work.self).next.ask(within: .seconds(60)) {
                PoolTests.Work(index: 9, reply: $0)
            }
            PolicyGates.told.blockingWait()
            #expect(told.lines == ["Work", "none"])
        }
    }

    @Test func crashIsForTheSystemWhatItIsWithoutUs() async {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
            await Self.trap(try Self.system(.crash, Trace()))
        }
        let said = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
        #expect(said.contains("bastion: this trap is not contained: the policy of the process is to crash"))
    }

    @Test func aGroupsPolicyGoesBeforeTheSystems() async {
        await #expect(processExitsWith: .success) {
            let system = try Self.system(.crash, Trace())
            let tree = try system.supervise(intensity: .unlimited) {
                Children("trapper", Trapper(), containment: .contain)
            }
            let trapper = try tree.group("trapper", of: Trapper.Message.self).next
            _ = try? await trapper.ask(within: .seconds(60)) { .trapWith($0) }
            let count = try await trapper.ask(within: .seconds(60)) { .count($0) }
            #expect(count == 0)
        }
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
            let system = try Self.system(.contain, Trace())
            let tree = try system.supervise(intensity: .unlimited) {
                Children("worker", containment: .crash) { context in
                    for await work in context.messages(of: PoolTests.Work.self) {
                        work.reply(opaque([1])[work.index])
                    }
                }
            }
            let worker = try tree.group("worker", of: PoolTests.Work.self).next
            _ = try await worker.ask(within: .seconds(60)) { PoolTests.Work(index: 9, reply: $0) }
        }
        let said = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
        #expect(said.contains("the policy of the process is to crash"))
    }

    @Test func theLeakBudgetIsToldWhenItNearsAndWhenItIsReached() async {
        await #expect(processExitsWith: .success) {
            let system = try Self.system(.contain, Trace())
            let told = Trace()
            Containment.observe(on: system.executor) { event in
                switch event {
                case .trapped: told("trapped")
                case .leakBudgetNear(let leaked): told("near \(leaked.bytes < leaked.budget)")
                case .leakBudgetReached(let leaked):
                    told("reached \(leaked.bytes >= leaked.budget)")
                    PolicyGates.told.open()
                }
            }
            // One trap leaks a few hundred bytes of frames at least, and 17 KiB at most.
            Containment.leakBudget = 100_000
            while Containment.leaked.bytes < 100_000 { await Self.trap(system) }
            PolicyGates.told.blockingWait()
            #expect(told.lines == ["near true", "reached true"])
        }
    }

    @Test func anObservationThatWasTakenBackIsNotTold() async {
        await #expect(processExitsWith: .success) {
            let system = try Self.system(.containAndReport, Trace())
            let told = Trace()
            Containment.observe(on: system.executor) { _ in told("cancelled") }.cancel()
            Containment.observe(on: system.executor) { _ in
                told("kept")
                PolicyGates.told.open()
            }
            await Self.trap(system)
            PolicyGates.told.blockingWait()
            #expect(told.lines == ["kept"])
        }
    }
}
