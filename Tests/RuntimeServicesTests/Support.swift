// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import LightProc
import Logging
import RuntimeServices
import ServiceLifecycle
import Supervision
import TestSupport

extension Logger {
    static var silent: Logger { Logger(label: "silent", factory: { _ in SwiftLogNoOpLogHandler() }) }
}

/// Hides a value from the optimiser and the compiler's diagnostics.
@inline(never) func opaque<T>(_ value: T) -> T { value }

struct Failure: Error, Equatable {}

/// What happened, in order; who waits for a line gets on when it has come so often.
final class Trace: Sendable {
    private struct Content {
        var lines: [String] = []
        var waiting: [(line: String, count: Int, continuation: UnsafeContinuation<Void, Never>)] = []
    }
    private let content = Locked(Content())

    var lines: [String] { content.withLock { $0.lines } }

    func callAsFunction(_ line: String) {
        let reached = content.withLock { content in
            content.lines.append(line)
            let count = content.lines.count { $0 == line }
            let reached = content.waiting.filter { $0.line == line && $0.count <= count }
            content.waiting.removeAll { $0.line == line && $0.count <= count }
            return reached
        }
        for waiter in reached { waiter.continuation.resume() }
    }

    func wait(for line: String, times count: Int = 1) async {
        await suspended { continuation in
            let isThere = content.withLock { content in
                if content.lines.count(where: { $0 == line }) >= count { return true }
                content.waiting.append((line, count, continuation))
                return false
            }
            if isThere { continuation.resume() }
        }
    }
}

/// A system in virtual time, driven by the test's thread.
struct Simulation {
    let executor: SeededExecutor
    let system: BastionSystem
    let trace = Trace()

    init(seed: UInt64 = 1) {
        executor = SeededExecutor(seed: seed)
        system = BastionSystem(name: "simulation", executor: executor, log: .silent)
    }

    func drain() { executor.drain() }
    func advance(by duration: Duration) { executor.advance(by: duration) }

    /// Notes a line with the virtual time in milliseconds.
    func note(_ line: String) { trace("\(Int(executor.now / .milliseconds(1))): \(line)") }

    /// Has the reason of the last end of each member noted, and the time.
    func notesEnd(_ children: Children) -> Children {
        let (trace, executor) = (trace, executor)
        return children.callbacks(
            Callbacks(afterStop: { occasion in
                trace("\(Int(executor.now / .milliseconds(1))): \(occasion.reason.map { "\($0)" } ?? "nil")")
            })
        )
    }
}

/// Runs a test on a pool of two workers.
func withPool(_ body: (BastionSystem) async throws -> Void) async throws {
    let pool = try WorkerPool(workers: 2)
    let system = BastionSystem(executor: pool, log: .silent)
    try await body(system)
    await system.stop()
    await pool.shutDownElsewhere()
}

/// Tells a trace what it is asked to do, and returns when it is asked for what it obeys. Runs once.
final class Obedient: Service {
    struct Orders: OptionSet {
        let rawValue: Int
        static let shutdown = Orders(rawValue: 1)
        static let cancellation = Orders(rawValue: 2)
    }
    private let name: String
    private let trace: Trace
    private let obeyed: Orders
    private let hasRun = Locked(false)

    init(_ name: String, _ trace: Trace, obeys orders: Orders = [.shutdown, .cancellation]) {
        self.name = name
        self.trace = trace
        obeyed = orders
        trace("make \(name)")
    }

    func run() async throws {
        let ranBefore = hasRun.withLock { hasRun in
            defer { hasRun = true }
            return hasRun
        }
        precondition(!ranBefore, "run twice")
        trace("run \(name)")
        let gate = SleepGate()
        await withTaskCancellationHandler {
            await withGracefulShutdownHandler {
                await gate.wait()
            } onGracefulShutdown: { [self] in
                trace("shutdown \(name)")
                if obeyed.contains(.shutdown) { gate.open() }
            }
        } onCancel: {
            trace("cancel \(name)")
            if obeyed.contains(.cancellation) { gate.open() }
        }
        trace("return \(name)")
    }
}
