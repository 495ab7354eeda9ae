// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import LightProc
import Testing

@testable import Supervision

/// Ends of a process, without what differs from run to run.
enum End: String, CaseIterable, Sendable {
    case normal, shutdown, error, trap, killed

    /// As a reason that can be sent.
    var reason: ExitReason {
        switch self {
        case .normal: .normal
        case .shutdown: .shutdown
        case .error, .trap: .error(Failure())
        case .killed: .killed
        }
    }
}

/// What a puppet is told to do, or is told by the runtime.
enum Pull: Sendable {
    case link(Int)
    case unlink(Int)
    case monitor(Int)
    case watch(Int)
    case demonitor(Int, flush: Bool)
    case trapExits(Bool)
    case send(Int, End)
    case end(End)
    case note(String)
    case down(Down)
    case exit(Exit)
    case ping(Reply<Int>)
    /// Does the first, then what is left.
    case all([Pull])
}

/// Processes that do what a test says, by number, and what they were told.
final class Stage: Sendable {
    private struct State {
        var refs: [ProcRef<Pull>] = []
        var monitors: [[Int: [MonitorRef]]] = []
        var told: [[String]] = []
    }
    private let state = Locked(State())

    init() {}

    var count: Int { state.withLock { $0.refs.count } }
    subscript(_ number: Int) -> ProcRef<Pull> { state.withLock { $0.refs[number] } }

    func number(of id: ProcID) -> Int { state.withLock { $0.refs.firstIndex { $0.id == id } } ?? -1 }

    func add(_ ref: ProcRef<Pull>) {
        state.withLock {
            $0.refs.append(ref)
            $0.monitors.append([:])
            $0.told.append([])
        }
    }

    /// What a puppet was told since this was asked last.
    func told(_ number: Int) -> [String] {
        state.withLock { state in
            defer { state.told[number] = [] }
            return state.told[number]
        }
    }

    func note(_ number: Int, _ line: String) { state.withLock { $0.told[number].append(line) } }

    func note(_ number: Int, _ down: Down) {
        note(number, "down \(self.number(of: down.process)) \(text(down.reason))")
    }
    func note(_ number: Int, _ exit: Exit) {
        note(number, "exit \(self.number(of: exit.process)) \(text(exit.reason))")
    }

    func began(_ number: Int) { state.withLock { if number < $0.monitors.count { $0.monitors[number] = [:] } } }
    func set(_ ref: MonitorRef, by number: Int, of other: Int) {
        state.withLock { $0.monitors[number][other, default: []].append(ref) }
    }
    func takeMonitor(by number: Int, of other: Int) -> MonitorRef? {
        state.withLock { $0.monitors[number][other]?.popLast() }
    }

    /// How a puppet ended last.
    func exit(_ number: Int) -> String? { self[number].proc.lastExit.map(text) }

    func text(_ reason: ExitReason) -> String {
        switch reason {
        case .normal: "normal"
        case .shutdown: "shutdown"
        case .error: "error"
        case .trap: "trap"
        case .killed: "killed"
        case .deadlineExceeded: "deadline"
        case .unresponsive: "unresponsive"
        case .noProcess: "noProcess"
        case .linked(let id, let reason): "linked \(number(of: id)) \(text(reason))"
        }
    }

    /// Ends a puppet in a way.
    func end(_ number: Int, _ end: End) {
        switch end {
        case .normal, .error, .trap: self[number].tell(.end(end))
        case .shutdown: self[number].proc.stop()
        case .killed: self[number].proc.kill()
        }
    }

    // MARK: Kinds

    struct Kind: Sendable, CustomTestStringConvertible {
        let isReactive: Bool
        var isManaged = false
        static let all = [Kind(isReactive: true), Kind(isReactive: false)]
        static let withManaged =
            all + [Kind(isReactive: true, isManaged: true), Kind(isReactive: false, isManaged: true)]
        var testDescription: String { (isManaged ? "managed " : "") + (isReactive ? "reactive" : "async") }
    }

    /// Adds a puppet that nobody restarts.
    func spawn(_ kind: Kind, in system: BastionSystem) throws {
        let number = count
        if kind.isManaged {
            return try supervise(kind, restart: .temporary, in: system)
        }
        if kind.isReactive {
            add(system.spawn(Puppet(number, self)))
        } else {
            add(system.spawn(of: Pull.self) { [self] context in try await perform(number, context) })
        }
    }

    /// Adds a puppet with a supervisor.
    func supervise(_ kind: Kind, restart: RestartType, in system: BastionSystem) throws {
        let number = count
        let tree = try system.supervise("tree-\(number)", intensity: .unlimited) {
            let group =
                kind.isReactive
                ? Children("puppet", Puppet(number, self), restart: restart)
                : Children("puppet", restart: restart) { [self] in try await perform(number, $0) }
            kind.isManaged ? group.mailbox(.bounded(1_000)) : group
        }
        add(try tree.group("puppet").members[0])
    }

    private func perform(_ number: Int, _ context: Context) async throws {
        began(number)
        for await pull in context.messages(of: Pull.self) {
            var pulls = [pull]
            while let pull = pulls.popLast() {
                switch pull {
                case .all(let more): pulls += more.reversed()
                case .link(let other): context.link(self[other])
                case .unlink(let other): context.unlink(self[other])
                case .monitor(let other):
                    set(context.monitor(self[other]) { Pull.down($0) }, by: number, of: other)
                case .watch(let other): context.monitor(self[other], untilClosed: true) { Pull.down($0) }
                case .demonitor(let other, let flush):
                    guard let ref = takeMonitor(by: number, of: other) else { continue }
                    note(number, "demonitor \(other) \(context.demonitor(ref, flush: flush))")
                case .trapExits(true): context.trapExits { Pull.exit($0) }
                case .trapExits(false): context.stopTrappingExits()
                case .send(let other, let end): context.exit(self[other], for: end.reason)
                case .end(.normal), .end(.killed): return
                case .end(.shutdown): context.stop()
                case .end(.error): throw Failure()
                case .end(.trap): await self[number].proc.trapHere()
                case .note(let line): note(number, line)
                case .down(let down): note(number, down)
                case .exit(let exit): note(number, exit)
                case .ping(let reply): reply(number)
                }
            }
        }
    }
}

/// Tests with a stage in virtual time.
protocol OnStage {
    var sim: Simulation { get }
    var stage: Stage { get }
}

extension OnStage {
    /// Adds puppets that nobody restarts.
    func start(_ kinds: Stage.Kind...) throws {
        for kind in kinds { try stage.spawn(kind, in: sim.system) }
        sim.drain()
    }

    /// Has a puppet do something, and all that follows from it.
    func tell(_ number: Int, _ pulls: Pull...) {
        stage[number].tell(.all(pulls))
        sim.drain()
    }
}

/// The reactive kind.
struct Puppet: Reactive {
    let number: Int
    let stage: Stage

    init(_ number: Int, _ stage: Stage) {
        self.number = number
        self.stage = stage
        if number < stage.count { stage.began(number) }
    }

    mutating func receive(_ message: consuming Pull, in context: borrowing ReactiveContext<Self>) throws {
        switch message {
        case .all(let pulls): for pull in pulls { try receive(pull, in: context) }
        case .link(let other): context.link(stage[other])
        case .unlink(let other): context.unlink(stage[other])
        case .monitor(let other): stage.set(context.monitor(stage[other]) { .down($0) }, by: number, of: other)
        case .watch(let other): context.monitor(stage[other], untilClosed: true) { .down($0) }
        case .demonitor(let other, let flush):
            guard let ref = stage.takeMonitor(by: number, of: other) else { return }
            stage.note(number, "demonitor \(other) \(context.demonitor(ref, flush: flush))")
        case .trapExits(true): context.trapExits { .exit($0) }
        case .trapExits(false): context.stopTrappingExits()
        case .send(let other, let end): context.exit(stage[other], for: end.reason)
        case .end(.normal), .end(.killed): context.stop()
        case .end(.shutdown): context.me.proc.stop()
        case .end(.error): throw Failure()
        case .end(.trap): throw SimulatedTrap(of: context.me.proc)
        case .note(let line): stage.note(number, line)
        case .down(let down): stage.note(number, down)
        case .exit(let exit): stage.note(number, exit)
        case .ping(let reply): reply(number)
        }
    }
}
