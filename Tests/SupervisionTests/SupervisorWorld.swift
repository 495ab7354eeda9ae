// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import LightProc

@testable import Supervision

/// What a supervisor's shell and its children are to ``SupervisorMachine``: does what it says, checks that it makes sense, and keeps
/// what is going to happen because of it.
struct SupervisorWorld {
    typealias Machine = SupervisorMachine
    typealias ID = Machine.ChildID

    enum Life { case starting, up, told }

    /// What will happen: once, when its turn comes.
    enum Due: Equatable {
        case begins(ID)
        case ends(ID)
        case elapses(ID, UInt32)
        case timesOut(ID, UInt32)
        case retires(ID)
        case abandoned(Int)
    }

    enum Step: Equatable, CustomStringConvertible {
        case start(ID)
        case stop(ID)
        var description: String {
            switch self {
            case .start(let id): "+\(id)"
            case .stop(let id): "-\(id)"
            }
        }
    }

    var machine: Machine
    var now = Duration.zero
    /// Those that run.
    var alive: [ID: Life] = [:]
    /// Those that were added, and not forgotten.
    var known: Set<ID> = []
    var forgotten: Set<ID> = []
    var down: Set<ID> = []
    /// Those that were told to leave for good, or to leave and stay specified: their order is their own.
    var leaving: Set<ID> = []
    /// Those that may be there no more when all is at rest.
    var doomed: Set<ID> = []
    /// Starts that were asked for by themselves, which go on.
    var manual: Set<ID> = []
    var retiring: Set<ID> = []
    /// Those that have not ended although their time was up.
    var late: Set<ID> = []
    var tickets: [Int: [ID]] = [:]
    var ticketOf: [ID: Int] = [:]
    var due: [Due] = []
    var steps: [Step] = []
    var outcome: Machine.Outcome?
    /// Whether the order of starts and stops is what the strategy says: not when that was changed meanwhile.
    var checksOrder = true
    var problems: [String] = []

    init(_ machine: Machine) { self.machine = machine }

    mutating func problem(_ text: String) { if problems.count < 5 { problems.append(text) } }

    func child(_ id: ID) -> ChildList.Child? { machine.children.index(of: id).map { machine.children[$0] } }

    var children: [ChildList.Child] {
        machine.children.indices(from: machine.children.first).map { machine.children[$0] }
    }

    private var sweeps: Bool { machine.strategy == .oneForAll || machine.strategy == .restForOne }

    // MARK: Actions

    mutating func perform(_ actions: [Machine.Action]) {
        for action in actions {
            if outcome != nil { problem("\(action) after the finish") }
            switch action {
            case .start(let id):
                if alive[id] != nil { problem("\(id) is started while it runs") }
                if !known.contains(id) { problem("\(id) is started, and is unknown") }
                if retiring.contains(id) { problem("\(id) is started during its farewell") }
                if !machine.isRunning { problem("\(id) is started while the supervisor stops") }
                checkOrder(ofStart: id)
                alive[id] = .starting
                due.append(.begins(id))
                down.remove(id)
                leaving.remove(id)
                late.remove(id)
                steps.append(.start(id))
            case .limitStart(let id, let generation, _):
                if alive[id] != .starting { problem("\(id) has a limit to a start that does not go on") }
                due.append(.timesOut(id, generation))
            case .wait(let id, let generation, _):
                if alive[id] != nil { problem("\(id) waits while it runs") }
                due.append(.elapses(id, generation))
            case .stop(let id):
                let life = alive[id]
                if life == nil || life == .told { problem("\(id) is stopped: \(life.map { "\($0)" } ?? "down")") }
                checkOrder(ofStop: id)
                alive[id] = .told
                manual.remove(id)
                due.removeAll { $0 == .begins(id) || $0 == .ends(id) }
                due.append(.ends(id))
                steps.append(.stop(id))
            case .kill(let id):
                if alive[id] != .starting { problem("\(id) is killed, and does not start") }
                due.removeAll { $0 == .begins(id) || $0 == .ends(id) }
                due.append(.ends(id))
            case .retire(let id):
                if alive[id] != nil { problem("\(id) has its farewell while it runs") }
                if !retiring.insert(id).inserted { problem("\(id) has two farewells at a time") }
                due.append(.retires(id))
            case .lay(let id):
                isOver(id, "laid")
                if !down.insert(id).inserted { problem("\(id) is laid twice") }
            case .forget(let id):
                isOver(id, "forgotten")
                down.remove(id)
                if known.remove(id) == nil { problem("\(id) is forgotten, and is unknown") }
                forgotten.insert(id)
            case .linger:
                if machine.isRunning { problem("lingers while it runs") }
                if known.isEmpty || !known.isSubset(of: late) { problem("lingers for \(late) of \(known)") }
            case .finish(let how):
                outcome = how
                if !known.isEmpty || !alive.isEmpty { problem("finished with \(known), of which \(alive) run") }
                if machine.childCount > 0 || machine.phase != .finished { problem("finished, and does not know it") }
            }
        }
        check()
    }

    private mutating func isOver(_ id: ID, _ what: String) {
        if alive[id] != nil { problem("\(id) is \(what) while it runs") }
        if retiring.contains(id) { problem("\(id) is \(what) before its farewell was said") }
        manual.remove(id)
        if let number = ticketOf.removeValue(forKey: id), machine.isRunning { due.append(.abandoned(number)) }
    }

    private mutating func checkOrder(ofStart id: ID) {
        guard checksOrder, sweeps, !manual.contains(id), let index = machine.children.index(of: id) else { return }
        let ordinal = machine.children[index].ordinal
        for other in children where other.ordinal < ordinal && other.fate == nil && !manual.contains(other.id) {
            switch other.state {
            case .queued, .starting, .waiting: problem("\(id) is started while \(other.id) is \(other.state)")
            case .down, .up, .stopping, .retiring: break
            }
        }
    }

    private mutating func checkOrder(ofStop id: ID) {
        guard checksOrder, machine.strategy != .dynamic, !leaving.contains(id),
            let ordinal = child(id)?.ordinal
        else { return }
        for other in children where other.ordinal > ordinal && !leaving.contains(other.id) {
            guard alive[other.id] != nil, !late.contains(other.id) else { continue }
            // It was started by itself while the others were being stopped.
            if machine.isRunning, other.fate == nil { continue }
            problem("\(id) is stopped before \(other.id), which runs")
        }
    }

    // MARK: Facts

    mutating func check() {
        let children = self.children
        if children.count != machine.childCount { problem("the list has \(children.count) of \(machine.childCount)") }
        if Set(children.map(\.id)) != known { problem("knows \(children.map(\.id)) and not \(known.sorted())") }
        var significant = 0
        var last: UInt64 = 0
        for child in children {
            if child.ordinal <= last { problem("\(child.id) is out of order") }
            last = child.ordinal
            let life = alive[child.id]
            // A sweep starts also those that were down.
            if child.state == .queued { down.remove(child.id) }
            let fits =
                switch child.state {
                case .down: life == nil && !retiring.contains(child.id)
                case .queued, .waiting: life == nil && !retiring.contains(child.id)
                case .starting: life == .starting
                // A restart that nobody waits for counts as over at once.
                case .up: life == .up || life == .starting && child.hasStarted
                case .stopping: life == .told
                case .retiring: life == nil && retiring.contains(child.id)
                }
            if !fits { problem("\(child.id) is \(child.state), and really \(life.map { "\($0)" } ?? "not running")") }
            if child.state == .stopping || child.state == .retiring, child.fate == nil {
                problem("\(child.id) is \(child.state) without a fate")
            }
            let isOver = child.state == .down || child.state == .retiring
            if child.settings.isSignificant, !isOver { significant += 1 }
        }
        let stopping = children.filter { $0.state == .stopping }.count
        if stopping != machine.children.stopping {
            problem("counts \(machine.children.stopping) children that stop of \(stopping)")
        }
        if significant != machine.children.significant {
            problem("counts \(machine.children.significant) significant children of \(significant)")
        }
    }

    /// Nothing will happen any more by itself.
    mutating func checkRest() {
        if !machine.chains.isEmpty { problem("at rest: chains \(machine.chains)") }
        if !machine.chainsOf.isEmpty { problem("at rest: chains wait for \(machine.chainsOf)") }
        if !machine.sequences.isEmpty { problem("at rest: sequences \(machine.sequences)") }
        if !machine.turns.isEmpty { problem("at rest: turns \(machine.turns)") }
        if machine.sweep != nil { problem("at rest: a sweep") }
        if !manual.isEmpty { problem("at rest: starts of \(manual)") }
        switch machine.phase {
        case .running: if outcome != nil { problem("runs, and has finished") }
        case .stopping: problem("at rest, and still stopping")
        case .finished: if outcome == nil { problem("finished without saying so") }
        }
        for child in children {
            switch child.state {
            case .up: break
            case .down: if !down.contains(child.id) { problem("at rest: \(child.id) is down, and nobody was told") }
            case .queued, .starting, .waiting, .stopping, .retiring: problem("at rest: \(child.id) is \(child.state)")
            }
            if machine.strategy == .dynamic, child.state == .down { problem("at rest: \(child.id) is down") }
            if child.fate != nil { problem("at rest: \(child.id) is to be \(child.fate!)") }
            if child.isManual { problem("at rest: \(child.id) goes through a start that was asked for") }
        }
        let left = doomed.intersection(known)
        if !left.isEmpty { problem("at rest: \(left) were to be gone") }
    }

    // MARK: Events

    mutating func begins(_ id: ID) {
        due.removeAll { $0 == .begins(id) || $0 == .ends(id) }
        if alive[id] == .starting { alive[id] = .up }
        manual.remove(id)
        ticketOf[id] = nil
        perform(machine.childStarted(id, at: now))
    }

    mutating func ends(_ id: ID, _ reason: ExitReason, decision: Machine.Decision? = nil) {
        due.removeAll { $0 == .begins(id) || $0 == .ends(id) }
        let wasStarting = machine.isStarting(id)
        let hadStarted = alive[id] != .starting
        alive[id] = nil
        if machine.isRunning, wasStarting, let number = ticketOf[id] {
            return undo(number, failed: id)
        }
        manual.remove(id)
        perform(machine.childEnded(id, reason, hadStarted: hadStarted, decision: decision, at: now))
    }

    ///
    /// - Parameter hasEnded: It has itself, and something below it has not.
    mutating func isLate(_ id: ID, hasEnded: Bool = false) {
        late.insert(id)
        if hasEnded, alive[id] == .starting {
            // It is not going to start any more.
            due.removeAll { $0 == .begins(id) || $0 == .ends(id) }
            due.append(.ends(id))
        }
        perform(machine.stopIsLate(id, hasEnded: hasEnded, at: now))
    }

    /// The time for its start was up, and it cannot end now.
    mutating func isStuck(_ id: ID) { perform(machine.startIsStuck(id, at: now)) }

    mutating func undo(_ number: Int, failed: ID?) {
        guard let ids = tickets.removeValue(forKey: number) else { return }
        for id in ids where ticketOf[id] == number { ticketOf[id] = nil }
        if machine.isRunning {
            leaving.formUnion(ids)
            doomed.formUnion(ids)
        }
        perform(machine.undo(ids, failed: failed, at: now))
    }

    mutating func add(_ new: [(id: ID, settings: Machine.Settings)], ticket number: Int? = nil) {
        if machine.isRunning { known.formUnion(new.map(\.id)) }
        if let number, machine.isRunning {
            tickets[number] = new.map(\.id)
            for child in new { ticketOf[child.id] = number }
        }
        guard machine.isRunning else {
            let expected = new.map { Machine.Action.forget($0.id) }
            if machine.add(new, at: now) != expected { problem("took children while stopping") }
            return
        }
        perform(machine.add(new, at: now))
    }

    mutating func remove(_ ids: [ID]) {
        if machine.isRunning {
            leaving.formUnion(ids)
            doomed.formUnion(ids)
        }
        perform(machine.remove(ids, at: now))
    }

    mutating func terminate(_ ids: [ID]) {
        if machine.isRunning { leaving.formUnion(ids) }
        perform(machine.terminate(ids, at: now))
    }

    /// Nil if it was not refused.
    @discardableResult
    mutating func restart(_ id: ID) -> Machine.Refusal? {
        do throws(Machine.RefusalError) {
            let actions = try machine.restart(id, at: now)
            manual.insert(id)
            perform(actions)
            if child(id)?.state != .starting { manual.remove(id) }
            return nil
        } catch {
            return error.refusal
        }
    }

    @discardableResult
    mutating func delete(_ id: ID) -> Machine.Refusal? {
        do throws(Machine.RefusalError) {
            perform(try machine.delete(id))
            return nil
        } catch {
            return error.refusal
        }
    }

    /// What was going to happen does.
    ///
    /// - Parameter reason: How one ends that was told to, or killed.
    mutating func happen(_ event: Due, reason: ExitReason = .shutdown) {
        if let index = due.firstIndex(of: event) { due.remove(at: index) }
        switch event {
        case .begins(let id): begins(id)
        case .ends(let id): ends(id, reason)
        case .elapses(let id, let generation): perform(machine.backoffElapsed(id, generation: generation, at: now))
        case .timesOut(let id, let generation): perform(machine.startTimedOut(id, generation: generation))
        case .retires(let id):
            retiring.remove(id)
            perform(machine.childRetired(id, at: now))
        case .abandoned(let number): undo(number, failed: nil)
        }
    }
}
