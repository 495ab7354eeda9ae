// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import LightProc
import Supervision

/// Watches the processes of a simulation, writes the trace, and carries out the fault plan.
final class Director: SystemHooks, SeededObserver {
    struct Known {
        weak var proc: LightProc?
        let name: String
        /// The path in the tree, or the name, or the number.
        let label: String
    }

    fileprivate struct State {
        weak var executor: SeededExecutor?
        var trace = SimulationTrace()
        var faults: [PlannedFault]
        var random: SplitMix64
        var labels: [ProcID: String] = [:]
        var known: [ProcID: Known] = [:]
        /// In the order in which they were made.
        var order: [ProcID] = []
        /// Reactive processes whose next message has been held up, or was spared.
        var released: Set<ProcID> = []
        var worker: Int?
        var watchers: [ProcID: [@Sendable (ExitReason) -> Void]] = [:]
        var typeNames: [ObjectIdentifier: String] = [:]
    }
    private let state: Locked<State>

    init(seed: UInt64, plan: FaultPlan) {
        // Another sequence than the executor's, so that a plan does not change the order before its first fault.
        let random = SplitMix64(seed: seed ^ 0x6661_756c_7473)
        state = Locked(State(faults: plan.faults.map(PlannedFault.init), random: random))
    }

    func attach(_ executor: SeededExecutor) { state.withLock { $0.executor = executor } }

    var trace: SimulationTrace { state.withLock { $0.trace } }

    func inject(_ fault: Fault) { state.withLock { $0.faults.append(PlannedFault(fault)) } }

    /// Calls `action` at the next end of an incarnation of a process.
    func watch(_ proc: LightProc, _ action: @escaping @Sendable (ExitReason) -> Void) {
        state.withLock { $0.watchers[proc.id, default: []].append(action) }
    }

    // MARK: What is told

    func willRun(_ proc: LightProc, isJob: Bool, worker: Int, at time: Duration) -> Duration? {
        let delay = isJob ? nil : holdUp(proc)
        note(proc, delay.map { "is held up for \($0)" } ?? (isJob ? "runs a job" : "runs"), worker: worker)
        return delay
    }

    func made(_ proc: LightProc) {
        let (path, name) = (proc.path, proc.name)
        state.withLock { state in
            let label = path ?? name ?? state.label(of: proc.id)
            state.labels[proc.id] = label
            state.known[proc.id] = Known(proc: proc, name: name ?? label, label: label)
            state.order.append(proc.id)
        }
    }

    func starting(_ proc: LightProc) throws {
        note(proc, "starts")
        if strike(proc, nil, { $0.isForStarts }) != nil {
            note(proc, "refuses to start, as planned")
            throw InjectedFailure("refused to start by a fault plan")
        }
    }

    func receiving(_ type: Any.Type, by proc: LightProc) -> InjectedFault? {
        let name = state.withLock { $0.name(of: type) }
        note(proc, "receives \(name)")
        let isReactive = proc.isReactive
        if isReactive {
            state.withLock { _ = $0.released.remove(proc.id) }
            // So that the executor is asked before the next message, which may have to wait.
            if state.withLock({ $0.faults.contains { $0.delay != nil } }) { LightProc.endTurn() }
        }
        switch strike(proc, type, { !$0.isForStarts && (!isReactive || $0.delay == nil) }) {
        case nil, .refuse: return nil
        case .trap:
            note(proc, "traps, as planned")
            return .trap
        case .error(let error):
            note(proc, "fails, as planned")
            return .error(error)
        case .delay(let time):
            note(proc, "is held up for \(time)")
            return .delay(time)
        }
    }

    func ended(_ proc: LightProc, _ reason: ExitReason) {
        note(proc, "ended: \(Self.kind(reason))")
        for watcher in state.withLock({ $0.watchers.removeValue(forKey: proc.id) }) ?? [] { watcher(reason) }
    }

    // MARK: Faults

    /// The first fault of some kind that strikes a process.
    private func strike(_ proc: LightProc, _ type: Any.Type?, _ isMeant: (PlannedFault) -> Bool) -> Fault.Action? {
        state.withLock { state -> Fault.Action? in
            guard let known = state.known[proc.id] else { return nil }
            var action: Fault.Action?
            for index in state.faults.indices where isMeant(state.faults[index]) {
                let target = state.faults[index].fault.target
                guard target.matches(path: known.label, name: known.name, message: type) else { continue }
                // All count, also those that come too late for this one.
                if state.faults[index].strikes(&state.random), action == nil {
                    action = state.faults[index].fault.action
                }
            }
            return action
        }
    }

    /// Whether the next message of a reactive process has to wait.
    private func holdUp(_ proc: LightProc) -> Duration? {
        let isAsked = state.withLock { state in
            state.faults.contains { $0.delay != nil } && state.known[proc.id] != nil
                && !state.released.contains(proc.id)
        }
        guard isAsked, proc.isReactive, proc.look.hasMessages else { return nil }
        state.withLock { _ = $0.released.insert(proc.id) }
        guard case .delay(let time) = strike(proc, proc.messageType, { $0.delay != nil }) else { return nil }
        return time
    }

    // MARK: Trace

    func note(_ proc: LightProc, _ what: String, worker: Int? = nil) {
        state.withLock { state in
            if let worker { state.worker = worker }
            let label = state.label(of: proc.id)
            let isOnWorker = LightProc.current != nil || worker != nil
            state.trace.add(
                .init(
                    time: state.executor?.now ?? .zero,
                    worker: isOnWorker ? state.worker : nil,
                    process: label,
                    what: what
                )
            )
        }
    }

    /// Without what differs from run to run, as numbers of processes and the words of errors.
    private static func kind(_ reason: ExitReason) -> String {
        switch reason {
        case .normal: "normal"
        case .shutdown: "shutdown"
        case .error(let error): "error \(type(of: error))"
        case .trap: "trap"
        case .killed: "killed"
        case .deadlineExceeded: "deadline exceeded"
        case .unresponsive: "unresponsive"
        case .linked(_, let reason): "linked, \(kind(reason))"
        case .noProcess: "no process"
        }
    }

    // MARK: Who waits for what

    /// The processes that have not ended for good, in the order in which they were made.
    var living: [Known] {
        state.withLock { state in
            state.order.compactMap { state.known[$0] }.filter { $0.proc.map { !$0.isClosed } ?? false }
        }
    }

    func label(of id: ProcID) -> String { state.withLock { $0.labels[id] ?? "a process" } }
}

extension Director.State {
    /// Processes without a name are numbered as they appear: their own numbers differ from run to run.
    fileprivate mutating func label(of id: ProcID) -> String {
        if let label = labels[id] { return label }
        let label = "#\(labels.count)"
        labels[id] = label
        return label
    }

    fileprivate mutating func name(of type: Any.Type) -> String {
        if let name = typeNames[ObjectIdentifier(type)] { return name }
        let name = "\(type)"
        typeNames[ObjectIdentifier(type)] = name
        return name
    }
}
