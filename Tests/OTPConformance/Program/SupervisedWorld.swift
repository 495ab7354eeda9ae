// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import Glibc
import LightProc
import Logging
import Supervision

/// A scenario on our supervisors, under the seeded executor, in virtual time. The trace must not depend on the seed.
final class SupervisedWorld: ScenarioWorld {
    private let executor: SeededExecutor
    private let halt = Halt()
    private let system: BastionSystem
    private let witness: Witness
    private let root: SupervisorRef
    private let name: String
    /// Above each supervisor but the root.
    private var parents: [String: String] = [:]
    /// What dynamic supervisors start.
    private var templates: [String: ChildSpec] = [:]
    /// As it was at rest.
    private var look = Look()

    /// What is seen of a supervisor's children.
    private struct Look: Sendable {
        var tree = ""
        var running: Set<String> = []
        var down: Set<String> = []
        /// Whether nothing is under way.
        var isAtRest = true
    }

    init(_ scenario: Scenario, seed: UInt64) {
        name = scenario.name
        let executor = SeededExecutor(seed: seed, workers: 4, containsTraps: false, observer: halt)
        self.executor = executor
        system = BastionSystem(
            name: "otp",
            executor: executor,
            log: Logger(label: "otp", factory: { _ in SwiftLogNoOpLogHandler() })
        )
        let witness = Witness { executor.now }
        self.witness = witness
        let (system, maker) = (system, TreeMaker(witness: witness))
        witness.note("start root")
        let started = Self.wait(executor, scenario.name) {
            try await system.supervise(
                "root",
                startingWithin: Self.ever,
                strategy: scenario.flags.restartStrategy,
                intensity: scenario.flags.restartIntensity,
                autoShutdown: scenario.flags.automaticShutdown
            ) {
                for children in maker.children(scenario.children, below: scenario.flags) { children }
            }
        }
        switch started {
        case .success(let root): self.root = root
        case .failure(let error): fail("scenario \(scenario.name): the tree does not start: \(error)", EX_SOFTWARE)
        }
        remember(scenario.children, below: "root", scenario.flags)
        let root = self.root
        system.spawn("watcher", of: Down.self) { context in
            context.monitor(root)
            let down: Down = try await context.receive()
            witness.rootEnded(down.reason)
        }
        look.running = ["root"]
    }

    private func remember(_ elements: [TreeElement], below parent: String, _ flags: SupervisorFlags) {
        for element in elements {
            switch element {
            case .child(let spec):
                if flags.strategy == .simpleOneForOne { templates[parent] = spec }
            case .supervisor(let name, let flags, _, let below):
                parents[name] = parent
                remember(below, below: name, flags)
            }
        }
    }

    var now: Duration { executor.now }
    func takeLog() -> [LogLine] { witness.takeLog() }
    func takeTold() -> [String] { witness.takeTold() }
    var tree: String? { witness.rootReason == nil ? look.tree : nil }
    var rootReason: String { witness.rootReason?.otpWord ?? "alive" }

    func stop() {
        let root = root
        _ = wait { await root.stop() }
        executor.drain()
    }

    // MARK: Running

    /// Longer than any scenario.
    private static var ever: Duration { .seconds(1_000_000) }

    /// Runs a closure to its end, and what else there is. Time passes as needed.
    private static func wait<Value: Sendable>(
        _ executor: SeededExecutor,
        _ name: String,
        _ body: @escaping @Sendable () async throws -> Value
    ) -> Result<Value, any Error> {
        let handle = executor.spawn(ProcStack()) { () async -> Result<Value, any Error> in
            do { return .success(try await body()) } catch { return .failure(error) }
        }
        executor.drain()
        while !handle.handle.proc.isClosed {
            guard executor.fireNextTimer() else { fail("scenario \(name): a call is never answered", EX_SOFTWARE) }
            executor.drain()
        }
        guard case .finished(let result) = handle.knownOutcome else {
            fail("scenario \(name): a call ended with \(handle.knownOutcome)", EX_SOFTWARE)
        }
        return result
    }

    private func wait<Value: Sendable>(_ body: @escaping @Sendable () async throws -> Value) -> Result<Value, any Error>
    {
        Self.wait(executor, name, body)
    }

    func settle() {
        while true {
            executor.drain()
            if witness.rootReason != nil { return }
            let (root, dynamic) = (root, Set(templates.keys))
            if case .success(let seen) = wait({ await Self.look(at: root, named: "root", dynamic) }), seen.isAtRest {
                look = seen
                look.running.insert("root")
                look.tree = seen.tree
                return
            }
            guard executor.fireNextTimer() else {
                if witness.rootReason != nil { return }
                fail("scenario \(name): something is under way, and nothing can happen any more", EX_SOFTWARE)
            }
        }
    }

    private static func look(at supervisor: SupervisorRef, named name: String, _ dynamic: Set<String>) async -> Look {
        let isDynamic = dynamic.contains(name)
        var look = Look()
        var shown: [String] = []
        for child in await supervisor.whichChildren() {
            let name = child.group
            switch (child.state, child.kind) {
            case (.running, .worker):
                shown.append(name)
                look.running.insert(name)
            case (.running, .supervisor):
                guard let ref = try? supervisor.supervisor(name) else {
                    look.isAtRest = false
                    continue
                }
                let below = await Self.look(at: ref, named: name, dynamic)
                shown.append("\(name)[\(below.tree)]")
                look.running.insert(name)
                look.running.formUnion(below.running)
                look.down.formUnion(below.down)
                if !below.isAtRest { look.isAtRest = false }
            case (.down, _):
                shown.append("\(name):-")
                look.down.insert(name)
            case (.waitingForOthers, _), (.starting, _), (.restarting, _), (.stopping, _):
                look.isAtRest = false
            }
        }
        look.tree = (isDynamic ? shown.sorted() : shown).joined(separator: " ")
        return look
    }

    // MARK: Events

    func perform(_ event: Event.Kind) -> String? {
        switch event {
        case .end(let end, let child):
            guard let ref = witness.living(child) else { return "no_such_child" }
            ref.tell(.end(end))
            return nil
        case .both(let supervisor, let child, let other):
            guard let first = witness.living(child), let second = witness.living(other) else { return "no_such_child" }
            guard look.running.contains(supervisor), let ref = try? reference(supervisor) else {
                return "no_such_supervisor"
            }
            halt.set(ref.id)
            for child in [first, second] {
                child.tell(.end(.crash))
                executor.drain()
            }
            halt.set(nil)
            executor.advance(by: Halt.time)
            return "ok"
        case .failStart(let child, let times):
            witness.refuse(child, times: times)
            return nil
        case .sleep(let milliseconds):
            executor.advance(by: .milliseconds(milliseconds))
            return nil
        case .bond(let bond, let child, let other):
            guard let ref = witness.living(child), let to = witness.living(other) else { return "no_such_child" }
            ref.tell(.bond(bond, to))
            return nil
        case .call(let call, let supervisor, let child):
            return on(supervisor) { ref in
                switch call {
                case .terminate: try await ref.terminate(child: child)
                case .restart:
                    do {
                        try await ref.restart(child: child)
                    } catch let error as StartError {
                        // OTP answers what the start of the child has answered.
                        if case .error(let reason) = error.reason, reason is Refused { return "refused" }
                        return "start_failed"
                    }
                case .delete: try await ref.delete(child: child)
                }
                return "ok"
            }
        case .start(let supervisor, let spec):
            return start(Puppet(spec: spec, witness: witness), below: supervisor)
        case .spawn(let supervisor, let child):
            guard let template = templates[supervisor] else { return "no_such_supervisor" }
            witness.isDynamic(child, of: supervisor)
            let spec = ChildSpec(
                name: child,
                restart: template.restart,
                shutdown: template.shutdown,
                manner: template.manner
            )
            return start(Puppet(spec: spec, witness: witness), below: supervisor)
        case .count(let supervisor):
            let isDynamic = templates[supervisor] != nil
            return on(supervisor) { ref in
                let counts = await ref.countChildren()
                let specs = isDynamic ? 1 : counts.specified
                return
                    "specs=\(specs) active=\(counts.active) supervisors=\(counts.supervisors) workers=\(counts.workers)"
            }
        case .spec(let supervisor, let child):
            return on(supervisor) { ref in try await Self.spec(of: child, ref) }
        case .changeFlags(let supervisor, let flags):
            return on(supervisor) { ref in
                try await ref.change(
                    strategy: flags.restartStrategy,
                    intensity: flags.restartIntensity,
                    autoShutdown: flags.automaticShutdown
                )
                return "ok"
            }
        case .changeChild(let supervisor, let spec):
            let children = Puppet(spec: spec, witness: witness).children
            return on(supervisor) { ref in
                try await ref.change(children)
                return "ok"
            }
        }
    }

    private func start(_ puppet: Puppet, below supervisor: String) -> String {
        let (isDown, isDynamic) = (look.down.contains(puppet.spec.name), templates[supervisor] != nil)
        return on(supervisor) { ref in
            do {
                try await ref.children(startingWithin: Self.ever) { puppet.children }
                return "ok"
            } catch let error as SupervisionError where error.code == .duplicateName {
                return isDown ? "already_present" : "already_started"
            } catch is StartError {
                // With the specification beside it, where there is one for each child.
                return isDynamic ? "refused" : "start_failed"
            }
        }
    }

    private static func spec(of child: String, _ ref: SupervisorRef) async throws -> String {
        guard let info = await ref.whichChildren().first(where: { $0.group == child }) else { return "not_found" }
        let shutdown = try ref.spec(of: child).shutdownTime
        let time = shutdown.time.map { "\(Int($0 / .milliseconds(1)))" } ?? "infinity"
        let word = shutdown.isBrutal ? "brutal_kill" : info.kind == .supervisor ? "infinity" : time
        return "\(info.kind) \(info.restart) \(word) \(info.isSignificant)"
    }

    /// Calls a supervisor, and says in OTP's words what it answered.
    private func on(
        _ supervisor: String,
        _ call: @escaping @Sendable (SupervisorRef) async throws -> String
    ) -> String {
        guard look.running.contains(supervisor), let ref = try? reference(supervisor) else {
            return "no_such_supervisor"
        }
        switch wait({ try await call(ref) }) {
        case .success(let word): return word
        case .failure(let error as SupervisionError):
            switch error.code {
            // A dynamic child of OTP is known by its pid; one that has ended may be terminated all the same.
            case .unknownChild, .unknownGroup: return templates[supervisor] == nil ? "not_found" : "ok"
            case .childRunning: return "running"
            case .childRestarting: return "restarting"
            case .dynamicSupervisor: return "simple_one_for_one"
            case .significantPermanent, .significantWithoutAutoShutdown: return "bad_combination"
            case .supervisorStopped: return "supervisor_died"
            default: return "\(error)"
            }
        case .failure(let error): return "\(error)"
        }
    }

    private func reference(_ supervisor: String) throws -> SupervisorRef {
        guard supervisor != "root" else { return root }
        return try reference(parents[supervisor] ?? "root").supervisor(supervisor)
    }
}

/// Keeps one process from running: what it is told waits.
private final class Halt: SeededObserver {
    /// It runs so long after it may again, at the latest.
    static let time = Duration.milliseconds(1)
    private let process = Locked<ProcID?>(nil)

    func set(_ id: ProcID?) { process.withLock { $0 = id } }

    func willRun(_ proc: LightProc, isJob: Bool, worker: Int, at time: Duration) -> Duration? {
        process.withLock { $0 } == proc.id ? Self.time : nil
    }
}

extension SeededExecutor {
    /// Lets time pass until the next timer, and fires it; false if none is set.
    fileprivate func fireNextTimer() -> Bool { fireTimer(by: .seconds(100_000_000)) }
}
