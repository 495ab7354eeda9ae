// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

public import CLightProc
public import Synchronization

/// A lightweight process: one mailbox, one lifecycle, restartable in place.
///
/// The object is the identity that references hold: it stays the same over restarts, and with it the mailbox and what
/// waits there. What runs inside is either a value with a synchronous message handler (*reactive*, no task), or an
/// async closure (a task that prefers an executor of its own).
///
/// Who does what: any thread may push messages and give orders; only the *consumer* (the worker that runs the process,
/// or during a restart whoever restarts it) touches the body. Hand-over of that role goes through the schedule.
///
/// The object is 120 bytes, so that the allocator's block is 128. There is one subclass, with more room for the body.
public class LightProc: @unchecked Sendable {
    // Sendable: all state is atomic or, in `ProcSide`, locked; the body is touched by the consumer only.

    /// The queue of messages, and the place in the schedule.
    @usableFromInline final let mailbox: Mailbox
    /// What the process was told to do besides handling messages.
    @usableFromInline final let orders = OrderWord()
    /// A ``ProcState``.
    final let stateWord: AtomicWord
    /// The ``ProcSide``, retained, or 0 while nobody needed one.
    private final let sideWord = AtomicWord(0)

    /// Runs, starts, destroys: the generic part, specialised where the process was spawned.
    @usableFromInline final let stepWord: UInt
    /// Who runs the process; the same for its whole life. `hold` and `letGo` hold the scheduler.
    @usableFromInline final let schedulerWords: SchedulerWords
    /// A ``ProcTag``.
    @usableFromInline final let tagWord: AtomicWord
    /// The body of a reactive process; two words of an async one. The last of all: it may go on in a subclass.
    @usableFromInline final let slot = BodySlot()

    /// - Parameter isAlive: Whether the first incarnation lives already. Otherwise the process is down.
    @usableFromInline
    init(
        scheduler: SchedulerWords,
        isReactive: Bool,
        isBusy: Bool,
        isAlive: Bool,
        step: @escaping (LightProc, ProcOperation) throws -> Void
    ) {
        tagWord = AtomicWord(ProcTag(id: .next(), isReactive: isReactive).rawValue)
        schedulerWords = scheduler
        var state = ProcState()
        if isAlive { _ = state.start() }
        stateWord = AtomicWord(state.rawValue)
        mailbox = Mailbox(isBusy: isBusy)
        // safety: a closure is these two words; one that captures nothing has no context. See `StepClosure`.
        let (function, context) = unsafeBitCast(StepClosure(call: step), to: (UInt, UInt).self)
        stepWord = context == 0 ? function : 0
        if context != 0 { withSide { $0.step = StepClosure(call: step) } }
        if let nodes = crt_nodes(), nodes.pointee.scheduler == schedulerWords.object {
            nodes.pointee.held &+= 1
        } else {
            scheduler.scheduler.hold()
        }
    }

    /// Who runs the process; the same for its whole life.
    public final var scheduler: any ProcScheduler {
        schedulerWords.scheduler
    }

    /// The identity of the process; it stays the same over restarts.
    @inlinable
    public final var id: ProcID { @inline(__always) get { tag.id } }

    /// Whether messages are handled by a synchronous handler; the other kind is async.
    @inlinable
    public final var isReactive: Bool { @inline(__always) get { tag.isReactive } }

    @inlinable
    package final var tag: ProcTag {
        // ordering: relaxed: number and kind never change; the rest is advice to the scheduler.
        @inline(__always) get { ProcTag(rawValue: tagWord.load(ordering: .relaxed)) }
    }

    /// How urgent the process is. A change counts from the next time that it becomes ready. Any thread.
    public final var priority: ProcPriority {
        get { tag.priority }
        set {
            tagWord.update { word in
                var tag = ProcTag(rawValue: word)
                tag.priority = newValue
                word = tag.rawValue
            }
        }
    }

    /// Remembers the worker that runs the process, so that it is woken there the next time. By that worker.
    @inlinable @inline(__always)
    final func settle(on nodes: UnsafeMutablePointer<crt_nodePool>) {
        if (tag.rawValue ^ nodes.pointee.home) & ProcTag.workerMask != 0 { move(to: nodes.pointee.home) }
    }

    @inline(never) @usableFromInline
    final func move(to home: UInt) {
        tagWord.update { word in
            // Who is pinned remembers to what instead.
            if ProcTag(rawValue: word).isPinned { return }
            word = word & ~ProcTag.workerMask | home
        }
    }

    /// Runs, starts, destroys: the generic part, specialised where the process was spawned.
    @inlinable @inline(__always)
    final func step(_ operation: ProcOperation) throws {
        if stepWord == 0 { return try stepBySide(operation) }
        // safety: `init` took the closure apart and found no context.
        try unsafeBitCast((stepWord, UInt(0)), to: StepClosure.self).call(self, operation)
    }

    /// The generic part was not specialised, as in a debug build: the closure has a context, and is kept beside.
    @inline(never) @usableFromInline
    final func stepBySide(_ operation: ProcOperation) throws {
        try withSide { $0.step }?.call(self, operation)
    }

    deinit {
        // Nobody refers to the process any more, so nothing can be queued, and no incarnation runs. Messages are left only
        // in a process that was dropped while it was down.
        let messages = mailbox.isEmpty ? 0 : mailbox.close()
        // ordering: acquiring: as in `existingSide`.
        let side = sideWord.load(ordering: .acquiring)
        if messages | side != 0 { bequeath(messages) }
        if isReactive { try? step(.release) }
        if let pointer = UnsafeRawPointer(bitPattern: side) { Unmanaged<ProcSide>.fromOpaque(pointer).release() }
        if let nodes = crt_nodes(), nodes.pointee.scheduler == schedulerWords.object {
            nodes.pointee.held &-= 1
        } else {
            scheduler.letGo()
        }
    }

    /// The process that the calling code belongs to, or nil.
    ///
    /// In a task that is the task's process, on whatever thread it runs: in a shared actor, whose turn others may give, and on
    /// the main actor. In handlers, hooks and callbacks it is the process that the worker runs. In a handler it costs two
    /// loads, in a task a look at what executor that prefers.
    public static var current: LightProc? {
        // safety: the worker holds the process while it runs it.
        let host = crt_currentProcess().map { Unmanaged<LightProc>.fromOpaque($0).takeUnretainedValue() }
        // What it runs is its own; the process behind a `ProcSerialExecutor` stands aside for that of a job's task.
        if let host, host.isReactive { return host }
        return crt_currentTask() == nil ? host : ProcTaskExecutor.current?.proc
    }

    // MARK: Side

    /// What few processes need: made when first asked for.
    final var side: ProcSide { heldSide.takeUnretainedValue() }

    private final var heldSide: Unmanaged<ProcSide> {
        // ordering: acquiring: pairs with the exchange in `makeSide`; publishes the object.
        guard let pointer = UnsafeRawPointer(bitPattern: sideWord.load(ordering: .acquiring)) else { return makeSide() }
        return .fromOpaque(pointer)
    }

    @inline(never)
    private final func makeSide() -> Unmanaged<ProcSide> {
        let fresh = Unmanaged.passRetained(ProcSide.make())
        let (done, original) = sideWord.compareExchange(
            expected: 0,
            desired: UInt(bitPattern: fresh.toOpaque()),
            successOrdering: .acquiringAndReleasing,
            failureOrdering: .acquiring
        )
        if done { return fresh }
        fresh.release()
        return .fromOpaque(UnsafeRawPointer(bitPattern: original)!)
    }

    /// Calls `body` with what is behind the lock of the side, which the process holds: so nothing is counted here.
    @inline(__always)
    final func withSide<Result, Failure: Error>(
        _ body: (inout ProcSide.Content) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        defer { extendLifetime(self) }
        return try Locked.withLock(heldSide._withUnsafeGuaranteedRef { $0.place }, body)
    }

    final var existingSide: ProcSide? {
        // ordering: acquiring: as above.
        UnsafeRawPointer(bitPattern: sideWord.load(ordering: .acquiring))
            .map { Unmanaged<ProcSide>.fromOpaque($0).takeUnretainedValue() }
    }

    /// The first task of an async incarnation, in which its body runs; 0 before that and after. Written by that task.
    final var mainTask: UInt {
        // ordering: relaxed: of interest to the task itself, and to child tasks that it makes later.
        get { slot.word0.load(ordering: .relaxed) }
        set { slot.word0.store(newValue, ordering: .relaxed) }
    }

    /// The type of the message that an async incarnation received last, as a word; 0 if none. Written by its tasks.
    private final var receivedType: UInt {
        // ordering: relaxed: a metatype is valid for ever, and which one is of interest for reports only.
        get { slot.word1.load(ordering: .relaxed) }
        set { slot.word1.store(newValue, ordering: .relaxed) }
    }

    // MARK: State

    package final var state: ProcState {
        // ordering: acquiring: who sees an end sees what was written before it.
        ProcState(rawValue: stateWord.load(ordering: .acquiring))
    }

    final func transition<Result>(_ change: (inout ProcState) -> Result) -> Result {
        stateWord.update { word in
            var state = ProcState(rawValue: word)
            let result = change(&state)
            word = state.rawValue
            return result
        }
    }

    /// How many times it was started again after its first start.
    public final var restarts: Int { Int(max(state.incarnation, 1) - 1) }

    /// The number of the present or last incarnation; 0 before the first start.
    package final var incarnation: UInt32 { state.incarnation }

    /// Whether it ended for good.
    public final var isClosed: Bool { state.phase == .closed }

    /// Why the last incarnation ended, or nil while none has.
    public final var lastExit: ExitReason? { existingSide?.content.withLock { $0.lastExit } }

    /// What accompanies the process, with its id and state as they are now; nil if it was given none.
    public final var stack: ProcStack? { existingSide?.content.withLock { $0.stack(of: id) } }

    /// What supervisors, logs and trap reports call the process; nil if nobody named it.
    public final var name: String? { existingSide?.content.withLock { $0.name } }

    /// Where it stands in the tree of supervisors, as in `/shop/orders-3`; nil if nobody supervises it.
    public final var path: String? { existingSide?.content.withLock { $0.observer }?.path(of: self) }

    /// Who is told of its end; nil if nobody, or nobody any more.
    package final var observer: (any ProcObserver)? { existingSide?.content.withLock { $0.observer } }

    /// Whether an incarnation has ended: all of its hooks have run, and its observer was told, or is about to be.
    package final func isOver(_ incarnation: UInt32) -> Bool {
        let state = self.state
        return state.incarnation != incarnation || state.phase != .active && state.phase != .ending
    }

    /// The one type of messages that it takes; of an async process, which may take several, that of the message that this
    /// incarnation received last, nil if none. Any thread.
    package final var messageType: Any.Type? {
        if isReactive { return tag.isManaged ? withSide { $0.opener?.messageType } : nodeType }
        // safety: a metatype is one word, the address of the metadata; 0 is no address, and so the nil of the optional.
        return unsafeBitCast(receivedType, to: Any.Type?.self)
    }

    /// Remembers the type of the message that a task of the process has received: a metatype, as a word.
    @usableFromInline
    package final func received(_ type: UInt) { receivedType = type }

    /// Remembers which type the message in hand really has, of a process that takes messages of any type. By its handler.
    @inlinable @inline(__always)
    package final func handles(_ type: Any.Type) {
        guard let thread = crt_self() else { return }
        thread.pointee.receiver = UInt(id.rawValue)
        // safety: a metatype is one word, the address of the metadata.
        thread.pointee.received = unsafeBitCast(type, to: UInt.self)
    }

    /// Which type the message really has that a process of messages of any type handled last on a thread in this incarnation; nil
    /// for other processes. By the process, or while the thread stands still; takes no lock.
    package final func actualMessageType(on thread: UnsafeMutablePointer<crt_thread>?) -> Any.Type? {
        guard let thread, thread.pointee.receiver == UInt(id.rawValue) else { return nil }
        // safety: written by `handles`.
        return unsafeBitCast(thread.pointee.received, to: Any.Type?.self)
    }

    /// ``messageType``, for people.
    package final var messageTypeName: String? { messageType.map { "\($0)" } }

    /// What the messages in the mailbox are, an async process's envelopes included.
    final var nodeType: Any.Type {
        var type: Any.Type = Never.self
        // Only `run` and `start` can throw.
        withUnsafeMutablePointer(to: &type) { try? step(.describe($0)) }
        return type
    }

    // MARK: Messages

    /// Adds a message and schedules the process if it was idle.
    ///
    /// Guarantees first in, first out per sending thread, delivery at most once. Any thread; never blocks.
    /// - Returns: False when the process is closed; then the node still belongs to the caller.
    @inlinable @inline(__always)
    public final func push(_ node: MessageNode) -> Bool { push(node, isReactive: isReactive) }

    /// As above, for a caller who knows which kind it is.
    @inlinable @inline(__always)
    package final func push(_ node: MessageNode, isReactive: Bool) -> Bool {
        switch mailbox.push(node) {
        case .queued:
            if mailbox.isBehind { waitBehind() }
            return true
        case .schedule:
            if isReactive { enqueue() } else { wakeReceiver() }
            return true
        case .closed: return false
        }
    }

    /// The calling worker's turn has sent to this process, which is behind: such a send costs as much as several, and whoever
    /// is run goes on behind this process afterwards, if it has not come to its end.
    @inline(never) @usableFromInline
    final func waitBehind() {
        guard let nodes = crt_nodes(), crt_currentProcess() != Unmanaged.passUnretained(self).toOpaque() else { return }
        NodePool.charge(nodes)
        nodes.pointee.flooded = UInt32(truncatingIfNeeded: (tag.worker ?? -1) + 1)
    }

    /// Queues the process: on a worker of its own scheduler as the next to run there, unless it is urgent, or at home
    /// elsewhere.
    @inlinable @inline(__always)
    final func enqueue() {
        guard let nodes = ownNodes else { return enqueueElsewhere() }
        let item = UInt(bitPattern: Unmanaged.passUnretained(self).toOpaque())
        var before: UInt = 1
        // The worker has not let go of it since it ran it last: two processes that talk to each other are not counted each time.
        if nodes.pointee.kept == item { before = crt_exchangeNextForKept(nodes, item) }
        if before == 1 {
            _ = Unmanaged.passRetained(self)
            before = crt_exchangeNext(nodes, item)
        }
        if before != 0 { nodes.pointee.displaced(nodes, before) }
    }

    /// Apart, so that senders save few registers.
    @inline(never) @usableFromInline
    final func enqueueElsewhere() { scheduler.schedule(self) }

    /// The node pool of the calling worker, if the process may be queued there without asking.
    @inlinable
    final var ownNodes: UnsafeMutablePointer<crt_nodePool>? {
        @inline(__always) get {
            guard let nodes = crt_nodes(), nodes.pointee.scheduler == schedulerWords.object,
                (tag.rawValue ^ nodes.pointee.home) & nodes.pointee.homeMask == 0
            else { return nil }
            return nodes
        }
    }

    /// Makes an item, as `RunItem` has it, the next that the calling worker runs.
    @inlinable @inline(__always)
    static func setNext(_ item: UInt, _ nodes: UnsafeMutablePointer<crt_nodePool>) {
        let before = crt_exchangeNext(nodes, item)
        if before != 0 { nodes.pointee.displaced(nodes, before) }
    }

    /// Remembers that the message in hand is an ask, so that the asker learns of this process's end.
    @usableFromInline
    package final func accept(_ receipt: MessageReceipt) {
        withSide { $0.register(receipt) }
    }

    /// As `accept`, of a receipt as it stands in the node, retained.
    @inline(never) @usableFromInline
    final func accept(_ receipt: UInt) {
        guard let pointer = UnsafeRawPointer(bitPattern: receipt) else { return }
        accept(Unmanaged<MessageReceipt>.fromOpaque(pointer).takeRetainedValue())
    }

    /// The reply to an ask was dropped without an answer, by code that this process is running.
    ///
    /// Whether that was all there was to it, or the process is unwinding because it failed, shows when that code returns:
    /// only then the asker is told, in the latter case with the failure.
    package final func settleDropped(_ receipt: MessageReceipt) {
        withSide { $0.dropped.append(receipt) }
        order(.settleDropped)
    }

    /// The ask was answered (or given up): the process's end is of no interest to it any more.
    package final func forget(_ receipt: MessageReceipt) {
        existingSide?.content.withLock { $0.forget(receipt) }
    }
}

extension LightProc: CustomStringConvertible {
    /// The name, if there is one, and the id, as in `worker-0<0.17>`.
    public var description: String { name.map { "\($0)\(id)" } ?? id.description }
}

/// A process with room for a body of twelve words in the object: 184 bytes, in a block of 192.
@usableFromInline
final class RoomyProc: LightProc, @unchecked Sendable {
    // Sendable: as `LightProc`.
    @usableFromInline let more = BodySlot()
    @usableFromInline let evenMore = BodySlot()
}

/// A scheduler as two words, object and witness table: read as an existential they would be retained and released for each
/// use, and all workers change that count. Whoever has the words sees to it that the scheduler lives.
@frozen @usableFromInline
package struct SchedulerWords: Sendable {
    @usableFromInline let object: UInt
    @usableFromInline let witness: UInt

    /// As a generic argument by itself an existential would be opened.
    @frozen @usableFromInline
    struct Box {
        @usableFromInline let scheduler: any ProcScheduler
        @inlinable
        init(scheduler: any ProcScheduler) { self.scheduler = scheduler }
    }

    @inlinable @inline(__always)
    package init(_ scheduler: any ProcScheduler) {
        // safety: an existential of a class-bound protocol is these two words.
        (object, witness) = unsafeBitCast(Box(scheduler: scheduler), to: (UInt, UInt).self)
    }

    /// The scheduler, which must be alive.
    var scheduler: any ProcScheduler {
        // safety: made from one in `init`.
        unsafeBitCast((object, witness), to: Box.self).scheduler
    }
}

/// The closure behind `step`, in a struct of its own: passed as a generic argument it would be wrapped into another.
@frozen @usableFromInline
struct StepClosure {
    @usableFromInline let call: (LightProc, ProcOperation) throws -> Void
    @usableFromInline init(call: @escaping (LightProc, ProcOperation) throws -> Void) { self.call = call }
}

/// What the generic part of a process can be asked to do. All of it by the consumer.
@frozen @usableFromInline
enum ProcOperation {
    /// Handle messages up to the budget. May throw what the handler threw.
    case run
    /// Make a fresh body. May throw what the user's factory threw.
    case start
    /// Destroy the body, after an ending that left it whole.
    case destroy
    /// Forget the body without destroying it.
    case abandon
    /// Say how large the body is, 0 if it owns nothing: an estimate of what leaks when it is abandoned.
    case measure(UnsafeMutablePointer<Int>)
    /// Destroy the message in a node, and the node.
    case discard(MessageNode)
    /// Likewise, but the message in a process of its own. Not by the consumer: the process is gone, and with it the body.
    case bequeath(MessageNode)
    /// Handle the one message in a node. May throw what the handler threw. Reactive processes only.
    case handle(MessageNode)
    /// Hand the body a signal. May throw what that threw. Reactive processes only.
    case signal(UInt)
    /// Free the memory of the body; nothing runs any more.
    case release
    /// Say what the type of the messages is.
    case describe(UnsafeMutablePointer<Any.Type>)
}
