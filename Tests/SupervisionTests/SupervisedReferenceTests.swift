// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc
import Testing

@testable import Supervision

/// What references, names, groups, monitors and links make of sweeps, and of children that are terminated and restarted.
@Suite struct SupervisedReferenceTests {
    @Test(arguments: Cast.Kind.allCases)
    func aReferenceAndItsMailboxOutliveASweep(_ kind: Cast.Kind) throws {
        let cast = Cast()
        let tree = try cast.sim.system.supervise("shop", strategy: .oneForAll, intensity: .unlimited) {
            cast.child("a", kind, backoff: .constant(.seconds(1)))
            cast.child("b", kind)
        }
        cast.sim.drain()
        let (a, b) = (try cast.ref("a"), try cast.ref("b"))
        _ = cast.news()
        try cast.end("a", .error)
        #expect(cast.news() == ["-a error", "-b shutdown"])
        // Both are down, and wait for the backoff of one.
        for n in 1...3 { #expect(a.tell(.echo(n)) && b.tell(.echo(n))) }
        #expect(try cast.ref("b") == b)
        cast.sim.advance(by: .seconds(1))
        let lines = cast.news()
        #expect(lines.filter { $0.hasPrefix("+") } == ["+a", "+b"])
        for name in ["a", "b"] {
            #expect(lines.filter { $0.hasPrefix("\(name) ") } == ["\(name) 1", "\(name) 2", "\(name) 3"])
        }
        #expect(b.proc.restarts == 1 && cast.sim.system.deadLetters == 0)
        #expect(cast.sim.stops(tree))
    }

    @Test(arguments: Cast.Kind.allCases)
    func afterTerminateAndRestartTheNewProcessIsFoundAndTheOldOneRefuses(_ kind: Cast.Kind) throws {
        let cast = Cast()
        let system = cast.sim.system
        let work = Distributor<Cast.Cue>("work", in: system)
        let tree = try system.supervise("shop") {
            cast.child("a", kind).registered(as: "the a").distributor("work")
        }
        cast.sim.drain()
        let old = try cast.ref("a")
        let group = try tree.group("a", of: Cast.Cue.self)
        _ = cast.news()
        #expect(cast.code { try await tree.terminate(child: "a") } == nil)
        #expect(!old.tell(.echo(0)) && old.proc.isClosed)
        #expect(try system.registry.whereis("the a", of: Cast.Cue.self) == nil)
        #expect(group.members.isEmpty && work.members.isEmpty && !group.tell(.echo(0)))
        #expect(cast.code { try await tree.restart(child: "a") } == nil)
        #expect(cast.news() == ["-a shutdown", "+a"])
        let new = try cast.ref("a")
        #expect(new != old && !old.tell(.echo(0)))
        #expect(try system.registry.whereis("the a", of: Cast.Cue.self) == new)
        #expect(try system.lookup(new.id, of: Cast.Cue.self) == new)
        #expect(group.members == [new] && work.members.count == 1)
        new.tell(.echo(1))
        #expect(group.tell(.echo(2)))
        try work.tellOne(.echo(3))
        cast.sim.drain()
        #expect(cast.news() == ["a 1", "a 2", "a 3"])
        #expect(cast.sim.stops(tree))
    }

    @Test func monitorsAndLinksSeeASweepAsAStop() throws {
        let cast = Cast()
        let trace = cast.trace
        let tree = try cast.sim.system.supervise("shop", strategy: .oneForAll, intensity: .unlimited) {
            cast.child("a")
            cast.child("b", .reactive)
        }
        cast.sim.drain()
        let (a, b) = (try cast.ref("a"), try cast.ref("b"))
        let watchers = try cast.sim.system.supervise("watchers") {
            Children("watcher") { context in
                context.trapExits { trace("exit \(Cast.kind($0.reason))") }
                context.monitor(a) { trace("a: \(Cast.kind($0.reason))") }
                context.monitor(b) { trace("b: \(Cast.kind($0.reason))") }
                context.monitor(b, untilClosed: true) { trace("b for good: \(Cast.kind($0.reason))") }
                context.link(b)
                for await _ in context.messages(of: Void.self) {}
            }
            Children("linked", restart: .temporary) { context in
                context.onExit { trace("linked: \($0.isFailure)") }
                context.link(b)
                await context.untilStopped()
            }
        }
        cast.sim.drain()
        _ = cast.news()
        try cast.end("a", .error)
        let lines = cast.news()
        #expect(
            lines.sorted()
                == ["-a error", "-b shutdown", "+a", "+b", "a: error", "b: shutdown", "exit shutdown", "linked: false"]
                .sorted()
        )
        #expect(cast.code { try await tree.terminate(child: "b") } == nil)
        #expect(cast.news() == ["-b shutdown", "b for good: shutdown"])
        #expect(cast.sim.stops(watchers) && cast.sim.stops(tree))
    }

    @Test func theReferenceOfANestedSupervisorOutlivesItsRestarts() throws {
        let cast = Cast()
        let tree = try cast.sim.system.supervise("shop", strategy: .oneForAll, intensity: .unlimited) {
            cast.child("a")
            Supervisor("s") { cast.child("b") }
        }
        cast.sim.drain()
        let nested = try tree.supervisor("s")
        let (first, b) = (nested.id, try cast.ref("s/b"))
        try cast.end("a", .error)
        #expect(nested.id != first)
        // What is below was made anew.
        #expect(!b.tell(.echo(0)))
        #expect(try cast.ref("s/b").tell(.echo(1)))
        #expect(cast.code { try await tree.terminate(child: "s") } == nil)
        #expect(cast.code { try await nested.terminate(child: "b") } == .supervisorStopped)
        #expect(cast.code { try await tree.restart(child: "s") } == nil)
        #expect(try cast.result { await nested.countChildren() }?.active == 1)
        #expect(cast.sim.stops(tree))
    }
}
