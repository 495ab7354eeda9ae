// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Runtime
import Synchronization

/// What is called when: around the starts and after the ends of members and of supervisors, one within the other.
@main
struct CallbacksExample: FortProgram {
    /// The first failure of the program itself ends it, with status 70.
    static let intensity = RestartIntensity(0, within: .seconds(1))

    func run(in context: Context) async throws {
        let diary = Diary()
        let shop = try await context.supervise(
            "shop",
            startingWithin: .seconds(30),
            callbacks: diary.callbacks("shop")
        ) {
            Children("counter") { context in
                let till = try await context.supervise(
                    "till",
                    startingWithin: .seconds(30),
                    intensity: .unlimited,
                    callbacks: diary.callbacks("till")
                ) {
                    Children("clerk", Clerk()).callbacks(diary.callbacks("clerk"))
                }
                // It has started when it says so: after all that it starts itself.
                context.ready()
                let clerk: Group<Clerk.Message> = try till.group("clerk")
                for await message in context.messages(of: Clerk.Message.self) { clerk.tell(message) }
            }
            .signalsReady()
            .callbacks(diary.callbacks("counter"))
        }
        let counter: Group<Clerk.Message> = try shop.group("counter")

        // The clerk faints and is restarted. The customer behind is served by the next one.
        counter.tell(.faint)
        let customer = context.me(as: Int.self)
        counter.tell(.serve(customer))
        let served = try await context.receive(Int.self, within: .seconds(30))
        await shop.stop()

        let expected = [
            "shop: before start", "counter: before start", "till: before start", "clerk: before start",
            "clerk: after start", "till: after start", "counter: after start", "shop: after start",
            "clerk: before restart 1 after error: fainted", "clerk: after restart 1 after error: fainted",
            "clerk: after stop: shutdown", "till: after stop: shutdown", "counter: after stop: shutdown",
            "shop: after stop: shutdown",
        ]
        for line in diary.lines { print(line) }
        guard served == 1, diary.lines == expected else { throw WrongResult() }
    }
}

/// Serves customers, or faints.
struct Clerk: Reactive {
    enum Message: Sendable {
        case serve(ProcRef<Int>)
        case faint
    }
    var served = 0

    mutating func receive(_ message: consuming Message, in context: borrowing ReactiveContext<Clerk>) throws {
        switch message {
        case .serve(let customer):
            served += 1
            customer.tell(served)
        case .faint: throw Fainted()
        }
    }
}

/// What was called, in order.
final class Diary: Sendable {
    private let kept = Mutex<[String]>([])
    var lines: [String] { kept.withLock { $0 } }

    func callbacks(_ name: String) -> Callbacks {
        Callbacks(
            beforeStart: { _ in self.note("\(name): before start") },
            afterStart: { _ in self.note("\(name): after start") },
            beforeRestart: { self.note("\(name): before restart \($0.restarts) after \($0.failure!.reason)") },
            afterRestart: { self.note("\(name): after restart \($0.restarts) after \($0.failure!.reason)") },
            afterStop: { self.note("\(name): after stop: \($0.reason!)") }
        )
    }

    private func note(_ line: String) { kept.withLock { $0.append(line) } }
}

struct Fainted: Error, CustomStringConvertible {
    let description = "fainted"
}

struct WrongResult: Error {}
