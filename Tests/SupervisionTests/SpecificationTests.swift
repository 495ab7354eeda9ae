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
    private static let waiting: @Sendable (Context) async throws -> Void = { await $0.untilStopped() }

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

    /// Members of `a` are called `a-0`, `a-1`, ..., whatever their number is at the moment.
    @Test(arguments: [("a", "a-0"), ("a", "a-17"), ("a-b", "a-b-3"), ("a-1", "a-1-1")])
    func noSupervisorIsCalledAsAMemberOfAGroup(group: String, other: String) throws {
        func groups(_ isFirst: Bool) -> [Children] {
            @ChildrenBuilder func second() -> [Children] { Supervisor(other) {} }
            let first = Children(group, body: Self.idle)
            return isFirst ? [first] + second() : second() + [first]
        }
        for isFirst in [true, false] {
            let error = error { try $0.supervise { for group in groups(isFirst) { group } } }
            #expect(error?.code == .duplicateName)
            let nested = self.error {
                try $0.supervise { Supervisor("above") { for group in groups(isFirst) { group } } }
            }
            #expect(nested?.code == .duplicateName)
            #expect(throws: SupervisionError.self) {
                try Supervisor("dry") { for group in groups(isFirst) { group } }.validate()
            }
            // What is there already counts as well.
            let sim = Simulation()
            let both = groups(isFirst)
            let tree = try sim.system.supervise { both[0] }
            let late = #expect(throws: SupervisionError.self) { try tree.children { both[1] } }
            #expect(late?.code == .duplicateName)
        }
    }

    @Test func namesThatOnlyLookAlikeAreTaken() throws {
        let sim = Simulation()
        let tree = try sim.system.supervise("shop") {
            Children("a", redundancy: 3, body: Self.waiting)
            Children("a-", body: Self.waiting)
            Children("a-b", body: Self.waiting)
            Children("a-01", body: Self.waiting)
            Children("a-1", redundancy: 2, body: Self.waiting)
            Children("a-1-1", body: Self.waiting)
            Supervisor("a-b-c") {}
            Supervisor("s") {}
            Supervisor("s-0") {}
            Children("s-0-1", body: Self.waiting)
            Supervisor("t-0") {}
        }
        sim.drain()
        // Each child is another one.
        for path in ["a-0", "a-1", "a-2", "a--0", "a-b-0", "a-01-0", "a-1-0", "a-1-1", "a-1-1-0", "s-0-1-0"] {
            #expect(try sim.system.lookup(ProcPath(parsing: "/shop/\(path)"), of: Int.self).proc.name == path)
        }
        #expect(throws: SupervisionError.self) { try tree.children { Children("t", body: Self.waiting) } }
        #expect(sim.completes { try await tree.terminate(group: "t-0") })
        // The one in the way has ended, and is gone.
        try tree.children { Children("t", body: Self.waiting) }
        #expect(throws: SupervisionError.self) { try tree.children { Children("t", body: Self.waiting) } }
        #expect(throws: SupervisionError.self) { try tree.children { Supervisor("t-0") {} } }
    }

    /// The name of a group stands for its only member, unless it is that of a child of another.
    @Test func aNameThatTwoCouldHaveMeansTheMember() throws {
        let sim = Simulation()
        let trace = sim.trace
        let tree = try sim.system.supervise("shop") {
            Children("a-1", body: Self.waiting)
            Children("b", body: Self.waiting)
        }
        sim.drain()
        func terminates(_ name: String) -> Bool {
            sim.completes {
                do { try await tree.terminate(child: name) } catch {
                    trace("\((error as? SupervisionError)?.code == .unknownChild)")
                    throw error
                }
            }
        }
        let proc = try sim.system.lookup("/shop/a-1-0", of: Int.self).proc
        #expect(terminates("b") && proc.isClosed == false)
        try tree.children { Children("a", redundancy: 2, body: Self.waiting) }
        sim.drain()
        let member = try sim.system.lookup("/shop/a-1", of: Int.self).proc
        #expect(terminates("a-1"))
        #expect(member.isClosed && !proc.isClosed)
        #expect(sim.completes { try await tree.delete(child: "a-1") })
        // Nobody is meant now, least of all who is called otherwise.
        #expect(!terminates("a-1") && trace.lines == ["true"])
        #expect(!proc.isClosed)
        #expect(sim.completes { try await tree.terminate(group: "a") })
        #expect(terminates("a-1") && proc.isClosed)
    }

    @Test func theIntensityMustMakeSense() {
        for (maximum, period) in [(-1, Duration.seconds(1)), (1, .zero), (3, .seconds(-1))] {
            let intensity = RestartIntensity(maximum, within: period)
            let error = error { try $0.supervise("s", intensity: intensity) { Children("a", body: Self.idle) } }
            #expect(error?.code == .badIntensity)
            let nested = self.error {
                try $0.supervise { Supervisor("s", intensity: intensity) { Children("a", body: Self.idle) } }
            }
            #expect(nested?.code == .badIntensity)
            #expect(throws: SupervisionError.self) { try Supervisor("s", intensity: intensity) {}.validate() }
            let what =
                maximum < 0
                ? "number of restarts must not be negative, got -1" : "period must be positive, got \(period)"
            #expect(error?.description == "supervisor s: the \(what)")
            #expect(nested?.description == error?.description)
            let sim = Simulation()
            let running = try? sim.system.supervise("s") { Children("a") { await $0.untilStopped() } }
            let code = Trace()
            #expect(
                sim.completes {
                    do { try await running?.change(intensity: intensity) } catch {
                        code("\((error as? SupervisionError)?.code == .badIntensity)")
                    }
                }
            )
            #expect(code.lines == ["true"])
        }
        let other = error { try $0.supervise("s", intensity: .unlimited) { Children("", body: Self.idle) } }
        #expect(other?.code == .emptyName)
    }

    @Test(arguments: [0, -1])
    func aGroupIsNotResizedToNothing(size: Int) throws {
        let sim = Simulation()
        let tree = try sim.system.supervise { Children("a", redundancy: 2) { await $0.untilStopped() } }
        sim.drain()
        let error = #expect(throws: SupervisionError.self) { try tree.resize(group: "a", to: size) }
        #expect(error?.code == .badRedundancy)
        sim.drain()
        #expect(try tree.group("a", of: Int.self).members.count == 2)
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
