// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Runtime

/// A supervised child crashes; the next message is for its next incarnation.
struct Restarts {
    let system: BastionSystem
    let isAsync: Bool
    let traps: Bool

    struct Crash: Error {}

    enum Work: Sendable {
        case crash
        case hello(ProcRef<Driver.Message>)

        func perform(traps: Bool) throws {
            switch self {
            case .crash:
                if traps { fatalError("crash") }
                throw Crash()
            case .hello(let driver): driver.tell(.hi)
            }
        }
    }

    private struct Worker: Reactive {
        let traps: Bool
        mutating func receive(_ message: consuming Work, in context: borrowing ReactiveContext<Self>) throws {
            try message.perform(traps: traps)
        }
    }

    /// Has the worker crash, greets it, waits for the answer; again and again. Times each round.
    struct Driver: Reactive {
        enum Message: Sendable {
            case start(ProcRef<Work>)
            case hi
        }
        var left: Int
        let done: Latch
        let latencies: Latencies
        var worker: ProcRef<Work>?
        var began: UInt64 = 0
        mutating func receive(_ message: consuming Message, in context: borrowing ReactiveContext<Self>) {
            switch message {
            case .start(let worker): self.worker = worker
            case .hi:
                latencies.all.append(Machine.nanoseconds - began)
                left -= 1
            }
            if left == 0 { return done.arrive() }
            began = Machine.nanoseconds
            worker?.tell(.crash)
            worker?.tell(.hello(context.me))
        }
    }

    final class Latencies: @unchecked Sendable {
        // Sendable: the driver's, until it is done.
        var all: [UInt64] = []
    }

    /// Returns how long each took, in nanoseconds.
    func run(_ count: Int) -> [UInt64] {
        let traps = self.traps
        do {
            let tree = try system.supervise(intensity: .unlimited) {
                if isAsync {
                    Children("worker") { context in
                        for await work in context.messages(of: Work.self) { try work.perform(traps: traps) }
                    }
                } else {
                    Children("worker", Worker(traps: traps))
                }
            }
            let (done, latencies) = (Latch(), Latencies())
            latencies.all.reserveCapacity(count)
            system.spawn(Driver(left: count, done: done, latencies: latencies))
                .tell(.start(try tree.group("worker", of: Work.self).members[0]))
            done.blockingWait()
            let stopped = Latch()
            Task {
                await tree.stop()
                stopped.arrive()
            }
            stopped.blockingWait()
            return latencies.all
        } catch {
            fatalError("\(error)")
        }
    }
}
