// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

import CLightProc

/// The async kind of process: its body is a Swift task.
extension LightProc {
    /// Makes an async process. It is down until `restart()`; every start runs `main` anew in a task of its own.
    ///
    /// `main` runs on workers of the scheduler. It may await anything, and start child tasks, which belong to the
    /// process. Returning ends the process normally; throwing ends it with the error.
    public static func async(
        on scheduler: any ProcScheduler,
        _ main: nonisolated(nonsending) @escaping @Sendable (LightProc) async throws -> Void
    ) -> LightProc {
        defer { extendLifetime(scheduler) }
        return async(on: SchedulerWords(scheduler), AsyncBody(call: main)) { _ in }
    }

    /// Makes one that runs once, for a caller who holds the scheduler.
    @usableFromInline
    static func once(
        on scheduler: SchedulerWords,
        _ stack: ProcStack,
        _ main: nonisolated(nonsending) @escaping @Sendable (LightProc) async throws -> Void
    ) -> LightProc {
        let proc = async(on: scheduler, AsyncBody(call: main)) { $0.setStack(stack) }
        if stack.priority != .normal { proc.priority = stack.priority }
        return proc
    }

    @inline(__always)
    private static func async(
        on scheduler: SchedulerWords,
        _ main: AsyncBody,
        _ prepare: (inout ProcSide.Content) -> Void
    ) -> LightProc {
        let proc = LightProc(
            scheduler: scheduler,
            isReactive: false,
            isBusy: false,
            isAlive: false,
            step: { try LightProc.asyncStep($0, $1) }
        )
        proc.withSide { content in
            content.main = main
            prepare(&content)
        }
        return proc
    }

    private static func asyncStep(_ proc: LightProc, _ operation: ProcOperation) throws {
        switch operation {
        case .start:
            proc.startTask()
        case .discard(let node):
            proc.withSide { $0.opener }?.open(node).destroy()
        case .bequeath(let node):
            guard let last = proc.withSide({ $0.opener })?.open(node) else { return }
            LightProc.runOnce(on: proc.scheduler) { last.destroy() }
        case .describe(let type):
            if let known = proc.withSide({ $0.opener })?.messageType { type.pointee = known }
        case .run, .handle, .signal, .destroy, .abandon, .measure, .release:
            break
        }
    }

    private func startTask() {
        let executor = ProcTaskExecutor(self, incarnation: state.incarnation)
        received(0)
        // ordering: relaxed: who asks for a sign of life sees it sooner or later.
        slot.word2.store(0, ordering: .relaxed)
        // One object is all that the closure captures: it needs no context of its own.
        let task = Task.detached(executorPreference: executor) {
            let proc = executor.proc
            proc.mainTask = UInt(bitPattern: crt_currentTask())
            let reason: ExitReason
            do {
                try await proc.withSide { $0.main }?.call(proc)
                reason = proc.state.isStopRequested ? .shutdown : .normal
            } catch is CancellationError where proc.state.isStopRequested {
                reason = .shutdown
            } catch {
                reason = .error(error)
            }
            // This job is still counted: the incarnation is sealed when it has returned.
            proc.decideEnd(executor.incarnation, reason, cancelling: false)
            executor.mainReturned()
        }
        withSide { content in
            content.executor = executor
            content.task = task
        }
    }

    /// The executor of an incarnation that has not been cleaned up yet; nil if that is not the present one.
    func executor(of incarnation: UInt32) -> ProcTaskExecutor? {
        let executor = existingSide?.content.withLock { $0.executor }
        return executor?.incarnation == incarnation ? executor : nil
    }

    /// Cancels the task, and with it all of its child tasks. On a worker, in the name of the process: cancellation
    /// handlers are its code.
    func cancelTask() {
        let task = withSide { content in
            content.isCancelling = content.task != nil
            return content.task
        }
        guard let task else { return }
        task.cancel()
        // Nobody else cancels this task: it needs no handler of its own for each message that it waits for.
        let waiter = withSide { content in
            content.isCancelling = false
            return content.waiters.remove(ReceiveWaiters.main)
        }
        waiter?.continuation.resume(returning: nil)
    }

    /// Whether the process's task is being cancelled right now: its cancellation handlers run under the task's lock.
    ///
    /// For executables in which the walk cannot see that: static and stripped of symbols.
    var isCancellingTask: Bool { existingSide?.content.withLock { $0.isCancelling } ?? false }

    /// Gives what is left of an incarnation its shutdown time.
    func startDeadline(_ incarnation: UInt32, unlessRunning: Bool = false) {
        let (time, isRunning) = withSide { ($0.shutdownTime, $0.deadline != nil) }
        if isRunning, unlessRunning { return }
        let token = scheduler.wake(after: time) { [weak self] in self?.deadlinePassed(incarnation) }
        let superfluous: TimerToken? = withSide { content in
            // Sealed meanwhile: whoever cleans up takes back what he finds here, and must not find it too late.
            let state = self.state
            guard state.incarnation == incarnation, !state.isSealed else { return token }
            return swap(&content.deadline, with: token)
        }
        superfluous?.cancel()
    }

    private func deadlinePassed(_ incarnation: UInt32) {
        // One that was told to stop, and not cancelled, is from here on: as one that is killed.
        if wasSignalled(incarnation), decideEnd(incarnation, .killed) { return }
        decideEnd(incarnation, .killed, cancelling: false)
        guard transition({ $0.seal(incarnation) }) == .sealed else { return }
        order(.cleanUp)
    }

    /// So many tasks of this process will never go on, and what they hold leaks.
    ///
    /// - Parameter trapped: How many of them trapped themselves.
    func tasksLost(_ count: Int, trapped: Int = 0) {
        if count == 0 { return }
        withSide { $0.lostTasks += max(count - trapped, 0) }
        ContainmentLedger.shared.addLeak(count * TrapContainment.bytesOfTask)
    }

    /// What the body of a reactive process that trapped keeps, as far as it can be estimated.
    func leakBody() {
        var size = 0
        // Only `run` and `start` can throw.
        withUnsafeMutablePointer(to: &size) { try? step(.measure($0)) }
        if size > 0 { ContainmentLedger.shared.addLeak(size) }
    }

    /// Whether a task is the one in which the body of the present incarnation runs.
    func isMainTask(_ task: UnsafeMutableRawPointer) -> Bool {
        mainTask == UInt(bitPattern: task)
    }

    /// The tasks, over all incarnations, that never went on because another one trapped, the actor that they called was
    /// poisoned, or the incarnation was sealed while they were suspended on something outside or ran on.
    package var lostTasks: Int { existingSide?.content.withLock { $0.lostTasks } ?? 0 }

    /// Whether somebody asked this incarnation to end.
    public var isStopRequested: Bool { state.isStopRequested }
}

/// Somebody who waits for a message.
struct ReceiveWaiter {
    let number: Int
    let continuation: UnsafeContinuation<MessageNode?, Never>
}

/// Who waits for a message, in the order they came. Almost always it is one, which costs no allocation.
struct ReceiveWaiters {
    /// The number of the process's first task; others count from 1.
    static let main = 0

    private var first: ReceiveWaiter?
    private var others: [ReceiveWaiter] = []

    var isEmpty: Bool { first == nil }

    mutating func append(_ waiter: ReceiveWaiter) {
        if first == nil { first = waiter } else { others.append(waiter) }
    }

    mutating func removeFirst() -> ReceiveWaiter? {
        defer { first = others.isEmpty ? nil : others.removeFirst() }
        return first
    }

    mutating func remove(_ number: Int) -> ReceiveWaiter? {
        if first?.number == number { return removeFirst() }
        return others.firstIndex { $0.number == number }.map { others.remove(at: $0) }
    }

    mutating func removeAll() -> [ReceiveWaiter] {
        defer { self = Self() }
        return (first.map { [$0] } ?? []) + others
    }
}

extension LightProc {
    /// What is to be done for the next message.
    @usableFromInline
    package enum Receive {
        case taken(MessageNode?)
        /// The first task is to wait.
        case wait
        /// A child task is to wait, under this number.
        case waitInChild(Int)
        /// Others are to have their turn first.
        case yield
    }

    /// Removes the oldest message, waiting for one if there is none. Nil when the calling task is cancelled.
    ///
    /// Any task of the process may call it, also several at a time; they are served in the order they came. When the job has
    /// spent its reductions (messages received and sent in this turn) others have their turn first. The receipt of an
    /// ask is registered here: the node's opener must not register it again.
    ///
    /// Inlined, as each async function that is called costs a switch of executors when it returns, some 400 instructions.
    @inlinable @inline(__always)
    nonisolated(nonsending) package func receiveNode() async -> MessageNode? {
        while true {
            switch beginReceive() {
            case .taken(let node): return node
            case .wait: return await suspended { wait(0, $0) }
            case .waitInChild(let number): return await receiveNodeInChild(number)
            case .yield: await Task.yield()
            }
        }
    }

    /// Takes a message without waiting if there is one.
    @usableFromInline
    package func beginReceive() -> Receive {
        guard let task = crt_currentTask() else { return .taken(takeNode()) }
        let isMain = isMainTask(task)
        // First: a process that always has messages must notice that it is to stop.
        if isMain ? state.isStopRequested : crt_isCancelled(task) { return .taken(nil) }
        if let nodes = crt_nodes(), NodePool.budget(nodes) <= 0 { return .yield }
        // What is in the control lane alone is found later: this is a first look without a lock.
        if !mailbox.isEmpty, let node = takeNode() { return .taken(node) }
        if isMain { return .wait }
        return .waitInChild(
            withSide { content in
                content.nextWaiter += 1
                return content.nextWaiter
            }
        )
    }

    @usableFromInline
    nonisolated(nonsending) package func receiveNodeInChild(_ number: Int) async -> MessageNode? {
        let node = await withTaskCancellationHandler {
            await suspended { wait(number, $0) }
        } onCancel: {
            let waiter = withSide { content -> ReceiveWaiter? in
                if let waiter = content.waiters.remove(number) { return waiter }
                content.cancelledWaiters.insert(number)
                return nil
            }
            waiter?.continuation.resume(returning: nil)
        }
        // A cancellation that came after the waiter was served left its number behind.
        if Task.isCancelled { _ = withSide { $0.cancelledWaiters.remove(number) } }
        return node
    }

    /// Waits for a message, or finds that there is one, or that there will be none.
    @usableFromInline
    package func wait(_ number: Int, _ continuation: UnsafeContinuation<MessageNode?, Never>) {
        let answer: MessageNode?? = withSide { content in
            if number == ReceiveWaiters.main {
                // Who cancels comes to the lock after that.
                if let task = crt_currentTask(), crt_isCancelled(task) { return .some(nil) }
            } else if content.cancelledWaiters.remove(number) != nil {
                return .some(nil)
            }
            // Ends: each round either takes what has come, or goes idle with the waiter in place.
            while true {
                if let node = takeForReceiver(&content) { return .some(node) }
                if state.phase != .active { return .some(nil) }
                if mailbox.settle() || mailbox.isIdle { break }
                if mailbox.isClosed { return .some(nil) }
            }
            content.waiters.append(ReceiveWaiter(number: number, continuation: continuation))
            return .none
        }
        guard let answer else { return }
        // The job goes on without a turn in between.
        if answer != nil { Self.spendReduction() }
        continuation.resume(returning: answer)
    }

    /// Removes the oldest message if there is one, without waiting. By the process.
    package func takeNode() -> MessageNode? {
        guard let node = withSide({ takeForReceiver(&$0) }) else { return nil }
        Self.spendReduction()
        return node
    }

    /// A message came while the mailbox was idle. By the sender.
    @usableFromInline
    func wakeReceiver() {
        // Ends: each round hands a message to a waiter, or leaves the mailbox idle, or leaves no waiter.
        while true {
            let (served, hasMore, hasExtras) = withSide {
                content -> ((ReceiveWaiter, MessageNode)?, Bool, Bool) in
                let hasExtras = content.extras != nil
                while !content.waiters.isEmpty {
                    if let node = takeForReceiver(&content) {
                        return (content.waiters.removeFirst().map { ($0, node) }, !content.waiters.isEmpty, hasExtras)
                    }
                    if state.phase != .active { return (nil, false, hasExtras) }
                    // Another receiver took it. With waiters left the mailbox goes idle, so that the next sender comes here.
                    if mailbox.settle() || mailbox.isIdle || mailbox.isClosed { return (nil, false, hasExtras) }
                }
                // Without a waiter the messages stay for the next who asks.
                return (nil, false, hasExtras)
            }
            // Those who look for one message among others come after those who take every one.
            if hasExtras, !hasMore { openGates() }
            guard let (waiter, node) = served else { return }
            waiter.continuation.resume(returning: node)
            if !hasMore { return }
        }
    }

    /// The lock makes the caller the consumer.
    @inline(__always)
    private func takeForReceiver(_ content: inout ProcSide.Content) -> MessageNode? {
        // An incarnation whose end is decided takes nothing more: what waits is the next one's.
        guard state.phase == .active else { return nil }
        if let extras = content.extras { return take(&content, extras) }
        guard let node = content.control.takeFirst() ?? mailbox.take() else { return nil }
        content.inHand = nil
        if let receipt = node.receipt { content.register(receipt) }
        if tag.isManaged { content.nodesTaken += 1 }
        return node
    }

    /// As above, of a mailbox with more than two lanes.
    @inline(never)
    private func take(_ content: inout ProcSide.Content, _ extras: MailboxExtras) -> MessageNode? {
        guard let node = content.control.takeFirst() ?? extras.takeFirst() ?? mailbox.take() else { return nil }
        extras.epoch &+= 1
        content.inHand = nil
        if let receipt = node.receipt { content.register(receipt) }
        if tag.isManaged { content.nodesTaken += 1 }
        return node
    }

    /// Says how to get rid of messages of this process's type. Async processes only: the others know by themselves.
    package func declareMessages<Message: Sendable>(of type: Message.Type) {
        withSide { $0.opener = Opener<Message>.self }
    }
}
