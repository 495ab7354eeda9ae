// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CLightProc
public import LightProc

/// An executor for tests: one thread, the caller's; the order drawn from a seed; time that passes only when told to.
///
/// It runs the protocol of ``WorkerPool``, with workers that it makes up: each has the queues of a real one, looks at them in
/// the same order, steals from the same victims, sleeps and is woken by the same rules. What is left to chance on a real
/// machine is drawn from the seed: which worker takes its next step, how long one is kept from its work between taking
/// something and running it, when a run is cut short, whom a thief tries first, how long turns seem to take.
///
/// Equal seeds and equal programs give equal runs, as long as nothing outside (another thread, real time) takes part.
/// Nothing runs by itself: `drain()` runs what is ready, `advance(by:)` lets time pass. One thread drives it at a time.
public final class SeededExecutor: ProcExecutor {
    /// What the order of this run is drawn from; print it with a failure, to have the run again.
    public let seed: UInt64
    let queues: RunQueues
    private let random: SeededChoice
    private let placement: Placement
    private let state: Locked<State>
    private let time = Locked(Time())
    package let observer: (any SeededObserver)?
    /// Where everything runs if traps are to be contained; nil: on the caller's thread.
    private let thread = Locked<SeededThread?>(nil)
    private let containsTraps: Bool

    private struct State {
        var desks: [SeededDesk]
        /// Counts the looks for a worker to take its next step.
        var picks = 0
        var steps = 0
        /// Which worker the thread that drives the executor is at the moment.
        var running: Int?
    }
    private struct Time: ~Copyable {
        var timers = TimerWheel<TimerShard.Action>()
        var now = Duration.zero
    }

    /// Creates an executor at time zero with nothing to run.
    ///
    /// - Parameter workers: How many workers it makes up, positive; on two NUMA nodes if there are more than two. With one,
    ///   the order is that of a pool with one worker, and the seed has next to nothing to decide.
    /// - Parameter containsTraps: Whether traps of processes are contained, as by a ``WorkerPool``. Everything then runs on a
    ///   thread made for that, while the caller waits; it is ended with the executor.
    public convenience init(seed: UInt64, workers: Int = 4, containsTraps: Bool = false) {
        self.init(seed: seed, placement: SeededPlacement.of(workers), containsTraps: containsTraps, observer: nil)
    }

    /// Creates an executor whose workers sit as on some machine.
    public convenience init(seed: UInt64, placement: Placement, containsTraps: Bool = false) {
        self.init(seed: seed, placement: placement, containsTraps: containsTraps, observer: nil)
    }

    package convenience init(seed: UInt64, workers: Int, containsTraps: Bool, observer: any SeededObserver) {
        self.init(
            seed: seed,
            placement: SeededPlacement.of(workers),
            containsTraps: containsTraps,
            observer: observer
        )
    }

    private init(seed: UInt64, placement: Placement, containsTraps: Bool, observer: (any SeededObserver)?) {
        self.containsTraps = containsTraps
        self.seed = seed
        self.observer = observer
        self.placement = placement
        let random = SeededChoice(seed: seed)
        self.random = random
        let plan = NodePlan(placement)
        queues = RunQueues(
            placement,
            plan,
            standInCount: 0,
            // Never used: timers here are of virtual time.
            timers: PoolTimers(workers: placement.seats.count),
            memory: placement.seats.map { _ in .anywhere },
            // Turns seem to take long for a while, and short again: workers order their queues by that.
            clock: { random.tick() },
            sharing: .byTime,
            nearNode: { random.below(plan.count) }
        )
        state = Locked(State(desks: queues.workers.map(SeededDesk.init)))
        // safety: called while this executor runs something as the worker whose nodes these are.
        queues.serve(UInt(bitPattern: Unmanaged.passUnretained(self).toOpaque())) { nodes, bits in
            guard let nodes, let seat = crt_self()?.pointee.seat,
                let executor = UnsafeRawPointer(bitPattern: nodes.pointee.scheduler)
            else { preconditionFailure("impossible: only workers have nodes") }
            Unmanaged<Worker>.fromOpaque(seat)._withUnsafeGuaranteedRef { worker in
                Unmanaged<SeededExecutor>.fromOpaque(executor)._withUnsafeGuaranteedRef {
                    $0.queues.push(RunItem(bits: bits), worker)
                }
            }
        }
    }

    deinit {
        // Everything that runs holds the executor: nothing does.
        thread.withLock { $0.take() }?.stop()
    }

    /// How many workers it makes up.
    public var workerCount: Int { queues.seatCount }

    /// Virtual time since the executor was made.
    public var now: Duration { time.withLock { $0.now } }

    /// How many activations and jobs were run.
    public var steps: Int { state.withLock { $0.steps } }

    /// This executor itself: blocking work runs on the caller's thread like everything else.
    public var blockingScheduler: any ProcScheduler { self }

    /// Adds a process to what is ready; it runs in a later `step()`.
    public func schedule(_ proc: LightProc) { queues.add(RunItem(proc), proc.tag) }

    /// Adds a job of an async process to what is ready; it runs in a later `step()`.
    public func schedule(_ job: UnownedJob, of executor: ProcTaskExecutor) {
        queues.add(job, of: executor)
    }

    /// Looks whether a made-up worker sits on these processors; which worker runs what stays the seed's business. ``LightProc/cores``
    /// says what a process was to be pinned to.
    public func pinNumber(of cores: CoreSet) throws(PinningError) -> Int? {
        _ = try placement.place(of: cores)
        return nil
    }

    // MARK: Steps

    /// Has workers take their turns, in an order drawn from the seed, until one of them has run something. False if nothing is
    /// ready.
    @discardableResult
    public func step() -> Bool {
        let result = SeededResult()
        drive {
            result.didRun = self.stepHere()
            return false
        }
        return result.didRun
    }

    /// Calls a closure until it returns false: on the thread on which traps are contained, if there is one. After a trap in
    /// what it runs it is called again.
    package func drive(_ turn: @escaping @Sendable () -> Bool) {
        guard containsTraps else {
            while turn() {}
            return
        }
        let thread = self.thread.withLock { thread -> SeededThread in
            let known = thread ?? SeededThread { [unowned self] heir, tell in afterTrap(on: heir, tell) }
            thread = known
            return known
        }
        if thread.own != nil {
            precondition(crt_currentProcess() == nil, "a process cannot drive the executor that it runs on")
            while turn() {}
        } else {
            thread.perform(turn)
        }
    }

    /// As `step`, where everything runs.
    package func stepHere() -> Bool {
        // Ends: a worker that finds nothing lies down, and none gets up unless something is queued.
        while let worker = pick() {
            if let item = state.withLock({ $0.desks[worker].takeHand() }) {
                run(item, on: worker)
                return true
            }
            let item = onDesk(worker) { look($0) }
            state.withLock { $0.desks[worker].hand = item }
        }
        precondition(
            !queues.hasWork || state.withLock { $0.desks.contains(where: \.isBusy) },
            "seed \(seed): something is queued and every worker sleeps: a wake-up was lost"
        )
        return false
    }

    /// Who takes the next step: any worker that does not sleep, except that some are kept from their work for a while.
    private func pick() -> Int? {
        state.withLock { state in
            let awake = state.desks.count(where: \.mayStep)
            if awake == 0 { return nil }
            state.picks += 1
            let picks = state.picks
            let free = state.desks.count { $0.mayStep && $0.stalledUntil <= picks }
            // If all that are awake are kept from their work, time has passed.
            var left = random.below(free == 0 ? awake : free)
            for worker in state.desks.indices
            where state.desks[worker].mayStep && (free == 0 || state.desks[worker].stalledUntil <= picks) {
                if left == 0 {
                    if random.below(16) == 0 { state.desks[worker].stalledUntil = picks + 1 + random.below(32) }
                    return worker
                }
                left -= 1
            }
            preconditionFailure("impossible: as many workers are awake as were counted")
        }
    }

    /// A worker without work looks for some, or lies down.
    private func look(_ worker: Worker) -> RunItem? {
        let first = random.below(queues.seatCount + RunQueues.roundsOnOwnNode)
        // Woken, or about to lie down when something came.
        let own = worker.parking.value == 2 ? queues.getUp(worker) : worker.take()
        if let item = own ?? queues.search(worker, rounds: 1, first: first) { return item }
        queues.lieDown(worker) { false }
        return nil
    }

    private func run(_ item: RunItem, on index: Int) {
        let proc = item.process
        if let delay = proc.flatMap({ observer?.willRun($0, isJob: item.isJob, worker: index, at: now) }) {
            schedule(after: delay) { [self] in queues.add(item, proc?.tag ?? ProcTag(rawValue: 0)) }
            return
        }
        state.withLock { $0.steps += 1 }
        let cut = random.below(2) == 0 ? 0 : 255 - random.below(8)
        onDesk(index) { worker in
            worker.nodes.pointee.cut = Int32(cut)
            let thread = thread.withLock { $0 }?.own
            if thread?.run(item) ?? item.run(crt_self()) { queues.requeue(item, worker) }
        }
    }

    /// Makes the calling thread a worker for as long as the closure takes.
    private func onDesk<Result>(_ index: Int, _ body: (Worker) -> Result) -> Result {
        let worker = queues.workers[index]
        let (outer, outerNodes) = (crt_self(), crt_nodes())
        // Where traps are contained the thread's own record is the one that the signal handler needs.
        let isContained = containsTraps && thread.withLock({ $0 })?.own != nil
        let outerIndex = state.withLock { state in
            state.desks[index].isBusy = true
            if !isContained { crt_setSelf(state.desks[index].record) }
            defer { state.running = index }
            return state.running
        }
        if isContained { outer?.pointee.seat = Unmanaged.passUnretained(worker).toOpaque() }
        crt_setNodes(worker.nodes)
        defer {
            crt_setNodes(outerNodes)
            if isContained { outer?.pointee.seat = nil } else { crt_setSelf(outer) }
            state.withLock { state in
                state.desks[index].isBusy = false
                state.running = outerIndex
            }
            settleHolds(worker)
        }
        return body(worker)
    }

    /// The thread trapped as one of the workers: its heir is that worker while it tells the process, and nobody afterwards.
    private func afterTrap(on heir: WorkerThread, _ tell: () -> Void) {
        guard let index = state.withLock({ $0.running }) else { return tell() }
        state.withLock { $0.running = nil }
        onDesk(index) { _ in tell() }
    }

    /// Processes that were made or ended on a worker are counted there: see `LightProc.init`.
    private func settleHolds(_ worker: Worker) {
        let held = worker.nodes.pointee.held
        worker.nodes.pointee.held = 0
        for _ in 0..<max(held, 0) { hold() }
        for _ in 0..<max(-held, 0) { letGo() }
    }

    /// Runs what is ready, and what that makes ready, until nothing is. Time stands still.
    ///
    /// - Parameter limit: A run that needs more steps does not come to rest by itself: that is a failure.
    public func drain(limit: Int = 1_000_000) {
        let result = SeededResult()
        drive { self.drainOnce(result, limit) }
    }

    private func drainOnce(_ result: SeededResult, _ limit: Int) -> Bool {
        result.steps += 1
        precondition(result.steps <= limit, "seed \(seed): still not at rest after \(limit) steps")
        return stepHere()
    }

    /// Runs an async closure as a process, with whatever else is ready, until it has ended. Time stands still.
    ///
    /// - Precondition: It ends without anything from outside: no time has to pass, no other thread has to act.
    public func run<Output: Sendable>(
        _ stack: ProcStack = ProcStack(),
        _ body: nonisolated(nonsending) @escaping @Sendable () async throws -> Output
    ) -> RecoverableHandle<Output>.Outcome {
        let handle = spawn(stack, body)
        drain()
        precondition(
            handle.handle.proc.isClosed,
            "seed \(seed): the process waits for something; spawn it, then drain() and advance(by:) instead of run"
        )
        return handle.knownOutcome
    }

    // MARK: Time

    /// Calls `action` once, on the thread that advances virtual time past the duration.
    @discardableResult
    public func schedule(after duration: Duration, _ action: @escaping @Sendable () -> Void) -> TimerToken {
        let handle = time.withLock { time in
            let deadline = (time.now + max(duration, .zero)).timerDelay
            return time.timers.insert(TimerShard.Action(call: action), at: deadline)
        }
        return TimerToken { [weak self] in _ = self?.time.withLock { $0.timers.cancel(handle) } }
    }

    /// No timer fires before; nil if none is set.
    public var nextTimer: Duration? { time.withLock { $0.timers.nextExpiry.map { .nanoseconds(Int64($0)) } } }

    /// Fires the next timer, if it is due by `end`, and lets time pass until then.
    package func fireTimer(by end: Duration) -> Bool {
        let action = time.withLock { nextAction(&$0, by: end) }
        action?.call()
        return action != nil
    }

    private func nextAction(_ time: inout Time, by end: Duration) -> TimerShard.Action? {
        let last = UInt64(max(end.inNanoseconds, 0))
        // Ends: after a look at the time of the next one, either it is handed out or the next one is later: one that was
        // cancelled is only then known to be gone.
        while let next = time.timers.nextExpiry, next <= last {
            guard let due = time.timers.popDue(at: next) else { continue }
            time.now = max(time.now, .nanoseconds(Int64(due.deadline)))
            return due.payload
        }
        return nil
    }

    /// Lets time pass to `end`, with no timer in between.
    package func passTime(to end: Duration) { time.withLock { $0.now = max($0.now, end) } }

    /// Lets time pass: timers fire in order, and what each makes ready runs before the next.
    public func advance(by duration: Duration) {
        let end = now + duration
        let result = SeededResult()
        drive {
            if self.drainOnce(result, 1_000_000) { return true }
            result.steps = 0
            // Ends: each round fires one timer; those that timers set lie later, and `end` stays.
            return self.fireTimer(by: end)
        }
        passTime(to: end)
    }
}

/// What one who drives the executor learns of what happens on its thread.
final class SeededResult: @unchecked Sendable {
    // Sendable: used by one thread at a time; who drives waits.
    var didRun = false
    var steps = 0
}
