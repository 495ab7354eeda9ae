// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Runtime

/// A job in two stages that are of no use without each other: they are linked, so that a trap in one ends both, and whoever
/// ordered the job traps exits, so that it learns of it and orders the job anew.
///
///     attempt 1: the stages ended: trap: index out of range
///     attempt 2: 499500
@main
struct LinkedStages {
    static func main() async {
        let outcome = bastion.spawn("coordinator") { context in
            context.trapExits { Event.ended($0) }
            for attempt in 1... {
                let summer = context.spawnLinked("summer", of: Int?.self, body: summer(for: context.me()))
                context.spawnLinked("reader") { context in
                    // Linked with each other, too: a circle of three.
                    context.link(summer)
                    try await read(attempt, into: summer)
                }
                switch try await finish(context, stages: 2) {
                case .done(let sum):
                    print("attempt \(attempt): \(sum)")
                    if sum != 499_500 || attempt != 2 { throw WrongSum() }
                    return
                case .ended(let exit): print("attempt \(attempt): the stages ended: \(exit.reason)")
                }
            }
        }
        let reason = await ProcHandle(outcome.proc).exit()
        await bastion.stop()
        guard case .normal = reason else { fatalError("the coordinator ended: \(reason)") }
    }

    /// What the coordinator hears.
    enum Event: Sendable {
        case done(Int)
        case ended(Exit)
    }

    struct WrongSum: Error {}

    /// Waits until both stages have ended; returns the sum, or else the first end that was a failure.
    nonisolated(nonsending) static func finish(_ context: Context, stages: Int) async throws -> Event {
        var result: Event?
        var running = stages
        while running > 0 || result == nil {
            let event = try await context.receive(Event.self)
            switch event {
            case .done: result = event
            case .ended(let exit):
                running -= 1
                if exit.reason.isFailure, result == nil { result = event }
            }
        }
        return result ?? .done(0)
    }

    /// Reads numbers, and sends them on; the first time it reads one too many.
    static func read(_ attempt: Int, into summer: ProcRef<Int?>) async throws {
        let numbers = Array(0..<1000)
        for index in 0..<(attempt == 1 ? 1001 : 1000) { summer.tell(numbers[index]) }
        summer.tell(nil)
    }

    /// Adds up what comes until there is no more.
    static func summer(for coordinator: ProcRef<Event>) -> @Sendable (Context) async throws -> Void {
        { context in
            var sum = 0
            while let number = try await context.receive(Int?.self) { sum += number }
            coordinator.tell(.done(sum))
        }
    }
}
