// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import Runtime
import Synchronization

/// Many children under one supervisor, of whom one in a hundred fails every second, one in ten of these by a trap.
///
/// Prints what happened, and ends the program with status 1 when anything does not add up: every failure is one restart, what
/// was sent behind it is handled by the next incarnation, all children answer in the end, those who do not fail have handled
/// every message, each trap was contained, and memory has grown by no more than what is known to leak and what a failure leaves
/// in a child. Each trap is a line on standard error.
struct RestartStorm {
    let children: Int
    let seconds: Int
    /// One child in so many fails every second.
    private static let share = 100
    /// One failure in so many is a trap.
    private static let trapShare = 10
    /// One child in so many never fails, and counts messages.
    private static let bystanderShare = 10
    private static let ticksASecond = 20
    /// What a failure may leave with its child: how it ended, the report of a trap.
    private static let bytesAFailure = 512
    private static let bytesATrap = 8 << 10
    private static let tolerance = 32 << 20

    func run(_ system: BastionSystem) async {
        let tally = Tally()
        let restartsBefore = system.restarts
        let containedBefore = Containment.contained
        var watch = Stopwatch()
        let tree: SupervisorRef
        let members: [ProcRef<Child.Message>]
        do {
            tree = try await system.supervise("storm", startingWithin: .seconds(3600), intensity: .unlimited) {
                Children("child", Child(tally: tally), redundancy: children)
            }
            members = try tree.group("child").members
        } catch {
            print("FAILED storm: it does not start: \(error)")
            exit(1)
        }
        print("\(children) children have started, \(watch.lap(children)) ns of processor time each")
        var random = SystemRandomNumberGenerator()
        var sent = Sent()
        let failuresATick = Double(children) / Double(Self.share * Self.ticksASecond)
        var due = 0.0
        let (resident, leaked) = (IdleMemory.residentBytes(), Containment.leaked.bytes)
        let clock = ContinuousClock()
        let began = clock.now
        for tick in 1...seconds * Self.ticksASecond {
            due += failuresATick
            while Double(sent.failures) < due {
                let index = Int.random(in: 0..<children, using: &random)
                if index % Self.bystanderShare == 0 {
                    members[index].tell(.count)
                    sent.bystanders += 1
                    continue
                }
                sent.failures += 1
                if sent.failures % Self.trapShare == 0 {
                    sent.traps += 1
                    members[index].tell(.trap)
                } else {
                    members[index].tell(.fail)
                }
                members[index].tell(.greet)
            }
            try? await clock.sleep(until: began + .milliseconds(1000 / Self.ticksASecond * tick))
        }
        let stormed = clock.now - began
        await tally.greeted.wait(for: sent.failures)
        let late = clock.now - began - stormed
        let cost = watch.lap(max(sent.failures, 1))
        for member in members { member.tell(.answer) }
        await tally.answered.wait(for: children)
        let grown = IdleMemory.residentBytes() - resident
        let counted = Containment.leaked.bytes - leaked
        let restarts = system.restarts - restartsBefore
        let contained = Containment.contained - containedBefore
        print(
            """
            \(sent.failures) failures within \(stormed), \(sent.traps) of them traps; \(cost) ns of processor time a failure
            \(restarts) restarts, \(contained) traps contained; the last was back \(late) after the last failure
            \(tally.greeted.count) messages behind failures were handled, \(tally.counted.count) of \(sent.bystanders) by bystanders
            \(tally.answered.count) children answer
            memory: \(resident >> 20) MiB before, \(grown >> 20) MiB more afterwards, \(counted >> 20) MiB counted as leaked
            """
        )
        var complaints: [String] = []
        if restarts != sent.failures { complaints.append("\(restarts) restarts for \(sent.failures) failures") }
        if contained != sent.traps { complaints.append("\(contained) of \(sent.traps) traps contained") }
        if tally.counted.count != sent.bystanders { complaints.append("bystanders have missed messages") }
        if grown > counted + sent.failures * Self.bytesAFailure + sent.traps * Self.bytesATrap + Self.tolerance {
            complaints.append("memory has grown by \(grown) bytes")
        }
        await tree.stop()
        if tally.starts.count != children + sent.failures { complaints.append("\(tally.starts.count) starts") }
        print(complaints.isEmpty ? "ok storm" : "FAILED storm: \(complaints.joined(separator: "; "))")
        if !complaints.isEmpty { exit(1) }
    }

    private struct Sent {
        var failures = 0
        var traps = 0
        var bystanders = 0
    }

    private final class Tally: Sendable {
        let starts = Count()
        let greeted = Count()
        let counted = Count()
        let answered = Count()
    }

    /// Something that is counted, and waited for. A wait that never ends is the watchdog's of whoever runs the program.
    private final class Count: Sendable {
        private let number = Atomic(0)
        private let target = Atomic(Int.max)
        private let gate = Gate()

        // ordering: sequentiallyConsistent: the target is set before the number is read, and the other way round.
        var count: Int { number.load(ordering: .sequentiallyConsistent) }

        func add() {
            let now = number.add(1, ordering: .sequentiallyConsistent).newValue
            if now >= target.load(ordering: .sequentiallyConsistent) { gate.openLater() }
        }

        func wait(for target: Int) async {
            self.target.store(target, ordering: .sequentiallyConsistent)
            if count < target { await gate.wait() }
        }
    }

    private struct Failure: Error {}

    private struct Child: Reactive {
        enum Message: Sendable { case fail, trap, greet, count, answer }
        let tally: Tally
        init(tally: Tally) {
            self.tally = tally
            tally.starts.add()
        }
        mutating func receive(_ message: consuming Message, in context: borrowing ReactiveContext<Self>) throws {
            switch message {
            case .fail: throw Failure()
            case .trap: fatalError("crash")
            case .greet: tally.greeted.add()
            case .count: tally.counted.add()
            case .answer: tally.answered.add()
            }
        }
    }
}
