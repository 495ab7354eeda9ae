// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc
import Supervision
import Testing

@Suite struct SpecificationTests {
    private func error(_ body: (BastionSystem) throws -> Void) -> SupervisionError? {
        let sim = Simulation()
        do {
            try body(sim.system)
        } catch let error as SupervisionError {
            sim.drain()
            #expect(sim.executor.steps == 0, "nothing was started")
            return error
        } catch {
            Issue.record("another error: \(error)")
        }
        return nil
    }

    private static let idle: @Sendable (Context) async throws -> Void = { _ in }

    @Test func aGroupNeedsAName() {
        let error = error { try $0.supervise { Children("", body: Self.idle) } }
        #expect(error?.code == .emptyName)
        #expect(error?.description == "a group of children needs a name that is not empty")
    }

    @Test func groupsOfOneSupervisorHaveDifferentNames() {
        let error = error {
            try $0.supervise {
                Children("a", body: Self.idle)
                Children("b", body: Self.idle)
                Children("a", body: Self.idle)
            }
        }
        #expect(error?.code == .duplicateName)
        #expect(error?.description == "two groups of one supervisor are called a")
    }

    @Test(arguments: [0, -3])
    func aGroupHasAtLeastOneMember(_ redundancy: Int) {
        let error = error { try $0.supervise { Children("a", redundancy: redundancy, body: Self.idle) } }
        #expect(error?.code == .badRedundancy)
        #expect(error?.description == "group a: redundancy must be at least 1, got \(redundancy)")
    }

    @Test func theShutdownTimeIsNotNegative() {
        let error = error { try $0.supervise { Children("a", shutdownTime: .seconds(-1), body: Self.idle) } }
        #expect(error?.code == .badShutdownTime)
        let late = self.error { try $0.supervise { Children("a", deadline: .zero, body: Self.idle) } }
        #expect(late?.code == .badDeadline)
        #expect(error?.description == "group a: the shutdown time must not be negative, got -1.0 seconds")
    }

    @Test func anUnknownGroupIsNamedTogetherWithTheKnownOnes() throws {
        let tree = try Simulation().system.supervise {
            Children("b", body: Self.idle)
            Children("a", body: Self.idle)
        }
        let error = #expect(throws: SupervisionError.self) { try tree.group("c", of: Int.self) }
        #expect(error?.code == .unknownGroup)
        #expect(error?.description == "there is no group c; there is: a, b")
    }

    @Test func aReactiveGroupTakesMessagesOfItsTypeOnly() throws {
        let sim = Simulation()
        let trace = sim.trace
        let tree = try sim.system.supervise {
            Children("echo", Echo("echo", trace))
            Children("any", body: Self.idle)
        }
        let error = #expect(throws: SupervisionError.self) { try tree.group("echo", of: Int.self) }
        #expect(error?.code == .wrongMessageType)
        #expect(error?.description == "group echo takes Message, not Int")
        #expect(try tree.group("echo", of: Echo.Message.self).members.count == 1)
        #expect(try tree.group("any", of: Int.self).members.count == 1)
        #expect(try tree.group("any", of: String.self).members.count == 1)
    }

    @Test func aSupervisorWithinAProcessChecksItsSpecificationToo() throws {
        let sim = Simulation()
        let trace = sim.trace
        try sim.system.supervise {
            Children("owner", restart: .temporary) { context in
                do {
                    try context.supervise { Children("below", redundancy: 0, body: Self.idle) }
                } catch let error as SupervisionError {
                    trace("\(error.code == .badRedundancy)")
                }
            }
        }
        sim.drain()
        #expect(sim.trace.lines == ["true"])
    }
}
