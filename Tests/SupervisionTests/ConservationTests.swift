// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import LightProc
import Testing

@testable import Supervision

/// Random programs: groups of both kinds with all kinds of mailboxes, senders that tell, send, ask and flood, handlers that fail,
/// trap, stop and are killed. Every message is handled once, or given back, or counted as dropped; never two of these.
@Suite struct ConservationTests {
    private struct Parcel: Sendable {
        let number: Int
        let order: Order
        let reply: Reply<Int>?
    }

    private enum Order: CaseIterable, Sendable { case nothing, work, fail, trap, stop }

    /// What became of the messages.
    private final class Ledger: Sendable {
        struct Content {
            var sent = 0
            var handled: [Int: Int] = [:]
            var givenBack: [Int: Int] = [:]
            var answers: [Int: Int] = [:]
        }
        let content = Locked(Content())
        func next() -> Int {
            content.withLock { content in
                content.sent += 1
                return content.sent
            }
        }
        func handled(_ number: Int) { content.withLock { $0.handled[number, default: 0] += 1 } }
        func givenBack(_ number: Int) { content.withLock { $0.givenBack[number, default: 0] += 1 } }
        func answered(_ number: Int) { content.withLock { $0.answers[number, default: 0] += 1 } }
    }

    private struct Worker: Reactive {
        let ledger: Ledger
        mutating func receive(_ parcel: consuming Parcel, in context: borrowing ReactiveContext<Self>) throws {
            let parcel = parcel
            ledger.handled(parcel.number)
            switch parcel.order {
            case .nothing: break
            case .work: parcel.reply?(parcel.number)
            case .fail: throw Failure(number: parcel.number)
            case .trap: throw SimulatedTrap(of: LightProc.current!)
            case .stop: context.stop()
            }
        }
    }

    private static func group(_ name: String, _ ledger: Ledger, using random: inout SplitMix64) -> Children {
        let restart = RestartType.allCases[random.next(below: 3)]
        let backoff: Backoff = random.next(below: 2) == 0 ? .none : .constant(.milliseconds(3))
        let count = 1 + random.next(below: 3)
        var group: Children
        switch random.next(below: 3) {
        case 0:
            group = Children(name, Worker(ledger: ledger), redundancy: count, restart: restart, backoff: backoff)
        case 1:
            group = Children(
                name,
                handling: Parcel.self,
                redundancy: count,
                restart: restart,
                backoff: backoff,
                handler: { parcel, context in
                    ledger.handled(parcel.number)
                    try await Self.obey(parcel, context)
                }
            )
        default:
            group = Children(name, redundancy: count, restart: restart, backoff: backoff) { context in
                while true {
                    let parcel = try await context.receive(Parcel.self)
                    ledger.handled(parcel.number)
                    try await Self.obey(parcel, context)
                }
            }
        }
        let overflow = MailboxPolicy.Overflow.allCases[random.next(below: 4)]
        switch random.next(below: 5) {
        case 0: break
        case 1: group = group.mailbox(.bounded(1 + random.next(below: 5), overflow))
        case 2: group = group.mailbox(.unbounded.expiring(after: .milliseconds(2)))
        case 3: group = group.mailbox(.unbounded.shedding(above: .milliseconds(1), for: .milliseconds(4)))
        default:
            group = group.mailbox(
                .bounded(8, overflow).prioritized(levels: 4) { (parcel: Parcel) in parcel.number % 4 }
            )
        }
        if random.next(below: 3) == 0 {
            let verdict = PoisonPolicy.Verdict.allCases[random.next(below: 4)]
            group = group.poison(
                .after(1, key: { (parcel: Parcel) in "\(parcel.number % 3)" }, decide: { _ in verdict })
            )
        }
        return group
    }

    private static func obey(_ parcel: Parcel, _ context: Context) async throws {
        switch parcel.order {
        case .nothing: break
        case .work:
            try await context.sleep(for: .milliseconds(1))
            parcel.reply?(parcel.number)
        case .fail: throw Failure(number: parcel.number)
        case .trap: await context.proc.trapHere()
        case .stop: context.stop()
        }
    }

    @Test(arguments: RandomTest.seeds("every message has one fate", count: 60))
    func everyMessageHasOneFate(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        let sim = Simulation(seed: seed)
        let ledger = Ledger()
        let letters = Locked(0)
        let observation = sim.system.observeDeadLetters { _ in letters.withLock { $0 += 1 } }
        let names = (0..<2 + random.next(below: 4)).map { "group\($0)" }
        let groups = names.map { Self.group($0, ledger, using: &random) }
        let tree = try sim.system.supervise(intensity: .unlimited) { for group in groups { group } }
        var refs: [ProcRef<Parcel>] = []
        for name in names { refs += try tree.group(name, of: Parcel.self).members }
        var senders: [Any] = []
        var asks = 0
        for _ in 0..<300 {
            let ref = refs[random.next(below: refs.count)]
            let order = random.next(below: 4) == 0 ? Order.allCases[random.next(below: 5)] : .work
            func parcel(_ reply: Reply<Int>? = nil) -> Parcel {
                Parcel(number: ledger.next(), order: order, reply: reply)
            }
            switch random.next(below: 12) {
            case 0..<4:
                do { try ref.trySend(parcel()) } catch { ledger.givenBack(error.message.number) }
            case 4..<6:
                let parcel = parcel()
                if !ref.tell(parcel) { ledger.givenBack(parcel.number) }
            case 6:
                let parcel = parcel()
                if !ref.tell(parcel, lane: .control) { ledger.givenBack(parcel.number) }
            case 7..<9:
                let parcel = parcel()
                let handle = sim.executor.spawn {
                    do { try await ref.send(parcel) } catch {
                        if let error = error as? SendError<Parcel> { ledger.givenBack(error.message.number) }
                    }
                }
                if random.next(below: 3) == 0 { handle.cancel() }
                senders.append(handle)
            case 9..<11:
                asks += 1
                var number = 0
                ref.request(within: .milliseconds(1 + random.next(below: 20))) { reply in
                    let parcel = parcel(reply)
                    number = parcel.number
                    return parcel
                }.whenComplete { [number] result in
                    ledger.answered(number)
                    if case .failure(let error) = result, error.code == .refused || error.code == .full {
                        ledger.givenBack(number)
                    }
                }
            default:
                if random.next(below: 4) == 0 { ref.proc.kill() }
                if random.next(below: 4) == 0 { ref.releaseParked() }
            }
            if random.next(below: 3) == 0 { sim.drain() }
            if random.next(below: 10) == 0 { sim.advance(by: .milliseconds(random.next(below: 5))) }
        }
        sim.advance(by: .milliseconds(100))
        #expect(sim.stops(tree))
        sim.advance(by: .seconds(1))
        let late = Set(refs.map(\.id)).compactMap { id in refs.first { $0.id == id }?.mailboxCounters?.lateAsks }
            .reduce(0, +)
        let content = ledger.content.withLock { $0 }
        #expect(content.handled.values.allSatisfy { $0 == 1 }, "handled at most once")
        #expect(content.givenBack.values.allSatisfy { $0 == 1 }, "given back at most once")
        #expect(Set(content.handled.keys).isDisjoint(with: content.givenBack.keys), "not handled and given back")
        #expect(content.answers.count == asks && content.answers.values.allSatisfy { $0 == 1 }, "an ask ends once")
        #expect(
            content.sent
                == content.handled.count + content.givenBack.count + sim.system.deadLetters + late,
            "handled \(content.handled.count), given back \(content.givenBack.count), late \(late), \(sim.system.deadLetters) dead"
        )
        #expect(letters.withLock { $0 } == sim.system.deadLetters, "observers are told of all")
        observation.cancel()
        withExtendedLifetime(senders) {}
    }
}
