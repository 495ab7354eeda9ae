// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import LightProc
import Testing

@testable import Supervision

/// As ``ConservationTests``, with all that handlers do to messages besides handling them: they stash, forward and delegate, answer late,
/// look for one among others, set timers, pipe outcomes to each other, while groups grow, shrink and end.
@Suite struct ConservationOfKeptMessagesTests {
    private struct Parcel: Sendable {
        let number: Int
        var reply: Reply<Int>?
        var isOfTimer = false
    }

    /// What became of the messages, and who there is.
    private final class World: Sendable {
        struct Content {
            var random: SplitMix64
            var sent = 0
            var handled: [Int: Int] = [:]
            var givenBack: [Int: Int] = [:]
            var fired: [Int: Int] = [:]
            var asks = 0
            var answers: [Int: Int] = [:]
            var refs: [ProcRef<Parcel>] = []
            var isQuiet = false
            /// What happened to each, for who looks into a failure.
            var history: [Int: [String]] = [:]
            var timers = 0
            /// Asks that a handler has handed on: it is that one who learns if they are not taken.
            var handed: Set<Int> = []
        }
        let content: Locked<Content>

        init(_ seed: UInt64) { content = Locked(Content(random: SplitMix64(seed: seed))) }

        func draw(_ count: Int) -> Int { content.withLock { Int.random(in: 0..<count, using: &$0.random) } }
        func parcel(_ reply: Reply<Int>? = nil) -> Parcel {
            content.withLock { content in
                content.sent += 1
                return Parcel(number: content.sent, reply: reply)
            }
        }
        func add(_ refs: [ProcRef<Parcel>]) {
            content.withLock { content in
                for ref in refs where !content.refs.contains(where: { $0.id == ref.id }) { content.refs.append(ref) }
            }
        }
        var someone: ProcRef<Parcel> {
            content.withLock { $0.refs[Int.random(in: 0..<$0.refs.count, using: &$0.random)] }
        }
        func note(_ number: Int, _ what: String) { content.withLock { $0.history[number, default: []].append(what) } }
        func hand(_ number: Int, _ what: String) {
            note(number, what)
            content.withLock { _ = $0.handed.insert(number) }
        }
        func givenBack(_ number: Int) {
            note(number, "given back")
            content.withLock { $0.givenBack[number, default: 0] += 1 }
        }
        func timer() -> Parcel {
            content.withLock { content in
                content.timers += 1
                return Parcel(number: content.timers, isOfTimer: true)
            }
        }
        func handled(_ parcel: Parcel) {
            if !parcel.isOfTimer { note(parcel.number, "handled by \(LightProc.current?.description ?? "")") }
            content.withLock { content in
                if parcel.isOfTimer {
                    content.fired[parcel.number, default: 0] += 1
                } else {
                    content.handled[parcel.number, default: 0] += 1
                }
            }
        }

        /// Asks, and counts how it ends.
        func ask(_ ref: ProcRef<Parcel>, within time: Duration) -> PendingReply<Int> {
            var number = 0
            let pending = ref.request(within: time) { reply -> Parcel in
                let parcel = self.parcel(reply)
                number = parcel.number
                return parcel
            }
            content.withLock { $0.asks += 1 }
            pending.whenComplete { [number] result in
                self.note(number, "\((try? result.get()).map { "answered \($0)" } ?? "\(result)")")
                self.content.withLock { $0.answers[number, default: 0] += 1 }
                if case .failure(let error) = result, error.code == .refused || error.code == .full {
                    self.content.withLock { content in
                        if content.handed.contains(number) { return }
                        content.history[number, default: []].append("given back")
                        content.givenBack[number, default: 0] += 1
                    }
                }
            }
            return pending
        }
    }

    /// What both kinds of context can do.
    private enum Place {
        case async(Context)
        case reactive(LightProc)

        func stash(_ parcel: Parcel) throws(StashFull<Parcel>) {
            switch self {
            case .async(let context): try context.stash(parcel, capacity: 5)
            case .reactive(let proc): try ReactiveContext<Worker>(proc).stash(parcel, capacity: 5)
            }
        }
        func unstash(_ count: Int) {
            switch self {
            case .async(let context): context.unstash(count)
            case .reactive(let proc): ReactiveContext<Worker>(proc).unstash(count)
            }
        }
        func forward(_ parcel: Parcel, to ref: ProcRef<Parcel>) -> Bool {
            switch self {
            case .async(let context): context.forward(parcel, to: ref)
            case .reactive(let proc): ReactiveContext<Worker>(proc).forward(parcel, to: ref)
            }
        }
        func start(_ key: String, after time: Duration, _ parcel: Parcel) {
            switch self {
            case .async(let context): context.timers.start(key, after: time, parcel)
            case .reactive(let proc): ReactiveContext<Worker>(proc).timers.start(key, after: time, parcel)
            }
        }
        func cancel(_ key: String) {
            switch self {
            case .async(let context): context.timers.cancel(key)
            case .reactive(let proc): ReactiveContext<Worker>(proc).timers.cancel(key)
            }
        }
        var proc: LightProc {
            switch self {
            case .async(let context): context.ref.proc
            case .reactive(let proc): proc
            }
        }
    }

    /// Does something with a message.
    private static func handle(_ parcel: Parcel, _ place: Place, _ world: World) throws {
        if parcel.isOfTimer { return world.handled(parcel) }
        if world.content.withLock({ $0.isQuiet }) {
            place.unstash(.max)
            world.handled(parcel)
            return parcel.reply?(parcel.number) ?? ()
        }
        switch world.draw(20) {
        case 0..<4:
            world.note(parcel.number, "stashed by \(place.proc)")
            do { return try place.stash(parcel) } catch { world.handled(error.message) }
        case 4:
            place.unstash(1 + world.draw(4))
            world.handled(parcel)
        case 5..<8:
            let next = world.someone
            world.hand(parcel.number, "forwarded to \(next) by \(place.proc)")
            if !place.forward(parcel, to: next) { world.givenBack(parcel.number) }
        case 8..<10:
            guard let reply = parcel.reply else { return world.handled(parcel) }
            let next = world.someone
            world.hand(parcel.number, "delegated to \(next) by \(place.proc)")
            let isTaken = reply.delegate(to: next) { Parcel(number: parcel.number, reply: $0) }
            if !isTaken { world.givenBack(parcel.number) }
        case 10:
            world.handled(parcel)
            place.start("\(world.draw(3))", after: .milliseconds(world.draw(4)), world.timer())
        case 11:
            world.handled(parcel)
            place.cancel("\(world.draw(3))")
        case 12:
            world.handled(parcel)
            let outcome = world.parcel()
            world.ask(world.someone, within: .milliseconds(1 + world.draw(9))).pipe(to: world.someone) { _ in outcome }
        case 13:
            world.handled(parcel)
            world.someone.tell(world.parcel(), after: .milliseconds(world.draw(5)))
        case 14:
            world.handled(parcel)
            throw Failure(number: parcel.number)
        case 15:
            world.handled(parcel)
            if world.draw(2) == 0 { place.proc.kill() } else { place.proc.stop() }
        default:
            world.handled(parcel)
            parcel.reply?(parcel.number)
        }
    }

    private struct Worker: Reactive {
        typealias Message = Parcel
        let world: World
        mutating func receive(_ parcel: consuming Parcel, in context: borrowing ReactiveContext<Self>) throws {
            try ConservationOfKeptMessagesTests.handle(parcel, .reactive(context.ref.proc), world)
        }
    }

    private static func group(_ name: String, _ world: World) -> Children {
        let restart: RestartType = world.draw(3) == 0 ? .transient : .permanent
        let count = 1 + world.draw(3)
        var group: Children
        switch world.draw(3) {
        case 0: group = Children(name, Worker(world: world), redundancy: count, restart: restart)
        case 1:
            group = Children(name, redundancy: count, restart: restart) { context in
                while true { try handle(try await context.receive(Parcel.self), .async(context), world) }
            }
        default:
            // Looks for one among others now and then, and takes what waits.
            group = Children(name, redundancy: count, restart: restart) { context in
                while true {
                    let rest = world.draw(3)
                    let found = try? await context.receive(
                        Parcel.self,
                        matching: { $0.number % 3 == rest || $0.isOfTimer },
                        within: .milliseconds(1)
                    )
                    if let found { try handle(found, .async(context), world) }
                    if let parcel = try await context.tryReceive(Parcel.self) {
                        try handle(parcel, .async(context), world)
                    } else if found == nil {
                        try handle(try await context.receive(Parcel.self), .async(context), world)
                    }
                }
            }
        }
        let overflow = MailboxPolicy.Overflow.allCases[world.draw(4)]
        switch world.draw(6) {
        case 0, 1: break
        case 2: group = group.mailbox(.bounded(1 + world.draw(5), overflow))
        case 3: group = group.mailbox(.unbounded.expiring(after: .milliseconds(5)))
        case 4: group = group.mailbox(.unbounded)
        default:
            group = group.mailbox(
                .bounded(8, overflow).prioritized(levels: 4) { (parcel: Parcel) in parcel.number % 4 }
            )
        }
        return group
    }

    @Test(arguments: RandomTest.seeds("kept messages have one fate", count: 100))
    func everyMessageHasOneFate(seed: UInt64) throws {
        let sim = Simulation(seed: seed)
        let world = World(seed)
        let names = (0..<2 + world.draw(4)).map { "group\($0)" }
        let groups = names.map { Self.group($0, world) }
        let tree = try sim.system.supervise(intensity: .unlimited) { for group in groups { group } }
        func look() throws {
            for name in names { if let group = try? tree.group(name, of: Parcel.self) { world.add(group.members) } }
        }
        try look()
        var handles: [Any] = []
        for _ in 0..<200 {
            let ref = world.someone
            switch world.draw(16) {
            case 0..<4:
                let parcel = world.parcel()
                if !ref.tell(parcel, lane: world.draw(4) == 0 ? .control : .user) { world.givenBack(parcel.number) }
            case 4..<6:
                let parcel = world.parcel()
                handles.append(
                    sim.executor.spawn {
                        do { try await ref.send(parcel) } catch {
                            if let error = error as? SendError<Parcel> { world.givenBack(error.message.number) }
                        }
                    }
                )
            case 6..<11: _ = world.ask(ref, within: .milliseconds(1 + world.draw(20)))
            case 11:
                let parcel = world.parcel()
                if let group = try? tree.group(names[world.draw(names.count)], of: Parcel.self), group.tell(parcel) {
                    break
                }
                world.givenBack(parcel.number)
            case 12: if world.draw(3) == 0 { ref.proc.kill() }
            case 13:
                try? tree.resize(group: names[world.draw(names.count)], to: 1 + world.draw(4))
                try look()
            case 14:
                guard world.draw(10) == 0 else { break }
                let name = names[world.draw(names.count)]
                handles.append(sim.executor.spawn { try? await tree.terminate(group: name) })
            default: sim.advance(by: .milliseconds(world.draw(5)))
            }
            if world.draw(3) == 0 { sim.drain() }
        }
        // What is stashed and put back again and again comes to rest.
        world.content.withLock { $0.isQuiet = true }
        sim.advance(by: .milliseconds(100))
        #expect(sim.stops(tree))
        sim.advance(by: .seconds(1))
        let content = world.content.withLock { $0 }
        let late = content.refs.reduce(0) { $0 + ($1.mailboxCounters?.lateAsks ?? 0) }
        #expect(content.handled.values.allSatisfy { $0 == 1 }, "handled at most once")
        #expect(content.fired.values.allSatisfy { $0 == 1 }, "timers fire once")
        #expect(content.givenBack.values.allSatisfy { $0 == 1 }, "given back at most once")
        let both = Set(content.handled.keys).intersection(content.givenBack.keys)
        #expect(both.isEmpty, "not handled and given back: \(both.map { content.history[$0] ?? [] })")
        #expect(content.answers.count == content.asks, "every ask ends")
        #expect(content.answers.values.allSatisfy { $0 == 1 }, "an ask ends once")
        #expect(
            content.sent == content.handled.count + content.givenBack.count + sim.system.deadLetters + late,
            "handled \(content.handled.count), given back \(content.givenBack.count), late \(late), \(sim.system.deadLetters) dead"
        )
        withExtendedLifetime(handles) {}
    }
}
