// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import LightProc
import Testing

@testable import Supervision

/// Children that start and end as a test says, in virtual time: `+a` is the start of `a`, `!a` one that failed, `-a error` its end.
struct Cast {
    enum Kind: CaseIterable, Sendable { case reactive, async }

    /// What a child is told.
    enum Cue: Sendable {
        case finish, fail, trap
        case echo(Int)
    }

    /// Ways to end.
    enum End: String, CaseIterable, Sendable {
        case normal, shutdown, error, trap, killed
        /// It fails, and so does its next start.
        case startFailure = "start failure"

        var isFailure: Bool { self != .normal && self != .shutdown }
        var reason: String { self == .startFailure ? "error" : rawValue }
    }

    let sim: Simulation
    var trace: Trace { sim.trace }
    /// How many of the next starts fail, by name.
    let failures = Failures()

    final class Failures: Sendable {
        private let left = Locked<[String: Int]>([:])
        func set(_ count: Int, for name: String) { left.withLock { $0[name] = count } }
        func take(_ name: String) -> Bool {
            left.withLock { left in
                guard let count = left[name], count > 0 else { return false }
                left[name] = count - 1
                return true
            }
        }
    }

    init(seed: UInt64 = 1, containsTraps: Bool = false) { sim = Simulation(seed: seed, containsTraps: containsTraps) }

    static func kind(_ reason: ExitReason) -> String {
        switch reason {
        case .normal: "normal"
        case .shutdown: "shutdown"
        case .error: "error"
        case .trap: "trap"
        case .killed: "killed"
        case .deadlineExceeded, .unresponsive, .linked, .noProcess: "\(reason)"
        }
    }

    struct Player: Reactive {
        typealias Message = Cue
        let name: String
        let trace: Trace

        init(_ name: String, _ trace: Trace, _ failures: Failures) throws {
            (self.name, self.trace) = (name, trace)
            if failures.take(name) {
                trace("!\(name)")
                throw Failure()
            }
            trace("+\(name)")
            LightProc.current?.onExit { trace("-\(name) \(Cast.kind($0))") }
        }

        mutating func receive(_ message: consuming Cue, in context: borrowing ReactiveContext<Player>) throws {
            switch message {
            case .finish: context.stop()
            case .fail: throw Failure()
            case .trap: throw SimulatedTrap(of: context.me.proc)
            case .echo(let n): trace("\(name) \(n)")
            }
        }
    }

    func child(
        _ name: String,
        _ kind: Kind = .async,
        restart: RestartType = .permanent,
        backoff: Backoff = .none
    ) -> Children {
        let (trace, failures) = (trace, failures)
        switch kind {
        case .reactive:
            return Children(name, try Player(name, trace, failures), restart: restart, backoff: backoff)
        case .async:
            return Children(name, restart: restart, backoff: backoff) { context in
                if failures.take(name) {
                    trace("!\(name)")
                    throw Failure()
                }
                trace("+\(name)")
                context.onExit { trace("-\(name) \(Cast.kind($0))") }
                context.ready()
                for await cue in context.messages(of: Cue.self) {
                    switch cue {
                    case .finish: return
                    case .fail: throw Failure()
                    case .trap: await context.proc.trapHere()
                    case .echo(let n): trace("\(name) \(n)")
                    }
                }
            }
            .signalsReady()
        }
    }

    /// One that takes no notice of being asked to stop.
    func stubborn(_ name: String, _ time: ShutdownTime) -> Children {
        let trace = trace
        return Children(name, shutdownTime: time) { context in
            trace("+\(name)")
            context.onExit { trace("-\(name) \(Cast.kind($0))") }
            await suspended { (_: UnsafeContinuation<Void, Never>) in }
        }
    }

    /// One that is ready after a time.
    func slow(_ name: String, _ time: Duration) -> Children {
        let (trace, sim) = (trace, sim)
        return Children(name) { context in
            trace("?\(name)")
            context.onExit { trace("-\(name) \(Cast.kind($0))") }
            await suspended { continuation in sim.executor.schedule(after: time) { continuation.resume() }
            }
            if context.isStopping { return }
            trace("+\(name)")
            context.ready()
            await context.untilStopped()
        }
        .signalsReady()
    }

    func ref(_ path: String) throws -> ProcRef<Cue> {
        try sim.system.lookup(try ProcPath(parsing: "/shop/\(path)-0"), of: Cue.self)
    }

    func end(_ path: String, _ end: End) throws {
        let ref = try ref(path)
        switch end {
        case .normal: ref.tell(.finish)
        case .shutdown: ref.proc.stop()
        case .error: ref.tell(.fail)
        case .trap: ref.tell(.trap)
        case .killed: ref.proc.kill()
        case .startFailure:
            failures.set(1, for: path.split(separator: "/").last.map(String.init) ?? path)
            ref.tell(.fail)
        }
        sim.drain()
    }

    /// The lines since the last call.
    func news() -> [String] {
        defer { trace.clear() }
        return trace.lines
    }

    /// What an async closure returned once all is at rest; nil if it has not.
    func result<Value: Sendable>(_ body: @escaping @Sendable () async throws -> Value) throws -> Value? {
        let handle = sim.executor.spawn { try await body() }
        sim.drain()
        switch handle.knownOutcome {
        case .finished(let value): return value
        case .failed(.error(let error)): throw error
        case .failed: return nil
        }
    }

    func code(_ body: @escaping @Sendable () async throws -> Void) -> SupervisionError.Code? {
        do {
            _ = try result(body)
            return nil
        } catch {
            return (error as? SupervisionError)?.code
        }
    }
}
