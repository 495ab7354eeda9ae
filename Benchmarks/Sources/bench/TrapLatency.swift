// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Glibc
import Runtime
import Synchronization

/// One thing of which every single occurrence is timed, because its percentiles count.
struct SampledScenario: Sendable {
    let name: String
    let unit: String
    let samples: Int
    /// Returns one duration, in nanoseconds, for each sample.
    let body: @Sendable (BastionSystem, Int) async throws -> [UInt64]
}

/// One trap, from the instruction before it to the next incarnation's first message.
private final class Turn: Sendable {
    private let started = Atomic<UInt64>(0)
    private let ended = Atomic<UInt64>(0)
    let gate = Gate()

    func start() { started.store(now(), ordering: .relaxed) }
    func end() {
        ended.store(now(), ordering: .relaxed)
        Task { await gate.open() }
    }
    var nanoseconds: UInt64 { ended.load(ordering: .relaxed) - started.load(ordering: .relaxed) }

    private func now() -> UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }
}

private struct Fragile: Reactive {
    typealias Message = (Turn, isTrap: Bool)
    mutating func receive(_ message: consuming Message, in context: borrowing ReactiveContext<Self>) {
        guard message.isTrap else { return message.0.end() }
        message.0.start()
        _ = opaque([1])[opaque(1)]
    }
}

extension SampledScenario {
    static let all: [SampledScenario] = [
        SampledScenario(name: "trap_reactive", unit: "trap to next message", samples: 2000) { system, count in
            try await samples(of: Children("fragile", Fragile()), in: system, count)
        },
        SampledScenario(name: "trap_async", unit: "trap to next message", samples: 2000) { system, count in
            let fragile = Children("fragile") { context in
                for await message in context.messages(of: Fragile.Message.self) {
                    if message.isTrap {
                        message.0.start()
                        _ = opaque([1])[opaque(1)]
                    }
                    message.0.end()
                }
            }
            return try await samples(of: fragile, in: system, count)
        },
    ]

    private static func samples(of child: Children, in system: BastionSystem, _ count: Int) async throws -> [UInt64] {
        let tree = try system.supervise(intensity: .unlimited) { child }
        let fragile = try tree.group("fragile", of: Fragile.Message.self).next
        var samples: [UInt64] = []
        for _ in 0..<count {
            let turn = Turn()
            fragile.tell((turn, isTrap: true))
            fragile.tell((turn, isTrap: false))
            await turn.gate.wait()
            // One trap alone is measured: what is left of the last one (the dead thread, its replacement) is done by then.
            try await Task.sleep(for: .milliseconds(1))
            samples.append(turn.nanoseconds)
        }
        await tree.stop()
        return samples
    }
}
