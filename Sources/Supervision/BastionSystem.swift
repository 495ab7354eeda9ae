// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

public import Executor
public import LightProc
public import Logging

/// A system of processes: an executor, a tree of supervisors, a log. Several can live in one program.
public final class BastionSystem: Sendable {
    /// What the system is called; the label of its log unless another log was given.
    public let name: String
    /// What runs the processes of the system; whoever made it shuts it down.
    public let executor: any ProcExecutor
    @usableFromInline let schedulerWords: SchedulerWords
    /// Where ends of children, supervisors that give up, and dead letters are told.
    public let log: Logger
    /// What becomes of a trap of a process of the system, unless its group says otherwise.
    public let containment: ContainmentPolicy
    /// What is done about processes that wait for each other's answers in a circle.
    public let askCycles: AskCyclePolicy
    @usableFromInline let domain: UInt32
    /// Of the test kit; nil in a system for use.
    package let hooks: (any SystemHooks)?
    @usableFromInline let hasHooks: Bool
    /// By policy, held as long as the system. Processes that are contained without a report need none, and no memory for
    /// its number.
    private let domains: [ContainmentPolicy: ContainmentDomain]
    /// Workers that are stuck are told in the log, whoever's process it is.
    private let stalls: StallObservation?
    /// Names of processes.
    public let registry: Registry
    /// Named groups of processes.
    public let groups: ProcessGroups
    let departures = Departures()
    let eventHub = EventHub()
    let topics = Interned<TopicName, TopicCell>()
    let distributors = Interned<String, DistributorCell>()
    let dispatchers = Interned<DispatcherName, DispatcherCell>()
    /// Those of the log that are still to be written.
    package let lines = LogLines()
    private let counters = Locked(Counters())
    let roots = Locked<[SupervisorCell]>([])
    /// Those that were there, and have given up.
    let fallen = FallenTrees()
    private let boundary = Locked<(@Sendable (String, ExitReason) -> Void)?>(nil)
    /// Where processes are found by their id, and what those live under that nobody supervises.
    let directory = ProcDirectory()

    private struct Counters {
        var restarts = 0
        var deadLetters = 0
        var lateReplies = 0
        var letterLog = DeadLetterLog()
        var letterObservers: [Int: @Sendable (DeadLetter) -> Void] = [:]
        var nextObserver = 0
    }

    /// Creates a system on an executor.
    ///
    /// - Parameters:
    ///   - containment: What becomes of a trap of a process of the system, unless its group says otherwise.
    ///   - askCycles: What is done about processes that wait for each other's answers in a circle.
    ///   - log: Where ends of children, restarts and dead letters are told; contents of messages never are.
    public convenience init(
        name: String = "bastion",
        executor: any ProcExecutor,
        containment: ContainmentPolicy = .contain,
        askCycles: AskCyclePolicy = .fail,
        log: Logger? = nil
    ) {
        self.init(
            name: name,
            executor: executor,
            containment: containment,
            askCycles: askCycles,
            log: log,
            hooks: nil
        )
    }

    package init(
        name: String,
        executor: any ProcExecutor,
        containment: ContainmentPolicy,
        askCycles: AskCyclePolicy = .fail,
        log: Logger?,
        hooks: (any SystemHooks)?
    ) {
        let log = log ?? Logger(label: name)
        self.name = name
        self.executor = executor
        schedulerWords = SchedulerWords(executor)
        self.log = log
        let lines = lines
        self.containment = containment
        self.askCycles = askCycles
        self.hooks = hooks
        hasHooks = hooks != nil
        registry = Registry(departures, executor: executor)
        domains = Dictionary(
            uniqueKeysWithValues: ContainmentPolicy.allCases.filter { $0 != .contain }.map { policy in
                let domain = ContainmentDomain(
                    policy,
                    report: { report in
                        lines.write(on: executor) {
                            log.error(
                                "\(report.text())",
                                metadata: ["process": "\(report.process)", "kind": "\(report.kind)"]
                            )
                        }
                    },
                    untold: { count in
                        lines.write(on: executor) {
                            log.error(
                                "reports of traps left out, as there were too many at a time",
                                metadata: ["count": "\(count)"]
                            )
                        }
                    }
                )
                return (policy, domain)
            }
        )
        domain = domains[containment]?.number ?? 0
        groups = ProcessGroups(departures, relays: RelayHost(executor: executor, domain: domain, log: log))
        stalls = (executor as? WorkerPool)?.observeStalls { report in
            let metadata: Logger.Metadata = ["worker": "\(report.worker)"]
            switch report.stage {
            case .stuck: log.warning("\(report.text())", metadata: metadata)
            case .recovered: log.notice("\(report.summary)", metadata: metadata)
            }
        }
        SystemDirectory.add(self)
    }

    deinit {
        stalls?.cancel()
        SystemDirectory.remove(ObjectIdentifier(self))
    }

    /// The number of the domain of processes with a policy.
    func domain(for policy: ContainmentPolicy?) -> UInt32 { domains[policy ?? containment]?.number ?? 0 }

    /// The system of the program, on one worker per processing unit. Made when first used.
    public static var shared: BastionSystem {
        switch sharedResult {
        case .success(let system): system
        case .failure(let error): fatalError("cannot start the worker pool: \(error)")
        }
    }

    private struct SharedSettings {
        var workers: Int?
        var logLevel: Logger.Level?
    }
    private static let sharedSettings = Locked(SharedSettings())

    /// As ``shared``, for a caller that can tell its user what went wrong. What is given counts unless the system was made before.
    ///
    /// - Parameters:
    ///   - workers: How many; nil: as many as the program may use.
    ///   - logLevel: The least level that the system's log tells; nil: what the log says.
    package static func shared(
        workers: Int?,
        logLevel: Logger.Level? = nil
    ) -> Result<BastionSystem, TopologyError> {
        sharedSettings.withLock { $0 = SharedSettings(workers: workers, logLevel: logLevel) }
        return sharedResult
    }

    private static let sharedResult: Result<BastionSystem, TopologyError> = {
        let settings = sharedSettings.withLock { $0 }
        var log = Logger(label: "bastion")
        if let level = settings.logLevel { log.logLevel = level }
        do throws(TopologyError) {
            return .success(BastionSystem(executor: try WorkerPool(workers: settings.workers), log: log))
        } catch {
            return .failure(error)
        }
    }()

    /// Children restarted since the system was made.
    public var restarts: Int { counters.withLock { $0.restarts } }
    /// Messages that reached nobody since the system was made.
    public var deadLetters: Int { counters.withLock { $0.deadLetters } }
    /// Answers that came when their ask was over (no answer in time, cancelled, the process ended), since the system was made.
    public var lateReplies: Int { counters.withLock { $0.lateReplies } }

    func countLateReply() { counters.withLock { $0.lateReplies += 1 } }

    /// Logs in a process of its own: describing an error, or the log's handler, may trap.
    package func tell(_ level: Logger.Level, _ line: @escaping @Sendable () -> (Logger.Message, Logger.Metadata)) {
        guard level >= log.logLevel else { return }
        lines.write(on: executor) { [log] in
            let (message, metadata) = line()
            log.log(level: level, message, metadata: metadata)
        }
    }

    /// As above, when what is to be looked up for the report is known.
    func tell(
        _ level: Logger.Level,
        of report: TrapReport,
        _ line: @escaping @Sendable () -> (Logger.Message, Logger.Metadata)
    ) {
        guard level >= log.logLevel else { return }
        // The program is not to end meanwhile.
        lines.add()
        report.whenResolved { [self] in
            tell(level, line)
            lines.remove()
        }
    }

    func countRestart() { counters.withLock { $0.restarts += 1 } }

    func deadLetter(
        of type: Any.Type,
        to proc: LightProc,
        from sender: ProcID? = nil,
        _ reason: DeadLetter.Reason = .wrongType
    ) {
        deadLetter(DeadLetter(type, to: proc.id, proc.name, from: sender, reason))
    }

    /// Counts a message that was not handled, tells those who observe, and the log if it has not been told too many. Any thread.
    func deadLetter(_ letter: DeadLetter) {
        let now = executor.now
        let (verdict, observers) = counters.withLock { counters in
            counters.deadLetters += 1
            return (counters.letterLog.letter(at: now), counters.letterObservers)
        }
        for (_, observer) in observers {
            LightProc.runOnce(on: executor) { observer(letter) }
        }
        guard case .tell(let silent) = verdict else { return }
        tell(.info) {
            var metadata: Logger.Metadata = [
                "type": "\(letter.messageType)", "reason": "\(letter.reason)",
                "to": "\(letter.receiverName ?? "")\(letter.receiver.map { "\($0)" } ?? "")",
            ]
            if let sender = letter.sender { metadata["from"] = "\(sender)" }
            if silent > 0 { metadata["untold"] = "\(silent)" }
            return ("dead letter", metadata)
        }
    }

    /// Calls `observer` for every message that is not handled from now on, in a process of its own, in no particular order.
    ///
    /// - Returns: What ends that.
    public func observeDeadLetters(_ observer: @escaping @Sendable (DeadLetter) -> Void) -> DeadLetterObservation {
        let number = counters.withLock { counters in
            counters.nextObserver += 1
            counters.letterObservers[counters.nextObserver] = observer
            return counters.nextObserver
        }
        return DeadLetterObservation { [weak self] in
            _ = self?.counters.withLock { $0.letterObservers.removeValue(forKey: number) }
        }
    }

    // MARK: Processes

    /// Starts a reactive process that nobody supervises: its first failure is its end.
    ///
    /// It lives as long as somebody holds its reference or messages wait for it.
    @inlinable
    public func spawn<Body: Reactive>(_ body: Body) -> ProcRef<Body.Message> {
        if hasHooks { return spawnHooked(body) }
        let proc = LightProc.reactive(ReactiveAdapter(body), on: schedulerWords)
        if domain != 0 { join(proc) }
        if let timeout = Body.receiveTimeout { proc.beginReceiveTimeout(timeout) }
        return ProcRef(proc)
    }

    @usableFromInline
    func join(_ proc: LightProc) { proc.join(domain) }

    /// Starts supervised children at the top of the system.
    ///
    /// - Parameters:
    ///   - strategy: Which children share the fate of one that failed.
    ///   - intensity: How many restarts it tolerates before it gives up.
    ///   - autoShutdown: Whether it ends when significant children have.
    ///   - callbacks: Called around the start and after the end of all of them together; see ``Callbacks``.
    ///   - onGivingUp: Called when there were more restarts than the intensity allows, or a failure was escalated, and all have been stopped. By
    ///     default that is the system's to deal with: a program behind a `Fort` ends.
    /// - Throws: ``SupervisionError`` when a specification cannot be carried out; then nothing was started.
    @discardableResult
    public func supervise(
        _ name: String = "root",
        strategy: RestartStrategy = .oneForOne,
        intensity: RestartIntensity = .default,
        autoShutdown: AutoShutdown = .never,
        callbacks: Callbacks? = nil,
        onGivingUp: (@Sendable (ExitReason) -> Void)? = nil,
        @ChildrenBuilder _ children: () throws -> [Children]
    ) throws -> SupervisorRef {
        try ProcPath.validate(name, of: "supervisor")
        let rules = SupervisionRules(strategy: strategy, intensity: intensity, autoShutdown: autoShutdown)
        return try start(children(), under: rootSupervisor(name, rules, callbacks, onGivingUp))
    }

    func rootSupervisor(
        _ name: String,
        _ rules: SupervisionRules,
        _ callbacks: Callbacks?,
        _ onGivingUp: (@Sendable (ExitReason) -> Void)?
    ) -> SupervisorCell {
        let executor = self.executor
        let onGivingUp = onGivingUp ?? { [weak self] reason in self?.escalate(reason, from: name) }
        return SupervisorCell(
            name: name,
            system: self,
            rules: rules,
            callbacks: callbacks,
            onGivingUp: { [weak self] reason in
                // First: who hears of it may start it again, which takes this back.
                self?.fallen.add("/\(name)")
                // The user's code, so in a process of its own: a trap in it must not be the supervisor's.
                LightProc.runOnce(on: executor) { onGivingUp(reason) }
            }
        )
    }

    /// A supervisor that ends by itself when the last of the children has ended for good.
    package func supervise(
        _ name: String,
        intensity: RestartIntensity,
        untilAllHaveEnded children: [Children],
        onGivingUp: @escaping @Sendable (ExitReason) -> Void
    ) throws(SupervisionError) -> SupervisorRef {
        try ProcPath.validate(name, of: "supervisor")
        let rules = SupervisionRules(intensity: intensity, autoShutdown: .allSignificant)
        return try start(children.map { $0.significant() }, under: rootSupervisor(name, rules, nil, onGivingUp))
    }

    /// Starts children under a supervisor at the top, which is found there before they start.
    func start(
        _ children: [Children],
        under supervisor: SupervisorCell
    ) throws(SupervisionError) -> SupervisorRef {
        let records = try supervisor.makeGroups(children)
        enroot(supervisor)
        supervisor.begin(records)
        return SupervisorRef(supervisor: supervisor)
    }

    /// A supervisor is at the top of the system until it has finished.
    func enroot(_ supervisor: SupervisorCell) {
        fallen.remove(supervisor.path)
        roots.withLock { $0.append(supervisor) }
        supervisor.whenFinished { [weak self, unowned supervisor] in
            self?.roots.withLock { $0.removeAll { $0 === supervisor } }
        }
    }

    /// Somebody deals with supervisors at the top that have given up: the program boundary.
    package func onEscalation(_ action: @escaping @Sendable (_ path: String, ExitReason) -> Void) {
        boundary.withLock { $0 = action }
    }

    private func escalate(_ reason: ExitReason, from name: String) {
        if let action = boundary.withLock({ $0 }) { action("/\(name)", reason) }
    }

    /// The supervisors at the top, in the order in which they were started.
    var trees: [SupervisorCell] { roots.withLock { $0 } }

    /// Kills all children of the system, at the same time; returns when they have ended.
    public func kill() async {
        for tree in trees { tree.kill {} }
        await stop()
    }

    /// Stops all children of the system, the last started group first; returns when they have ended.
    ///
    /// The executor goes on: it belongs to who made it.
    public func stop() async {
        while let last = roots.withLock({ $0.last }) {
            await suspended { continuation in
                last.stop { continuation.resume() }
            }
            roots.withLock { $0.removeAll { $0 === last } }
        }
        fallen.removeAll()
    }
}

/// The system of the program: ``BastionSystem/shared``.
public var bastion: BastionSystem { BastionSystem.shared }
