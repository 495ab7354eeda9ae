// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import Glibc
import LightProc
import Testing

@testable import Supervision

/// Many threads at once; what must hold is conservation, and that nobody is found who has ended.
@Suite struct DispatchStressTests {
    private final class Tally: Sendable {
        struct Content: Sendable {
            var registered = 0
            var looked = 0
            var stale = 0
            var problems: [String] = []
        }
        private let content = Locked(Content())
        func withLock<Result>(_ body: (inout Content) -> Result) -> Result { content.withLock(body) }
    }

    /// Threads give names to processes and end them, others look names up. Who has seen that a process is closed must not find
    /// it any more, also while those who have to be told of its end are being told.
    @Test func noNameIsEverStale() async throws {
        let seeds = RandomTest.seeds("noNameIsEverStale", count: 4)
        try await withPool { system in
            for seed in seeds {
                let tally = Tally()
                /// By name, who was registered last.
                let recent = Locked<[ProcRef<Int>?]>([nil, nil, nil])
                /// Threads that still give names.
                let naming = Locked(2)
                await Task.detached {
                    onThreads(4) { thread in
                        var random = SplitMix64(seed: seed &* 31 &+ UInt64(thread))
                        if thread < 2 {
                            for _ in 0..<500 {
                                let number = Int(random.next(upperBound: UInt64(3)))
                                Self.nameAndClose("name-\(number)", system, tally) { ref in
                                    recent.withLock { $0[number] = ref }
                                }
                            }
                            naming.withLock { $0 -= 1 }
                            return
                        }
                        // Ends: when nobody names any more, all that was named is closed.
                        var looked = 0
                        while looked == 0 || naming.withLock({ $0 > 0 }) {
                            let number = Int(random.next(upperBound: UInt64(3)))
                            guard let ref = recent.withLock({ $0[number] }), ref.proc.isClosed else { continue }
                            let found = try? system.registry.whereis("name-\(number)", of: Int.self)
                            looked += 1
                            if found?.id == ref.id { tally.withLock { $0.stale += 1 } }
                        }
                        tally.withLock { $0.looked += looked }
                    }
                }.value
                let result = tally.withLock { $0 }
                #expect(result.stale == 0 && result.problems == [], "seed \(seed)")
                #expect(result.registered > 0 && result.looked > 0, "seed \(seed)")
                #expect(system.registry.names == [] && system.departures.count == 0, "seed \(seed)")
                #expect(system.registry.holderCount == 0, "seed \(seed): kept after its end")
            }
        }
    }

    private static func nameAndClose(
        _ name: String,
        _ system: BastionSystem,
        _ tally: Tally,
        named: (ProcRef<Int>) -> Void
    ) {
        let ref = ProcRef<Int>(LightProc.reactive(on: system.executor) { ReactiveAdapter(NumberTaker()) })
        do {
            try system.registry.register(name, ref)
            named(ref)
            // Told before the registry is, as it came later: others meet a process that has ended, and of whose end the registry
            // does not know.
            ref.proc.whenEnded { _ in
                let next = ProcRef<Int>(LightProc.reactive(on: system.executor) { ReactiveAdapter(NumberTaker()) })
                for other in [ref, next] {
                    do throws(RegistryError) {
                        let found = try system.registry.whereis(name, of: Int.self)
                        if found?.id == ref.id { tally.withLock { $0.stale += 1 } }
                        try system.registry.register(name, other)
                        if other.id == ref.id { tally.withLock { $0.problems.append("named after its end") } }
                    } catch {
                        if error.holder?.id == ref.id {
                            tally.withLock { $0.problems.append("\(error), which has ended") }
                        }
                    }
                }
                next.proc.close()
            }
            // Until its end nobody takes the name from it, whoever is told of the end of the holder before.
            let found = try system.registry.whereis(name, of: Int.self)?.id
            tally.withLock { tally in
                tally.registered += 1
                if found != ref.id {
                    tally.problems.append("\(name) was lost to \(found.map { "\($0)" } ?? "nobody")")
                }
            }
        } catch {
            if error.code != .nameTaken { tally.withLock { $0.problems.append("\(error)") } }
        }
        ref.proc.close()
        // A name is free as soon as its holder has ended.
        if (try? system.registry.whereis(name, of: Int.self))?.id == ref.id { tally.withLock { $0.stale += 1 } }
    }

    /// Of threads that register one name at once, exactly one has it; and who waits for it gets that one.
    @Test func aNameHasOneHolderAmongManyThreads() async throws {
        try await withPool { system in
            for round in 0..<100 {
                let winners = Locked<[ProcID]>([])
                let takers = (0..<4).map { _ in system.spawn(NumberTaker()) }
                async let found = system.registry.whereis("n", of: Int.self, within: .seconds(60))
                await Task.detached {
                    onThreads(4) { thread in
                        if (try? system.registry.register("n", takers[thread])) != nil {
                            winners.withLock { $0.append(takers[thread].id) }
                        }
                    }
                }.value
                #expect(winners.withLock { $0.count } == 1, "round \(round)")
                let who = try await found.id
                #expect(winners.withLock { $0.first } == who, "round \(round)")
                #expect(system.registry.unregister("n") && system.registry.waiterCount == 0)
            }
        }
    }

    /// Waiters that are cancelled and timed out while names come and go: each ends once, and none is left.
    @Test func waitersEndOnceWhateverHappens() async throws {
        try await withPool { system in
            let ends = Trace()
            let registry = system.registry
            let waits = (0..<200).map { number in
                let time = Duration.milliseconds(number % 7)
                return Task {
                    let found = try? await registry.whereis("w\(number % 5)", of: Int.self, within: time)
                    ends(found == nil ? "nobody" : "found")
                }
            }
            for (number, wait) in waits.enumerated() {
                let taker = system.spawn(NumberTaker())
                try? registry.register("w\(number % 5)", taker)
                if number % 3 == 0 { wait.cancel() }
                registry.unregister("w\(number % 5)", of: taker)
            }
            for wait in waits { await wait.value }
            #expect(ends.lines.count == 200 && registry.waiterCount == 0)
        }
    }

    /// Threads send through a distributor while others make members come and go: every message that was taken is handled or
    /// left to one that has ended, and none twice.
    @Test(arguments: [0, 1, 2, 3, 4])
    func messagesAreTakenOnceWhileMembersComeAndGo(way: Int) async throws {
        let seeds = RandomTest.seeds("messagesAreTakenOnceWhileMembersComeAndGo", count: 2)
        try await withPool { system in
            for seed in seeds {
                let numbers = Distributor<Int>("numbers", in: system)
                let handled = Locked<[Int: Int]>([:])
                struct Counting: Reactive {
                    let handled: @Sendable (Int) -> Void
                    mutating func receive(_ message: consuming Int, in context: borrowing ReactiveContext<Self>) {
                        handled(message)
                    }
                }
                let count: @Sendable (Int) -> Void = { n in handled.withLock { $0[n, default: 0] += 1 } }
                // One that stays.
                let last = system.spawn(Counting(handled: count))
                try numbers.subscribe(last, DispatchStrategyTests.ways[way])
                let taken = Locked(0)
                let members = Locked<[ProcRef<Int>]>([last])
                await Task.detached {
                    onThreads(4) { thread in
                        var random = SplitMix64(seed: seed &+ UInt64(thread))
                        for n in 0..<500 {
                            if thread < 2 {
                                let number = thread * 1_000 + n
                                if (try? numbers.tellOne(number, key: DistributionKey(n % 7))) != nil {
                                    taken.withLock { $0 += 1 }
                                }
                            } else if random.next(upperBound: UInt64(2)) == 0 {
                                let member = system.spawn(Counting(handled: count))
                                _ = try? numbers.subscribe(member)
                                members.withLock { $0.append(member) }
                            } else {
                                let member = members.withLock { $0.count > 1 ? $0.removeLast() : nil }
                                if let member { numbers.unsubscribe(member) }
                            }
                        }
                    }
                }.value
                // All that is left is handled once everybody has answered: asks go behind the messages.
                #expect(taken.withLock { $0 } == 1_000, "seed \(seed)")
                while handled.withLock({ $0.count }) < 1_000 { await Task.yield() }
                #expect(handled.withLock { $0.values.allSatisfy { $0 == 1 } }, "seed \(seed)")
                for member in numbers.members { numbers.unsubscribe(member.ref(as: Int.self)!) }
                #expect(numbers.members.isEmpty)
            }
        }
    }

    /// Threads join and leave; what a monitor saw adds up to who is there.
    @Test func whatMonitorsSeeAddsUp() async throws {
        try await withPool { system in
            let groups = system.groups
            var changes = groups.changes(of: "g").makeAsyncIterator()
            let counts = Locked((joined: 0, left: 0))
            await Task.detached {
                onThreads(4) { thread in
                    let takers = (0..<5).map { _ in system.spawn(NumberTaker()) }
                    var random = SplitMix64(seed: UInt64(thread))
                    for _ in 0..<300 {
                        let taker = takers[Int(random.next(upperBound: UInt64(5)))]
                        if random.next(upperBound: UInt64(2)) == 0 {
                            if groups.join("g", taker) { counts.withLock { $0.joined += 1 } }
                        } else if groups.leave("g", taker) {
                            counts.withLock { $0.left += 1 }
                        }
                    }
                }
            }.value
            var present: Set<ProcID> = []
            let (joined, left) = counts.withLock { $0 }
            for _ in 0..<joined + left {
                switch await changes.next() {
                case .joined(let member): #expect(present.insert(member.id).inserted)
                case .left(let member): #expect(present.remove(member.id) != nil)
                case nil: Issue.record("the changes ended")
                }
            }
            #expect(present == Set(groups.members(of: "g").map(\.id)))
        }
    }
}
