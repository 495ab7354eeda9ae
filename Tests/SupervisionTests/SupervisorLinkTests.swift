// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc
import Testing

@testable import Supervision

/// Monitors of supervisors and links with them, in virtual time.
@Suite struct SupervisorLinkTests: OnStage {
    let sim = Simulation()
    let stage = Stage()

    /// What a process does about a supervisor.
    enum Tie: CaseIterable, Sendable { case monitors, links, linksAndTraps }

    struct Watcher: Reactive {
        enum Message: Sendable {
            case tie(SupervisorRef, Tie)
            case untie(SupervisorRef)
            case demonitor(flush: Bool)
            case fail
            case down(Down)
            case exit(Exit)
        }
        let trace: Trace
        var monitor: MonitorRef?

        mutating func receive(_ message: consuming Message, in context: borrowing ReactiveContext<Self>) throws {
            switch message {
            case .tie(let supervisor, .monitors): monitor = context.monitor(supervisor) { .down($0) }
            case .tie(let supervisor, .linksAndTraps):
                context.trapExits { .exit($0) }
                context.link(supervisor)
            case .tie(let supervisor, .links): context.link(supervisor)
            case .untie(let supervisor): context.unlink(supervisor)
            case .demonitor(let flush): if let monitor { context.demonitor(monitor, flush: flush) }
            case .fail: throw Failure()
            case .down(let down): trace("down \(down.name ?? "") \(CallbackTests.kind(down.reason))")
            case .exit(let exit): trace("exit \(exit.name ?? "") \(CallbackTests.kind(exit.reason)) \(exit.isFromLink)")
            }
        }
    }

    private func watch(_ kind: Stage.Kind, _ trace: Trace) throws -> ProcRef<Watcher.Message> {
        let group =
            kind.isReactive
            ? Children("watcher", Watcher(trace: trace), restart: .temporary)
            : Children("watcher", restart: .temporary) { context in
                var monitor: MonitorRef?
                for await message in context.messages(of: Watcher.Message.self) {
                    switch message {
                    case .tie(let supervisor, .monitors):
                        monitor = context.monitor(supervisor) { Watcher.Message.down($0) }
                    case .tie(let supervisor, .linksAndTraps):
                        context.trapExits { Watcher.Message.exit($0) }
                        context.link(supervisor)
                    case .tie(let supervisor, .links): context.link(supervisor)
                    case .untie(let supervisor): context.unlink(supervisor)
                    case .demonitor(let flush): if let monitor { context.demonitor(monitor, flush: flush) }
                    case .fail: throw Failure()
                    case .down(let down): trace("down \(down.name ?? "") \(CallbackTests.kind(down.reason))")
                    case .exit(let exit):
                        trace("exit \(exit.name ?? "") \(CallbackTests.kind(exit.reason)) \(exit.isFromLink)")
                    }
                }
            }
        let watcher = try sim.system.supervise("watchers") { kind.isManaged ? group.mailbox(.unbounded) : group }
        sim.drain()
        return try watcher.group("watcher").members[0]
    }

    /// A supervisor whose child notes its end.
    private func shop(_ trace: Trace, _ intensity: RestartIntensity = .default) throws -> SupervisorRef {
        let tree = try sim.system.supervise("shop", intensity: intensity) {
            Children("till", Echo("till", Trace())).callbacks(Callbacks(afterStop: { _ in trace("till ended") }))
        }
        sim.drain()
        return tree
    }

    @Test(arguments: Stage.Kind.withManaged, Tie.allCases)
    func theEndOfASupervisorIsTold(kind: Stage.Kind, tie: Tie) throws {
        for givesUp in [false, true] {
            let trace = Trace()
            let watcher = try watch(kind, trace)
            let shop = try shop(trace, RestartIntensity(0, within: .seconds(1)))
            watcher.tell(.tie(shop, tie))
            sim.drain()
            if givesUp {
                try shop.group("till", of: Echo.Message.self).tell(.fail)
                sim.drain()
            } else {
                #expect(sim.stops(shop))
            }
            // Told behind the end of its children.
            // Also when it gave up, as in OTP.
            let reason = "shutdown"
            switch tie {
            case .monitors: #expect(trace.lines == ["till ended", "down shop \(reason)"])
            case .linksAndTraps: #expect(trace.lines == ["till ended", "exit shop \(reason) true"])
            case .links:
                #expect(trace.lines == ["till ended"])
                #expect(watcher.proc.lastExit.map(CallbackTests.kind) == reason)
            }
            #expect(watcher.proc.isClosed == (tie == .links))
            #expect(Bonds.existing(of: shop.supervisor.proc)?.isEmpty == true)
            let system = sim.system
            let isStopped = sim.completes { await system.stop() }
            #expect(isStopped)
        }
    }

    @Test(arguments: Stage.Kind.withManaged, Tie.allCases)
    func ofASupervisorThatHasEndedItIsToldAtOnce(kind: Stage.Kind, tie: Tie) throws {
        let watcher = try watch(kind, sim.trace)
        let shop = try shop(Trace())
        #expect(sim.stops(shop))
        watcher.tell(.tie(shop, tie))
        sim.drain()
        switch tie {
        case .monitors: #expect(sim.trace.lines == ["down shop no process"])
        case .linksAndTraps: #expect(sim.trace.lines == ["exit shop no process true"])
        case .links: #expect(watcher.proc.lastExit.map(CallbackTests.kind) == "linked no process")
        }
    }

    /// A supervisor traps exits, as in OTP, and does not care.
    @Test(arguments: Stage.Kind.withManaged, Tie.allCases)
    func theEndOfWhoIsTiedToASupervisorIsNoneOfItsBusiness(kind: Stage.Kind, tie: Tie) throws {
        let watcher = try watch(kind, sim.trace)
        let shop = try shop(sim.trace)
        watcher.tell(.tie(shop, tie))
        watcher.tell(.fail)
        sim.drain()
        #expect(watcher.proc.isClosed && sim.trace.lines == [])
        #expect(try shop.group("till", of: Echo.Message.self).tell(.value(1)))
        #expect(Bonds.existing(of: shop.supervisor.proc)?.isEmpty == true)
        #expect(sim.stops(shop) && sim.trace.lines == ["till ended"])
    }

    @Test(arguments: Stage.Kind.withManaged, Tie.allCases)
    func whatWasTakenBackTellsNothing(kind: Stage.Kind, tie: Tie) throws {
        let watcher = try watch(kind, sim.trace)
        let shop = try shop(Trace())
        watcher.tell(.tie(shop, tie))
        watcher.tell(tie == .monitors ? .demonitor(flush: true) : .untie(shop))
        sim.drain()
        #expect(sim.stops(shop))
        #expect(!watcher.proc.isClosed && sim.trace.lines == [])
    }

    @Test func whoStopsASupervisorAndWaitsFindsItEndedNextTime() throws {
        let (trace, system) = (sim.trace, sim.system)
        let shop = try shop(Trace())
        system.spawn("watcher") { context in
            let monitor = context.monitor(shop)
            await shop.stop()
            let down = try await context.receive(Down.self)
            trace("\(down.monitor == monitor) \(down.process == shop.id) \(down.reason)")
            context.monitor(shop)
            trace("\(try await context.receive(Down.self).reason)")
        }
        sim.drain()
        #expect(trace.lines == ["true true shutdown", "there was no such process"])
    }

    /// The supervisor ends with the incarnation that started it.
    @Test func aSupervisorWithinAProcessIsWatchedFromOutside() throws {
        let (trace, system) = (sim.trace, sim.system)
        let tree = try system.supervise("shop", intensity: .unlimited) {
            Children("owner") { context in
                let below = try context.supervise("below") { Children("leaf", body: noting(trace)) }
                trace("below \(below.path)")
                if context.restarts == 0 {
                    let owner = context.me(as: Int.self)
                    system.spawn("watcher") { context in
                        context.monitor(below)
                        owner.tell(1)
                        trace("\(try await context.receive(Down.self))")
                    }
                }
                for await _ in context.messages(of: Int.self) { throw Failure() }
            }
        }
        sim.drain()
        let lines = trace.lines
        #expect(lines.count == 3 && lines.count { $0 == "below /shop/owner-0/below" } == 2, "\(lines)")
        #expect(lines.contains { $0.hasPrefix("owner-0/below<") && $0.hasSuffix("> is down: shutdown") }, "\(lines)")
        #expect(sim.stops(tree))
    }

    /// Stopped by it before it can be told.
    @Test func aChildMayWatchItsOwnSupervisor() throws {
        let trace = sim.trace
        let tree = try sim.system.supervise {
            Children("child") { context in
                guard let supervisor = context.supervisor else { return }
                context.monitor(supervisor)
                context.link(supervisor)
                do { trace("\(try await context.receive(Down.self))") } catch { trace("cancelled") }
            }
        }
        sim.drain()
        #expect(sim.stops(tree) && trace.lines == ["cancelled"])
        #expect(Bonds.existing(of: tree.supervisor.proc)?.isEmpty == true)
    }

    @Test func aGroupOfItsOwnHasASupervisorToStopAndToWatch() throws {
        let (trace, system) = (sim.trace, sim.system)
        let workers = try system.children("workers", of: Int.self, redundancy: 2, body: noting(trace))
        system.spawn("watcher") { context in
            context.monitor(workers.supervisor)
            trace("\(try await context.receive(Down.self).reason)")
        }
        sim.drain()
        #expect(workers.supervisor.path == "/workers" && "\(workers.supervisor)" == "/workers")
        #expect(try system.supervisor(at: "/workers") == workers.supervisor)
        #expect(Set([workers.supervisor, try system.supervisor(at: "/workers")]).count == 1)
        #expect(throws: LookupError.self) { try system.supervisor(at: "/workers/workers-0") }
        let stopped = sim.completes { await workers.supervisor.stop() }
        #expect(stopped && trace.lines == ["shutdown"] && !workers.tell(1))
        #expect(throws: LookupError.self) { try system.supervisor(at: "/workers") }
    }

    /// Ends, ties and stops at the same time, on threads: each who watched is told once. Bounded by what comes.
    @Test func everyWatcherIsToldOnceOnThreads() async throws {
        try await withPool { system in
            for round in 0..<50 {
                let told = Locked<[ProcID: Int]>([:])
                let tree = try system.supervise("shop") { Children("till", Echo("till", Trace()), redundancy: 2) }
                let watchers = (0..<8).map { _ in
                    system.spawn(of: Int.self) { context in
                        context.monitor(tree)
                        let down = try await context.receive(Down.self)
                        told.withLock { $0[context.id, default: 0] += 1 }
                        // One that came too late, or saw the end.
                        switch down.reason {
                        case .shutdown, .noProcess: break
                        default: throw Failure()
                        }
                    }
                }
                await tree.stop()
                for watcher in watchers {
                    guard case .normal = await ProcHandle(watcher.proc).exit() else {
                        Issue.record("round \(round)")
                        return
                    }
                }
                #expect(told.withLock { $0.count == 8 && $0.values.allSatisfy { $0 == 1 } }, "round \(round)")
            }
        }
    }
}
