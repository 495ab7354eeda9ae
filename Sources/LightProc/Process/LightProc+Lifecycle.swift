// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CLightProc

/// Start, stop, end, restart, close: the shell around ``ProcState``.
///
/// How an incarnation ends, whatever the reason:
/// 1. The end is decided, once (`decideEnd`). Askers whose message is in hand and, where no supervisor is asked, those
///    who await a handle learn the reason at this moment, on whichever thread decided.
/// 2. An async process's task is cancelled; its child tasks and remaining jobs may run until none is left, not counting
///    tasks that wait for one that trapped, or until the shutdown time is up. Then it is sealed: its executor
///    never runs a job of it again. What waits in a default actor, on the main actor or on a foreign executor is out of
///    reach: it runs there until it suspends or leaves.
/// 3. On a worker, in the name of the process: exit hooks, `afterComplete` or `afterPanic`, then the body is destroyed
///    (not after a trap: it may be half changed, so it leaks). A trap in a hook ends that hook only.
/// 4. The observer is told, and decides: `restart()` or `close()`. Without an observer the process is closed.
///
/// The consumer of a reactive process is whoever holds its mailbox busy; of an async process's orders, whoever made
/// the set of orders non-empty. While a process is down (ended, not yet started again) its mailbox stays busy and
/// nobody runs it: `restart()` and `close()`, of which the observer calls one, are then the consumer.
extension LightProc {
    // MARK: Orders

    /// Tells the process to do something besides its messages. Any thread.
    func order(_ order: Orders) {
        crt_probeStack()
        let mustSchedule = isReactive ? orders.give(order, claiming: mailbox) : orders.give(order)
        if mustSchedule { enqueue() }
    }

    /// As `order`, by the consumer of a process that is down or whose worker trapped.
    private func orderAsConsumer(_ order: Orders) {
        let isFirst = orders.give(order)
        if isReactive || isFirst { enqueue() }
    }

    // MARK: Start

    /// Begins the next incarnation: the body is made anew on a worker, then messages are handled again.
    ///
    /// Does nothing when the process was closed.
    /// - Precondition: The process was never started, or its observer was told of its end.
    public func restart() {
        switch transition({ $0.start() }) {
        case .started:
            orderAsConsumer(.start)
        case .refused:
            break
        }
    }

    // MARK: Stop

    /// Asks the process to end with ``ExitReason/shutdown``.
    ///
    /// A reactive process ends after the message it is handling; an async one has its task cancelled, and is ended when
    /// it has not returned after the shutdown time. Any thread; returns at once.
    public func stop() {
        switch transition({ $0.requestStop() }) {
        case .requested:
            order(.stop)
        case .nothing:
            break
        }
    }

    /// Ends a reactive process with ``ExitReason/normal`` after the message it is handling. By the process itself.
    public func finish() {
        precondition(isReactive, "an async process ends normally by returning from its body")
        order(.finish)
    }

    /// Ends the process with ``ExitReason/killed``: askers and handles learn at once.
    ///
    /// A reactive process ends after the message it is handling. The task of an async one is cancelled; what has not
    /// returned after the shutdown time never runs again, and what it holds leaks; except what waits in an actor without a
    /// ``ProcSerialExecutor``, where it runs until it suspends or leaves.
    public func kill() {
        let incarnation = state.incarnation
        guard transition({ $0.requestStop(kill: true) }) == .requested else { return }
        if isReactive { order(.stop) } else { decideEnd(incarnation, .killed) }
    }

    /// Ends an incarnation for a reason from outside, as that of a process it depends on. Like ``kill()`` otherwise.
    package func end(_ incarnation: UInt32, for reason: ExitReason) {
        guard isReactive else {
            decideEnd(incarnation, reason)
            return
        }
        // Under the lock: who obeys the request finds the reason.
        let isRequested = withSide { content in
            let request = transition { state -> ProcState.StopRequest in
                state.incarnation == incarnation ? state.requestStop(kill: true) : .nothing
            }
            guard request == .requested else { return false }
            let lifetime = content.lifetime ?? Lifetime(limit: nil)
            lifetime.outsideReason = reason
            content.lifetime = lifetime
            return true
        }
        if isRequested { order(.stop) }
    }

    // MARK: End

    /// Decides how an incarnation ends, once. For an async process any thread, for a reactive one its consumer.
    ///
    /// - Parameter cancelling: Whether jobs of an async process may be left that must be told.
    /// - Returns: Whether this call decided it.
    @discardableResult
    func decideEnd(_ incarnation: UInt32, _ reason: ExitReason, cancelling: Bool = true) -> Bool {
        let cancelling = cancelling && !isReactive
        let ending = transition { $0.end(incarnation, admitting: cancelling) }
        guard ending != .tooLate else { return false }
        // The former reason may hold an error of the user's: it does not die on the thread that happens to decide.
        let (before, companion, mourner, awaiters) = withSide { content in
            content.callbacksPending = content.hasCallbacks
            let before = content.hasPlainExit ? nil : LastBody(content.lastExit)
            content.lastExit = reason
            let awaiters = content.observer == nil
            return (before, content.companion, content.beginFarewell(awaiters: awaiters), awaiters)
        }
        if let before { Self.bequeath(before, on: scheduler) }
        tell(mourner, reason, awaiters: awaiters)
        companion?.endDecided(of: self, incarnation: incarnation, reason: reason)
        if cancelling {
            order(.cancel)
        } else if !isReactive, ending == .sealed {
            order(.cleanUp)
        }
        return true
    }

    /// Tells those who wait for the end, from `first` on. Each is forgotten before it is told, so that none is told twice.
    private func tell(_ first: Mourner?, _ reason: ExitReason, awaiters: Bool) {
        var next = first
        // Ends: each round takes one out, and who comes now is told at once.
        while let mourner = next {
            mourner.tell(reason)
            next = mourner.isLast ? nil : withSide { $0.nextMourner(awaiters: awaiters) }
        }
    }

    /// A job of an incarnation has returned from the worker, or is lost with it; or a child task has completed, or never
    /// will. Any thread.
    package func jobReturned(_ incarnation: UInt32, count: UInt = 1) {
        let (result, state) = transition { ($0.retire(incarnation, count), $0) }
        if result == .sealed {
            order(.cleanUp)
        } else if state.phase == .ending, !state.isSealed, state.incarnation == incarnation,
            // Whoever carries this order out starts the time where it is needed.
            !orders.current.contains(.cancel)
        {
            // The end is decided, but something is left: child tasks, or a job of an actor which others keep busy.
            startDeadline(incarnation, unlessRunning: true)
        }
    }

    /// A thread trapped while it ran this process. Called by the reaper, when that thread is out of the way.
    ///
    /// - Parameters:
    ///   - executor: Of the incarnation whose job it was; nil for a handler, a hook, or the `deinit` of a message.
    ///   - isOwnJob: Whether the worker was running a job of that incarnation, and not draining an actor for another.
    ///   - task: The task that trapped, of a thread that has not ended yet.
    package func trapped(
        _ report: TrapReport,
        in executor: ProcTaskExecutor?,
        isOwnJob: Bool,
        task: UnsafeMutableRawPointer? = nil
    ) {
        if let executor {
            // The task and those that await it will not complete: the others are what the end waits for. First, while it is
            // known which is the first task.
            let stranded = task.map { executor.strand($0) } ?? (children: 0, all: 0)
            decideEnd(executor.incarnation, .trap(report))
            tasksLost(stranded.all, trapped: 1)
            jobReturned(executor.incarnation, count: (isOwnJob ? 1 : 0) + UInt(stranded.children))
            return
        }
        let state = self.state
        switch state.phase {
        case .active where isReactive:
            // The handler may have left the body half changed: it is not destroyed, what it owns leaks.
            leakBody()
            try? step(.abandon)
            decideEnd(state.incarnation, .trap(report))
            orderAsConsumer(.cleanUp)
        case .active, .ending:
            // `beforeStart`, or a hook: the order it belongs to is still there and is gone on with.
            decideEnd(state.incarnation, .trap(report))
            scheduler.schedule(self)
        case .created, .ended, .closed:
            // While a message that was left was destroyed: the rest of them follow.
            scheduler.schedule(self)
        }
    }

    /// Closes the process for good: what is left in the mailbox is refused. Does nothing while it runs.
    ///
    /// Those who await a handle learn how it ended. Left asks learn it at once; left messages are destroyed on a worker.
    public func close() {
        guard transition({ $0.close() }) == .closed else { return }
        // An async process's receivers consume under the lock; a reactive one that is down has no consumer but us.
        let taken = isReactive ? mailbox.close() : nil
        let (reason, leftovers, hasHooks, closures, mourner) = withSide { content in
            // The control lane comes first here, too.
            content.leftovers = content.takeMessages(before: taken ?? mailbox.close())
            if content.leftovers != 0 { content.lastObserver = content.observer }
            return (
                content.lastExit ?? .shutdown, content.leftovers, !content.exitHooks.isEmpty,
                content.hasClosures ? LastBody(content.takeClosures()) : nil, content.beginFarewell(awaiters: true)
            )
        }
        var node = MessageNode(bits: leftovers)
        while let current = node {
            current.takeReceipt()?.processEnded(reason)
            node = MessageNode(bits: current.next)
        }
        tell(mourner, reason, awaiters: true)
        // Left in place: what looks at it later finds it closed.
        companion?.closed(self, id, reason: reason)
        if leftovers != 0 || hasHooks { orderAsConsumer(.discard) }
        // A supervisor closes its children: what their closures own is none of its business.
        if let closures { Self.bequeath(closures, on: scheduler) }
    }

    // MARK: Run

    /// Runs the process on the calling worker until it is idle, out of budget, or over.
    ///
    /// - Returns: Whether it must be queued again, behind the others.
    @inlinable
    public func run() -> Bool {
        if orders.current.rawValue != 0 {
            let next = obey()
            if next != .messages { return next == .turnOfOthers }
        }
        guard isReactive else { return false }
        while true {
            do {
                try step(.run)
            } catch {
                failed(error)
                return false
            }
            // Out of budget with messages left, or told to do something else.
            if orders.hasSome || !mailbox.settle() { return true }
            if !orders.hasSomeAfterSettling || !mailbox.claim() { return false }
            let next = obey()
            if next != .messages { return next == .turnOfOthers }
        }
    }

    /// The handler of a reactive process threw.
    @usableFromInline
    func failed(_ error: any Error) {
        handlerFailed(error)
        _ = obey()
    }

    /// As `failed`, by who looks at the orders next.
    func handlerFailed(_ error: any Error) {
        // Thrown by the test kit only.
        let reason = (error as? SimulatedTrap).map { ExitReason.trap($0.report) } ?? .error(error)
        decideEnd(state.incarnation, reason)
        orders.add(.cleanUp)
    }

    /// What a run does when the orders were carried out.
    @usableFromInline
    enum Obeyed {
        /// Handle messages: only a reactive process that lives.
        case messages
        /// The control lane has used the run up: the process is to be queued again.
        case turnOfOthers
        /// Nothing: there is no incarnation, or it is an async one.
        case nothing
    }

    /// Carries out what was ordered, then what waits in the control lane.
    @usableFromInline
    func obey() -> Obeyed {
        var controlBudget = Self.reductions
        // A run is for messages of one lane: those of the other find a whole budget in the next one.
        var afterOrders: Obeyed {
            !isReactive ? .nothing : controlBudget == Self.reductions ? .messages : .turnOfOthers
        }
        while true {
            let current = orders.current
            if current.contains(.discard) {
                discardLeftovers()
                // A late job of an async process may still drop a reply.
                let isEmpty = orders.withdraw(isReactive ? .all : .all.subtracting(.settleDropped))
                if isReactive || isEmpty { return .nothing }
                continue
            }
            if current.contains(.cleanUp) {
                // Of an async process also late jobs drop replies: what comes from here on is looked at afterwards.
                if !isReactive { orders.withdraw(.settleDropped) }
                let end = runHooks()
                if isReactive {
                    // Nothing of the process may be touched once the observer knows: it may run elsewhere already.
                    orders.withdraw([.cleanUp, .start, .stop, .finish, .settleDropped])
                    report(end)
                    return .nothing
                }
                // The order itself stays until the observer knows: a restart then goes on here, not elsewhere.
                orders.withdraw([.start, .stop, .finish, .cancel])
                report(end)
                if orders.withdraw(.cleanUp) { return .nothing }
                continue
            }
            if current.contains(.start) {
                start()
                if orders.withdraw(.start) { return afterOrders }
                continue
            }
            if current.contains(.settleDropped) {
                // Withdrawn first: one that is dropped from now on orders anew.
                let isEmpty = orders.withdraw(.settleDropped, adding: isReactive ? [] : .held)
                while let receipt = withSide({ $0.dropped.popLast() }) { receipt.unanswered() }
                if isReactive ? isEmpty : orders.withdraw(.held) { return afterOrders }
                continue
            }
            if current.contains(.cancel) {
                cancelTask()
                let incarnation = state.incarnation
                let isSealed = transition { $0.retire(incarnation) } == .sealed
                if !isSealed { startDeadline(incarnation) }
                if orders.withdraw(isSealed ? [.cancel, .stop] : .cancel, adding: isSealed ? .cleanUp : []) {
                    return .nothing
                }
            } else if !current.isDisjoint(with: .ends) {
                let state = self.state
                // An order that was meant for an incarnation before this one is dropped.
                let isMeant = state.isStopRequested || current.contains(.finish)
                if isReactive {
                    let reason: ExitReason =
                        state.isKillRequested
                        ? existingSide?.content.withLock { $0.lifetime?.outsideReason } ?? .killed
                        : state.isStopRequested ? .shutdown : .normal
                    let decided = isMeant && decideEnd(state.incarnation, reason)
                    orders.withdraw(.ends, adding: decided ? .cleanUp : [])
                } else {
                    if isMeant {
                        if !signalStop(to: state.incarnation) { cancelTask() }
                        startDeadline(state.incarnation)
                    }
                    if orders.withdraw(.ends) { return .nothing }
                }
            } else if current.contains(.probe) {
                // That it comes here is the sign.
                orders.withdraw(.probe)
            } else if current.contains(.control) {
                guard controlBudget > 0 else { return .turnOfOthers }
                controlBudget -= 1
                handleControlMessage()
            } else {
                return afterOrders
            }
        }
    }

    private func start() {
        companion?.starting(self, incarnation: incarnation)
        // What the incarnation before handled is not in hand.
        if let thread = crt_self(), thread.pointee.receiver == UInt(id.rawValue) { thread.pointee.receiver = 0 }
        // Ending already: `beforeStart` trapped, or the process was linked to one that ended meanwhile.
        let state = self.state
        guard state.phase == .active else { return }
        let (limit, beforeStart) = existingSide == nil ? (nil, nil) : withSide { $0.beginning() }
        if let limit { startLifetime(state.incarnation, limit) }
        do {
            beforeStart?()
            try step(.start)
        } catch {
            decideEnd(state.incarnation, .error(error), cancelling: false)
            orders.add(.cleanUp)
        }
    }

    /// Calls what was registered for the end, last registered first; each is forgotten before it is called.
    ///
    /// - Returns: Who is to be told next, and how the incarnation ended.
    private func runHooks() -> (observer: (any ProcObserver)?, reason: ExitReason) {
        if existingSide == nil { return (nil, .shutdown) }
        if !isReactive { mainTask = 0 }
        let (reason, hasCallbacks) = takeLeave()
        openGates()
        callExitHooks(reason)
        if hasCallbacks {
            let stack = withSide { content in
                content.callbacksPending = false
                return content.stack(of: id)
            }
            if reason.isFailure { stack?.afterPanic?(reason) } else { stack?.afterComplete?() }
        }
        // Only `run` and `start` can throw.
        if isReactive { try? step(.destroy) }
        // Replies that the hooks or the body still held died with them.
        let (late, closures, observer) = withSide { content in
            let observer = content.observer
            let isLast = content.hasClosures && observer == nil
            return (content.takeDropped(), isLast ? content.takeClosures() : nil, observer)
        }
        for receipt in late { receipt.processEnded(reason) }
        // Nobody can start it again: what its closures own dies in its own name. Last, as it may trap.
        if let closures { destroyLast(closures) }
        return (observer, reason)
    }

    /// Lets go of what the incarnation that is over held, before the first hook is called: one that traps takes nothing along.
    @inline(never)
    private func takeLeave() -> (reason: ExitReason, hasCallbacks: Bool) {
        let last = withSide { content -> LastOfIncarnation in
            if let deadline = content.deadline {
                deadline.cancel()
                content.deadline = nil
            }
            return LastOfIncarnation(&content)
        }
        let reason = last.reason
        if let executor = last.executor { tasksLost(executor.loseTasks()) }
        // Asks that were taken, or whose reply was dropped, while the task was unwinding; and receivers outside of it.
        tell(last.mourner, reason, awaiters: false)
        for receipt in last.dropped { receipt.processEnded(reason) }
        for waiter in last.waiters { waiter.continuation.resume(returning: nil) }
        return (reason, last.hasCallbacks)
    }

    private func report(_ end: (observer: (any ProcObserver)?, reason: ExitReason)) {
        switch transition({ $0.finish() }) {
        case .ended:
            companion?.incarnationEnded(of: self, incarnation: state.incarnation, reason: end.reason)
            if let observer = end.observer { observer.procEnded(self, reason: end.reason) } else { close() }
        }
    }

    private func discardLeftovers() {
        if existingSide == nil { return }
        // Registered while the process was down, for an incarnation that did not come.
        callExitHooks(withSide { $0.lastExit } ?? .shutdown)
        let observer = withSide { $0.lastObserver }
        let type: Any.Type = nodeType
        while let node = withSide({ content -> MessageNode? in
            guard let node = MessageNode(bits: content.leftovers) else { return nil }
            content.leftovers = node.next
            return node
        }) {
            if !node.isNotice { observer?.procDiscarded(messageOf: type, by: self) }
            try? step(.discard(node))
        }
        let (last, dropped) = withSide { content in
            (swap(&content.lastObserver, with: nil), content.takeDropped())
        }
        _ = last
        for receipt in dropped { receipt.unanswered() }
    }
}

/// What an incarnation that is over leaves to whoever calls its hooks.
private struct LastOfIncarnation {
    let reason: ExitReason
    let waiters: [ReceiveWaiter]
    let task: Task<Void, Never>?
    let executor: ProcTaskExecutor?
    let dropped: [MessageReceipt]
    let outside: ExitReason?
    let hasCallbacks: Bool
    let mourner: Mourner?
    /// The closure in it is the user's: it dies outside the lock.
    let stopSignal: StopSignal?

    init(_ content: inout ProcSide.Content) {
        content.inHand = nil
        stopSignal = swap(&content.stopSignal, with: nil)
        reason = content.lastExit ?? .shutdown
        waiters = content.waiters.removeAll()
        task = swap(&content.task, with: nil)
        executor = swap(&content.executor, with: nil)
        dropped = content.takeDropped()
        outside = content.lifetime?.incarnationEnded()
        hasCallbacks = content.callbacksPending
        mourner = content.beginFarewell(awaiters: false)
    }
}

/// Puts a new value in place and returns the old one, so that it can die outside a lock.
func swap<Value>(_ value: inout Value, with new: Value) -> Value {
    let old = value
    value = new
    return old
}
