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
        let mustSchedule = isReactive ? orders.give(order, claiming: mailbox) : orders.give(order)
        if mustSchedule { scheduler.schedule(self) }
    }

    /// As `order`, by the consumer of a process that is down or whose worker trapped.
    private func orderAsConsumer(_ order: Orders) {
        let isFirst = orders.give(order)
        if isReactive || isFirst { scheduler.schedule(self) }
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
        let isRequested = side.content.withLock { content in
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
        let (before, companion) = side.content.withLock { content -> (LastBody<ExitReason?>?, (any ProcCompanion)?) in
            content.callbacksPending = content.stack?.hasCallbacks ?? false
            let before = content.hasPlainExit ? nil : LastBody(content.lastExit)
            content.lastExit = reason
            return (before, content.companion)
        }
        if let before { Self.bequeath(before, on: scheduler) }
        notifyOfEnd(reason, awaiters: side.content.withLock { $0.observer == nil })
        companion?.endDecided(of: self, incarnation: incarnation, reason: reason)
        if cancelling {
            order(.cancel)
        } else if !isReactive, ending == .sealed {
            order(.cleanUp)
        }
        return true
    }

    /// Tells those who wait for the end. Each is forgotten before it is told, so that none is told twice.
    private func notifyOfEnd(_ reason: ExitReason, awaiters: Bool) {
        let isAny = side.content.withLock { content in
            if !content.receipts.isEmpty {
                // In the order in which they were taken; the first is the last of the list.
                content.farewells += content.receipts.values.sorted { $0.number > $1.number }.map(\.receipt)
                content.receipts = [:]
            }
            return !content.farewells.isEmpty || awaiters && !content.awaiters.isEmpty
        }
        if !isAny { return }
        while let receipt = side.content.withLock({ $0.farewells.popLast() }) { receipt.processEnded(reason) }
        guard awaiters else { return }
        while let awaiter = side.content.withLock({ $0.awaiters.popLast() }) { awaiter(reason) }
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
        let userMessages = isReactive ? mailbox.close() : side.content.withLock { _ in mailbox.close() }
        let (reason, leftovers, hasHooks, closures) = side.content.withLock { content in
            // The control lane comes first here, too.
            content.leftovers = content.control.takeAll(before: userMessages)
            if content.leftovers != 0 { content.lastObserver = content.observer }
            return (
                content.lastExit ?? .shutdown, content.leftovers, !content.exitHooks.isEmpty,
                content.hasClosures ? LastBody(content.takeClosures()) : nil
            )
        }
        var node = MessageNode(bits: leftovers)
        while let current = node {
            current.takeReceipt()?.processEnded(reason)
            node = MessageNode(bits: current.next)
        }
        notifyOfEnd(reason, awaiters: true)
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
                runHooks()
                if isReactive {
                    // Nothing of the process may be touched once the observer knows: it may run elsewhere already.
                    orders.withdraw([.cleanUp, .start, .stop, .finish, .settleDropped])
                    reportEnd()
                    return .nothing
                }
                // The order itself stays until the observer knows: a restart then goes on here, not elsewhere.
                orders.withdraw([.start, .stop, .finish, .cancel])
                reportEnd()
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
                while let receipt = side.content.withLock({ $0.dropped.popLast() }) { receipt.unanswered() }
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
                        cancelTask()
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
        // Ending already: `beforeStart` trapped.
        let state = self.state
        guard state.phase == .active else { return }
        startLifetime(state.incarnation)
        do {
            (existingSide?.content.withLock { $0.stack?.beforeStart })?()
            try step(.start)
        } catch {
            decideEnd(state.incarnation, .error(error), cancelling: false)
            orders.add(.cleanUp)
        }
    }

    /// Calls what was registered for the end, last registered first; each is forgotten before it is called.
    private func runHooks() {
        guard let side = existingSide else { return }
        // ordering: relaxed: who reads it belongs to the task.
        side.mainTask.store(0, ordering: .relaxed)
        let (reason, waiters, task, executor, dropped, outside) = side.content.withLock { content in
            content.deadline?.cancel()
            content.deadline = nil
            content.inHand = nil
            return (
                content.lastExit ?? .shutdown, content.waiters.removeAll(), swap(&content.task, with: nil),
                swap(&content.executor, with: nil), swap(&content.dropped, with: []),
                content.lifetime?.incarnationEnded()
            )
        }
        if let executor { tasksLost(executor.loseTasks()) }
        _ = (task, outside)
        // Asks that were taken, or whose reply was dropped, while the task was unwinding; and receivers outside of it.
        notifyOfEnd(reason, awaiters: false)
        for receipt in dropped { receipt.processEnded(reason) }
        for waiter in waiters { waiter.continuation.resume(returning: nil) }
        callExitHooks(reason)
        let stack = side.content.withLock { content in
            defer { content.callbacksPending = false }
            return content.callbacksPending ? content.stack : nil
        }
        if let stack {
            if reason.isFailure { stack.afterPanic?(reason) } else { stack.afterComplete?() }
        }
        // Only `run` and `start` can throw.
        try? step(.destroy)
        // Replies that the hooks or the body still held died with them.
        let (late, closures) = side.content.withLock { content in
            let isLast = content.hasClosures && content.observer == nil
            return (swap(&content.dropped, with: []), isLast ? content.takeClosures() : (nil, nil))
        }
        for receipt in late { receipt.processEnded(reason) }
        // Nobody can start it again: what its closures own dies in its own name. Last, as it may trap.
        destroyLast(closures)
    }

    private func reportEnd() {
        switch transition({ $0.finish() }) {
        case .ended:
            let (observer, companion, reason) = side.content.withLock {
                ($0.observer, $0.companion, $0.lastExit ?? .shutdown)
            }
            companion?.incarnationEnded(of: self, incarnation: state.incarnation, reason: reason)
            if let observer { observer.procEnded(self, reason: reason) } else { close() }
        }
    }

    private func discardLeftovers() {
        guard let side = existingSide else { return }
        // Registered while the process was down, for an incarnation that did not come.
        callExitHooks(side.content.withLock { $0.lastExit } ?? .shutdown)
        let observer = side.content.withLock { $0.lastObserver }
        let type: Any.Type = nodeType
        while let node = side.content.withLock({ content -> MessageNode? in
            guard let node = MessageNode(bits: content.leftovers) else { return nil }
            content.leftovers = node.next
            return node
        }) {
            observer?.procDiscarded(messageOf: type, by: self)
            try? step(.discard(node))
        }
        let (last, dropped) = side.content.withLock { content in
            (swap(&content.lastObserver, with: nil), swap(&content.dropped, with: []))
        }
        _ = last
        for receipt in dropped { receipt.unanswered() }
    }
}

/// Puts a new value in place and returns the old one, so that it can die outside a lock.
func swap<Value>(_ value: inout Value, with new: Value) -> Value {
    let old = value
    value = new
    return old
}
