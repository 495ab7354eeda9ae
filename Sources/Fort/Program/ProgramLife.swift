// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import Executor
import Glibc
import LightProc
import Logging
import Supervision

/// The bodies of a program under their supervisor, from the first start to the end of all.
final class ProgramLife: Sendable {
    private let system: BastionSystem
    private let state: ProgramState
    private let options: FortOptions
    private let ending = Ending()
    private let trunk = Trunk()
    private let reloads = Locked(Reloads())
    private let overdue = Locked(NameList())
    /// Whether a signal to stop has come.
    private let isToldToStop = Locked((byGuard: false, byOthers: false))

    /// So many names the log and the standard error tell.
    private static let nameLimit = 100

    init(_ system: BastionSystem, _ state: ProgramState, _ options: FortOptions) {
        self.system = system
        self.state = state
        self.options = options
    }

    func start<Program: FortProgram>(_ program: Program) throws {
        let state = state
        let readiness = Readiness(bodies: options.redundancy)
        var bodies = Children(
            "main",
            redundancy: options.redundancy,
            restart: .transient,
            backoff: options.backoff,
            shutdownTime: options.shutdownTime
        ) { [self] context in
            do { try await program.run(in: context) } catch let error as ListenerError where isFirst(context) {
                end(forWantOf: error)
            }
        }
        if Program.signalsReady { bodies = bodies.signalsReady() }
        let goesOn: @Sendable (Callbacks.Occasion, Bool) -> Void = { body, hasStarted in
            guard readiness.completes(body, hasStarted: hasStarted), state.current == .starting else { return }
            // Bodies that say when they serve have asked for their sockets by then.
            if Program.signalsReady { state.link?.tellSettled() }
            state.enter(.ready)
        }
        // The first incarnation of one may have ended before it was ready, and another one for good.
        bodies = bodies.callbacks(
            Callbacks(
                afterStart: { goesOn($0, true) },
                afterRestart: { goesOn($0, true) },
                afterStop: { if case .normal? = $0.reason { goesOn($0, false) } }
            )
        )
        // A supervisor of the program's own, at the top of the system, that nobody else answers for. Before a body can start one.
        system.onEscalation { [self] path, reason in
            guard begin(for: .software) else { return }
            state.leave("a supervisor gave up: \(path): \(reason)")
            system.log.error(
                "a supervisor gave up: the program ends",
                metadata: ["supervisor": "\(path)", "reason": "\(reason)"]
            )
            trunk.stop()
        }
        let tree = try system.supervise(
            "fort",
            intensity: options.intensity,
            untilAllHaveEnded: [bodies],
            onGivingUp: { reason in state.leave("more restarts than the intensity allows; the last for: \(reason)") }
        )
        OSSignals.listen { [self] signal, sender, isReplaced in
            state.record?.note("signal: \(SignalName.name(signal))")
            switch signal {
            case SIGTERM, SIGINT:
                if isReplaced, isGuard(sender) { Fort.tell(.replaced) }
                FortEventHub.shared.isToStop(for: signal)
                stop(for: signal, from: sender)
            case SIGHUP: reload(program)
            case SIGQUIT: StateDump.print(system, programName: options.programType)
            case SIGUSR2:
                let guardian = state.link == nil ? "and there is none: see BASTION_BOUNDARY" : "process \(getppid())"
                Fort.tell("\(Fort.programName): no handover: SIGUSR2 is for the guard, \(guardian)")
            default: break
            }
        }
        tree.whenFinished { [ending] in ending.bodiesEnded(tree.gaveUp ? .software : .success) }
        trunk.grown(tree)
    }

    // MARK: What is missing

    /// Whether nobody has run this body before, in whichever program: what it lacks now the next one would lack, too.
    private func isFirst(_ context: Context) -> Bool {
        context.restarts == 0 && state.link?.record.pointer.pointee.incarnation ?? 1 <= 1
    }

    /// The program ends: it was called in a wrong way.
    private func end(forWantOf error: ListenerError) {
        guard begin(for: error.exitCode) else { return }
        Fort.tell("\(Fort.programName): \(error)")
        state.leave("\(error)")
        state.link?.tellLack()
        trunk.stop()
    }

    // MARK: The stop

    private func isGuard(_ sender: pid_t) -> Bool { state.link != nil && sender == getppid() }

    /// On the thread that takes signals: runs no code of the user's, which might keep it from taking the second one.
    ///
    /// A service manager may tell the guard and the program, and then the guard tells the program, too: that is one request. So those of the guard
    /// and those of others are counted apart.
    private func stop(for signal: Int32, from sender: pid_t) {
        let isGuards = isGuard(sender)
        let isSecond = isToldToStop.withLock { isTold in
            defer { if isGuards { isTold.byGuard = true } else { isTold.byOthers = true } }
            return isGuards ? isTold.byGuard : isTold.byOthers
        }
        if isSecond {
            state.leave("a second request to stop, \(SignalName.name(signal)), has forced the end")
            // Somebody wants it so: no death to be found by the next start.
            OwnRecord.remove()
            _exit(ExitCode.forced(by: signal).rawValue)
        }
        guard begin() else { return }
        system.tell(.info) { ("stopping", ["signal": "\(signal)"]) }
        trunk.stop()
    }

    /// Begins an orderly stop, unless one has begun; the program ends with this code.
    func stop(_ code: ExitCode) {
        if begin(for: code) { trunk.stop() }
    }

    /// False if the end has begun before.
    private func begin(for code: ExitCode? = nil) -> Bool {
        guard ending.begin(for: code) else { return false }
        entersStop()
        return true
    }

    private func entersStop() {
        guard state.enter(.stopping) else { return }
        system.onOverdueStop { [self] path in overdue.withLock { $0.add(path, limit: Self.nameLimit) } }
    }

    /// Until the bodies have ended, and what was started beside them on the shared system. Ends the program if that takes too long. By the
    /// main thread.
    func blockingWait() -> ExitCode {
        ending.blockingWaitForBegin()
        if !ending.blockingWaitForBodies(within: options.stopDeadline) { giveUpStopping() }
        // They may have ended by themselves.
        entersStop()
        Task.detached { [system, ending] in
            await system.stop()
            ending.allEnded()
        }
        if !ending.blockingWaitForAll(within: options.stopDeadline) { giveUpStopping() }
        tellOverdue()
        FinalWords.blockingWait(forLogOf: system, timeLeft: ending.timeLeft(of: options.stopDeadline))
        return ending.code
    }

    /// The stop takes too long: names what still runs, and leaves it.
    private func giveUpStopping() -> Never {
        let (paths, others) = system.running(atMost: Self.nameLimit)
        let names = NameList(names: paths, others: others).description
        let time = TimeText.print(options.stopDeadline)
        StandardStream.error.write(
            "\(Fort.programName): the stop is not over after \(time); still running: \(names)\n"
        )
        state.leave("the stop was not over after \(time)")
        let log = system.log
        FinalWords.blockingWait { [self] in
            log.error(
                "the stop is not over after its deadline: the program ends",
                metadata: ["deadline": "\(time)", "running": "\(names)"]
            )
            logOverdue()
        }
        _exit(ExitCode.temporary.rawValue)
    }

    private func tellOverdue() {
        if overdue.withLock({ !$0.isEmpty }) { FinalWords.blockingWait { [self] in logOverdue() } }
    }

    private func logOverdue() {
        let names = overdue.withLock { $0 }
        if names.isEmpty { return }
        system.log.warning(
            "killed, as they had not stopped within their shutdown time",
            metadata: ["children": "\(names)"]
        )
    }

    // MARK: The reload

    private func reload<Program: FortProgram>(_ program: Program) {
        if ending.hasBegun { return }
        if reloads.withLock({ $0.wanted() }) { callReload(program) }
    }

    private func callReload<Program: FortProgram>(_ program: Program) {
        system.tell(.info) { ("reloading", [:]) }
        // Of a program that is not ready yet nobody is told.
        let isTold = state.enter(.reloading)
        let process = system.spawn("reload", shutdownTime: options.shutdownTime) { _ in try await program.reload() }
        process.proc.notifyWhenEnded { [self] _ in
            if isTold { state.reloaded() }
            if reloads.withLock({ $0.ended() }), !ending.hasBegun { callReload(program) }
        }
    }
}

/// Which bodies have started, or had no need to: when that is each, the program is ready.
private final class Readiness: Sendable {
    private struct State {
        var names: Set<String> = []
        var hasStarted = false
    }
    private let bodies: Int
    private let state = Locked(State())

    init(bodies: Int) { self.bodies = bodies }

    /// A body has started, or is not started again. Whether there is none left to wait for.
    func completes(_ body: Callbacks.Occasion, hasStarted: Bool) -> Bool {
        state.withLock { state in
            if hasStarted { state.hasStarted = true }
            state.names.insert(body.name)
            return state.hasStarted && state.names.count >= bodies
        }
    }
}

/// Some names, and how many more there are.
struct NameList: CustomStringConvertible {
    private(set) var names: [String]
    private(set) var others: Int

    init(names: [String] = [], others: Int = 0) {
        self.names = names
        self.others = others
    }

    var isEmpty: Bool { names.isEmpty && others == 0 }

    mutating func add(_ name: String, limit: Int) {
        if names.count < limit { names.append(name) } else { others += 1 }
    }

    var description: String {
        if isEmpty { return "nothing that has a path" }
        return (names + (others > 0 ? ["and \(others) more"] : [])).joined(separator: ", ")
    }
}

/// The bodies' supervisor, which may have to be stopped before it is known.
private final class Trunk: Sendable {
    private struct State {
        var tree: SupervisorRef?
        var isToStop = false
    }
    private let state = Locked(State())

    func grown(_ tree: SupervisorRef) {
        let isToStop = state.withLock { state in
            state.tree = tree
            return state.isToStop
        }
        if isToStop { tree.stop {} }
    }

    func stop() {
        let tree = state.withLock { state in
            state.isToStop = true
            return state.tree
        }
        tree?.stop {}
    }
}
