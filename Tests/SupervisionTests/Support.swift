// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import Glibc
import LightProc
import Logging
import TestSupport
import Testing

@testable import Supervision

/// `SEED` and `SCALE` of the random tests, from the environment; printed so that a failure can be repeated.
enum RandomTest {
    static func seeds(_ test: String, count: Int) -> [UInt64] {
        let seed = environment("SEED").flatMap { UInt64($0) } ?? 1
        let scale = environment("SCALE").flatMap { Double($0) } ?? 1
        print("\(test): SEED=\(seed) SCALE=\(scale)")
        return (0..<max(1, Int(Double(count) * scale))).map { seed &+ UInt64($0) }
    }

    private static func environment(_ name: String) -> String? { getenv(name).map { String(cString: $0) } }
}

/// Hides a value from the optimiser and the compiler's diagnostics.
@inline(never) func opaque<T>(_ value: T) -> T { value }

extension Logger {
    static var silent: Logger { Logger(label: "silent", factory: { _ in SwiftLogNoOpLogHandler() }) }

    /// One that hands all that is logged, from `info` on, to a closure.
    static func keeping(_ keep: @escaping @Sendable (LogEvent, Metadata) -> Void) -> Logger {
        Logger(label: "kept", factory: { _ in KeptLog(keep: keep) })
    }

    private struct KeptLog: LogHandler {
        let keep: @Sendable (LogEvent, Metadata) -> Void
        var metadata: Metadata = [:]
        var logLevel = Level.info
        subscript(metadataKey key: String) -> MetadataValue? {
            get { metadata[key] }
            set { metadata[key] = newValue }
        }
        func log(event: LogEvent) { keep(event, metadata) }
    }
}

/// What happened, in order.
final class Trace: Sendable {
    private let kept = Locked<[String]>([])
    func callAsFunction(_ line: String) { kept.withLock { $0.append(line) } }
    var lines: [String] { kept.withLock { $0 } }
    func clear() { kept.withLock { $0 = [] } }
}

/// Off at first.
final class Switch: Sendable {
    private let isOn = Locked(false)
    func set(_ on: Bool = true) { isOn.withLock { $0 = on } }
    var value: Bool { isOn.withLock { $0 } }
}

/// A system in virtual time, driven by the test's thread.
struct Simulation {
    let executor: SeededExecutor
    let system: BastionSystem
    let trace = Trace()

    init(seed: UInt64 = 1, containsTraps: Bool = false) {
        executor = SeededExecutor(seed: seed, containsTraps: containsTraps)
        system = BastionSystem(name: "simulation", executor: executor, log: .silent)
    }

    func drain() { executor.drain() }
    func advance(by duration: Duration) { executor.advance(by: duration) }

    /// Notes a line with the virtual time in milliseconds.
    func note(_ line: String) { trace("\(milliseconds): \(line)") }

    var milliseconds: Int { Int(executor.now / .milliseconds(1)) }

    /// Stops a tree and drains; says whether it has ended.
    func stops(_ tree: SupervisorRef) -> Bool {
        let ended = Locked(false)
        tree.stop { ended.withLock { $0 = true } }
        drain()
        return ended.withLock { $0 }
    }
}

struct Failure: Error, Equatable, CustomStringConvertible {
    var number = 0
    var description: String { "failure \(number)" }
}

/// A reactive child that tells a trace of what happens to it.
struct Echo: Reactive {
    enum Message: Sendable {
        case value(Int)
        case fail
        case finish
        case count(Reply<Int>)
        case drop(Reply<Int>)
        case keep(Reply<Int>)
        case answerKept(Int)
        case failWith(Reply<Int>)
        case registerHooks(Int)
    }

    let name: String
    let trace: Trace
    var count = 0
    var kept: [Reply<Int>] = []

    init(_ name: String, _ trace: Trace) {
        self.name = name
        self.trace = trace
        trace("start \(name)")
    }

    mutating func receive(_ message: consuming Message, in context: borrowing ReactiveContext<Self>) throws {
        switch message {
        case .value(let n):
            count += 1
            trace("\(name) \(n)")
        case .fail: throw Failure()
        case .finish: context.stop()
        case .count(let reply): reply(count)
        case .drop: break
        case .keep(let reply): kept.append(reply)
        case .answerKept(let n):
            for reply in kept { reply(n) }
            kept = []
        case .failWith: throw Failure(number: 7)
        case .registerHooks(let n):
            for i in 0..<n { context.onExit { [name, trace] reason in trace("\(name) hook \(i): \(reason)") } }
        }
    }
}

/// The result of an ask in a test that cannot wait.
final class Answer<Value: Sendable>: Sendable {
    private let results = Locked<[Result<Value, AskError>]>([])

    init(_ pending: PendingReply<Value>) {
        // Not `whenComplete`: that takes a turn on the executor, and these tests ask at what moment an ask is settled.
        pending.whenSettled { [self] result in results.withLock { $0.append(result) } }
    }

    var count: Int { results.withLock { $0.count } }
    var result: Result<Value, AskError>? { results.withLock { $0.first } }
    var value: Value? { if case .success(let value) = result { value } else { nil } }
    var error: AskError? { if case .failure(let error) = result { error } else { nil } }
}

/// Runs a test on a pool of two workers.
func withPool(_ body: (BastionSystem) async throws -> Void) async throws {
    let pool = try WorkerPool(workers: 2)
    let system = BastionSystem(executor: pool, log: .silent)
    try await body(system)
    await system.stop()
    await pool.shutDownElsewhere()
}
