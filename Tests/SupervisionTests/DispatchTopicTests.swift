// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import LightProc
import Testing

@testable import Supervision

@Suite struct DispatchTopicTests {
    let sim = Simulation()

    @Test func whatIsPublishedGetsToEverySubscriber() {
        let topic = Topic<Taker.Message>("t", in: sim.system)
        #expect(topic.publish(.number(0)) == 0)
        let takers = ["a", "b", "c"].map { sim.system.spawn(Taker($0, sim.trace)) }
        for taker in takers { #expect(topic.subscribe(taker)) }
        #expect(topic.publish(.number(1)) == 3 && topic.subscriberCount == 3)
        sim.drain()
        #expect(sim.trace.lines.sorted() == ["a 1", "b 1", "c 1"])
        #expect(topic.unsubscribe(takers[1]) && !topic.unsubscribe(takers[1]))
        #expect(Topic<Taker.Message>("t", in: sim.system).publish(.number(2)) == 2)
        sim.drain()
        #expect(sim.trace.lines.sorted() == ["a 1", "a 2", "b 1", "c 1", "c 2"])
    }

    /// A body that subscribes when it starts does so again after each restart.
    @Test func aProcessHasOneSubscription() {
        let topic = Topic<Int>("t", in: sim.system)
        let taker = sim.system.spawn(Taker("a", sim.trace))
        for factor in 1...3 { topic.subscribe(taker) { .number($0 * factor) } }
        topic.publish(5)
        sim.drain()
        #expect(sim.trace.lines == ["a 15"] && topic.subscriberCount == 1)
    }

    @Test func aProcessSubscribesWithItsOwnMessagesAndACondition() {
        let topic = Topic<String>("t", in: sim.system)
        let taker = sim.system.spawn(Taker("a", sim.trace))
        let isLong: @Sendable (String) -> Bool = { $0.count > 1 }
        topic.subscribe(taker, where: isLong) { .number($0.count) }
        for word in ["x", "two", "y", "seven"] { topic.publish(word) }
        sim.drain()
        #expect(sim.trace.lines == ["a 3", "a 5"])
        let filtered = Topic<Taker.Message>("t", in: sim.system)
        filtered.subscribe(taker, where: { $0 == .number(2) })
        filtered.publish(.number(1))
        filtered.publish(.number(2))
        sim.drain()
        #expect(sim.trace.lines == ["a 3", "a 5", "a 2"])
    }

    @Test func topicsOfOneNameAndDifferentTypesAreDifferent() {
        let taker = sim.system.spawn(NumberTaker())
        Topic<Int>("t", in: sim.system).subscribe(taker)
        #expect(Topic<String>("t", in: sim.system).publish("x") == 0 && Topic<Int>("t", in: sim.system).publish(1) == 1)
    }

    @Test func aSubscriptionEndsWithItsProcessAndNotAtARestart() throws {
        let tree = try sim.system.supervise(intensity: .unlimited) {
            Children("taker", Taker("t", sim.trace), redundancy: 2, restart: .transient)
        }
        let takers = try tree.group("taker", of: Taker.Message.self).members
        sim.drain()
        do {
            let topic = Topic<Int>("t", in: sim.system)
            topic.subscribe(takers[0]) { .number($0) }
            topic.subscribe(takers[1]) { .number(-$0) }
        }
        for taker in takers { taker.tell(.fail) }
        sim.drain()
        #expect(Topic<Int>("t", in: sim.system).publish(1) == 2)
        sim.drain()
        #expect(sim.trace.lines.sorted() == ["t -1", "t 1"])
        for taker in takers { taker.tell(.finish) }
        sim.drain()
        #expect(sim.system.topics.count == 0 && sim.system.departures.count == 0)
        #expect(!Topic<Int>("t", in: sim.system).subscribe(takers[0]) { .number($0) })
    }

    /// In an OS process of its own: traps at the same instant may find each other's words.
    @Test func aClosureThatTrapsCostsTheMessageAndNothingElse() async {
        await #expect(processExitsWith: .success) {
            try await withPool { system in
                let (trace, topic) = (Trace(), Topic<Int>("t", in: system))
                let taker = system.spawn(Taker("a", trace))
                topic.subscribe(taker) { .number(10 / opaque($0)) }
                let publisher = system.executor.spawn {
                    for n in [1, 0, 2] { topic.publish(n) }
                }
                try await publisher.outcome().get()
                // By way of the topic, so that it comes behind the others.
                while trace.lines.count < 2 { await Task.yield() }
                #expect(trace.lines == ["a 10", "a 5"])
            }
        }
    }
}
